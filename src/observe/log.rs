//! Where do log lines go?
//!
//! To standard error, one line each, with values as fields (a Windows service,
//! which has none, has a file). `SESSIONIP_LOG` chooses what is logged, as in
//! `info,sessionip::engine=trace`.

use super::platform;
use std::env::VarError;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::layer::SubscriberExt;
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

/// Sends the log lines of this process to where the platform has them.
///
/// # Errors
/// `SESSIONIP_LOG` is not understood, or the log was set up before.
pub fn init() -> Result<(), LogError> {
    let value = match std::env::var(VARIABLE) {
        Ok(value) => value,
        Err(VarError::NotPresent) => String::new(),
        Err(VarError::NotUnicode(_)) => return Err(LogError::Encoding),
    };
    let subscriber = tracing_subscriber::registry().with(filter(value)?).with(platform::lines());
    subscriber.try_init().map_err(|_| LogError::Twice)
}

/// aya tells of every relocation: it speaks up only where it is named.
pub(super) fn filter(value: String) -> Result<EnvFilter, LogError> {
    // A default directive of `EnvFilter` counts only where there is no other.
    let wanted = if value.trim().is_empty() { "info" } else { &value };
    let quiet = if value.contains("aya") { "" } else { ",aya=warn,aya_obj=warn" };
    EnvFilter::builder()
        .parse(format!("{wanted}{quiet}"))
        .map_err(|source| LogError::Filter { value, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_is_not_understood_is_named() {
        assert!(filter("warn,sessionip::engine=trace".into()).is_ok());
        let error = filter("sessionip=loud".into()).unwrap_err().to_string();
        assert!(error.starts_with("SESSIONIP_LOG=sessionip=loud is not understood"), "{error}");
    }
}
