//! Dead letters: seen, replayed, purged. They hold payloads, so all of this needs the scope `data`.

use axum::http::StatusCode;
use axum::response::IntoResponse;
use tidegate_model::{Stage, TopicFilter};

use super::json;
use crate::letters::{LetterChoice, LetterFilter, NotCompacted};
use crate::problem::Problem;
use crate::route::{Answer, Call};
use crate::shapes::{Counted, LetterPage, LetterQuery, PurgeQuery, limit};

pub(crate) async fn list(call: Call) -> Answer {
    let query: LetterQuery = call.query()?;
    let most = limit(query.limit, 50, 1000)?;
    let newest = query.newest.unwrap_or(false);
    if newest && query.after.is_some() {
        return Err(Problem::bad("`after` goes on from the oldest, `newest` begins with the newest: one of them"));
    }
    let after = query.after.unwrap_or(0);
    let filter = LetterFilter {
        rule: query.rule,
        source: query.source,
        stage: stage(query.stage)?,
        topic: topic(query.topic)?,
        since_us: query.since_us,
        until_us: query.until_us,
        reason: query.reason,
        requested: query.requested.unwrap_or(false),
    };
    let page = call.app.look_up(move |app| {
        let kept = &app.view.letters;
        let letters = if newest { kept.newest(&filter, most)? } else { kept.list(&filter, after, most)? };
        Ok(json(LetterPage { letters, matching: kept.count(&filter)? }))
    });
    page.await?.map_err(unreadable)
}

pub(crate) async fn get(call: Call) -> Answer {
    let id: i64 = call.name().parse().unwrap_or_default();
    let found = call.app.look_up(move |app| app.view.letters.get(id).map(|letter| letter.map(json)));
    found
        .await?
        .map_err(unreadable)?
        .ok_or_else(|| Problem::missing(format!("there is no dead letter {id}; it may have been replayed")))
}

pub(crate) async fn replay(call: Call) -> Answer {
    let which = choice(call.query()?)?;
    let letters = call.app.blocking(move |app| app.view.letters.replay(&which)).await?.map_err(unreadable)?;
    Ok(json(Counted { letters }))
}

pub(crate) async fn cancel_replay(call: Call) -> Answer {
    let which = choice(call.query()?)?;
    let letters = call.app.blocking(move |app| app.view.letters.cancel_replay(&which)).await?.map_err(unreadable)?;
    Ok(json(Counted { letters }))
}

pub(crate) async fn compact(call: Call) -> Answer {
    let _place = call.app.compacting()?;
    call.app.blocking(|app| app.view.letters.compact()).await?.map_err(not_compacted)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(crate) async fn purge(call: Call) -> Answer {
    let which = choice(call.query()?)?;
    let letters = call.app.blocking(move |app| app.view.letters.purge(&which)).await?.map_err(unreadable)?;
    Ok(json(Counted { letters }))
}

/// Nothing given is not everything: that would be a slip that cannot be taken back.
fn choice(query: PurgeQuery) -> Result<LetterChoice, Problem> {
    let filter = LetterFilter {
        rule: query.rule,
        source: query.source,
        stage: stage(query.stage)?,
        topic: topic(query.topic)?,
        since_us: query.since_us,
        until_us: query.until_us,
        reason: query.reason,
        requested: query.requested.unwrap_or(false),
    };
    match (query.id, filter == LetterFilter::default(), query.all.unwrap_or(false)) {
        (Some(id), true, false) => Ok(LetterChoice::One(id)),
        (Some(_), ..) => Err(Problem::bad("`id` stands alone: leave the rest out")),
        (None, false, false) | (None, true, true) => Ok(LetterChoice::Matching(filter)),
        (None, true, false) => Err(Problem::bad("say which: by `id`, by what they have in common, or `all=true`")),
        (None, false, true) => Err(Problem::bad("`all=true` stands alone: leave the rest out")),
    }
}

fn stage(word: Option<String>) -> Result<Option<Stage>, Problem> {
    let Some(word) = word else { return Ok(None) };
    let found = Stage::ALL.into_iter().find(|stage| stage.as_str() == word);
    found.map(Some).ok_or_else(|| Problem::bad("stage: one of route, decode, process, sink, parked"))
}

fn topic(text: Option<String>) -> Result<Option<TopicFilter>, Problem> {
    text.map(|text| text.parse()).transpose().map_err(|error| Problem::bad(format!("topic: {error}")))
}

fn not_compacted(why: NotCompacted) -> Problem {
    match why {
        NotCompacted::NoRoom(detail) => Problem::new(StatusCode::INSUFFICIENT_STORAGE, "no_room", detail),
        NotCompacted::Failed(error) => unreadable(error),
    }
}

fn unreadable(error: String) -> Problem {
    Problem::internal(format!("the dead letters cannot be used: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: a caller can tell a disk without room, which is theirs to mend, from a file that cannot be used.
    #[test]
    fn no_room_is_said_apart() {
        let status = |why| not_compacted(why).status();
        assert_eq!(status(NotCompacted::NoRoom("full".to_owned())), StatusCode::INSUFFICIENT_STORAGE);
        assert_eq!(status(NotCompacted::Failed("broken".to_owned())), StatusCode::INTERNAL_SERVER_ERROR);
    }
}
