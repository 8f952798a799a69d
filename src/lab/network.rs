//! Two network namespaces, the host's and the far side's, and a link between them.

use super::LabError;
use super::process::{self, Running};
use nix::sched::{CloneFlags, setns};
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

/// The host address of the lab.
pub const HOST: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// The far side, as sessions talk to it.
pub const FAR: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
/// The far side, as programs outside any session talk to it. A second address
/// tells the two apart on the wire without looking at ports.
pub const FAR_FOR_OTHERS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 3);
/// The two ends of the link by IPv6, where the kernel has it.
pub const HOST_IPV6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1);
/// See [`HOST_IPV6`].
pub const FAR_IPV6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 2);
/// The first address of the pool.
pub const FIRST_OF_POOL: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 101);

/// The host's end of the link.
pub const HOST_LINK: &str = "lab-host";
const FAR_LINK: &str = "lab-far";

/// How long `ip` may take.
const LIMIT: Duration = Duration::from_secs(20);

/// The last address of a pool of `size`.
pub fn last_of_pool(size: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(FIRST_OF_POOL.to_bits() + size.saturating_sub(1))
}

/// The lab's network; removed when dropped.
#[derive(Debug)]
pub struct Network {
    /// Where the product and the sessions are.
    pub host: Namespace,
    /// The far side.
    pub client: Namespace,
}

impl Network {
    /// Makes the namespaces `PREFIX-host` and `PREFIX-client`.
    ///
    /// # Errors
    /// `ip` fails: not root, no network namespaces, or the names are taken.
    pub fn new(prefix: &str) -> Result<Self, LabError> {
        let host = Namespace::new(format!("{prefix}-host"))?;
        let client = Namespace::new(format!("{prefix}-client"))?;
        // Made inside, never seen by the machine's own namespace.
        let far = ["peer", "name", FAR_LINK, "netns", client.name()];
        host.ip(&[&["link", "add", HOST_LINK, "type", "veth"], far.as_slice()].concat())?;
        for (namespace, link, addresses) in [
            (&host, HOST_LINK, [HOST].as_slice()),
            (&client, FAR_LINK, [FAR, FAR_FOR_OTHERS].as_slice()),
        ] {
            namespace.skip_duplicate_detection(link)?;
            if namespace.has_ipv6()? {
                let address = if link == HOST_LINK { HOST_IPV6 } else { FAR_IPV6 };
                let net = format!("{address}/64");
                namespace.ip(&["address", "add", &net, "dev", link, "nodad"])?;
            }
            for address in addresses {
                namespace.ip(&["address", "add", &format!("{address}/24"), "dev", link])?;
            }
            namespace.ip(&["link", "set", "lo", "up"])?;
            namespace.ip(&["link", "set", link, "up"])?;
        }
        Ok(Self { host, client })
    }

    /// Leaves the network as it is.
    pub fn leave(mut self) {
        self.host.name.kept = true;
        self.client.name.kept = true;
    }
}

/// A network namespace with a name; deleted when dropped.
#[derive(Debug)]
pub struct Namespace {
    name: Name,
    file: File,
}

/// Deletes the namespace when dropped.
#[derive(Debug)]
struct Name {
    name: String,
    kept: bool,
}

impl Namespace {
    /// Makes one of that name.
    ///
    /// # Errors
    /// As [`Network::new`].
    pub fn new(name: String) -> Result<Self, LabError> {
        process::output(Command::new("ip").args(["netns", "add", &name]), LIMIT)?;
        let path = format!("/run/netns/{name}");
        let name = Name { name, kept: false };
        let file = File::open(&path).map_err(|source| LabError::io(path, source))?;
        Ok(Self { name, file })
    }

    /// Its name, as `ip netns` lists it.
    pub fn name(&self) -> &str {
        &self.name.name
    }

    /// The inode number that tells it from all others (`/proc/PID/ns/net`).
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn inode(&self) -> Result<u64, LabError> {
        let metadata = self.file.metadata();
        Ok(metadata.map_err(|source| LabError::io(self.name(), source))?.ino())
    }

    /// Does `work` on a thread that is inside. Sockets that it makes, programs
    /// that it starts stay inside. `ip netns exec` would hide the cgroup tree.
    ///
    /// # Errors
    /// The thread cannot enter.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, LabError> {
        let inside = || -> nix::Result<T> {
            setns(&self.file, CloneFlags::CLONE_NEWNET)?;
            Ok(work())
        };
        thread::scope(|scope| {
            let thread = thread::Builder::new().name(self.name().to_owned());
            let handle = thread
                .spawn_scoped(scope, inside)
                .map_err(|source| LabError::io("starting a thread", source))?;
            let entered = handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            entered.map_err(|source| LabError::io(format!("entering {}", self.name()), source))
        })
    }

    /// Starts a program inside.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(
        &self,
        name: impl Into<String> + Send,
        command: &mut Command,
    ) -> Result<Running, LabError> {
        self.within(|| Running::start(name, command))?
    }

    /// Runs a program inside to its end and gives what it wrote.
    ///
    /// # Errors
    /// It failed, or took longer than a minute.
    pub fn output(&self, command: &mut Command) -> Result<String, LabError> {
        // Waited for outside: the thread inside has its signals unblocked.
        let name = command.get_program().to_string_lossy().into_owned();
        self.start(name, command)?.finish(Duration::from_secs(60))
    }

    fn has_ipv6(&self) -> Result<bool, LabError> {
        self.within(|| Path::new("/proc/sys/net/ipv6").exists())
    }

    /// Nobody else is on the link, and a link-local address that is tentative at
    /// first would look like a change.
    fn skip_duplicate_detection(&self, link: &str) -> Result<(), LabError> {
        let path = format!("/proc/sys/net/ipv6/conf/{link}/accept_dad");
        match self.within(|| fs::write(&path, "0"))? {
            // A kernel without IPv6.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(|source| LabError::io(path, source)),
        }
    }

    fn ip(&self, words: &[&str]) -> Result<String, LabError> {
        process::output(Command::new("ip").args(["-n", self.name()]).args(words), LIMIT)
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        let mut command = Command::new("ip");
        // Not through `process::output`: it must happen after Ctrl-C, too.
        let deleted = command.args(["netns", "delete", &self.name]).status();
        if !deleted.as_ref().is_ok_and(std::process::ExitStatus::success) {
            tracing::warn!(namespace = self.name, ?deleted, "cannot be deleted");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_of_one_is_its_first_address() {
        assert_eq!(last_of_pool(1), FIRST_OF_POOL);
        assert_eq!(last_of_pool(64), Ipv4Addr::new(10, 77, 0, 164));
    }
}
