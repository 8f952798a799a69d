//! What does somebody at the console ask for?

use super::{Order, pending};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use windows_sys::Win32::Foundation::{FALSE, TRUE};
use windows_sys::Win32::System::Console::{
    CTRL_BREAK_EVENT, CTRL_C_EVENT, CTRL_CLOSE_EVENT, SetConsoleCtrlHandler,
};
use windows_sys::core::BOOL;

/// Windows ends the process when the handler of a closing console returns, or
/// after five seconds (HandlerRoutine, "Timeouts"): as long as that, less one.
const CLOSING: Duration = Duration::from_secs(4);

/// Takes Ctrl-C, Ctrl-Break and the closing of the console for an order to stop.
///
/// # Errors
/// The system takes no handler.
#[expect(unsafe_code, reason = "a call into kernel32")]
pub(super) fn listen() -> io::Result<()> {
    static LISTENS: AtomicBool = AtomicBool::new(false);
    if LISTENS.swap(true, Ordering::Relaxed) {
        return Ok(());
    }
    // SAFETY: the handler is a function of this program, and takes any number.
    match unsafe { SetConsoleCtrlHandler(Some(heed), TRUE) } {
        0 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Called on a thread of the system's.
#[expect(unsafe_code, reason = "the shape that kernel32 calls")]
unsafe extern "system" fn heed(event: u32) -> BOOL {
    match event {
        CTRL_C_EVENT | CTRL_BREAK_EVENT => {
            pending::put(Order::Stop);
            TRUE
        }
        CTRL_CLOSE_EVENT => {
            pending::put(Order::Stop);
            // The process ends when all is taken back, and this thread with it.
            std::thread::sleep(CLOSING);
            TRUE
        }
        _ => FALSE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use windows_sys::Win32::System::Console::CTRL_LOGOFF_EVENT;

    #[test]
    #[expect(unsafe_code, reason = "the handler has the shape that kernel32 calls")]
    fn the_console_s_orders_are_to_stop() {
        listen().unwrap();
        listen().unwrap();
        let ask = |event| {
            // SAFETY: it takes any number.
            let heeded = unsafe { heed(event) };
            (heeded, pending::take(Duration::ZERO))
        };
        assert_eq!(ask(CTRL_C_EVENT), (TRUE, Some(Order::Stop)));
        assert_eq!(ask(CTRL_BREAK_EVENT), (TRUE, Some(Order::Stop)));
        assert_eq!(ask(CTRL_LOGOFF_EVENT), (FALSE, None));
        assert_eq!(ask(CTRL_CLOSE_EVENT), (TRUE, Some(Order::Stop)));
    }
}
