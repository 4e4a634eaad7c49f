//! How far logs are stored: in the transaction of the points, so that neither is there without the other.
//!
//! A transaction begins with the rows of its logs: that locks them, against another host which took a partition for its own too soon, and
//! tells what is stored already. Points of messages before that are left out: they were committed, and only nobody heard of it. Where less is
//! stored than there was when the messages were read (another server has taken over, which had not all of it yet) nothing is written: what is
//! between would be passed by. The messages go back, and their source reads from where the database is now.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tidegate_config::TimescaleSink;
use tidegate_model::{Log, SinkError, Stored};
use tokio_postgres::types::{ToSql, Type};

use super::dial::LastHost;
use super::fault::Fault;
use super::schema::{Tables, literal};
use super::session::{self, Session};

/// What a write holds of one log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) log: Arc<Log>,
    /// One past the last message.
    pub(super) next: i64,
    /// How far it must be stored before this.
    pub(super) after: i64,
    /// Which connection takes its points.
    pub(super) connection: usize,
}

/// Where a point's message stands: which span, and its offset; none for a point that came of no message, or of one without.
pub(super) type Place = Option<(u32, i64)>;

/// Moves these logs on, and gives how far each was stored before. A fault where that is too little: then the transaction must not be committed.
pub(super) async fn advance(session: &Session, tables: &Tables, spans: &[&Span]) -> Result<Vec<i64>, Fault> {
    let (mut clusters, mut groups, mut topics) = (Vec::new(), Vec::new(), Vec::new());
    let (mut partitions, mut nexts) = (Vec::new(), Vec::new());
    for span in spans {
        let Log { cluster, group, topic, partition } = &*span.log;
        clusters.push(&**cluster);
        groups.push(&**group);
        topics.push(topic.as_str());
        partitions.push(*partition);
        nexts.push(span.next);
    }
    let columns: [(&(dyn ToSql + Sync), Type); 5] = [
        (&clusters, Type::TEXT_ARRAY),
        (&groups, Type::TEXT_ARRAY),
        (&topics, Type::TEXT_ARRAY),
        (&partitions, Type::INT4_ARRAY),
        (&nexts, Type::INT8_ARRAY),
    ];
    // `query_typed`: the statement has no name, so none is left behind in a pooled server.
    let advanced = session.answer(session.client.query_typed(&tables.advance, &columns)).await;
    let mut before = vec![0; spans.len()];
    for row in advanced.map_err(|fault| fault.of_table(&tables.positions))? {
        let (cluster, group, topic): (&str, &str, &str) = (row.get(0), row.get(1), row.get(2));
        let (partition, previous): (i32, i64) = (row.get(3), row.get(4));
        let is = |span: &&Span| {
            let log = &*span.log;
            log.partition == partition && log.topic == topic && *log.group == *group && *log.cluster == *cluster
        };
        if let Some(at) = spans.iter().position(is) {
            before[at] = previous;
        }
    }
    match spans.iter().zip(&before).find(|(span, before)| span.after > **before) {
        None => Ok(before),
        Some((span, before)) => {
            let (Log { topic, partition, .. }, after) = (&*span.log, span.after);
            Err(Fault::WentBack(format!(
                "partition {partition} of {topic} was stored up to {after}, and is stored up to {before} now: another server has taken over, or \
                 an earlier state was put back; it is read again from there"
            )))
        }
    }
}

/// The numbers of the points that are left to be stored, and of those that are stored.
pub(super) type Divided = (Vec<u32>, Vec<u32>);

/// The points that are not stored yet, and those that are, if any, where `before` is how far each span was.
pub(super) fn divide(numbers: &[u32], places: &[Place], before: impl Fn(u32) -> i64) -> Option<Divided> {
    let is_known = |place: &Place| place.is_some_and(|(span, offset)| offset < before(span));
    if !places.iter().any(is_known) {
        return None;
    }
    let (mut left, mut known) = (Vec::with_capacity(numbers.len()), Vec::new());
    for (&number, place) in numbers.iter().zip(places) {
        if is_known(place) { known.push(number) } else { left.push(number) }
    }
    Some((left, known))
}

/// How far a database has stored logs, for the source that reads them.
#[derive(Debug)]
pub struct SourcePositions {
    settings: TimescaleSink,
    tables: Tables,
    last_host: LastHost,
}

/// How long a source waits for the answer of a server that was reached; it asks again.
const PATIENCE: Duration = Duration::from_secs(10);

impl SourcePositions {
    /// Those of this database; connects when it is asked.
    pub fn new(settings: TimescaleSink) -> Self {
        Self { tables: Tables::new(&settings), settings, last_host: LastHost::default() }
    }

    /// Reaching the server has limits of its own, one for each host: the second must have its turn when the first says nothing.
    async fn look_up(&self, cluster: &str, group: &str) -> Result<Vec<(String, i32, i64)>, Fault> {
        let session = Session::open(&self.settings, &self.last_host).await?;
        let asked = tokio::time::timeout(PATIENCE, self.ask(&session, cluster, group)).await;
        let found = asked.map_err(|_| Fault::Silent(PATIENCE))?;
        session.end().await;
        found
    }

    async fn ask(&self, session: &Session, cluster: &str, group: &str) -> Result<Vec<(String, i32, i64)>, Fault> {
        let table = session.rows(&format!("SELECT to_regclass({})", literal(&self.tables.positions))).await?;
        // The sink makes it with its first write.
        if table.iter().flatten().all(String::is_empty) {
            return Ok(Vec::new());
        }
        let query = format!(
            "SELECT topic::text, partition::integer, next_offset::bigint FROM {} WHERE cluster = $1 AND consumer_group = $2",
            self.tables.positions
        );
        let given: [(&(dyn ToSql + Sync), Type); 2] = [(&cluster, Type::TEXT), (&group, Type::TEXT)];
        let rows = session.answer(session.client.query_typed(&query, &given)).await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))).collect()
    }
}

#[async_trait]
impl Stored for SourcePositions {
    async fn next_offsets(&self, cluster: &str, group: &str) -> Result<Vec<(String, i32, i64)>, SinkError> {
        let address = session::address(&self.settings);
        let found = self.look_up(cluster, group).await;
        found.map_err(|fault| fault.lacking(&self.tables.grants).into_sink_error(&address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: a point is stored already when its message is before what was stored of its own log, and only then.
    #[test]
    fn what_is_left() {
        let places = [Some((0, 4)), None, Some((1, 4)), Some((0, 5)), Some((1, 9))];
        let before = |span: u32| [5, 0][span as usize];
        assert_eq!(divide(&[2, 3, 5, 8, 9], &places, before), Some((vec![3, 5, 8, 9], vec![2])));
        assert_eq!(divide(&[2, 3, 5, 8, 9], &places, |_| 4), None);
    }
}
