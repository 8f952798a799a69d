//! How does sessionip become a service, and how does it cease to be one?
//!
//! LocalSystem, because WinDivert's device opens to nobody less; started with the
//! machine, not delayed, because sessions come early; after the Base Filtering
//! Engine, which the driver needs. A daemon that failed is back after 1, 5 and
//! then every 30 seconds.
//!
//! Each command does nothing where all is so already, and says whether it did.

use super::{NAME, ServiceError, say};
use crate::guard::windows::{claim_private, shared_folder};
use crate::observe::source;
use crate::places;
use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};
use windows_service::service::{
    Service, ServiceAccess, ServiceAction, ServiceActionType, ServiceDependency,
    ServiceErrorControl, ServiceFailureActions, ServiceFailureResetPeriod, ServiceInfo,
    ServiceStartType, ServiceState, ServiceType,
};
use windows_service::service_manager::{ServiceManager, ServiceManagerAccess};
use windows_sys::Win32::Foundation::{
    ERROR_SERVICE_ALREADY_RUNNING, ERROR_SERVICE_DOES_NOT_EXIST, ERROR_SERVICE_EXISTS,
    ERROR_SERVICE_NOT_ACTIVE,
};

/// What `services.msc` shows beside the name.
const DESCRIPTION: &str = "Gives every login session an IP address of its own. While it is \
    stopped, sessions share the address of the host.";
/// What the driver cannot do without.
const BASE_FILTERING_ENGINE: &str = "BFE";
/// How soon it is back after the first, the second and each further failure.
const RESTARTS: [Duration; 3] =
    [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(30)];
/// A failure counts for so long.
const FORGIVEN: Duration = Duration::from_secs(3600);
/// How long the machine waits for it when it shuts down.
const SHUTDOWN: Duration = Duration::from_secs(20);
/// How long a command waits until a service has started or stopped.
const PATIENCE: Duration = Duration::from_secs(30);
const GLANCE: Duration = Duration::from_millis(100);

/// Makes this executable a service that runs with the configuration at `config`.
/// One that is there is changed to that; it is not started again. Returns whether
/// it is new.
///
/// # Errors
/// [`ServiceError`]; whoever calls is no elevated administrator, most likely.
pub fn install(config: &Path) -> Result<bool, ServiceError> {
    let failed = |what| move |source| ServiceError::Refused { what, source };
    // First, so that whoever is no administrator changes nothing.
    let manager = manager(ServiceManagerAccess::CONNECT | ServiceManagerAccess::CREATE_SERVICE)?;
    let executable = std::env::current_exe().map_err(failed("find this executable"))?;
    let config = std::path::absolute(config).map_err(failed("find the configuration"))?;
    secure_folders().map_err(failed("make the folder of configuration and leases safe"))?;
    let arguments = vec!["--config".into(), config.into_os_string(), "run".into()];
    let new = install_as(&manager, NAME, &executable, arguments)?;
    source::register(NAME, &executable).map_err(failed("register the source of events"))?;
    Ok(new)
}

/// Stops the service and takes it out; configuration, leases and log stay. Returns
/// whether it was there.
///
/// # Errors
/// [`ServiceError`].
pub fn uninstall() -> Result<bool, ServiceError> {
    let was_there = uninstall_as(NAME)?;
    source::unregister(NAME).map_err(|source| ServiceError::Refused {
        what: "take out the source of events",
        source,
    })?;
    Ok(was_there)
}

/// Starts the service and waits until sessions have their addresses. Returns
/// whether it was not running.
///
/// # Errors
/// [`ServiceError`].
pub fn start() -> Result<bool, ServiceError> {
    start_as(NAME)
}

/// Stops the service and waits until everything is taken back. Returns whether it
/// was running.
///
/// # Errors
/// [`ServiceError`].
pub fn stop() -> Result<bool, ServiceError> {
    stop_as(NAME)
}

/// The configuration's folder is the administrators' to write, and what is private
/// in it is nobody else's, whoever was there first.
fn secure_folders() -> io::Result<()> {
    shared_folder(&places::folder())?;
    let state = places::state_directory();
    let state = Path::new(&state);
    if state.exists() { claim_private(state) } else { crate::guard::private_folder(state) }
}

fn manager(access: ServiceManagerAccess) -> Result<ServiceManager, ServiceError> {
    ServiceManager::local_computer(None::<&str>, access)
        .map_err(ServiceError::refused("reach the service control manager"))
}

/// The service of that name; `None`: there is none.
fn find(name: &str, access: ServiceAccess) -> Result<Option<Service>, ServiceError> {
    let opened = manager(ServiceManagerAccess::CONNECT)?.open_service(name, access);
    match opened.map_err(ServiceError::refused("open the service")) {
        Err(error) if error.code() == Some(ERROR_SERVICE_DOES_NOT_EXIST) => Ok(None),
        opened => opened.map(Some),
    }
}

fn install_as(
    manager: &ServiceManager,
    name: &str,
    executable: &Path,
    launch_arguments: Vec<OsString>,
) -> Result<bool, ServiceError> {
    let wanted = ServiceInfo {
        name: name.into(),
        display_name: name.into(),
        service_type: ServiceType::OWN_PROCESS,
        start_type: ServiceStartType::AutoStart,
        error_control: ServiceErrorControl::Normal,
        // Quoted, both, by whoever puts them into one line.
        executable_path: executable.into(),
        launch_arguments,
        dependencies: vec![ServiceDependency::Service(BASE_FILTERING_ENGINE.into())],
        account_name: None,
        account_password: None,
    };
    let refused = ServiceError::refused;
    let access = ServiceAccess::CHANGE_CONFIG | ServiceAccess::START;
    let created = manager.create_service(&wanted, access).map_err(refused("install the service"));
    let (service, new) = match created {
        Ok(service) => (service, true),
        Err(error) if error.code() == Some(ERROR_SERVICE_EXISTS) => {
            let service =
                manager.open_service(name, access).map_err(refused("open the service"))?;
            service.change_config(&wanted).map_err(refused("change the service"))?;
            (service, false)
        }
        Err(error) => return Err(error),
    };
    let what = "describe the service to the manager";
    service.set_description(DESCRIPTION).map_err(refused(what))?;
    let restart = |delay| ServiceAction { action_type: ServiceActionType::Restart, delay };
    let failure = ServiceFailureActions {
        reset_period: ServiceFailureResetPeriod::After(FORGIVEN),
        reboot_msg: None,
        command: None,
        actions: Some(RESTARTS.map(restart).into()),
    };
    service.update_failure_actions(failure).map_err(refused(what))?;
    // These do without on a system that does not know them: a daemon that ends with
    // an error instead of a crash is then not started again.
    for refused in [
        service.set_failure_actions_on_non_crash_failures(true),
        service.set_preshutdown_timeout(SHUTDOWN),
        service.set_delayed_auto_start(false),
    ] {
        if let Err(error) = refused.map_err(say) {
            tracing::debug!(%error, "the service control manager does not know a setting");
        }
    }
    Ok(new)
}

fn uninstall_as(name: &str) -> Result<bool, ServiceError> {
    let access = ServiceAccess::DELETE | ServiceAccess::STOP | ServiceAccess::QUERY_STATUS;
    let Some(service) = find(name, access)? else { return Ok(false) };
    stop_and_wait(&service)?;
    service.delete().map_err(ServiceError::refused("uninstall the service"))?;
    Ok(true)
}

fn start_as(name: &str) -> Result<bool, ServiceError> {
    const WHAT: &str = "start the service";
    let service = manager(ServiceManagerAccess::CONNECT)?
        .open_service(name, ServiceAccess::START | ServiceAccess::QUERY_STATUS)
        .map_err(ServiceError::refused(WHAT))?;
    let started = service.start::<&str>(&[]).map_err(ServiceError::refused(WHAT));
    let new = match started {
        Err(error) if error.code() == Some(ERROR_SERVICE_ALREADY_RUNNING) => false,
        started => started.map(|()| true)?,
    };
    match wait_for(&service, |state| {
        [ServiceState::Running, ServiceState::Stopped].contains(&state)
    })? {
        Some(ServiceState::Running) => Ok(new),
        Some(_) => Err(ServiceError::Ended),
        None => Err(ServiceError::Slow { what: "start", seconds: PATIENCE.as_secs() }),
    }
}

fn stop_as(name: &str) -> Result<bool, ServiceError> {
    let service = manager(ServiceManagerAccess::CONNECT)?
        .open_service(name, ServiceAccess::STOP | ServiceAccess::QUERY_STATUS)
        .map_err(ServiceError::refused("stop the service"))?;
    stop_and_wait(&service)
}

fn stop_and_wait(service: &Service) -> Result<bool, ServiceError> {
    let stopped = service.stop().map_err(ServiceError::refused("stop the service"));
    let ran = match stopped {
        Err(error) if error.code() == Some(ERROR_SERVICE_NOT_ACTIVE) => false,
        // It is on its way, which is waited for below.
        Err(error) if state_of(service)? != ServiceState::StopPending => return Err(error),
        _ => true,
    };
    match wait_for(service, |state| state == ServiceState::Stopped)? {
        Some(_) => Ok(ran),
        None => Err(ServiceError::Slow { what: "stop", seconds: PATIENCE.as_secs() }),
    }
}

/// The state that was waited for; `None`: it has not come to it.
fn wait_for(
    service: &Service,
    is_it: impl Fn(ServiceState) -> bool,
) -> Result<Option<ServiceState>, ServiceError> {
    let until = now() + PATIENCE;
    loop {
        let state = state_of(service)?;
        if is_it(state) {
            return Ok(Some(state));
        }
        if now() >= until {
            return Ok(None);
        }
        std::thread::sleep(GLANCE);
    }
}

fn state_of(service: &Service) -> Result<ServiceState, ServiceError> {
    let status = service.query_status().map_err(ServiceError::refused("ask after the service"))?;
    Ok(status.current_state)
}

#[expect(clippy::disallowed_methods, reason = "a command that waits for the system")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests;
