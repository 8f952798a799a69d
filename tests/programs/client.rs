//! Who sends a word to a server?

use super::program::Word;
use sessionip::packet::Protocol;
use std::net::IpAddr;

/// Debian's: another one in PATH may be out of reach for the sessions' users.
pub(crate) const PYTHON: &str = "/usr/bin/python3";

/// The command that sends `word` to a server there.
pub(crate) fn of(kind: Word, address: IpAddr, port: u16, word: &str) -> Vec<String> {
    match kind {
        Word::Tcp(template) => asking(Protocol::Tcp, address, port, template, word),
        Word::Udp(template) => asking(Protocol::Udp, address, port, template, word),
        Word::Client(line) => {
            let (address, port) = (address.to_string(), port.to_string());
            let fill = |part: &str| {
                let part = part.replace("{address}", &address).replace("{port}", &port);
                part.replace("{word}", word)
            };
            line.split(' ').map(fill).collect()
        }
    }
}

fn asking(
    protocol: Protocol,
    address: IpAddr,
    port: u16,
    template: &str,
    word: &str,
) -> Vec<String> {
    let bytes = template.replace("{word}", word);
    let hex: String = bytes.bytes().map(|byte| format!("{byte:02x}")).collect();
    let (address, port) = (address.to_string(), port.to_string());
    let ask = include_str!("sources/ask.py");
    [PYTHON, "-c", ask, protocol.word(), &address, &port, &hex].map(str::to_owned).to_vec()
}
