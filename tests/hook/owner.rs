//! Whose is a socket?

use crate::lab::{In, Lab, P, PERSON, V1, bind, bind_fd, connect, socket};
use sessionip::companion::{Closed, SocketOwner, file_of};
use sessionip::session::SessionId;
use std::os::fd::{AsRawFd, OwnedFd};

#[expect(unsafe_code, reason = "nix does not know this socket option")]
fn cookie(fd: &OwnedFd) -> u64 {
    let mut cookie = 0_u64;
    let mut size = 8;
    // SAFETY: the kernel writes at most 8 bytes to `cookie`, which has 8.
    let result = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut size,
        )
    };
    assert_eq!(result, 0);
    cookie
}

fn here() -> (u32, u64) {
    file_of(&std::env::current_exe().unwrap()).unwrap()
}

#[test]
fn the_maker_owns_it() {
    let mut lab = Lab::new();
    let owners = lab.hook().owners().unwrap();
    for (place, session) in [
        (In::Below(1), Some(SessionId(1))),
        (In::Session(2), Some(SessionId(2))),
        (In::Outside, None),
    ] {
        let program = lab.start(place, PERSON, |talk| {
            let fd = socket("udp", "0.0.0.0:0");
            talk.say(&cookie(&fd).to_string());
            talk.wait();
            String::new()
        });
        let owner = owners.owner(program.line().parse().unwrap()).unwrap();
        let expected = SocketOwner {
            session,
            pid: program.pid.as_raw().cast_unsigned(),
            uid: PERSON,
            cgroup: lab.cgroup(place),
            file: here(),
            marks: Default::default(),
        };
        assert_eq!(owner, expected);
        let name = owners.name_of(owner.file).unwrap();
        let exe = std::env::current_exe().unwrap();
        assert!(exe.file_name().unwrap().to_str().unwrap().starts_with(&name));
    }
    assert_eq!(owners.owner(u64::MAX), None);
}

#[test]
fn it_works_from_another_thread() {
    let mut lab = Lab::new();
    let owners = lab.hook().owners().unwrap();
    let mut closed = lab.hook().closed().unwrap();
    assert!(lab.hook().closed().is_none(), "one reader only");
    std::thread::scope(|scope| {
        scope.spawn(move || {
            assert_eq!(owners.owner(0), None);
            closed.drain(|_| ());
        });
    });
}

#[test]
fn the_last_to_bind_or_connect_owns_it() {
    let mut lab = Lab::new();
    let owners = lab.hook().owners().unwrap();
    let program = lab.start(In::Session(1), PERSON, |talk| {
        let bound = socket("udp", "0.0.0.0:0");
        let connected = socket("udp", "0.0.0.0:0");
        talk.say(&format!("{} {}", cookie(&bound), cookie(&connected)));
        talk.wait();
        // The child has the sockets passed on to it.
        let pid = in_child(|| {
            bind_fd(&bound, "0.0.0.0:9300").unwrap();
            connect(&connected, &format!("{P}:9301")).unwrap();
        });
        talk.say(&pid.to_string());
        talk.wait();
        String::new()
    });
    let cookies = program.line();
    let cookies: Vec<u64> = cookies.split(' ').map(|cookie| cookie.parse().unwrap()).collect();
    for cookie in &cookies {
        assert_eq!(owners.owner(*cookie).unwrap().pid, program.pid.as_raw().cast_unsigned());
    }
    program.go_on();
    let child: u32 = program.line().parse().unwrap();
    for cookie in &cookies {
        let owner = owners.owner(*cookie).unwrap();
        assert_eq!((owner.pid, owner.session), (child, Some(SessionId(1))));
    }
}

#[expect(unsafe_code, reason = "a child that shares open sockets")]
fn in_child(act: impl FnOnce()) -> i32 {
    // SAFETY: the caller is a process of one thread.
    match unsafe { nix::unistd::fork() }.unwrap() {
        nix::unistd::ForkResult::Parent { child } => {
            nix::sys::wait::waitpid(child, None).unwrap();
            child.as_raw()
        }
        nix::unistd::ForkResult::Child => {
            act();
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(0) }
        }
    }
}

#[test]
fn a_socket_older_than_the_hook_is_known_once_it_is_bound() {
    let mut lab = Lab::bare();
    let program = lab.start(In::Session(1), PERSON, |talk| {
        let fd = socket("tcp", "0.0.0.0:0");
        talk.say(&cookie(&fd).to_string());
        talk.wait();
        bind_fd(&fd, "0.0.0.0:9302").unwrap();
        talk.say("bound");
        talk.wait();
        String::new()
    });
    let cookie = program.line().parse().unwrap();
    lab.load();
    let owners = lab.hook().owners().unwrap();
    assert_eq!(owners.owner(cookie), None);
    program.go_on();
    assert_eq!(program.line(), "bound");
    let owner = owners.owner(cookie).unwrap();
    assert_eq!(owner.cgroup, lab.cgroup(In::Session(1)));
    assert_eq!(owner.session, Some(SessionId(1)));
}

#[test]
fn a_closed_udp_socket_is_told() {
    let mut lab = Lab::new();
    let mut closed = lab.hook().closed().unwrap();
    let to = format!("{P}:9303");
    lab.run(In::Outside, PERSON, || format!("{:?}", bind("udp", "0.0.0.0:9304").is_ok()));
    lab.run(In::Session(1), PERSON, || format!("{:?}", bind("tcp", "0.0.0.0:9304").is_ok()));
    let ports = lab.run(In::Session(1), PERSON, || {
        let sent = socket("udp", "0.0.0.0:0");
        connect(&sent, &to).unwrap();
        let mapped = socket("udp", "[::]:0");
        connect(&mapped, &format!("[::ffff:{P}]:9303")).unwrap();
        let _listener = bind("udp", "0.0.0.0:9304").unwrap();
        let _never_bound = socket("udp", "0.0.0.0:0");
        [&sent, &mapped]
            .map(|fd| crate::lab::local(fd).rsplit_once(':').unwrap().1.to_owned())
            .join(" ")
    });
    let mut events: Vec<Closed> = Vec::new();
    closed.drain(|event| events.push(event));
    let ends =
        |event: &Closed| (event.local.to_string(), event.remote.map(|remote| remote.to_string()));
    let mut seen: Vec<_> = events.iter().map(ends).collect();
    let mut expected: Vec<_> =
        ports.split(' ').map(|port| (format!("{P}:{port}"), Some(to.clone()))).collect();
    expected.push((format!("{V1}:9304"), None));
    seen.sort();
    expected.sort();
    assert_eq!(seen, expected);
    for event in &events {
        assert_eq!(event.owner.session, Some(SessionId(1)));
        assert_eq!((event.owner.uid, event.owner.file), (PERSON, here()));
        assert!(event.cookie != 0 && !event.at.is_zero());
    }
    closed.drain(|event| panic!("told twice: {event:?}"));
    assert_eq!(lab.hook().counters().unwrap().lost_events, 0);
}
