//! One network, one daemon and two sessions: what the programs run in.

use super::built;
use sessionip::lab::network::Network;
use sessionip::lab::product::Product;
use sessionip::lab::sessions::{self, Opened};
use std::fs::Permissions;
use std::net::Ipv6Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use tempfile::TempDir;

/// Beside what is excluded by default: a receiver of broadcasts, by its port and
/// by its name.
const EXCLUDED: &str = "'udp/67', 'udp/68', 'udp/5353', 'udp/1900', 'udp/9998', 'socat:udp/9996'";

/// In which way the product is configured.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct World {
    /// Is 127.0.0.1 each session's own?
    pub(crate) loopback: bool,
    /// Do wildcards go there, too?
    pub(crate) prefer: bool,
    /// Has each list the servers only, by their names? Their clients are asked for
    /// twice then: listed, for a server has the same program, and not.
    pub(crate) by_name: bool,
    /// Is the source chosen at connect, too?
    pub(crate) connect: bool,
    /// Have sessions an IPv6 address, too?
    pub(crate) ipv6: bool,
    /// Does what cannot have its session's address stay off the network?
    pub(crate) strict: bool,
}

impl World {
    /// What is different from the defaults.
    fn tables(self) -> String {
        let listed = if self.by_name { built::names_of_servers() } else { "'*'".to_owned() };
        let mut tables = format!("[hook]\nexclude = [{EXCLUDED}]\n");
        if self.connect {
            tables += "scope = 'connect'\n";
        }
        if self.loopback {
            tables += &format!("[loopback]\nenabled = true\nprograms = [{listed}]\n");
        }
        if self.prefer {
            tables += &format!("prefer = [{listed}]\n");
        }
        tables += &format!("[virtual-ip]\nprograms = [{listed}]\n");
        if self.strict {
            tables += "when-exhausted = 'block'\nipv6-without-lease = 'block'\n";
            tables += "[divert]\nunknown-owner = 'drop'\n";
        }
        tables
    }
}

/// The order is that of taking it down.
pub(crate) struct Lab {
    pub(crate) world: World,
    pub(crate) sessions: Vec<Opened>,
    pub(crate) product: Product,
    pub(crate) network: Network,
    directory: TempDir,
}

impl Lab {
    pub(crate) fn new(world: World) -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("sessionip-tests-{}-{number}", std::process::id());
        let directory = tempfile::Builder::new().prefix(&name).tempdir().unwrap();
        let network = Network::new(&name).unwrap();
        let program = Path::new(env!("CARGO_BIN_EXE_sessionip"));
        let configuration = configuration(directory.path(), world);
        let product =
            Product::start_with(program, &network.host, directory.path(), &configuration).unwrap();
        let sessions = sessions::open(&product, &network, 2).unwrap();
        let lab = Self { world, sessions, product, network, directory };
        built::into(&lab.built());
        std::fs::create_dir(lab.shared()).unwrap();
        std::fs::set_permissions(lab.shared(), Permissions::from_mode(0o1777)).unwrap();
        lab
    }

    /// A session's IPv6 address.
    pub(crate) fn ipv6(&self, session: &Opened) -> Option<Ipv6Addr> {
        let sessions = self.product.sessions().unwrap();
        sessions.iter().find(|row| row.id == session.id).unwrap().virtual_ipv6
    }

    /// A file of the tests' own.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Where the programs are that the tests build.
    pub(crate) fn built(&self) -> PathBuf {
        self.directory.path().join("built")
    }

    /// A folder that everybody may write to, as /tmp is.
    pub(crate) fn shared(&self) -> PathBuf {
        self.directory.path().join("shared")
    }

    /// A folder of `session`'s user, to keep a program's files in.
    pub(crate) fn folder(&self, session: &Opened, name: &str) -> PathBuf {
        let folder = self.directory.path().join(format!("{name}-{}", session.id));
        std::fs::create_dir(&folder).unwrap();
        give(&folder, session);
        folder
    }
}

/// Makes it `session`'s user's.
pub(crate) fn give(path: &Path, session: &Opened) {
    let user = nix::unistd::User::from_name(&session.user).unwrap().unwrap();
    nix::unistd::chown(path, Some(user.uid), Some(user.gid)).unwrap();
}

/// With as many addresses as sessions: a third one has none.
fn configuration(directory: &Path, world: World) -> String {
    let (directory, tables) = (directory.display(), world.tables());
    let ipv6 = if world.ipv6 { ", 'fd77::101-fd77::102'" } else { "" };
    format!(
        "\
state-dir = '{directory}/state'
control = '{directory}/control/control.sock'

[pool]
ranges = ['10.77.0.101-10.77.0.102'{ipv6}]

[metrics]
listen = ''

{tables}"
    )
}
