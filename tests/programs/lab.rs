//! One network, one daemon and two sessions for the tests that run at a time.

use sessionip::lab::network::Network;
use sessionip::lab::product::Product;
use sessionip::lab::sessions::{self, Opened};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};
use tempfile::TempDir;

/// What the tests share. The order is that of taking it down.
pub(crate) struct Lab {
    pub(crate) sessions: Vec<Opened>,
    pub(crate) product: Product,
    pub(crate) network: Network,
    directory: TempDir,
}

/// The one there is, else a new one: it goes with the last test that uses it.
pub(crate) fn lab() -> Arc<Lab> {
    static SHARED: Mutex<Weak<Lab>> = Mutex::new(Weak::new());
    // A test that failed in here is no reason for the others to fail.
    let mut shared = SHARED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some(lab) = shared.upgrade() {
        return lab;
    }
    let lab = Arc::new(Lab::new());
    *shared = Arc::downgrade(&lab);
    lab
}

impl Lab {
    fn new() -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        // The one before may be in the middle of being taken down.
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("sessionip-tests-{}-{number}", std::process::id());
        let directory = tempfile::Builder::new().prefix(&name).tempdir().unwrap();
        let network = Network::new(&name).unwrap();
        let program = Path::new(env!("CARGO_BIN_EXE_sessionip"));
        let product = Product::start(program, &network.host, directory.path(), 4, "auto").unwrap();
        let sessions = sessions::open(&product, &network, 2).unwrap();
        Self { sessions, product, network, directory }
    }

    /// A folder of `session`'s user, to keep a program's files in.
    pub(crate) fn folder(&self, session: &Opened, name: &str) -> PathBuf {
        let folder = self.directory.path().join(format!("{name}-{}", session.id));
        std::fs::create_dir(&folder).unwrap();
        let user = nix::unistd::User::from_name(&session.user).unwrap().unwrap();
        nix::unistd::chown(&folder, Some(user.uid), Some(user.gid)).unwrap();
        folder
    }
}
