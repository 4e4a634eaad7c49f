//! Logs of this process: set up once, and every task and thread started under a name.
//!
//! [`init`] reads `TIDEGATE_LOG`; [`spawn`], [`named`] and [`thread`] start work whose log lines carry its name, and whose panic is a log
//! line too instead of silence until somebody joins it. Names of metrics are not here but with what serves them.
#![forbid(unsafe_code)]

mod task;

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

pub use task::{THREAD_STACK, caught, give_way, named, spawn, thread};

/// The variable that says what is logged, in the syntax of `RUST_LOG`: `info`, `tidegate_engine=debug,warn`.
pub const FILTER_VARIABLE: &str = "TIDEGATE_LOG";

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line, for collectors.
    Json,
}

/// Why logging was not set up.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The filter is wrong.
    #[error(
        "{FILTER_VARIABLE}={0:?} is no log filter; write a level (error, warn, info, debug, trace) or `target=level`, parted by commas"
    )]
    Filter(String, #[source] tracing_subscriber::filter::ParseError),
    /// Somebody else has set up logging in this process.
    #[error("logging is set up already in this process; call init once, from main")]
    Twice(#[source] tracing_subscriber::util::TryInitError),
}

/// Logs to standard error from here on; standard output stays free for results. What is logged stands in `TIDEGATE_LOG`, or else
/// in `default_filter`.
///
/// # Errors
/// The filter cannot be read, or logging is set up already.
pub fn init(format: LogFormat, default_filter: &str) -> Result<(), InitError> {
    let written = std::env::var(FILTER_VARIABLE).ok().filter(|text| !text.trim().is_empty());
    let filter = filter(written.as_deref().unwrap_or(default_filter))?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match format {
        LogFormat::Text => start(lines.with_ansi(colours()).compact().finish()),
        LogFormat::Json => {
            start(lines.json().flatten_event(true).with_current_span(true).with_span_list(false).finish())
        }
    }
}

fn start(subscriber: impl Into<tracing::Dispatch>) -> Result<(), InitError> {
    use tracing_subscriber::util::SubscriberInitExt;
    subscriber.try_init().map_err(InitError::Twice)
}

fn filter(text: &str) -> Result<EnvFilter, InitError> {
    EnvFilter::try_new(text).map_err(|error| InitError::Filter(text.to_owned(), error))
}

/// Whether standard error is a terminal whose user has not asked for no colours (<https://no-color.org>).
fn colours() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// Guarantees: a filter is taken as `RUST_LOG` would be, and a wrong one is named with what is right.
    #[test]
    fn filters() {
        assert!(filter("warn,tidegate_engine=debug").is_ok());
        let error = filter("tidegate=loud").unwrap_err().to_string();
        assert!(error.starts_with("TIDEGATE_LOG=\"tidegate=loud\" is no log filter; "), "{error}");
    }
}
