//! How does the daemon run inside the service control manager?

use super::{NAME, Order, State, pending, say};
use crate::observe::event::Event;
use crate::session::windows::poke;
use std::ffi::OsString;
use std::fmt::Display;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;
use windows_service::service::{
    PowerEventParam, ServiceControl, ServiceControlAccept, ServiceExitCode, ServiceState,
    ServiceStatus, ServiceType,
};
use windows_service::service_control_handler::{
    self, ServiceControlHandlerResult, ServiceStatusHandle,
};
use windows_service::{define_windows_service, service_dispatcher};
use windows_sys::Win32::Foundation::ERROR_FAILED_SERVICE_CONTROLLER_CONNECT;

/// How long the manager waits for the next sign of life while it starts.
const STARTING: Duration = Duration::from_secs(30);
/// And while it stops.
const STOPPING: Duration = Duration::from_secs(20);
/// What the manager is told of a daemon that failed; the event log has the words.
const FAILED: ServiceExitCode = ServiceExitCode::ServiceSpecific(1);

/// The daemon, from [`host`] until the manager's thread takes it.
static DAEMON: Mutex<Option<Daemon>> = Mutex::new(None);
type Daemon = Box<dyn FnOnce() -> Result<(), String> + Send>;

/// Where the manager is told of states; there from its first call on.
static STATUS: OnceLock<ServiceStatusHandle> = OnceLock::new();
/// Each sign of life while starting or stopping has a higher number.
static CHECKPOINT: AtomicU32 = AtomicU32::new(0);
/// It was told to stop: it does not run any more, though it be ready only now.
static STOPS: AtomicBool = AtomicBool::new(false);

/// Runs the daemon as whoever started this process expects: as a service where
/// that is the service control manager, and else just so. To be called once, from
/// the main thread.
///
/// # Errors
/// The manager cannot be spoken to. The inner result is the daemon's.
pub fn host<E: Display + Send + 'static>(
    daemon: impl FnOnce() -> Result<(), E> + Send + 'static,
) -> io::Result<Result<(), E>> {
    let (keep, kept) = crossbeam_channel::bounded(1);
    let hosted = Box::new(move || {
        let ended = daemon();
        let told = match &ended {
            Ok(()) => Ok(()),
            Err(error) => Err(error.to_string()),
        };
        // Both ends are ours, and there is room for one.
        keep.send(ended).ok();
        told
    });
    *lock(&DAEMON) = Some(hosted);
    match service_dispatcher::start(NAME, service_main).map_err(say) {
        // All is over by now.
        Ok(()) => {}
        Err(error) if is_nobody_waiting(&error) => {
            if let Some(daemon) = lock(&DAEMON).take() {
                // Its result comes the other way.
                daemon().ok();
            }
        }
        Err(error) => return Err(error),
    }
    kept.try_recv().map_err(|_| io::Error::other("the service was never run"))
}

/// Does the service control manager run this process as a service?
pub fn is_hosted() -> bool {
    STATUS.get().is_some()
}

/// Tells the service control manager how the daemon is.
pub fn tell(state: State) {
    match state {
        State::Ready if STOPS.load(Ordering::Acquire) => {}
        State::Ready => report(ServiceState::Running, ServiceExitCode::NO_ERROR),
        State::Stopping => {
            STOPS.store(true, Ordering::Release);
            report(ServiceState::StopPending, ServiceExitCode::NO_ERROR);
        }
        // It hears of a service's life only where it waits for something.
        State::Alive => {}
    }
}

/// No service control manager has started this process.
fn is_nobody_waiting(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(i32::cast_unsigned);
    code == Some(ERROR_FAILED_SERVICE_CONTROLLER_CONNECT)
}

define_windows_service!(service_main, serve);

/// The service, on a thread of the manager's.
fn serve(_: Vec<OsString>) {
    let Ok(status) = service_control_handler::register(NAME, heed) else { return };
    STATUS.get_or_init(|| status);
    report(ServiceState::StartPending, ServiceExitCode::NO_ERROR);
    let daemon = lock(&DAEMON).take();
    let nothing_to_run = || Err("there is nothing to run".to_owned());
    let exit = match daemon.map_or_else(nothing_to_run, |daemon| daemon()) {
        Ok(()) => ServiceExitCode::NO_ERROR,
        Err(sentence) => {
            tracing::error!("{sentence}");
            Event::Failed { why: &sentence }.record();
            FAILED
        }
    };
    report(ServiceState::Stopped, exit);
}

/// What the manager asks; it is not to wait.
#[expect(clippy::wildcard_enum_match_arm, reason = "what is not accepted is not asked either")]
fn heed(control: ServiceControl) -> ServiceControlHandlerResult {
    match control {
        ServiceControl::Stop | ServiceControl::Shutdown | ServiceControl::Preshutdown => {
            tell(State::Stopping);
            pending::put(Order::Stop);
        }
        ServiceControl::ParamChange => pending::put(Order::Reload),
        ServiceControl::PowerEvent(
            PowerEventParam::ResumeAutomatic | PowerEventParam::ResumeSuspend,
        ) => pending::put(Order::Resumed),
        ServiceControl::SessionChange(_) => poke(),
        ServiceControl::PowerEvent(_) | ServiceControl::Interrogate => {}
        _ => return ServiceControlHandlerResult::NotImplemented,
    }
    ServiceControlHandlerResult::NoError
}

fn report(state: ServiceState, exit_code: ServiceExitCode) {
    let Some(handle) = STATUS.get() else { return };
    let waits = [(ServiceState::StartPending, STARTING), (ServiceState::StopPending, STOPPING)];
    let pending = waits.into_iter().find(|(pending, _)| *pending == state);
    let (checkpoint, wait_hint) = pending.map_or((0, Duration::ZERO), |(_, hint)| {
        (CHECKPOINT.fetch_add(1, Ordering::Relaxed) + 1, hint)
    });
    let controls_accepted = if state == ServiceState::Running {
        ServiceControlAccept::STOP
            | ServiceControlAccept::SHUTDOWN
            | ServiceControlAccept::PRESHUTDOWN
            | ServiceControlAccept::PARAM_CHANGE
            | ServiceControlAccept::POWER_EVENT
            | ServiceControlAccept::SESSION_CHANGE
    } else if state == ServiceState::StartPending {
        // It takes back what it has made so far.
        ServiceControlAccept::STOP
    } else {
        ServiceControlAccept::empty()
    };
    let status = ServiceStatus {
        service_type: ServiceType::OWN_PROCESS,
        current_state: state,
        controls_accepted,
        exit_code,
        checkpoint,
        wait_hint,
        process_id: None,
    };
    if let Err(error) = handle.set_service_status(status).map_err(say) {
        tracing::debug!(%error, "the service control manager was not told");
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_no_manager_waits_the_daemon_runs_all_the_same() {
        assert_eq!(host(|| Err::<(), _>("it failed")).unwrap(), Err("it failed"));
        assert!(!is_hosted());
        // Nobody hears it, and nothing comes of it.
        tell(State::Ready);
    }
}
