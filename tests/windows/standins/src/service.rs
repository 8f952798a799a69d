//! When is a service told that sessions came and went, or that the machine woke?
//!
//! As the service control manager does it: only what it says it accepts, while it
//! runs, and one control at a time.

use core::{ffi::c_void, ptr};
use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use windows_sys::Win32::System::{
    RemoteDesktop::WTSSESSION_NOTIFICATION,
    Services::{
        SERVICE_ACCEPT_POWEREVENT, SERVICE_ACCEPT_SESSIONCHANGE, SERVICE_CONTROL_POWEREVENT,
        SERVICE_CONTROL_SESSIONCHANGE, SERVICE_RUNNING, SERVICE_STOPPED,
    },
};

use crate::world::{Control, World};

type Handler = unsafe extern "system" fn(u32, u32, *mut c_void, *mut c_void) -> u32;

/// How often the file is read.
const PAUSE: Duration = Duration::from_millis(20);

static STATE: AtomicU32 = AtomicU32::new(0);
static ACCEPTED: AtomicU32 = AtomicU32::new(0);
static TURN: Mutex<()> = Mutex::new(());

/// A service's handler and what it is called with.
struct Service {
    handler: Handler,
    context: *const c_void,
}

// SAFETY: the handler is made to be called from a thread of Windows' choosing,
// with this context, and `TURN` lets one thread at a time.
#[expect(unsafe_code, reason = "crosses threads as the original does")]
unsafe impl Sync for Service {}

impl Service {
    #[expect(unsafe_code, reason = "calls the service")]
    fn tell(&self, control: u32, event: u32, data: *mut c_void) -> u32 {
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the service gave both, to be called so until it ends.
        unsafe { (self.handler)(control, event, data, self.context.cast_mut()) }
    }
}

/// Begins to tell a service. Returns the context for [`handle`], which is then
/// to be registered instead; `None` if the telling cannot begin.
pub(crate) fn instead_of(handler: Handler, context: *const c_void) -> Option<*const c_void> {
    // For as long as the process lives, as the service control manager needs it.
    let service: &'static Service = Box::leak(Box::new(Service { handler, context }));
    let start = World::now();
    thread::Builder::new().name("events".into()).spawn(move || follow(service, start)).ok()?;
    Some(ptr::from_ref(service).cast())
}

/// What Windows calls with its own controls.
///
/// # Safety
///
/// `context` came from [`instead_of`].
#[expect(unsafe_code, reason = "called by Windows")]
pub(crate) unsafe extern "system" fn handle(
    control: u32,
    event: u32,
    data: *mut c_void,
    context: *mut c_void,
) -> u32 {
    // SAFETY: by contract, and never freed.
    let service = unsafe { &*context.cast_const().cast::<Service>() };
    service.tell(control, event, data)
}

/// The service says what it is now and what it accepts.
pub(crate) fn is_now(state: u32, accepted: u32) {
    ACCEPTED.store(accepted, Ordering::Release);
    STATE.store(state, Ordering::Release);
}

fn follow(service: &Service, start: World) {
    let mut before = start;
    while STATE.load(Ordering::Acquire) != SERVICE_STOPPED {
        thread::sleep(PAUSE);
        let now = World::now();
        for told in before.until(&now) {
            tell(service, told);
        }
        before = now;
    }
}

fn tell(service: &Service, told: Control) {
    let accepted = ACCEPTED.load(Ordering::Acquire);
    if STATE.load(Ordering::Acquire) != SERVICE_RUNNING {
        return;
    }
    match told {
        Control::Session(kind, id) if accepted & SERVICE_ACCEPT_SESSIONCHANGE != 0 => {
            let mut data = WTSSESSION_NOTIFICATION { cbSize: 8, dwSessionId: id };
            service.tell(SERVICE_CONTROL_SESSIONCHANGE, kind, (&raw mut data).cast());
        }
        Control::Power(kind) if accepted & SERVICE_ACCEPT_POWEREVENT != 0 => {
            service.tell(SERVICE_CONTROL_POWEREVENT, kind, ptr::null_mut());
        }
        Control::Session(..) | Control::Power(_) => {}
    }
}
