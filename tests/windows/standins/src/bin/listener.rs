//! A server as anybody writes one, which knows nothing of sessions: `listener PORT`
//! listens on any address, and answers each question with who asked and what.

use std::io::{Read, Write};
use std::net::TcpListener;

fn main() -> std::io::Result<()> {
    let port = std::env::args().nth(1).and_then(|word| word.parse().ok()).unwrap_or(9000);
    let listener = TcpListener::bind(("0.0.0.0", port))?;
    writeln!(std::io::stdout(), "serving")?;
    for stream in listener.incoming() {
        let mut stream = stream?;
        let peer = stream.peer_addr()?;
        let mut question = [0; 256];
        let got = stream.read(&mut question)?;
        let text = String::from_utf8_lossy(question.get(..got).unwrap_or_default()).into_owned();
        stream.write_all(format!("{peer} {text}").as_bytes())?;
    }
    Ok(())
}
