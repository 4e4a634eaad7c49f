//! What the API says of itself, and of what was done with it.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use axum::http::{HeaderValue, header};
use axum::response::{Html, IntoResponse};
use serde_json::{Map, Value};

use super::json;
use crate::gate::{Book, audit_file};
use crate::problem::Problem;
use crate::route::{Answer, Call};
use crate::shapes::{AuditPage, AuditQuery};
use crate::{openapi, page};

/// How much of the audit log's end is looked at.
const TAIL_BYTES: u64 = 1 << 20;

pub(crate) async fn openapi(_: Call) -> Answer {
    Ok(json(openapi::document()))
}

pub(crate) async fn page(_: Call) -> Answer {
    let (html, policy) = page::page();
    let mut response = Html(html).into_response();
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    Ok(response)
}

pub(crate) async fn audit(call: Call) -> Answer {
    let query = call.query::<AuditQuery>()?;
    let book = if query.denials.unwrap_or(false) { Book::Denials } else { Book::Changes };
    let most = query.limit.unwrap_or(100);
    if !(1..=1000).contains(&most) {
        return Err(Problem::bad(format!("limit cannot be {most}: choose from 1 to 1000")));
    }
    let lines = call
        .house
        .blocking(move |house| {
            audit_file(book, &house.view.data_dir)?.map_or(Ok(Vec::new()), |file| tail(file, most))
        })
        .await?;
    let lines = lines.map_err(|error| Problem::internal(format!("the audit log cannot be read: {error}")))?;
    Ok(json(AuditPage { lines }))
}

fn tail(mut file: File, most: usize) -> std::io::Result<Vec<Map<String, Value>>> {
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
    // The first line may be cut off: it is then no JSON.
    let lines: Vec<_> = bytes.split(|&b| b == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
    let passed_over = lines.len().saturating_sub(most);
    Ok(lines.into_iter().skip(passed_over).collect())
}
