//! Times as people write them to commands, and as commands show them.

use std::time::Duration;

use anyhow::bail;
use serde_json::Value;
use tidegate_sinks::Rfc3339;

/// The time at `pointer` of what a host says, which is in microseconds; `-` if there is none.
pub fn shown(value: &Value, pointer: &str) -> String {
    value.pointer(pointer).and_then(Value::as_i64).map_or_else(|| "-".to_owned(), |us| Rfc3339(us).to_string())
}

/// A length of time, for arguments.
pub fn length(text: &str) -> Result<Duration, String> {
    let told = |_| format!("{text:?} is no length of time; write it as in 90s, 15m, 2h or 7d");
    humantime::parse_duration(text).map_err(told)
}

/// An age or a time of day as microseconds since 1970-01-01 UTC.
pub fn time_us(text: &str, now_us: i64) -> anyhow::Result<i64> {
    if let Ok(age) = humantime::parse_duration(text) {
        return Ok(now_us.saturating_sub(i64::try_from(age.as_micros()).unwrap_or(i64::MAX)));
    }
    // A day alone begins at midnight.
    let whole = if text.len() == 10 { format!("{text}T00:00:00Z") } else { text.to_owned() };
    match humantime::parse_rfc3339_weak(&whole).map(|time| time.duration_since(std::time::UNIX_EPOCH)) {
        Ok(Ok(since)) => Ok(i64::try_from(since.as_micros()).unwrap_or(i64::MAX)),
        _ => bail!("{text:?} is no time; write an age as in 2h or 7d, or a time as in 2025-03-01T12:00:00Z"),
    }
}
