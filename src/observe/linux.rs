//! Standard error, for a terminal, the journal or a file.

use super::event::Event;
use std::fmt;
use std::io::{IsTerminal, stderr};
use tracing::{Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::format::{Format, Full, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Coloured on a terminal, with priorities and without times for the journal
/// (which has its own), plain with times elsewhere.
pub(super) fn lines<S>() -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let terminal = stderr().is_terminal();
    // systemd.exec(5). A shell within a service inherits it, on a terminal.
    let journal = !terminal && std::env::var_os("JOURNAL_STREAM").is_some();
    let lines = tracing_subscriber::fmt::layer().with_ansi(terminal).with_writer(stderr);
    if journal { lines.event_format(Journal(journal_format())).boxed() } else { lines.boxed() }
}

/// The journal has the line that is logged beside it.
pub(super) fn record(_: &Event<'_>) {}

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
        event: &tracing::Event<'_>,
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
    use super::super::log::filter;
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
}
