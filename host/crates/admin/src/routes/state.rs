//! How the host is: parts of the one status document.

use std::sync::Arc;

use axum::response::Response;
use tidegate_model::{Book, Description, TopicFilter};

use super::{json as answer, listed};
use crate::app_state::AppState;
use crate::problem::Problem;
use crate::route::{Answer, Call};
use crate::shapes::{Ledger, OneSeries, OneSpool, Series, SeriesQuery, limit};

/// The most series looked at for one page: a filter that matches few must not hold the interface up.
const MAX_LOOKED_AT: u32 = 100_000;
/// So many are looked at at once; more take a thread beside that which serves all.
const LOOKED_AT_AT_ONCE: u32 = 1_000;

/// Series that are shown, with what they were described as when they were looked at.
struct Page<'a> {
    series: Vec<(&'a str, Arc<Description>)>,
    /// Where to go on, if there is more.
    next: Option<u32>,
    known: u32,
}

pub(crate) async fn status(call: Call) -> Answer {
    let status = call.app.view.status();
    listed(&call.app, status.rules.len(), status).await
}

pub(crate) async fn ledger(call: Call) -> Answer {
    let pipeline = &call.app.view.pipeline;
    let by_source = pipeline.message_totals();
    let messages = by_source.values().copied().sum();
    Ok(answer(Ledger { messages, points: pipeline.point_totals(), by_source, wrong: pipeline.audit() }))
}

pub(crate) async fn sources(call: Call) -> Answer {
    Ok(answer(call.app.view.pipeline.source_status()))
}

pub(crate) async fn sinks(call: Call) -> Answer {
    Ok(answer(call.app.view.pipeline.sink_totals()))
}

pub(crate) async fn spools(call: Call) -> Answer {
    let sinks = call.app.view.pipeline.sink_totals();
    let spools = sinks.into_iter().filter_map(|sink| Some(OneSpool { sink: sink.name, totals: sink.spool? }));
    Ok(answer(spools.collect::<Vec<_>>()))
}

pub(crate) async fn lanes(call: Call) -> Answer {
    Ok(answer(call.app.view.pipeline.lane_totals()))
}

pub(crate) async fn series(call: Call) -> Answer {
    let query: SeriesQuery = call.query()?;
    let most = limit(query.limit, 100, 1000)?;
    let filter = query.topic.map(|text| text.parse::<TopicFilter>()).transpose();
    let filter = filter.map_err(|error| Problem::bad(format!("topic: {error}")))?;
    let contains = query.contains;
    let wanted = move |topic: &str| {
        filter.as_ref().is_none_or(|filter| filter.matches(topic))
            && contains.as_ref().is_none_or(|part| topic.contains(part.as_str()))
    };
    let (from, known) = (query.after.unwrap_or(0), call.app.view.books.all_series().len() as u32);
    let end = from.saturating_add(LOOKED_AT_AT_ONCE);
    let soon = page(call.app.view.books.all_series(), from, known, end, most, &wanted);
    if soon.series.len() as u32 == most || soon.next.is_none() {
        return Ok(soon.shown());
    }
    let end = from.saturating_add(MAX_LOOKED_AT);
    let all = move |app: &AppState| page(app.view.books.all_series(), from, known, end, most, &wanted).shown();
    call.app.look_up(all).await
}

/// Of the series numbered from `at` on and before `end`, the first `most` that are wanted, of those that were known.
fn page<'a>(
    book: &'a Book<tidegate_model::Series>,
    mut at: u32,
    known: u32,
    end: u32,
    most: u32,
    wanted: &impl Fn(&str) -> bool,
) -> Page<'a> {
    let mut series = Vec::new();
    let end = known.min(end);
    while at < end && (series.len() as u32) < most {
        if let Some(found) = book.get(at).filter(|it| wanted(&it.topic)) {
            series.push((&*found.topic, found.description.load_full()));
        }
        at += 1;
    }
    Page { series, next: (at < known).then_some(at), known }
}

impl Page<'_> {
    fn shown(&self) -> Response {
        let each = self.series.iter().map(|(topic, description)| OneSeries {
            topic,
            unit: description.unit.as_deref(),
            labels: description.labels.iter().map(|(name, value)| (&**name, &**value)).collect(),
        });
        answer(Series { series: each.collect(), next: self.next, known: self.known })
    }
}
