//! What the API says of itself, and of what was done with it.

use std::time::{Duration, SystemTime};

use axum::http::header;
use axum::response::{Html, IntoResponse};

use super::json;
use crate::gate::{Book, FoundLines, WantedLines, past};
use crate::problem::Problem;
use crate::route::{Answer, Call};
use crate::shapes::{AuditPage, AuditQuery, limit};
use crate::{openapi, page};

/// The end of the year 9999, after which times have another form.
const LATEST_US: u64 = 253_402_300_799_000_000;

pub(crate) async fn openapi(_: Call) -> Answer {
    Ok(([(header::CONTENT_TYPE, "application/json")], openapi::text()).into_response())
}

pub(crate) async fn page(_: Call) -> Answer {
    let (html, policy) = page::text();
    let mut response = Html(html).into_response();
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    Ok(response)
}

pub(crate) async fn audit(call: Call) -> Answer {
    let AuditQuery { limit: most, denials, who, operation, about, since_us, until_us } = call.query()?;
    let book = if denials.unwrap_or(false) { Book::Denials } else { Book::Changes };
    let most = limit(most, 100, 1000)? as usize;
    let time = |us: Option<i64>| us.map(as_written).transpose();
    let wanted = WantedLines { who, operation, about, since: time(since_us)?, until: time(until_us)? };
    let found = call.app.look_up(move |app| {
        let found = past(book, &app.view.data_dir, &wanted, most);
        found.map(|FoundLines { lines, complete }| json(AuditPage { lines: lines.into(), complete }))
    });
    found.await?.map_err(|error| Problem::internal(format!("the audit log cannot be read: {error}")))
}

/// A time as the books have it.
fn as_written(us: i64) -> Result<String, Problem> {
    let time = u64::try_from(us).ok().filter(|us| *us <= LATEST_US).map(Duration::from_micros);
    let time = time.and_then(|since| SystemTime::UNIX_EPOCH.checked_add(since));
    let time = time.ok_or_else(|| Problem::bad(format!("{us} is no time: microseconds since 1970 up to 9999")))?;
    Ok(humantime::format_rfc3339_millis(time).to_string())
}
