//! The event log, and where a service, which has no standard error, writes.

mod log_file;
pub mod source;

use super::event::Event;
use crate::guard::private_folder;
use crate::places::log_file;
use crate::service;
use log_file::LogFile;
use std::io::{self, IsTerminal, stderr};
use std::sync::Mutex;
use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::registry::LookupSpan;

pub(super) use source::record;

/// A service writes into a file, with times; everybody else to standard error,
/// coloured on a terminal.
pub(super) fn lines<S>() -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let lines = tracing_subscriber::fmt::layer();
    if !service::windows::is_hosted() {
        return lines.with_ansi(stderr().is_terminal()).with_writer(stderr).boxed();
    }
    match open() {
        Ok(file) => lines.with_ansi(false).with_writer(Mutex::new(file)).boxed(),
        Err(error) => {
            let why = format!("{}: {error}", log_file().display());
            Event::NoLog { why: &why }.record();
            lines.with_writer(io::sink).boxed()
        }
    }
}

/// Its folder is private from its first moment on: lines name who did what.
fn open() -> io::Result<LogFile> {
    let path = log_file();
    if let Some(folder) = path.parent() {
        private_folder(folder)?;
    }
    LogFile::open(path)
}
