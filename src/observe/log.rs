//! Where do log lines go?
//!
//! To standard error, one line each, with values as fields. `SESSIONIP_LOG`
//! chooses what is logged, as in `info,sessionip::engine=trace`.

use std::env::VarError;
use std::fmt;
use std::io::{IsTerminal, stderr};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt::format::{Format, Full, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

/// The environment variable that chooses what is logged; else it is `info`.
pub const VARIABLE: &str = "SESSIONIP_LOG";

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The variable is not a list of targets and levels.
    #[error("{VARIABLE}={value} is not understood; write a level, or target=level,...")]
    Filter {
        /// What it says.
        value: String,
        /// What is wrong with it.
        #[source]
        source: ParseError,
    },
    /// The variable is no text.
    #[error("{VARIABLE} is not UTF-8")]
    Encoding,
    /// Somebody else in this process has the log already.
    #[error("the log was set up twice")]
    Twice,
}

/// Sends the log lines of this process to standard error: coloured on a
/// terminal, with priorities and without times for the journal (which has its
/// own), plain with times elsewhere.
///
/// # Errors
/// `SESSIONIP_LOG` is not understood, or the log was set up before.
pub fn init() -> Result<(), LogError> {
    let value = match std::env::var(VARIABLE) {
        Ok(value) => value,
        Err(VarError::NotPresent) => String::new(),
        Err(VarError::NotUnicode(_)) => return Err(LogError::Encoding),
    };
    let terminal = stderr().is_terminal();
    // systemd.exec(5). A shell within a service inherits it, on a terminal.
    let journal = !terminal && std::env::var_os("JOURNAL_STREAM").is_some();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter(value)?)
        .with_ansi(terminal)
        .with_writer(stderr);
    if journal {
        builder.event_format(Journal(journal_format())).finish().try_init()
    } else {
        builder.finish().try_init()
    }
    .map_err(|_| LogError::Twice)
}

/// aya tells of every relocation: it speaks up only where it is named.
fn filter(value: String) -> Result<EnvFilter, LogError> {
    // A default directive of `EnvFilter` counts only where there is no other.
    let wanted = if value.trim().is_empty() { "info" } else { &value };
    let quiet = if value.contains("aya") { "" } else { ",aya=warn,aya_obj=warn" };
    EnvFilter::builder()
        .parse(format!("{wanted}{quiet}"))
        .map_err(|source| LogError::Filter { value, source })
}

fn journal_format() -> Format<Full, ()> {
    Format::default().without_time().with_level(false).with_ansi(false)
}

/// Lines that begin with their priority, as sd-daemon(3) has it. The level is
/// not said twice.
struct Journal(Format<Full, ()>);

impl<S, N> FormatEvent<S, N> for Journal
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        write!(writer, "<{}>", priority(*event.metadata().level()))?;
        self.0.format_event(context, writer, event)
    }
}

/// syslog(3): error, warning, informational, debug.
const fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_journal_gets_priorities_and_fields() {
        let page = Page::default();
        let writer = page.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(filter(String::new()).unwrap())
            .with_writer(move || writer.clone())
            .event_format(Journal(journal_format()))
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(session = 7, "pool empty");
            tracing::info!("lease");
            tracing::debug!("not asked for");
        });
        let lines = String::from_utf8(page.0.lock().unwrap().clone()).unwrap();
        let target = module_path!();
        assert_eq!(lines, format!("<4>{target}: pool empty session=7\n<6>{target}: lease\n"));
    }

    #[test]
    fn a_filter_that_is_not_understood_is_named() {
        assert!(filter("warn,sessionip::engine=trace".into()).is_ok());
        let error = filter("sessionip=loud".into()).unwrap_err().to_string();
        assert!(error.starts_with("SESSIONIP_LOG=sessionip=loud is not understood"), "{error}");
    }
}
