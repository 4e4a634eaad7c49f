//! Messages to points: each message to the decoder that names its topic most closely.

use std::sync::atomic::Ordering::Relaxed;

use tidegate_engine::{Decoded, Kind, thread_cpu};
use tidegate_model::{Books, Marks, Messages, PartitionId, Stage, TopicId};

use crate::dead_letter::Cause;
use crate::lane::batch::Fate;
use crate::lane::flow::{Flow, Insert};
use crate::lane::patience::Patience;
use crate::lane::route::Routes;
use crate::lane::slot::{Poison, Slot, Tried};
use crate::lane::work::Work;

/// What the letters of messages beyond a limit say.
const TOO_MANY: &str = "more messages came than the `limit` of its source allows; slow its sender down, raise the limit, or set excess = \"hold\"";

/// What the letters of messages that were too large say.
const TOO_LARGE: &str = "larger than the `max_packet_bytes` of its source, so that only its beginning is here; raise that if such messages are meant";

/// Decodes all messages of the work at hand.
pub(crate) fn decode(work: &mut Work<'_>, slots: &mut [Slot], routes: &mut Routes) -> Flow {
    let messages = work.messages;
    for (row, name) in messages.unnamed.iter().filter(|(row, _)| !Marks(messages.marks[*row as usize]).are_barred()) {
        if work.fates[*row as usize] == Fate::Stored && !is_decoded(name, slots) {
            continue;
        }
        let limit = work.books.all_topics().limit();
        let reason = format!("this host knows {limit} topics already, which is its limit (`max_series`)");
        work.dead_letter_message(*row, &Cause::route(reason));
    }
    match sole_decoder(messages, slots, routes, work.books) {
        Some(slot) if !slots[slot].shuns_any() => {
            let made = call(work, &mut slots[slot], messages, None);
            Flow { points: made.points, from_row: made.from_row }
        }
        _ => {
            let by_decoder = share_out(work, slots, routes);
            let mut all = Insert::default();
            for (slot, rows) in by_decoder.into_iter().enumerate().filter(|(_, rows)| !rows.is_empty()) {
                let part = messages.gather(&rows);
                all.append(call(work, &mut slots[slot], &part, Some(&rows)));
            }
            in_order(all)
        }
    }
}

/// The one decoder that gets the whole batch, if it is so.
fn sole_decoder(messages: &Messages, slots: &[Slot], routes: &mut Routes, books: &Books) -> Option<usize> {
    if !messages.unnamed.is_empty() || messages.marks.iter().any(|&marks| Marks(marks).are_barred()) {
        return None;
    }
    let mut topics = messages.topic.iter();
    let first = routes.decoder(*topics.next()?, slots, books)?;
    topics.all(|&topic| routes.decoder(topic, slots, books) == Some(first)).then_some(first)
}

/// Whether there is a decoder for a topic that has no id.
fn is_decoded(topic: &str, slots: &[Slot]) -> bool {
    slots.iter().any(|slot| slot.rule().kind() == Kind::Decoder && slot.rule().closest(topic).is_some())
}

/// The rows of each decoder, ascending; those without one go to the dead letters, unless a sink takes them as they came; and so do those
/// beyond a limit, but where they are to be dropped.
fn share_out(work: &mut Work<'_>, slots: &[Slot], routes: &mut Routes) -> Vec<Vec<u32>> {
    let mut by_decoder = vec![Vec::new(); slots.len()];
    let mut unnamed = work.messages.unnamed.iter().map(|(row, _)| *row).peekable();
    for (row, &topic) in work.messages.topic.iter().enumerate() {
        let row = row as u32;
        let marks = Marks(work.messages.marks[row as usize]);
        let unnamed = unnamed.next_if_eq(&row).is_some();
        if marks.has(Marks::DROPPED) {
            work.fates[row as usize] = Fate::Dropped;
            continue;
        }
        if marks.are_barred() {
            let reason = if marks.has(Marks::TRUNCATED) { TOO_LARGE } else { TOO_MANY };
            work.dead_letter_message(row, &Cause::route(reason));
            continue;
        }
        if unnamed {
            continue;
        }
        match routes.decoder(topic, slots, work.books) {
            Some(slot) if slots[slot].shuns_any() && slots[slot].shuns(partition_of(work.books, topic)) => {
                park(work, &slots[slot], row);
            }
            Some(slot) => by_decoder[slot].push(row),
            // A sink takes it as it came: that is what it is for.
            None if work.fates[row as usize] == Fate::Stored => {}
            None => work.dead_letter_message(row, &no_decoder(work.books, topic)),
        }
    }
    by_decoder
}

fn partition_of(books: &Books, topic: TopicId) -> PartitionId {
    books.topic(topic).map(|topic| topic.partition).unwrap_or_default()
}

fn no_decoder(books: &Books, topic: TopicId) -> Cause<'static> {
    let topic = books.topic_name(topic);
    Cause::route(format!("no decoder's topics match {topic:?}; enable one, or widen its `topics`"))
}

/// The decoder is not called for the partition of this message.
fn park(work: &mut Work<'_>, slot: &Slot, row: u32) {
    let rule = slot.rule();
    rule.stats.parked.fetch_add(1, Relaxed);
    work.dead_letter_message(row, &Cause::parked(rule));
}

/// Parts of several decoders, back in the order of their messages.
fn in_order(all: Insert) -> Flow {
    if all.from_row.is_sorted() {
        return Flow { points: all.points, from_row: all.from_row };
    }
    let mut rows: Vec<u32> = (0..all.from_row.len() as u32).collect();
    rows.sort_by_key(|&row| all.from_row[row as usize]);
    Flow { points: all.points.gather(&rows), from_row: rows.iter().map(|&row| all.from_row[row as usize]).collect() }
}

/// Calls the decoder; `rows` are the part's rows in the batch, if it is not the whole. When the call fails the part is taken apart
/// until the poison stands alone, and goes to the dead letters; the rest goes on.
fn call(work: &mut Work<'_>, slot: &mut Slot, part: &Messages, rows: Option<&[u32]>) -> Insert {
    let mut patience = Patience::default();
    let made = attempt(work, slot, part, rows, &mut patience);
    slot.done_with(&patience);
    made
}

/// One call of [`call`], and those that become necessary by it.
fn attempt(
    work: &mut Work<'_>,
    slot: &mut Slot,
    part: &Messages,
    rows: Option<&[u32]>,
    patience: &mut Patience,
) -> Insert {
    let row_in_batch = |row: u32| rows.map_or(row, |rows| rows[row as usize]);
    let all_rows = || 0..part.len() as u32;
    let began = patience.clock();
    let outcome = match slot.decode(work.now_us, part) {
        Some(outcome) => outcome,
        None => {
            let reason = slot.rule().stats.quarantined().unwrap_or_default();
            let cause = Cause::reject(Stage::Decode, slot.rule(), format!("its decoder is quarantined: {reason}"));
            for row in all_rows() {
                work.dead_letter_message(row_in_batch(row), &cause);
            }
            return Insert::default();
        }
    };
    let fault = match outcome {
        Ok(decoded) => return take(work, slot, decoded, part.len(), row_in_batch),
        Err(fault) => fault,
    };
    if slot.failed_on(Tried::Messages(part), &fault, began, patience) == Poison::Found {
        let cause = Cause::fault(Stage::Decode, slot.rule(), &fault, part.len());
        for row in all_rows() {
            work.dead_letter_message(row_in_batch(row), &cause);
        }
        return Insert::default();
    }
    let whole: Vec<u32> = all_rows().collect();
    let mut made = Insert::default();
    let (mut left, limits) = (&whole[..], slot.rule().limits);
    while let Some(few) = patience.next_part(&mut left, whole.len(), &limits, thread_cpu()) {
        // Whose poison has been found often enough is not tried any more.
        let shunned = |row: &&u32| slot.shuns(partition_of(work.books, part.topic[**row as usize]));
        let (shunned, few): (Vec<u32>, Vec<u32>) = few.iter().partition(shunned);
        shunned.into_iter().for_each(|row| park(work, slot, row_in_batch(row)));
        if few.is_empty() {
            continue;
        }
        let rows: Vec<u32> = few.iter().map(|&row| row_in_batch(row)).collect();
        made.append(attempt(work, slot, &part.gather(&few), Some(&rows), patience));
    }
    made
}

fn take(
    work: &mut Work<'_>,
    slot: &mut Slot,
    decoded: Decoded,
    rows: usize,
    row_in_batch: impl Fn(u32) -> u32,
) -> Insert {
    let Decoded { points, mut from_row, rejects, held, commands, wake_us } = decoded;
    let used = from_row.chunk_by(|a, b| a == b).count();
    let filtered = rows.saturating_sub(used + rejects.row.len() + held.len());
    slot.rule().stats.filtered.fetch_add(filtered as u64, Relaxed);
    for row in &mut from_row {
        *row = row_in_batch(*row);
        work.fates[*row as usize] = Fate::Decoded;
    }
    for row in held {
        work.fates[row_in_batch(row) as usize] = Fate::Decoded;
    }
    for (row, reason) in rejects.iter() {
        work.dead_letter_message(row_in_batch(row), &Cause::reject(Stage::Decode, slot.rule(), reason));
    }
    work.commands(slot.rule(), commands);
    work.account.produced += points.len() as u64;
    slot.plan(work.now_us, false, wake_us);
    Insert { points, from_row }
}
