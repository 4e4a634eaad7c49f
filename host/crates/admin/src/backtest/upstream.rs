//! The rules that come before the one that is tried: where a history has messages and the rule takes points, they are decoded as in a lane, and
//! go through the processors that stand before it. What these would raise or send is nobody's concern here, and they are not ticked.

use std::sync::Arc;

use tidegate_engine::{Fault, Instance, Kind, LoadError, Rule, decoder_of};
use tidegate_model::{Books, Messages, NO_ROW, Points, TopicId};

use super::rehearsed::Rehearsed;
use super::run::{BATCH, BATCH_BYTES, Leave, MAX_FAULTS, Stop};

/// The rules before the one that is tried.
pub(super) struct Upstream {
    stages: Vec<Stage>,
    books: Arc<Books>,
    /// By topic id, the stage that decodes it, once that is known.
    decoders: Vec<Option<Option<usize>>>,
    faults: u64,
    /// Rows of which there came nothing: no decoder took the message, a rule refused it, or failed on it.
    lost: u64,
}

/// Gives an instance rows.
type Call<'a> = dyn FnMut(&mut Instance, &[u32]) -> Result<(), Fault> + 'a;

struct Stage {
    on: Rehearsed,
    /// By series id, whether it gets it.
    wanted: Vec<Option<bool>>,
}

impl Upstream {
    /// `rules`: those that serve, in the order they run in.
    pub fn new(rules: &[Arc<Rule>], books: &Arc<Books>) -> Result<Self, LoadError> {
        let stage =
            |rule: &Arc<Rule>| Ok(Stage { on: Rehearsed::new(rule.clone(), books.clone())?, wanted: Vec::new() });
        let stages = rules.iter().map(stage).collect::<Result<_, LoadError>>()?;
        Ok(Self { stages, books: books.clone(), decoders: Vec::new(), faults: 0, lost: 0 })
    }

    /// The points that come of `messages`, in their order, and of how many rows nothing came.
    pub fn points(&mut self, messages: &Messages, leave: &Leave) -> Result<(Points, u64), Stop> {
        let mut points = self.decode(messages, leave)?;
        for at in 0..self.stages.len() {
            if self.stages.get(at).is_some_and(|stage| stage.on.rule.kind() == Kind::Processor) {
                points = self.process(at, points, leave)?;
            }
        }
        Ok((points, std::mem::take(&mut self.lost)))
    }

    fn decode(&mut self, messages: &Messages, leave: &Leave) -> Result<Points, Stop> {
        let mut by_stage = vec![Vec::new(); self.stages.len()];
        for (row, &topic) in messages.topic.iter().enumerate() {
            match self.decoder(topic).and_then(|at| by_stage.get_mut(at)) {
                Some(rows) => rows.push(row as u32),
                None => self.lost += 1,
            }
        }
        let (mut all, mut from) = (Points::default(), Vec::new());
        for (at, rows) in by_stage.iter().enumerate() {
            let mut lost = 0;
            for part in parts(rows, |row| messages.payload.get(row as usize).len()) {
                leave.check()?;
                self.call(at, part, &mut |instance, rows| {
                    let given = messages.gather(rows);
                    let decoded = instance.decode(given.received_us.last().copied().unwrap_or_default(), &given)?;
                    lost += decoded.rejects.row.len() as u64;
                    all.append(&decoded.points);
                    from.extend(decoded.from_row.iter().map(|&row| place(rows, row)));
                    Ok(())
                })?;
            }
            self.lost += lost;
        }
        Ok(in_order(&all, &from))
    }

    fn decoder(&mut self, topic: TopicId) -> Option<usize> {
        let id = topic.index();
        if self.decoders.len() <= id {
            self.decoders.resize(id + 1, None);
        }
        let (stages, books) = (&self.stages, &self.books);
        let find = || decoder_of(books.topic_name(topic), stages.iter().map(|stage| &*stage.on.rule));
        *self.decoders.get_mut(id)?.get_or_insert_with(find)
    }

    /// What goes on after one of the processors. Rows that it is not given stay where they stood.
    fn process(&mut self, at: usize, flow: Points, leave: &Leave) -> Result<Points, Stop> {
        let (given, rest): (Vec<u32>, Vec<u32>) =
            (0..flow.len() as u32).partition(|&row| self.is_wanted(at, &flow, row));
        if given.is_empty() {
            return Ok(flow);
        }
        let (mut all, mut from, mut lost) = (flow.gather(&rest), rest, 0);
        for part in parts(&given, |row| flow.texts.get(row).map_or(0, <[u8]>::len)) {
            leave.check()?;
            self.call(at, part, &mut |instance, rows| {
                let given = flow.gather(rows);
                let processed = instance.process(given.time_us.last().copied().unwrap_or_default(), &given)?;
                lost += processed.rejects.row.len() as u64;
                let (points, of) = processed.carried(&given);
                all.append(&points);
                from.extend(of.iter().map(|&row| place(rows, row)));
                Ok(())
            })?;
        }
        self.lost += lost;
        Ok(in_order(&all, &from))
    }

    fn is_wanted(&mut self, at: usize, flow: &Points, row: u32) -> bool {
        let Some((stage, series)) = self.stages.get_mut(at).zip(flow.series.get(row as usize).copied()) else {
            return false;
        };
        let id = series.index();
        if stage.wanted.len() <= id {
            stage.wanted.resize(id + 1, None);
        }
        let (rule, books) = (&stage.on.rule, &self.books);
        stage
            .wanted
            .get_mut(id)
            .is_some_and(|known| *known.get_or_insert_with(|| rule.wants(books.series_topic(series))))
    }

    /// Has a stage called with rows; when it fails they are halved until what it fails on stands alone, and is left out.
    fn call(&mut self, at: usize, rows: &[u32], call: &mut Call<'_>) -> Result<(), Stop> {
        let Some(Stage { on, .. }) = self.stages.get_mut(at).filter(|_| !rows.is_empty()) else { return Ok(()) };
        let Err(fault) = call(&mut on.instance, rows) else { return on.keep() };
        on.revive()?;
        if rows.len() > 1 {
            return rows.chunks(rows.len().div_ceil(2)).try_for_each(|half| self.call(at, half, call));
        }
        self.lost += 1;
        self.faults += 1;
        if self.faults >= MAX_FAULTS {
            let rule = &on.rule.name;
            let why = format!("the rules before it failed on {MAX_FAULTS} rows, last so {rule:?}: {fault}");
            return Err(Stop::Because(why));
        }
        Ok(())
    }
}

/// Rows in parts for one call each.
fn parts(rows: &[u32], bytes_of: impl Fn(u32) -> usize) -> Vec<&[u32]> {
    let (mut parts, mut begin, mut bytes) = (Vec::new(), 0, 0);
    for (at, &row) in rows.iter().enumerate() {
        if at - begin >= BATCH || bytes >= BATCH_BYTES {
            parts.extend(rows.get(begin..at));
            (begin, bytes) = (at, 0);
        }
        bytes += bytes_of(row);
    }
    parts.extend(rows.get(begin..));
    parts
}

/// Where in the whole a row of a part stood; what came of no row comes last.
fn place(rows: &[u32], row: u32) -> u32 {
    rows.get(row as usize).copied().unwrap_or(NO_ROW)
}

/// Points in the order of the rows they came from.
fn in_order(points: &Points, from: &[u32]) -> Points {
    let mut rows: Vec<u32> = (0..points.len() as u32).collect();
    rows.sort_by_key(|&row| from.get(row as usize).copied().unwrap_or(NO_ROW));
    points.gather(&rows)
}
