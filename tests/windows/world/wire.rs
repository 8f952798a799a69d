//! Two network namespaces with a wire between them: Windows is in one, the far
//! side in the other. Gone with the value that holds them.

use super::{PATIENCE, run};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::thread::JoinHandle;
use std::time::Duration;
use std::{fs, thread};

/// The host's addresses, and the far side's.
pub(crate) const HOST: &str = "10.77.0.1";
pub(crate) const FAR: &str = "10.77.0.2";
pub(crate) const HOST_IPV6: &str = "fd77::1";
pub(crate) const FAR_IPV6: &str = "fd77::2";
/// The far side's server, TCP and UDP, IPv4 and IPv6: it answers with who asked.
pub(crate) const WHO: &str = "7777";

/// The wire, both ends.
pub(super) struct Wire {
    pub(super) windows: String,
    pub(super) far: String,
    server: Option<JoinHandle<()>>,
}

impl Wire {
    /// Lays it; the namespaces get that name.
    pub(super) fn lay(name: &str) -> Self {
        let (windows, far) = (name.to_owned(), format!("{name}f"));
        for command in [
            format!("ip netns add {windows}"),
            format!("ip netns add {far}"),
            format!("ip -n {windows} link add wire type veth peer name far netns {far}"),
            format!("ip -n {windows} address add {HOST}/24 dev wire"),
            format!("ip -n {windows} address add {HOST_IPV6}/64 dev wire nodad"),
            format!("ip -n {windows} link set wire up"),
            format!("ip -n {windows} link set lo up"),
            // As patient as Windows, which asks three times.
            format!("ip netns exec {windows} sysctl -qw net.ipv4.tcp_syn_retries=2"),
            format!("ip -n {far} address add {FAR}/24 dev far"),
            format!("ip -n {far} address add {FAR_IPV6}/64 dev far nodad"),
            format!("ip -n {far} link set far up"),
            format!("ip -n {far} link set lo up"),
        ] {
            run(&command);
        }
        Self { windows, far, server: None }
    }

    /// The far side's server.
    pub(super) fn serve(&mut self) {
        let (tell, told) = std::sync::mpsc::channel();
        let far = self.far.clone();
        self.server = Some(thread::spawn(move || serve(&far, &tell)));
        told.recv_timeout(PATIENCE).expect("the far side's server");
    }

    /// Asks from the far side; what came back, or why nothing did.
    pub(super) fn ask_from_afar(&self, address: &str, port: u16, text: &str) -> String {
        let to = SocketAddr::new(address.parse::<IpAddr>().unwrap(), port);
        let text = text.to_owned();
        within(&self.far, move || {
            let answer = || -> std::io::Result<String> {
                let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(5))?;
                stream.set_read_timeout(Some(Duration::from_secs(10)))?;
                stream.write_all(text.as_bytes())?;
                let mut answer = [0; 256];
                let got = stream.read(&mut answer)?;
                Ok(String::from_utf8_lossy(&answer[..got]).into_owned())
            };
            answer().unwrap_or_else(|error| format!("{:?}", error.kind()))
        })
    }

    /// The same by UDP, and who answered.
    pub(super) fn ask_by_udp(&self, address: &str, port: u16, text: &str) -> String {
        let to = SocketAddr::new(address.parse::<IpAddr>().unwrap(), port);
        let here = if to.is_ipv4() { FAR } else { FAR_IPV6 };
        let here = SocketAddr::new(here.parse().unwrap(), 0);
        let text = text.to_owned();
        within(&self.far, move || {
            let answer = || -> std::io::Result<String> {
                let socket = UdpSocket::bind(here)?;
                socket.set_read_timeout(Some(Duration::from_secs(5)))?;
                socket.send_to(text.as_bytes(), to)?;
                let mut answer = [0; 256];
                let (got, from) = socket.recv_from(&mut answer)?;
                Ok(format!("{from}: {}", String::from_utf8_lossy(&answer[..got])))
            };
            answer().unwrap_or_else(|error| format!("{:?}", error.kind()))
        })
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        for namespace in [&self.windows, &self.far] {
            let _ = Command::new("ip").args(["netns", "delete", namespace]).status();
        }
        if let Some(server) = self.server.take() {
            let _ = server.join();
        }
    }
}

/// The far side's server, until the namespace is gone.
fn serve(far: &str, tell: &std::sync::mpsc::Sender<()>) {
    within(far, || {
        // Both IP versions.
        let at: SocketAddr = format!("[::]:{WHO}").parse().unwrap();
        let (tcp, udp) = (TcpListener::bind(at).unwrap(), UdpSocket::bind(at).unwrap());
        tcp.set_nonblocking(true).unwrap();
        udp.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        tell.send(()).unwrap();
        // Ended by the namespace that goes: its card is then gone from under it.
        while Path::new(&format!("/run/netns/{far}")).exists() {
            if let Ok((mut stream, from)) = tcp.accept() {
                thread::spawn(move || answer(&mut stream, from));
            }
            let mut question = [0; 256];
            if let Ok((_, from)) = udp.recv_from(&mut question) {
                let _ = udp.send_to(who(from).as_bytes(), from);
            }
        }
    });
}

/// Says who asks, for each line.
fn answer(stream: &mut TcpStream, from: SocketAddr) {
    let _ = stream.set_nonblocking(false);
    let _ = stream.set_read_timeout(Some(PATIENCE));
    let mut question = [0; 256];
    while let Ok(1..) = stream.read(&mut question) {
        let _ = stream.write_all(who(from).as_bytes());
    }
}

fn who(asks: SocketAddr) -> String {
    asks.ip().to_canonical().to_string()
}

/// Does it in a thread of that namespace.
fn within<T: Send>(namespace: &str, does: impl FnOnce() -> T + Send) -> T {
    use nix::sched::{CloneFlags, setns};
    let file = fs::File::open(format!("/run/netns/{namespace}")).expect("a namespace");
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            setns(&file, CloneFlags::CLONE_NEWNET).expect("to enter a namespace needs root");
            does()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
