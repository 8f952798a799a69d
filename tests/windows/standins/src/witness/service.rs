//! What is a service told? It writes it to `C:\standin\NAME.txt`.

use std::{
    env,
    ffi::OsString,
    fs,
    io::Write,
    sync::{Mutex, OnceLock, mpsc},
    thread,
    time::Duration,
};

use windows_service::{
    define_windows_service,
    service::{
        ServiceAccess, ServiceControl, ServiceControlAccept, ServiceErrorControl, ServiceExitCode,
        ServiceInfo, ServiceStartType, ServiceState, ServiceStatus, ServiceType,
    },
    service_control_handler::{self, ServiceControlHandlerResult},
    service_dispatcher,
    service_manager::{ServiceManager, ServiceManagerAccess},
};

use super::Answer;

/// Given on the command line; the service's main function has no argument for it.
static NAME: OnceLock<String> = OnceLock::new();
/// One line at a time.
static FILE: Mutex<()> = Mutex::new(());

define_windows_service!(ffi_main, main);

/// Installs it, to be started by hand.
pub(super) fn install(name: &str) -> Answer {
    let info = ServiceInfo {
        name: name.into(),
        display_name: name.into(),
        service_type: ServiceType::OWN_PROCESS,
        start_type: ServiceStartType::OnDemand,
        error_control: ServiceErrorControl::Normal,
        executable_path: env::current_exe()?,
        launch_arguments: vec!["service".into(), "run".into(), name.into()],
        dependencies: vec![],
        account_name: None,
        account_password: None,
    };
    let access = ServiceManagerAccess::CREATE_SERVICE;
    let manager = ServiceManager::local_computer(None::<&str>, access)?;
    manager.create_service(&info, ServiceAccess::QUERY_STATUS)?;
    Ok("installed".into())
}

/// Is it, until it is told to stop.
pub(super) fn run(name: &str) -> Answer {
    NAME.get_or_init(|| name.to_owned());
    service_dispatcher::start(name, ffi_main)?;
    Ok("stopped".into())
}

/// Starts it and waits until it runs.
pub(super) fn start(name: &str) -> Answer {
    let service = open(name)?;
    service.start::<OsString>(&[])?;
    wait(&service, ServiceState::Running)
}

/// Stops it and waits until it has stopped.
pub(super) fn stop(name: &str) -> Answer {
    let service = open(name)?;
    service.stop()?;
    wait(&service, ServiceState::Stopped)
}

fn open(name: &str) -> windows_service::Result<windows_service::service::Service> {
    let access = ServiceManagerAccess::CONNECT;
    ServiceManager::local_computer(None::<&str>, access)?
        .open_service(name, ServiceAccess::ALL_ACCESS)
}

fn wait(service: &windows_service::service::Service, state: ServiceState) -> Answer {
    for _ in 0..200 {
        if service.query_status()?.current_state == state {
            return Ok(format!("{state:?}"));
        }
        thread::sleep(Duration::from_millis(50));
    }
    Err(format!("not {state:?} after ten seconds").into())
}

fn main(_words: Vec<OsString>) {
    if let Err(problem) = serve() {
        write(&format!("failed: {problem}"));
    }
}

fn serve() -> windows_service::Result<()> {
    let (stop, stopped) = mpsc::sync_channel(1);
    let name = NAME.get().map_or("", String::as_str);
    let status = service_control_handler::register(name, move |control| {
        #[expect(clippy::wildcard_enum_match_arm, reason = "accepts no others")]
        match control {
            ServiceControl::Stop => {
                let _ = stop.try_send(());
            }
            ServiceControl::SessionChange(change) => {
                write(&format!("{:?} {}", change.reason, change.notification.session_id));
            }
            ServiceControl::PowerEvent(event) => write(&format!("{event:?}")),
            ServiceControl::Interrogate => {}
            _ => return ServiceControlHandlerResult::NotImplemented,
        }
        ServiceControlHandlerResult::NoError
    })?;
    let accepted = ServiceControlAccept::STOP
        | ServiceControlAccept::SESSION_CHANGE
        | ServiceControlAccept::POWER_EVENT;
    let is = |current_state, controls_accepted| ServiceStatus {
        service_type: ServiceType::OWN_PROCESS,
        current_state,
        controls_accepted,
        exit_code: ServiceExitCode::Win32(0),
        checkpoint: 0,
        wait_hint: Duration::from_secs(5),
        process_id: None,
    };
    status.set_service_status(is(ServiceState::Running, accepted))?;
    let _ = stopped.recv();
    status.set_service_status(is(ServiceState::Stopped, ServiceControlAccept::empty()))
}

fn write(line: &str) {
    let _turn = FILE.lock();
    let name = NAME.get().map_or("", String::as_str);
    let path = format!(r"C:\standin\{name}.txt");
    if let Ok(mut file) = fs::OpenOptions::new().create(true).append(true).open(path) {
        let _ = writeln!(file, "{line}");
    }
}
