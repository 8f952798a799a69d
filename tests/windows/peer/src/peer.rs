//! What happens when a packet, the driver or the clock asks for something?
//!
//! One thread. The kernel's packets go to the driver, the driver's verdicts to
//! the kernel; 100 times a second the host is looked at.

use crate::driver::{Driver, Said};
use crate::host;
use crate::inject::Injector;
use crate::queues::Queues;
use crate::rules::{INBOUND, OUTBOUND, Rules};
use crate::say;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::stat::{SFlag, fstat};
use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How many packets are taken before the driver is heard again.
const BATCH: usize = 256;
/// Packets that leave and are more than these do not wait in the kernel.
const IN_KERNEL_MOST: usize = 32;
/// No wire here has a smaller MTU.
const SURE_TO_FIT: usize = 1500;
/// The index of `lo` in every network namespace.
const LOOPBACK: u32 = 1;

/// Works until it is told to end.
#[expect(clippy::disallowed_methods, reason = "a shell around the clock, like daemon.rs")]
pub(crate) fn run(folder: &Path) -> io::Result<()> {
    if !nix::unistd::geteuid().is_root() {
        return Err(io::Error::other("diverting packets needs root"));
    }
    let mut ends = SigSet::empty();
    ends.add(Signal::SIGTERM);
    ends.add(Signal::SIGINT);
    ends.thread_block()?;
    let signals = SignalFd::with_flags(&ends, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
    let stdin = io::stdin();
    let stdin_is_pipe = SFlag::from_bits_truncate(fstat(&stdin)?.st_mode).contains(SFlag::S_IFIFO);

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let port = listener.local_addr()?.port();
    let mut peer = Peer::open()?;
    let _rules = Rules::lay(port)?;
    let _port = PortFile::write(folder, port)?;
    writeln!(io::stdout(), "ready")?;
    io::stdout().flush()?;

    let mut looked = Instant::now();
    loop {
        let readable = PollFlags::POLLIN;
        let driver = peer.driver.as_ref().map(|driver| {
            let flags = if driver.lags() { readable | PollFlags::POLLOUT } else { readable };
            PollFd::new(driver.as_fd(), flags)
        });
        let mut wait = vec![
            PollFd::new(signals.as_fd(), readable),
            PollFd::new(listener.as_fd(), readable),
            PollFd::new(peer.queues.as_fd(), readable),
        ];
        if stdin_is_pipe {
            wait.push(PollFd::new(stdin.as_fd(), PollFlags::empty())); // its end alone
        }
        wait.extend(driver);
        let timeout = LOOK_EVERY.saturating_sub(looked.elapsed());
        poll(&mut wait, PollTimeout::try_from(timeout).unwrap_or(PollTimeout::ZERO))?;
        let came = |at: usize| wait.get(at).and_then(PollFd::any).unwrap_or(false);
        let (signal, caller, ended) = (came(0), came(1), stdin_is_pipe && came(3));
        if signal || ended {
            return Ok(());
        }
        if caller {
            peer.take_over(&listener)?;
        }
        peer.hear();
        peer.pass_packets();
        if looked.elapsed() >= LOOK_EVERY {
            looked = Instant::now();
            peer.look();
        }
    }
}

/// Where the driver finds us.
#[derive(Debug)]
struct PortFile(PathBuf);

impl PortFile {
    /// Whole or not at all: the driver may read at any time.
    fn write(folder: &Path, port: u16) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let (new, path) = (folder.join("port.new"), folder.join("port"));
        fs::write(&new, port.to_string())?;
        fs::rename(&new, &path)?;
        Ok(Self(path))
    }
}

impl Drop for PortFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[derive(Debug)]
struct Peer {
    queues: Queues,
    injector: Injector,
    driver: Option<Driver>,
    /// What the driver has been given and not yet answered: here or, `None`, in
    /// the kernel.
    held: HashMap<(u16, u32), Option<Vec<u8>>>,
    /// How many of them the kernel has of those that leave.
    leaving: usize,
    addresses: BTreeSet<Ipv6Addr>,
    sockets: u64,
}

impl Peer {
    fn open() -> io::Result<Self> {
        Ok(Self {
            queues: Queues::open()?,
            injector: Injector::open()?,
            driver: None,
            held: HashMap::new(),
            leaving: 0,
            addresses: host::addresses(),
            sockets: 0,
        })
    }

    /// The newest connection counts: the driver of before is dead or unloaded.
    fn take_over(&mut self, listener: &TcpListener) -> io::Result<()> {
        let Ok((stream, _)) = listener.accept() else { return Ok(()) };
        self.leave();
        let mut driver = Driver::new(stream)?;
        driver.addresses(self.addresses.iter());
        driver.sockets();
        self.driver = Some(driver);
        Ok(())
    }

    /// Without a driver everything passes, what it held as well.
    fn leave(&mut self) {
        self.driver = None;
        let held: Vec<_> = self.held.keys().copied().collect();
        for (queue, id) in held {
            self.accept(queue, id, &[]);
        }
    }

    /// Lets it go on, with these bytes unless they are none.
    fn accept(&mut self, queue: u16, id: u32, bytes: &[u8]) {
        let Some(taken) = self.held.remove(&(queue, id)) else { return };
        let from_here = bytes.is_empty() || queue == INBOUND || self.is_from_here(bytes);
        match taken {
            Some(original) if from_here => {
                self.inject(if bytes.is_empty() { &original } else { bytes });
            }
            Some(_) => {}
            None => {
                self.leaving -= usize::from(queue == OUTBOUND);
                if from_here {
                    self.queues.accept(queue, id, (!bytes.is_empty()).then_some(bytes));
                } else {
                    self.queues.drop_packet(queue, id);
                }
            }
        }
    }

    fn inject(&self, packet: &[u8]) {
        if let Err(errno) = self.injector.send(packet) {
            say(&format!("lost: an injected packet: {errno}"));
        }
    }

    fn hear(&mut self) {
        let Some(mut driver) = self.driver.take() else { return };
        match driver.hear(|said| self.obey(said)).and_then(|()| driver.flush()) {
            Ok(()) => self.driver = Some(driver),
            Err(_) => self.leave(),
        }
    }

    fn obey(&mut self, said: Said<'_>) {
        match said {
            Said::Accept { inbound, id, bytes } => self.accept(queue_of(inbound), id, bytes),
            Said::Drop { inbound, id } => {
                let queue = queue_of(inbound);
                if let Some(None) = self.held.remove(&(queue, id)) {
                    self.leaving -= usize::from(queue == OUTBOUND);
                    self.queues.drop_packet(queue, id);
                }
            }
            Said::Inject(packet) => {
                if self.is_from_here(packet) {
                    self.inject(packet);
                }
            }
            Said::Log(text) => say(&format!("driver: {}", String::from_utf8_lossy(text))),
        }
    }

    /// Windows does not send what comes from an address that it does not have
    /// (WinDivert issues 143 and 195), and says nothing; the rig says it.
    fn is_from_here(&mut self, packet: &[u8]) -> bool {
        let Some(from) = host::source(packet) else { return false };
        let ours = |addresses: &BTreeSet<Ipv6Addr>| {
            addresses.contains(&from)
                || from.to_ipv4_mapped().is_some_and(|v4| v4.is_loopback() || v4.is_unspecified())
                || from.is_unspecified()
        };
        if !ours(&self.addresses) {
            self.look_at_addresses();
        }
        let known = ours(&self.addresses);
        if !known {
            say(&format!("lost: an outbound packet from {from}, which is no address of this host"));
        }
        known
    }

    fn pass_packets(&mut self) {
        for _ in 0..BATCH {
            let Some((packet, bytes)) = self.queues.receive() else { break };
            let inbound = packet.queue == INBOUND;
            let (queue, id) = (packet.queue, packet.id);
            let loopback = !inbound && packet.leaves_by == LOOPBACK;
            let interface = if inbound { packet.came_by } else { packet.leaves_by };
            match &mut self.driver {
                None => self.queues.accept(queue, id, None),
                Some(_) if packet.cut => self.queues.accept(queue, id, None),
                Some(driver) => {
                    let taken = driver.packet(inbound, loopback, id, interface, bytes);
                    // What the kernel holds counts against its sender's buffer,
                    // and a sender that is full waits. Windows takes packets off
                    // the stack; so does this, when there are many.
                    // Not IPv6, whose link-local addresses need an interface.
                    let fits = bytes.len() <= if loopback { 65535 } else { SURE_TO_FIT }
                        && bytes.first().is_some_and(|first| first >> 4 == 4);
                    let detached = taken && !inbound && fits && self.leaving >= IN_KERNEL_MOST;
                    let copy = detached.then(|| bytes.to_vec());
                    if taken {
                        self.leaving += usize::from(!inbound && !detached);
                        self.held.insert((queue, id), copy);
                    }
                    if detached || !taken {
                        self.queues.drop_packet(queue, id);
                    }
                }
            }
        }
        self.flush();
    }

    fn flush(&mut self) {
        if self.driver.as_mut().is_some_and(|driver| driver.flush().is_err()) {
            self.leave();
        }
    }

    fn look(&mut self) {
        if self.driver.is_none() {
            return;
        }
        self.look_at_addresses();
        let now = host::sockets();
        if now != self.sockets {
            self.sockets = now;
            if let Some(driver) = &mut self.driver {
                driver.sockets();
            }
        }
        self.flush();
    }

    fn look_at_addresses(&mut self) {
        let now = host::addresses();
        if now != self.addresses {
            self.addresses = now;
            if let Some(driver) = &mut self.driver {
                driver.addresses(self.addresses.iter());
            }
        }
    }
}

fn queue_of(inbound: bool) -> u16 {
    if inbound { INBOUND } else { OUTBOUND }
}
