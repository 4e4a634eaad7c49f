//! What passes, as it passes: a sample of messages, points and alerts as server-sent events.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::json;
use tidegate_model::{Books, TopicFilter};
use tidegate_pipeline::{Fate, Glimpse, MOST_TAILS, Tail, Wanted};
use tokio::time::MissedTickBehavior;

use super::show;
use crate::problem::Problem;
use crate::route::{Answer, Call};
use crate::shapes::{SeenAlert, SeenMessage, TailQuery, limit};
use crate::sse::{Feed, Gone};

/// Of a payload, so much is shown.
const PAYLOAD_BYTES: usize = 4 << 10;
/// Rows a second where none are asked for, and the most that can be.
const ROWS_PER_S: u32 = 100;
const MAX_ROWS_PER_S: u32 = 1000;
/// How often it is said how many were skipped, where any were.
const SAY_SKIPPED_EVERY: Duration = Duration::from_secs(1);

/// What the stream begins with.
#[derive(Serialize)]
struct Opened {
    kinds: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<String>,
    rows_per_s: u32,
}

pub(crate) async fn tail(call: Call) -> Answer {
    let query: TailQuery = call.query()?;
    let topics: Option<TopicFilter> = query.topic.map(|text| text.parse()).transpose().map_err(wrong_topic)?;
    let rows_per_s = limit(query.rows_per_s, ROWS_PER_S, MAX_ROWS_PER_S)?;
    let kinds = kinds(query.kind.as_deref())?;
    let has = |kind: &str| kinds.contains(&kind);
    let opened = Opened { topic: topics.as_ref().map(ToString::to_string), rows_per_s, kinds: kinds.clone() };
    let view = &call.app.view;
    let wanted = Wanted {
        topics,
        messages: has("message"),
        points: has("point"),
        alerts: has("alert"),
        rows_per_s,
        payload_bytes: PAYLOAD_BYTES,
    };
    let (feed, response) = call.app.streams.open()?;
    let tail = view.pipeline.tail(wanted).map_err(|_| too_many())?;
    let books = view.books.clone();
    tidegate_telemetry::spawn("api-tail", async move {
        // Whoever read it is gone: so are we.
        let _ = pass_on(tail, feed, books, &opened).await;
    });
    Ok(response)
}

/// `message,alert` and the like; all of them where nothing is said.
fn kinds(text: Option<&str>) -> Result<Vec<&'static str>, Problem> {
    let known = ["message", "point", "alert"];
    let Some(text) = text else { return Ok(known.to_vec()) };
    let each = |word: &str| known.into_iter().find(|kind| *kind == word);
    let kinds: Option<Vec<&'static str>> = text.split(',').map(each).collect();
    kinds.ok_or_else(|| Problem::bad("kind: of message, point, alert, with commas between"))
}

async fn pass_on(mut tail: Tail, feed: Feed, books: Arc<Books>, opened: &Opened) -> Result<(), Gone> {
    feed.send("open", opened).await?;
    let mut say_skipped = tokio::time::interval(SAY_SKIPPED_EVERY);
    say_skipped.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = feed.closed() => return Ok(()),
            _ = say_skipped.tick() => {
                let rows = tail.skipped();
                if rows > 0 {
                    feed.send("skipped", &json!({ "rows": rows })).await?;
                }
            }
            glimpse = tail.next() => send(&feed, &glimpse, &books).await?,
        }
    }
}

async fn send(feed: &Feed, glimpse: &Glimpse, books: &Books) -> Result<(), Gone> {
    for row in 0..glimpse.messages.len() {
        feed.send("message", &message(glimpse, row, books)).await?;
    }
    for row in 0..glimpse.points.len() {
        feed.send("point", &show::point(&glimpse.points, row, None, books)).await?;
    }
    for alert in &glimpse.alerts {
        feed.send("alert", &SeenAlert::from(alert)).await?;
    }
    Ok(())
}

/// Message `row` of a glimpse, with where it came from and how it ended.
pub(super) fn message(glimpse: &Glimpse, row: usize, books: &Books) -> SeenMessage {
    let source = glimpse.sources.get(row).map(ToString::to_string);
    let ended = glimpse.fates.get(row).copied().map(Fate::as_str).map(str::to_owned);
    SeenMessage { source, ended, ..show::message(&glimpse.messages, row, books) }
}

pub(super) fn too_many() -> Problem {
    Problem::busy(format!("{MOST_TAILS} look on already, which is the most; end one of those tails"))
}

pub(super) fn wrong_topic(error: tidegate_model::FilterError) -> Problem {
    Problem::bad(format!("topic: {error}"))
}
