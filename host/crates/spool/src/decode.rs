//! The body of a record as a delivery: names become ids of this process.

use std::sync::Arc;

use tidegate_model::{
    Alert, Books, Command, DeadLetter, Delivery, Description, Messages, NO_ROW, OriginIs, Points, Properties,
    Severity, Stage, Texts, TopicId, Transition,
};

use crate::columns::{Malformed, Reader};
use crate::naming::Naming;
use crate::record::VERSION_MESSAGES;

/// What a record holds.
pub(crate) struct Decoded {
    pub delivery: Delivery,
    pub unplaced: Vec<DeadLetter>,
}

/// Reads the body of a record of this version; `naming` gives the ids.
pub(crate) fn decode(version: u16, body: &[u8], books: &Books, naming: &mut Naming) -> Result<Decoded, Malformed> {
    let mut from = Reader { rest: body };
    let table = from.list(series)?;
    let series: Vec<u32> = from.u32s()?;
    let points = Points {
        series: Vec::new(),
        time_us: from.i64s()?,
        value: from.f64s()?,
        quality: from.u16s()?,
        texts: Texts { row: from.u32s()?, text: from.ragged()? },
    };
    let from_row = from.u32s()?;
    let origin = messages(&mut from, books)?;
    let sources = from.list(|from| Ok((from.u32()?, Arc::<str>::from(from.text()?))))?;
    let alerts = from.list(alert)?;
    let commands = from.list(command)?;
    let dead_letters = from.list(dead_letter)?;
    let chosen = if version == VERSION_MESSAGES { from.u32s()? } else { Vec::new() };
    from.end()?;

    let rows = series.len();
    let columns = [points.time_us.len(), points.value.len(), points.quality.len(), from_row.len()];
    let texts = &points.texts;
    let sound = columns.iter().all(|&length| length == rows)
        && series.iter().all(|&place| (place as usize) < table.len())
        && texts.row.len() == texts.text.len()
        && texts.row.is_sorted_by(|a, b| a < b)
        && texts.row.last().is_none_or(|&row| (row as usize) < rows)
        && from_row.iter().all(|&row| row == NO_ROW || (row as usize) < origin.len())
        && chosen.is_sorted_by(|a, b| a < b)
        && chosen.last().is_none_or(|&row| (row as usize) < origin.len());
    if !sound {
        return Err(Malformed);
    }
    let delivery = Delivery {
        points,
        from_row,
        origin: Arc::new(origin),
        origin_is: if chosen.is_empty() { OriginIs::Context } else { OriginIs::Chosen(chosen.into()) },
        sources,
        alerts,
        commands,
        dead_letters,
        ..Delivery::default()
    };
    Ok(naming.place(books, delivery, &series, table))
}

/// A series as it stands in a record.
pub(crate) struct NamedSeries<'a> {
    pub topic: &'a str,
    pub partition: &'a str,
    pub description: Description,
}

fn series<'a>(from: &mut Reader<'a>) -> Result<NamedSeries<'a>, Malformed> {
    let (topic, partition) = (from.text()?, from.text()?);
    let unit = from.maybe_text()?.map(Arc::from);
    let labels = from.list(|from| Ok((from.text()?.to_owned(), from.text()?.to_owned())))?;
    Ok(NamedSeries { topic, partition, description: Description { unit, labels } })
}

fn messages(from: &mut Reader<'_>, books: &Books) -> Result<Messages, Malformed> {
    let table = from.list(|from| Ok((from.text()?, from.text()?)))?;
    let ids: Vec<Option<TopicId>> =
        table.iter().map(|(name, partition)| books.intern_topic(name, partition).ok()).collect();
    let places = from.u32s()?;
    let mut messages = Messages { received_us: from.i64s()?, marks: from.u8s()?, ..Messages::default() };
    messages.payload = from.ragged()?;
    let mut properties = Properties { row: from.u32s()?, key: from.u32s()?, value: from.ragged()?, keys: Vec::new() };
    for key in from.ragged()?.iter() {
        properties.keys.push(std::str::from_utf8(key).map_err(|_| Malformed)?.to_owned());
    }
    let rows = places.len();
    let columns = [messages.received_us.len(), messages.marks.len(), messages.payload.len()];
    let sparse = [properties.key.len(), properties.value.len()];
    if columns.iter().any(|&length| length != rows) || sparse.iter().any(|&length| length != properties.row.len()) {
        return Err(Malformed);
    }
    messages.properties = properties;
    for (row, &place) in places.iter().enumerate() {
        let (name, _) = table.get(place as usize).ok_or(Malformed)?;
        match ids.get(place as usize) {
            Some(Some(id)) => messages.topic.push(*id),
            // The limit of topics is reached: this message shall have its topic all the same.
            _ => {
                messages.unnamed.push((row as u32, Box::from(*name)));
                messages.topic.push(TopicId::default());
            }
        }
    }
    Ok(messages)
}

fn alert(from: &mut Reader<'_>) -> Result<Alert, Malformed> {
    Ok(Alert {
        rule: from.text()?.into(),
        topic: from.text()?.into(),
        key: from.text()?.into(),
        time_us: from.i64()?,
        transition: word(from, &[Transition::Event, Transition::Raised, Transition::Cleared], |t| t.as_str())?,
        severity: word(from, &[Severity::Info, Severity::Warning, Severity::Critical], |s| s.as_str())?,
        value: from.f64()?,
        message: from.text()?.to_owned(),
    })
}

fn command(from: &mut Reader<'_>) -> Result<Command, Malformed> {
    Ok(Command {
        rule: from.text()?.into(),
        topic: from.text()?.to_owned(),
        payload: from.u8s()?,
        qos: from.u8()?,
        retain: from.u8()? != 0,
    })
}

fn dead_letter(from: &mut Reader<'_>) -> Result<DeadLetter, Malformed> {
    Ok(DeadLetter {
        source: from.text()?.into(),
        topic: from.text()?.into(),
        received_us: from.i64()?,
        marks: from.u8()?,
        payload: from.u8s()?,
        properties: from.list(|from| Ok((from.text()?.to_owned(), from.u8s()?)))?,
        stage: word(from, &Stage::ALL, |stage| stage.as_str())?,
        rule: from.maybe_text()?.map(Into::into),
        module: from.maybe_text()?.map(Into::into),
        reason: from.text()?.to_owned(),
        backtrace: from.maybe_text()?.map(str::to_owned),
    })
}

/// One of `all`, by its word.
fn word<T: Copy>(from: &mut Reader<'_>, all: &[T], word: impl Fn(T) -> &'static str) -> Result<T, Malformed> {
    let found = from.text()?;
    all.iter().copied().find(|&each| word(each) == found).ok_or(Malformed)
}
