//! How the host is: parts of the one status document.

use tidegate_model::{Book, TopicFilter};

use super::{json as answer, listed};
use crate::app_state::AppState;
use crate::problem::Problem;
use crate::route::{Answer, Call};
use crate::shapes::{Ledger, OneSeries, OneSpool, Series, SeriesQuery, limit};

/// The most series looked at for one page: a filter that matches few must not hold the interface up.
const MAX_LOOKED_AT: u32 = 100_000;
/// So many are looked at at once; more take a thread beside that which serves all.
const LOOKED_AT_AT_ONCE: u32 = 1_000;

pub(crate) async fn status(call: Call) -> Answer {
    let status = call.app.view.status();
    listed(&call.app, status.rules.len(), status).await
}

pub(crate) async fn ledger(call: Call) -> Answer {
    let status = call.app.view.pipeline.status();
    let messages = status.sources.iter().map(|source| source.messages).sum();
    let by_source = status.sources.into_iter().map(|source| (source.name, source.messages)).collect();
    let wrong = call.app.view.pipeline.audit();
    Ok(answer(Ledger { messages, points: status.points, by_source, wrong }))
}

pub(crate) async fn sources(call: Call) -> Answer {
    Ok(answer(call.app.view.pipeline.status().sources))
}

pub(crate) async fn sinks(call: Call) -> Answer {
    Ok(answer(call.app.view.pipeline.status().sinks))
}

pub(crate) async fn spools(call: Call) -> Answer {
    let sinks = call.app.view.pipeline.status().sinks;
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
    let look = move |app: &AppState, end| page(app.view.books.all_series(), from, known, end, most, &wanted);
    let soon = look(&call.app, from.saturating_add(LOOKED_AT_AT_ONCE));
    if soon.series.len() as u32 == most || soon.next.is_none() {
        return Ok(answer(soon));
    }
    let end = from.saturating_add(MAX_LOOKED_AT);
    Ok(answer(call.app.look_up(move |app| look(app, end)).await?))
}

/// Of the series numbered from `at` on and before `end`, the first `most` that are wanted, of those that were known.
fn page(
    book: &Book<tidegate_model::Series>,
    mut at: u32,
    known: u32,
    end: u32,
    most: u32,
    wanted: &impl Fn(&str) -> bool,
) -> Series {
    let mut series = Vec::new();
    let end = known.min(end);
    while at < end && (series.len() as u32) < most {
        if let Some(found) = book.get(at).filter(|it| wanted(&it.topic)) {
            let description = found.description.load();
            series.push(OneSeries {
                topic: found.topic.to_string(),
                unit: description.unit.as_ref().map(ToString::to_string),
                labels: description.labels.iter().cloned().collect(),
            });
        }
        at += 1;
    }
    Series { series, next: (at < known).then_some(at), known }
}
