//! Backtests: asked for, fed, looked at, followed, ended.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use tidegate_engine::{Kind, Rule};
use tidegate_model::{History, Span, TopicFilter};

use super::trial::defined_file;
use super::{json, place};
use crate::app_state::AppState;
use crate::backtest::{Backtest, BacktestInput, Backtests, Before, Job, KafkaPart, ReadFrom, Source};
use crate::problem::{Mistake, Problem};
use crate::route::{Answer, Call};
use crate::sse::{Feed, Gone};

/// The farthest time from 1970 that is asked for: 285 years, in microseconds. To so far every number is exact everywhere.
const FARTHEST_US: i64 = 1 << 53;
/// How often a backtest is shown of which there is no news.
const LOOK_EVERY: Duration = Duration::from_secs(1);

pub(crate) async fn ask(call: Call) -> Answer {
    let app = call.app.clone();
    let input: BacktestInput = call.body.json().await?;
    let asked = app.blocking(move |app| asked(app, &input)).await??;
    Ok((StatusCode::CREATED, Json(asked)).into_response())
}

fn asked(app: &AppState, input: &BacktestInput) -> Result<Backtest, Problem> {
    let wrong =
        |field: &str, detail: String| Problem::unusable("body", detail.clone(), vec![Mistake::new(field, detail)]);
    let name = input.rule.as_deref().unwrap_or("backtest");
    name.parse::<tidegate_config::Name>().map_err(|error| wrong("/rule", error.to_string()))?;
    let file = match (&input.definition, &input.rule) {
        (Some(definition), _) => defined_file(name, definition)?,
        (None, Some(_)) => app.desk.rule(name)?.file.ok_or_else(|| {
            Problem::conflict("unreadable", format!("{name}.toml cannot be read; give a `definition`"))
        })?,
        (None, None) => return Err(wrong("/rule", "say which rule, or give a `definition`".to_owned())),
    };
    for (field, time) in [("/from_us", input.from_us), ("/until_us", input.until_us)] {
        if time.is_some_and(|time| !(-FARTHEST_US..=FARTHEST_US).contains(&time)) {
            return Err(wrong(field, "times are microseconds since 1970, within 285 years of it".to_owned()));
        }
    }
    let topic = input.topic.as_ref().map(|text| text.parse()).transpose();
    let topic = topic.map_err(|error| wrong("/topic", format!("{error}")))?;
    let rule = app
        .desk
        .examine_candidate(name, &file)
        .map_err(|problem| if input.definition.is_some() { problem.below("/definition") } else { problem })?;
    let topics = topic.clone().map_or_else(|| rule.filters.clone(), |topic| vec![topic]);
    let span = Span { topics, from_us: input.from_us, until_us: input.until_us };
    let source = match input.read {
        _ if input.kafka.is_some() && (input.read == ReadFrom::Upload || input.sink.is_some()) => {
            return Err(wrong("/kafka", "`kafka` stands alone: leave `read` and `sink` out".to_owned()));
        }
        ReadFrom::Upload => Source::Upload(span),
        ReadFrom::Stored if let Some(part) = &input.kafka => of_kafka(app, part, &rule, span, topic)?,
        ReadFrom::Stored if rule.kind() == Kind::Decoder => {
            let detail =
                "the rule is a decoder, and what is stored are points: upload messages, with `\"read\": \"upload\"`";
            return Err(wrong("/read", detail.to_owned()));
        }
        ReadFrom::Stored => Source::Stored(history(app, input.sink.as_deref())?, span, Before::default()),
    };
    Ok(app.backtests.ask(rule, source)?.in_short())
}

fn history(app: &AppState, sink: Option<&str>) -> Result<Arc<dyn History>, Problem> {
    let histories = &app.view.histories;
    let found = match sink {
        Some(name) => histories.get(name),
        None => histories.values().next(),
    };
    let there: Vec<&str> = histories.keys().map(String::as_str).collect();
    found.cloned().ok_or_else(|| {
        let detail = match there.is_empty() {
            true => "no sink of this host can be read again: upload rows, with `\"read\": \"upload\"`".to_owned(),
            false => format!("there is no such sink that can be read again; these can: {}", there.join(", ")),
        };
        Problem::unusable("no_history", detail.clone(), vec![Mistake::new("/sink", detail)])
    })
}

/// A part of a Kafka topic, for a decoder as it is, and for others by the rules that serve and come before.
fn of_kafka(
    app: &AppState,
    part: &KafkaPart,
    rule: &Rule,
    span: Span,
    topic: Option<TopicFilter>,
) -> Result<Source, Problem> {
    let wrong = |field: &str, detail: String| {
        Problem::unusable("no_history", detail.clone(), vec![Mistake::new(format!("/kafka{field}"), detail)])
    };
    let logs = &app.view.logs;
    let there = || logs.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    let log = match &part.source {
        Some(name) => logs.get(name),
        None => logs.values().next().filter(|_| logs.len() == 1),
    };
    let log = log.ok_or_else(|| {
        let detail = match there() {
            none if none.is_empty() => "this host has no Kafka source".to_owned(),
            known => format!("say which Kafka source; there are: {known}"),
        };
        wrong("/source", detail)
    })?;
    let (from, to) = (part.from.as_deref().unwrap_or("earliest"), part.to.as_deref().unwrap_or("latest"));
    let history = log.part(part.topic.as_deref(), from, to).map_err(|error| wrong("", error.to_string()))?;
    if rule.kind() == Kind::Decoder {
        return Ok(Source::Stored(history, span, Before::default()));
    }
    let mut rules = app.view.registry.serving();
    rules.sort_by_cached_key(|it| place(it));
    let own = place(rule);
    let comes_before = |it: &Arc<Rule>| it.kind() == Kind::Decoder || (it.name != rule.name && place(it) < own);
    rules.retain(comes_before);
    // Which points come of a message is known when it has been decoded.
    let span = Span { topics: Vec::new(), ..span };
    Ok(Source::Stored(history, span, Before { rules, topics: topic.into_iter().collect() }))
}

pub(crate) async fn list(call: Call) -> Answer {
    let all: Vec<Backtest> = call.app.backtests.all().iter().map(|job| job.in_short()).collect();
    Ok(json(all))
}

pub(crate) async fn get(call: Call) -> Answer {
    let job = call.app.backtests.find(&call.name())?;
    call.app.look_up(move |_| json(job.shown())).await
}

/// How far a backtest is, whenever that is known anew, and at last how it ended.
pub(crate) async fn events(call: Call) -> Answer {
    let (backtests, job) = (call.app.backtests.clone(), call.app.backtests.find(&call.name())?);
    let (feed, response) = call.app.streams.open()?;
    tidegate_telemetry::spawn("api-backtest", async move {
        // Whoever read it is gone: so are we.
        let _ = follow(&backtests, &job, &feed).await;
    });
    Ok(response)
}

async fn follow(backtests: &Backtests, job: &Job, feed: &Feed) -> Result<(), Gone> {
    loop {
        let mut news = pin!(job.news());
        // From here on nothing is missed: what it is shows below, and what becomes of it meanwhile wakes us.
        news.as_mut().enable();
        let shown = job.in_short();
        let over = shown.state.is_over();
        feed.send(if over { "over" } else { "progress" }, &shown).await?;
        if over {
            return Ok(());
        }
        tokio::select! {
            () = news => {}
            () = feed.closed() => return Err(Gone),
            // One that waits for an upload which never begins ends when somebody looks.
            () = tokio::time::sleep(LOOK_EVERY) => backtests.tidy(),
        }
    }
}

/// Answers when all has been handed over; the job goes on reading what waits.
pub(crate) async fn rows(call: Call) -> Answer {
    let (backtests, id) = (call.app.backtests.clone(), call.name());
    let length = call.headers.get(header::CONTENT_LENGTH).and_then(|n| n.to_str().ok()?.parse().ok());
    let pieces = backtests.upload(&id, length)?;
    call.body.rows(|piece| pieces.push(Some(piece))).await?;
    pieces.push(None).await?;
    Ok(json(backtests.find(&id)?.in_short()))
}

pub(crate) async fn cancel(call: Call) -> Answer {
    call.app.backtests.cancel(&call.name())?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
