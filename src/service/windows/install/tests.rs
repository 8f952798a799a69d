//! A service of its own kind: this test executable, which the manager starts with
//! the one test that is the daemon.

use super::super::{Orders, host, tell};
use super::*;
use crate::service::{Order, State};
use crate::session::Event;
use crate::session::windows::Watcher;
use std::io::Write;
use windows_sys::Win32::Foundation::ERROR_INVALID_LEVEL;

/// The name that [`host`] registers for; the manager goes by the process.
const TEST: &str = "sessionip-test";

/// One service at a time.
static SERVICE: std::sync::Mutex<()> = std::sync::Mutex::new(());

/// Where the service writes; not among the temporary files, which are each user's.
fn diary() -> std::path::PathBuf {
    places::folder().with_file_name("sessionip-test-service.txt")
}

fn note(line: &str) {
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(diary()).unwrap();
    writeln!(file, "{line}").unwrap();
}

fn wait_until_noted(line: &str) {
    let until = now() + Duration::from_secs(10);
    while !std::fs::read_to_string(diary()).unwrap_or_default().contains(line) {
        assert!(now() < until, "{line} was not noted: {:?}", std::fs::read_to_string(diary()));
        std::thread::sleep(GLANCE);
    }
}

#[test]
#[ignore = "not a test: it is what the service control manager runs"]
fn the_service() {
    let ended = host(|| {
        let mut orders = Orders::catch().map_err(|error| error.to_string())?;
        note(if super::super::is_hosted() { "hosted" } else { "not hosted" });
        if diary().with_extension("fail").exists() {
            return Err("as it was told to".to_owned());
        }
        let (mut watcher, _) = Watcher::open().map_err(|error| error.to_string())?;
        tell(State::Ready);
        let until = now() + Duration::from_secs(60);
        loop {
            for event in watcher.next(Duration::ZERO) {
                if let Event::Started(session) = event {
                    note(&format!("session {} of {}", session.id, session.user.name));
                }
            }
            match orders.next(GLANCE).map_err(|error| error.to_string())? {
                Some(Order::Stop) => break,
                Some(order) => note(&format!("{order:?}")),
                None if now() > until => return Err("nobody stopped it".to_owned()),
                None => {}
            }
        }
        tell(State::Stopping);
        note("taken back");
        Ok(())
    });
    if let Err(error) = ended {
        note(&error.to_string());
    }
}

/// Takes the service out again, whatever becomes of the test.
struct Installed;

impl Installed {
    fn new() -> Self {
        let manager =
            manager(ServiceManagerAccess::CONNECT | ServiceManagerAccess::CREATE_SERVICE).unwrap();
        let executable = std::env::current_exe().unwrap();
        let test = "service::windows::install::tests::the_service";
        let arguments = ["--ignored", "--exact", test, "--nocapture"].map(OsString::from);
        let install = || install_as(&manager, TEST, &executable, arguments.to_vec()).unwrap();
        assert!(install(), "it is new");
        assert!(!install(), "it is there already");
        Self
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        let _ = uninstall_as(TEST);
    }
}

fn open(access: ServiceAccess) -> Service {
    find(TEST, access).unwrap().unwrap()
}

#[test]
fn a_service_lives_as_the_manager_says() {
    let _one = SERVICE.lock();
    let _ = uninstall_as(TEST);
    let _ = std::fs::remove_file(diary());
    let fails = diary().with_extension("fail");
    let _ = std::fs::remove_file(&fails);
    assert!(!uninstall_as(TEST).unwrap(), "it is not there");
    let error = start_as(TEST).unwrap_err();
    assert_eq!(error.code(), Some(ERROR_SERVICE_DOES_NOT_EXIST));
    assert!(error.to_string().contains("service install"), "{error}");

    let installed = Installed::new();
    let service = open(ServiceAccess::QUERY_CONFIG | ServiceAccess::QUERY_STATUS);
    let config = service.query_config().unwrap();
    assert_eq!(config.start_type, ServiceStartType::AutoStart);
    let command = config.executable_path.display().to_string();
    assert!(command.contains("--ignored --exact"), "{command}");
    match service.get_failure_actions().map_err(say) {
        Ok(failure) => {
            let actions = failure.actions.unwrap();
            let delays: Vec<u64> = actions.iter().map(|action| action.delay.as_secs()).collect();
            assert_eq!(delays, [1, 5, 30]);
        }
        // Wine takes them and cannot say what it has.
        Err(error) => assert_eq!(error.raw_os_error(), Some(ERROR_INVALID_LEVEL as i32)),
    }
    drop(service);

    assert!(!stop_as(TEST).unwrap(), "it did not run");
    assert!(start_as(TEST).unwrap());
    assert!(!start_as(TEST).unwrap(), "it runs already");
    wait_until_noted("hosted\n");
    let service = open(ServiceAccess::USER_DEFINED_CONTROL | ServiceAccess::PAUSE_CONTINUE);
    reload(&service);
    drop(service);
    wait_until_noted("Reload\n");
    assert!(stop_as(TEST).unwrap());
    // It said so before it was stopped.
    assert!(std::fs::read_to_string(diary()).unwrap().ends_with("taken back\n"));

    std::fs::write(&fails, "").unwrap();
    let error = start_as(TEST).unwrap_err();
    assert!(matches!(error, ServiceError::Ended), "{error}");
    let status = open(ServiceAccess::QUERY_STATUS).query_status().unwrap();
    assert_eq!(
        status.exit_code,
        windows_service::service::ServiceExitCode::ServiceSpecific(1),
        "the manager starts it again by this"
    );
    std::fs::remove_file(&fails).unwrap();
    drop(installed);
    assert!(!uninstall_as(TEST).unwrap(), "it is gone");
}

#[test]
#[ignore = "takes the stand-ins for sessions"]
fn stood_in_sessions_and_sleep_are_told_to_the_service() {
    let _one = SERVICE.lock();
    let _ = uninstall_as(TEST);
    let _ = std::fs::remove_file(diary());
    let there_are = |lines: &str| {
        let folder = Path::new(r"C:\standin");
        std::fs::write(folder.join("whole"), lines).unwrap();
        // The stand-in reads it often, and it cannot be replaced meanwhile.
        let rename = || std::fs::rename(folder.join("whole"), folder.join("sessions.txt"));
        let done = (0..100).any(|_| {
            let renamed = rename().is_ok();
            std::thread::sleep(Duration::from_millis(if renamed { 0 } else { 7 }));
            renamed
        });
        assert!(done, "{:?}", rename());
    };
    there_are("session 0 disconnected Services -\n");
    let _installed = Installed::new();
    assert!(start_as(TEST).unwrap());
    let anna = "session 2 active RDP-Tcp#1 EXAMPLE\\anna rdp\n";
    there_are(anna);
    wait_until_noted("session 2 of EXAMPLE\\anna\n");
    there_are(&format!("{anna}power resume-automatic\n"));
    wait_until_noted("Resumed\n");
    assert!(stop_as(TEST).unwrap());
}

/// What `sc control NAME paramchange` sends.
#[expect(unsafe_code, reason = "the crate has no function for it")]
fn reload(service: &Service) {
    use windows_sys::Win32::System::Services::{
        ControlService, SERVICE_CONTROL_PARAMCHANGE, SERVICE_STATUS,
    };
    let mut status = SERVICE_STATUS::default();
    // SAFETY: the handle is open, and the status is written.
    let sent = unsafe {
        ControlService(service.raw_handle(), SERVICE_CONTROL_PARAMCHANGE, &raw mut status)
    };
    assert_ne!(sent, 0, "{}", io::Error::last_os_error());
}
