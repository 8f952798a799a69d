//! The pipe as the system has it.

use super::server::Server;
use super::{connect, name};
use crate::control::access::Peer;
use crate::control::client::Client;
use crate::control::{Request, Response};
use crate::guard::windows::wide;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use windows_sys::Win32::Foundation::{CloseHandle, INVALID_HANDLE_VALUE};
use windows_sys::Win32::System::Pipes::{CreateNamedPipeW, PIPE_UNLIMITED_INSTANCES};

const PATIENCE: Duration = Duration::from_secs(5);

#[expect(clippy::disallowed_methods, reason = "a server lives in real time")]
fn now() -> Instant {
    Instant::now()
}

fn path() -> PathBuf {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!(r"\\.\pipe\sessionip-test-{}-{number}", std::process::id()).into()
}

/// Runs `body` while a server answers each request with who put it.
fn served<T>(body: impl FnOnce(&Path) -> T) -> T {
    let path = path();
    let mut server = Server::listen(&path).unwrap();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut answer = |peer: &Peer, request: Request| {
                // More than fits into any buffer on the way.
                if let Request::Flows { from } = request {
                    return Response::of(&"x".repeat(from as usize));
                }
                Response::of(&(peer.user.clone(), peer.administrator))
            };
            while !over.load(Ordering::Relaxed) {
                server.turn(now(), Duration::from_millis(50), &mut answer).unwrap();
            }
        });
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| body(&path)));
        over.store(true, Ordering::Relaxed);
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

#[test]
fn the_system_says_who_asks() {
    served(|path| {
        let mut client = Client::connect(path).unwrap();
        for _ in 0..3 {
            let (user, administrator): (String, bool) = client.ask(&Request::Status {}).unwrap();
            assert!(user.starts_with("S-1-5-"), "{user}");
            assert_eq!(administrator, crate::guard::is_administrator());
        }
    });
}

#[test]
fn a_long_answer_comes_whole_and_others_are_served_meanwhile() {
    const LENGTH: u32 = 3_000_000;
    served(|path| {
        let mut slow = connect(path, PATIENCE).unwrap();
        slow.write_all(format!("{{\"command\":\"flows\",\"from\":{LENGTH}}}\n").as_bytes())
            .unwrap();
        let mut quick = Client::connect(path).unwrap();
        let _: (String, bool) = quick.ask(&Request::Sessions {}).unwrap();
        let mut answer = Vec::new();
        let mut buffer = vec![0; 10_000];
        while answer.last() != Some(&b'\n') {
            let read = slow.read(&mut buffer).unwrap();
            assert_ne!(read, 0);
            answer.extend_from_slice(&buffer[..read]);
        }
        assert_eq!(answer.len(), LENGTH as usize + "{\"ok\":\"\"}\n".len());
    });
}

#[test]
fn requests_that_come_at_once_are_answered_one_after_the_other() {
    served(|path| {
        let mut stream = connect(path, PATIENCE).unwrap();
        stream.write_all(&b"{\"command\":\"flows\",\"from\":1}\n".repeat(4)).unwrap();
        let expected = "{\"ok\":\"x\"}\n".repeat(4);
        let mut answers = vec![0; expected.len()];
        stream.read_exact(&mut answers).unwrap();
        assert_eq!(String::from_utf8(answers).unwrap(), expected);
    });
}

#[test]
fn nonsense_is_answered_and_too_much_of_it_is_cut_off() {
    served(|path| {
        let mut stream = connect(path, PATIENCE).unwrap();
        stream.write_all(b"hello\n").unwrap();
        let mut buffer = [0; 4096];
        let read = stream.read(&mut buffer).unwrap();
        assert!(buffer[..read].starts_with(b"{\"error\":\"the request was not understood"));

        let mut stream = connect(path, PATIENCE).unwrap();
        // It may be cut off before all is written.
        let _ = stream.write_all(&[b'x'; 20_000]);
        let mut said = String::new();
        let _ = stream.read_to_string(&mut said);
        assert!(said.contains("not longer than 16384 bytes"), "{said}");
        assert_eq!(stream.read(&mut buffer).unwrap_or(0), 0, "it is closed");
    });
}

#[test]
fn silent_clients_do_not_keep_others_out() {
    served(|path| {
        let silent: Vec<_> = (0..100).map(|_| connect(path, PATIENCE).unwrap()).collect();
        let mut client = Client::connect(path).unwrap();
        let _: (String, bool) = client.ask(&Request::Status {}).unwrap();
        drop(silent);
        // And who says nothing is gone before long.
        let mut silent = connect(path, PATIENCE).unwrap();
        let began = now();
        assert_eq!(silent.read(&mut [0; 16]).unwrap_or(0), 0);
        assert!(now().duration_since(began) < Duration::from_secs(4));
    });
}

#[test]
fn a_second_server_is_refused() {
    served(|path| {
        Server::listen(path).unwrap_err();
    });
}

#[test]
fn where_nobody_listens_it_is_said() {
    let error = Client::connect(&path()).unwrap_err().to_string();
    assert!(error.starts_with("no sessionip daemon answers at"), "{error}");
    for wrong in [r"\\elsewhere\pipe\sessionip", r"C:\run\control.sock", "/run/x.sock", ""] {
        let error = name(Path::new(wrong)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{wrong}");
    }
    assert!(name(Path::new(r"\\.\PIPE\x")).is_ok());
}

#[test]
#[expect(unsafe_code, reason = "a call into kernel32")]
fn a_pipe_of_somebody_else_s_is_not_believed() {
    let path = path();
    let name = wide(path.as_os_str());
    // As any user may make it: it is his, whatever it lets others do.
    let descriptor = crate::guard::windows::Descriptor::parse("O:S-1-5-32-545D:(A;;FA;;;WD)");
    let attributes = descriptor.as_ref().unwrap().attributes();
    // SAFETY: the name ends with a zero; the descriptor outlives the call.
    let squatter = unsafe {
        CreateNamedPipeW(
            name.as_ptr(),
            3,
            0,
            PIPE_UNLIMITED_INSTANCES,
            4096,
            4096,
            0,
            &raw const attributes,
        )
    };
    assert_ne!(squatter, INVALID_HANDLE_VALUE, "{}", io::Error::last_os_error());
    let error = connect(&path, PATIENCE).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{error}");
    // The daemon does not share a name with it either.
    Server::listen(&path).unwrap_err();
    // SAFETY: it is open, and ours.
    unsafe { CloseHandle(squatter) };
}
