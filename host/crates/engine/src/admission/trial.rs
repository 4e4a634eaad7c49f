//! A short run of a rule on a scratch instance, whose effects nobody sees.
//!
//! It gets what every rule must be able to take: a decoder, a message without a payload, which any client may send; a
//! processor, ordinary points. Then it is ticked, saved, and its state restored into a second instance. What fails here would fail
//! on the first message.

use std::sync::Arc;

use tidegate_model::{Books, Description, Marks, Messages, PartitionId, Points, StateBook, TopicFilter};

use crate::fault::Fault;
use crate::instance::{Cells, Instance, Voice};
use crate::load_error::LoadError;
use crate::module::Kind;
use crate::rule::Rule;

/// Series that a rule may make on trial.
const SERIES: usize = 1_000;
/// 2023-12-23T02:40:00Z, in microseconds: for a rule one time is as good as another.
const NOW_US: i64 = 1_703_289_600_000_000;

/// Tries `rule` out.
pub(crate) fn try_out(rule: &Rule) -> Result<(), LoadError> {
    let books = Arc::new(Books::new(SERIES));
    let scratch = Arc::new(Rule { stats: Arc::default(), ..rule.next_generation(0) });
    let topic = rule.filters.first().map_or_else(|| "trial".to_owned(), example);
    let mut instance = Instance::new(scratch.clone(), books.clone(), Voice::Silent)?;
    let failed = |call: &'static str| move |fault: Fault| LoadError::Trial { call, fault };
    match rule.kind() {
        Kind::Decoder => {
            drop(instance.decode(NOW_US, &message(&books, &topic)).map_err(failed("decode"))?);
        }
        Kind::Processor => {
            drop(instance.process(NOW_US, &points(&books, &topic)).map_err(failed("process"))?);
        }
    }
    instance.tick(NOW_US + 60_000_000).map_err(failed("tick"))?;
    let mut state = StateBook::default();
    state.take(instance.save(Cells::All).map_err(failed("save"))?);
    let mut second = Instance::new(scratch, books, Voice::Silent)?;
    match second.restore(&rule.module.description().version, &state) {
        Err(LoadError::Fault(fault)) => Err(LoadError::Trial { call: "restore", fault }),
        Err(LoadError::State(why)) => Err(LoadError::State(format!("its own state, on trial: {why}"))),
        other => other,
    }
}

/// A topic that the filter matches.
fn example(filter: &TopicFilter) -> String {
    filter
        .to_string()
        .split('/')
        .map(|level| if matches!(level, "+" | "#") { "trial" } else { level })
        .collect::<Vec<_>>()
        .join("/")
}

fn message(books: &Books, topic: &str) -> Messages {
    let mut messages = Messages::default();
    if let Ok(topic) = books.intern_topic(topic, topic) {
        messages.push(topic, NOW_US, Marks::default(), b"");
    }
    messages
}

fn points(books: &Books, topic: &str) -> Points {
    let mut points = Points::default();
    let partition = books.intern_partition(topic).unwrap_or(PartitionId(0));
    if let Ok(series) = books.intern_series(topic, partition, Description::default()) {
        for (second, value) in [20.0, 21.5, -3.25].into_iter().enumerate() {
            points.push(series, NOW_US + second as i64 * 1_000_000, value, 192);
        }
    }
    points
}
