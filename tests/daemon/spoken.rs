//! Does what FTP and SIP say of addresses agree with the wire? Real programs, in
//! sessions and on the far side.

use crate::world::{ANA, World, until};
use sessionip::lab::network::{FAR, HOST};
use sessionip::lab::process::Running;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const CONNECT: &str = "[hook]\nscope = 'connect'";
const FTP: u16 = 2121;

/// A folder with a file to fetch, and the configuration of a server that runs as
/// this user, whose file it has to be.
fn ftp_files(world: &World, user: &str) -> PathBuf {
    let folder = world.directory.path().join("ftp");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("greeting"), "as agreed\n").unwrap();
    let place = folder.display();
    let text = format!(
        "listen=YES\nlisten_ipv6=NO\nlisten_port={FTP}\nrun_as_launching_user=YES\n\
         anonymous_enable=YES\nno_anon_password=YES\nftp_username={ANA}\nanon_root={place}\n\
         secure_chroot_dir={place}\nconnect_from_port_20=NO\nbackground=NO\n\
         seccomp_sandbox=NO\nisolate=NO\nisolate_network=NO\n"
    );
    let configuration = folder.join("vsftpd.conf");
    std::fs::write(&configuration, text).unwrap();
    let user = nix::unistd::User::from_name(user).unwrap().unwrap();
    nix::unistd::chown(&configuration, Some(user.uid), None).unwrap();
    std::fs::set_permissions(&folder, Permissions::from_mode(0o555)).unwrap();
    configuration
}

/// curl that says all, and never the newer commands, which name no address.
fn curl(options: &[&str], server: &str) -> Vec<String> {
    let words = ["/usr/bin/curl", "-sv", "--max-time", "10", "--disable-eprt", "--disable-epsv"];
    let url = format!("ftp://{server}:{FTP}/greeting");
    words.iter().chain(options).map(|word| (*word).to_owned()).chain([url]).collect()
}

fn in_session(world: &World, words: &[impl AsRef<str>]) -> Command {
    let mut command = world.sessionip(&["exec", "--session", "1", "--user", ANA, "--"]);
    command.args(words.iter().map(AsRef::as_ref)).current_dir("/");
    command
}

fn run(world: &World, in_session_one: bool, words: &[String]) -> Output {
    if in_session_one {
        let mut command = in_session(world, words);
        return world.network.host.within(|| command.output()).unwrap().unwrap();
    }
    let mut command = sessionip::lab::process::command(words);
    world.network.client.within(|| command.output()).unwrap().unwrap()
}

/// `h,h,h,h` of PORT and 227 (RFC 959, section 4.1.2).
fn in_commas(address: impl ToString) -> String {
    address.to_string().replace('.', ",")
}

/// What it fetched, and what both said of it.
fn told(output: &Output) -> (String, String) {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (String::from_utf8_lossy(&output.stdout).into_owned(), said)
}

/// An FTP server on the far side, for which active mode is a connection back to
/// the address that it is told, and only to the one that it sees.
fn far_ftp(world: &World) -> Running {
    let mut server = sessionip::lab::process::command(&["/usr/sbin/vsftpd"]);
    server.arg(ftp_files(world, "root")).stdin(Stdio::null());
    let server = world.network.client.start("vsftpd", &mut server).unwrap();
    until("vsftpd", || world.within_host(|| std::net::TcpStream::connect((FAR, FTP))).is_ok());
    server
}

#[test]
fn an_ftp_client_names_the_address_that_the_server_sees() {
    let world = World::new(4, CONNECT);
    let _shell = world.actor(1, ANA);
    let _server = far_ftp(&world);
    let v = in_commas(world.address(1));
    let (fetched, said) = told(&run(&world, true, &curl(&["-P", "-"], &FAR.to_string())));
    assert_eq!(fetched, "as agreed\n", "{said}");
    assert!(said.contains(&format!("> PORT {v},")), "{said}");
    let (fetched, said) = told(&run(&world, true, &curl(&[], &FAR.to_string())));
    assert_eq!(fetched, "as agreed\n", "{said}");
    assert!(said.contains(&format!("({},", in_commas(FAR))), "{said}");
    assert_eq!(world.json("status")["packets"]["rewritten"], 0, "{}", world.json("status"));
}

/// By default it names the host's, and a careful server refuses it.
#[test]
fn without_the_scope_an_active_client_is_refused() {
    let world = World::new(4, "");
    let _shell = world.actor(1, ANA);
    let _server = far_ftp(&world);
    let (fetched, said) = told(&run(&world, true, &curl(&["-P", "-"], &FAR.to_string())));
    assert_eq!(fetched, "", "{said}");
    assert!(said.contains(&format!("> PORT {},", in_commas(HOST))), "{said}");
    assert!(said.contains("< 500 Illegal PORT command."), "{said}");
    let (fetched, said) = told(&run(&world, true, &curl(&[], &FAR.to_string())));
    assert_eq!(fetched, "as agreed\n", "{said}");
}

#[test]
fn an_ftp_server_names_the_address_that_it_was_asked_at() {
    for scope in [CONNECT, ""] {
        let world = World::new(4, scope);
        let configuration = ftp_files(&world, ANA);
        let words = ["/usr/sbin/vsftpd", configuration.to_str().unwrap()];
        let _server = world.network.host.start("vsftpd", &mut in_session(&world, &words)).unwrap();
        let ask = |options: &[&str]| {
            let v = world.address(1).to_string();
            told(&run(&world, false, &curl(options, &v)))
        };
        until("vsftpd", || {
            world
                .json("sockets")
                .as_array()
                .unwrap()
                .iter()
                .any(|row| row["asked"] == "0.0.0.0:2121")
        });
        let v = in_commas(world.address(1));
        let (fetched, said) = ask(&[]);
        assert_eq!(fetched, "as agreed\n", "{said}");
        assert!(said.contains(&format!("({v},")), "passive: {said}");
        let (fetched, said) = ask(&["-P", "-"]);
        assert_eq!(fetched, "as agreed\n", "active: {said}");
        assert_eq!(world.json("status")["packets"]["rewritten"], 0);
    }
}

/// All that a caller and one who is called say of themselves: Via, Contact, and
/// the media's address (RFC 3261, RFC 4566).
#[test]
fn sip_calls_name_the_address_of_the_wire() {
    let world = World::new(4, CONNECT);
    let _shell = world.actor(1, ANA);
    let v = world.address(1).to_string();

    // A call out of the session.
    let far = world.directory.path().join("far");
    let mut called = sipp(&far, &["-sn", "uas", "-i", &FAR.to_string(), "-m", "1"]);
    let mut called = world.network.client.start("sipp uas", &mut called).unwrap();
    until("sipp's port", || has_udp_port(&world, false, 5060));
    let call = sipp_words(&["-sn", "uac", "-m", "1", "-timeout", "20", "10.77.0.2:5060"]);
    let output = run(&world, true, &call);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    until("the call's end", || called.ended().unwrap().is_some());
    names_only(&far, &v, "INVITE");

    // A call into it. Who is called names what the machine's own name stands for.
    let library = crate::names::module(&world);
    let near = world.directory.path().join("near");
    let words = sipp_words(&["-sn", "uas", "-m", "1"]);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut answering = crate::names::in_session(&world, &library, (1, ANA), &words);
    let _answering = world.network.host.start("sipp uas", &mut answering).unwrap();
    until("sipp's port", || has_udp_port(&world, true, 5060));
    let mut caller = sipp(
        &near,
        &["-sn", "uac", "-i", &FAR.to_string(), "-m", "1", "-timeout", "20", &format!("{v}:5060")],
    );
    let output = world.network.client.within(|| caller.output()).unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    names_only(&near, &v, "SIP/2.0 200 OK");
}

fn sipp_words(words: &[&str]) -> Vec<String> {
    let program = ["/usr/bin/sipp", "-nostdin"];
    program.iter().chain(words).map(|word| (*word).to_owned()).collect()
}

/// One that writes down its messages in that file.
fn sipp(messages: &Path, words: &[&str]) -> Command {
    let mut command = sessionip::lab::process::command(&sipp_words(words));
    command.args(["-trace_msg", "-message_file"]).arg(messages).current_dir("/tmp");
    command.env("TERM", "dumb").stdin(Stdio::null());
    command
}

fn has_udp_port(world: &World, on_host: bool, port: u16) -> bool {
    let mut list = sessionip::lab::process::command(&["ss", "-Hlun"]);
    let namespace = if on_host { &world.network.host } else { &world.network.client };
    namespace.output(&mut list).unwrap().contains(&format!(":{port} "))
}

/// The messages that the far side received name no address but `v` as the other's.
fn names_only(messages: &Path, v: &str, of: &str) {
    let text = std::fs::read_to_string(messages).unwrap();
    let received: Vec<_> = text
        .split("-----------------------------------------------")
        .filter(|message| message.contains("message received") && message.contains(of))
        .collect();
    assert!(!received.is_empty(), "{text}");
    for message in received {
        for line in message.lines().filter(|line| {
            line.starts_with("Contact:")
                || line.starts_with("c=IN")
                || line.starts_with("o=")
                || line.starts_with("From:") && of == "INVITE"
                || line.starts_with("Via:") && of == "INVITE"
        }) {
            assert!(line.contains(v), "{line}, not {v}, in {message}");
        }
        let others = message.replace(v, "");
        assert!(!others.contains(&HOST.to_string()), "{message}");
    }
}
