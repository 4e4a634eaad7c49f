//! The points of the database, read again in the order of their times: by a cursor in a transaction that only reads, so that neither
//! side holds more than a page: its rows are taken off the connection one by one, and what is too much for a page waits there. Works through PgBouncer in transaction mode.
//!
//! No transaction lasts for long, since vacuum and compression would wait for it: after a minute the next one goes on, from the next time on that has rows.
//! So what stands throughout is read once and in order, and each minute's part is of one moment, but not the whole: what is stored meanwhile is read
//! if its time is still to come, and what is dropped meanwhile is not.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures_util::TryStreamExt;
use tidegate_config::TimescaleSink;
use tidegate_model::{Books, History, HistoryError, Names, Page, Past, Span, TopicFilter};
use tokio::runtime::Handle;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Row, RowStream};

use super::dial::LastHost;
use super::fault::Fault;
use super::schema::{Tables, literal, quoted};
use super::session::{self, Session};

/// How many rows a page has, and how many the server is asked for at once, at most.
const PAGE: usize = 5_000;
/// How long the first page may take, for which the server may have to sort a chunk.
const PAGE_WITHIN: Duration = Duration::from_secs(120);
/// How long a transaction may give rows before another goes on: what was deleted or changed since it began has to be kept for it.
const WINDOW: Duration = Duration::from_secs(60);
/// With more filters than this the server is not told of topics at all; they are looked at here in any case.
const MAX_CONDITIONS: usize = 16;

/// The points in a database that [`super::Timescale`] writes.
#[derive(Clone, Debug)]
pub struct TimescaleHistory {
    settings: TimescaleSink,
    last_host: Arc<LastHost>,
    /// What the connection lives on.
    runtime: Handle,
    window: Duration,
}

impl TimescaleHistory {
    /// Of the database that `settings` name; connections are made on `runtime`.
    pub fn new(settings: TimescaleSink, runtime: Handle) -> Self {
        let settings = TimescaleSink { statement_timeout: PAGE_WITHIN, ..settings };
        Self { settings, last_host: Arc::default(), runtime, window: WINDOW }
    }

    /// The same with transactions that last so long.
    #[must_use]
    pub fn in_windows_of(self, window: Duration) -> Self {
        Self { window, ..self }
    }
}

impl History for TimescaleHistory {
    fn open(&self, span: Span, books: Arc<Books>) -> Result<Box<dyn Past>, HistoryError> {
        let session = self.runtime.block_on(Session::open(&self.settings, &self.last_host));
        let session = session.map_err(|fault| unreadable(&session::address(&self.settings), fault))?;
        let mut rows = Rows {
            session,
            of: self.clone(),
            span: span.clone(),
            coming: None,
            next: PAGE,
            taken: 0,
            began: None,
            last_us: None,
        };
        rows.begin(None)?;
        // Without an end it goes on to what is stored now; of what is later still nobody can say how much there will be.
        let now_us = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64);
        let until_us = span.until_us.unwrap_or_else(now_us);
        Ok(Box::new(Reading { rows, span, names: Names::new(books), first_us: None, until_us }))
    }
}

struct Reading {
    rows: Rows,
    span: Span,
    names: Names,
    /// The time of the first row.
    first_us: Option<i64>,
    /// The time at which all has been read.
    until_us: i64,
}

impl Past for Reading {
    fn next_page(&mut self) -> Result<Option<Page>, HistoryError> {
        let (mut page, mut last_us) = (Page::default(), None);
        while page.looked_at < PAGE as u64 && !page.is_full() {
            let Some(row) = self.rows.next()? else { break };
            page.looked_at += 1;
            last_us = row.try_get::<_, i64>(0).ok();
            self.first_us = self.first_us.or(last_us);
            let put = put(&mut page, &self.span, &mut self.names, &row);
            put.map_err(|error| self.rows.unreadable(error.into()))?;
        }
        if page.looked_at == 0 {
            return Ok(None);
        }
        if page.is_full() {
            // The server is asked for so many as make a page: it is not to wait with a statement under way for one who is slow.
            self.rows.next = (page.looked_at as usize).min(PAGE);
        }
        let first = self.span.from_us.or(self.first_us).unwrap_or_default();
        page.done = last_us.map(|last| {
            let whole = (self.until_us - first).max(1);
            ((last - first) as f64 / whole as f64).clamp(0.0, 1.0)
        });
        Ok(Some(page))
    }
}

/// The rows of one cursor after the other. Those that nobody has taken wait on the connection, and then with the server.
struct Rows {
    session: Session,
    of: TimescaleHistory,
    span: Span,
    /// Those asked for.
    coming: Option<Pin<Box<RowStream>>>,
    /// How many the server is asked for next.
    next: usize,
    /// How many of those asked for have come.
    taken: usize,
    /// When the transaction gave its first row.
    began: Option<Instant>,
    /// The time of the last row given.
    last_us: Option<i64>,
}

impl Rows {
    /// Ends the transaction, if there is one, and begins another: of what is of the span, from this time on.
    fn begin(&mut self, from_us: Option<i64>) -> Result<(), HistoryError> {
        let Self { session, of, span, .. } = self;
        let span = Span { from_us: from_us.or(span.from_us), ..span.clone() };
        let end = if from_us.is_some() { "COMMIT;" } else { "" };
        let begin = "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY";
        let timeout = PAGE_WITHIN.as_millis();
        let select = select(&of.settings, &span);
        let declare = format!("DECLARE tidegate_history NO SCROLL CURSOR FOR {select}");
        // What is on its way of the rows before is left.
        self.coming = None;
        self.began = None;
        let begin = format!("{end} {begin}; SET LOCAL statement_timeout = {timeout}; {declare}");
        of.runtime.block_on(session.run(&begin)).map_err(|fault| self.unreadable(fault))
    }

    /// The next one; none at the end.
    fn next(&mut self) -> Result<Option<Row>, HistoryError> {
        loop {
            let Some(row) = self.fetched()? else { return Ok(None) };
            let time_us = row.try_get::<_, i64>(0).map_err(|error| self.unreadable(error.into()))?;
            let began = *self.began.get_or_insert_with(Instant::now);
            // Rows of one time are of one transaction: so none is read twice, and none is passed by.
            if began.elapsed() >= self.of.window && self.last_us.is_some_and(|last_us| time_us > last_us) {
                self.last_us = None;
                self.begin(Some(time_us))?;
                continue;
            }
            self.last_us = Some(time_us);
            return Ok(Some(row));
        }
    }

    fn fetched(&mut self) -> Result<Option<Row>, HistoryError> {
        let Self { session, of, coming, next, taken, .. } = self;
        let next_row = async {
            loop {
                if let Some(rows) = coming.as_mut() {
                    if let Some(row) = session.answer(rows.try_next()).await? {
                        *taken += 1;
                        return Ok::<_, Fault>(Some(row));
                    }
                    if *taken == 0 {
                        // An answer that has ended must not be asked again.
                        *coming = None;
                        return Ok(None);
                    }
                }
                let fetch = format!("FETCH {next} FROM tidegate_history");
                let none: [(&(dyn ToSql + Sync), Type); 0] = [];
                *coming = Some(Box::pin(session.answer(session.client.query_typed_raw(&fetch, none)).await?));
                *taken = 0;
                // Rows may become short again.
                *next = (*next * 2).min(PAGE);
            }
        };
        of.runtime.block_on(next_row).map_err(|fault| self.unreadable(fault))
    }

    fn unreadable(&self, fault: Fault) -> HistoryError {
        unreadable(&session::address(&self.of.settings), fault)
    }
}

/// All that is of the span, and perhaps more topics; types are said, since a table of one's own may have others.
fn select(settings: &TimescaleSink, span: &Span) -> String {
    let [time, topic, value, value_str, quality, unit] = settings.names.columns.all().map(quoted);
    let mut conditions = vec![format!("isfinite({time})")];
    let at = |us: i64| format!("timestamptz '1970-01-01 00:00:00+00' + bigint '{us}' * interval '1 microsecond'");
    conditions.extend(span.from_us.map(|us| format!("{time} >= {}", at(us))));
    conditions.extend(span.until_us.map(|us| format!("{time} < {}", at(us))));
    let topics: Option<Vec<String>> = span.topics.iter().map(|filter| condition(&topic, filter)).collect();
    conditions.extend(
        topics
            .filter(|topics| (1..=MAX_CONDITIONS).contains(&topics.len()))
            .map(|topics| format!("({})", topics.join(" OR "))),
    );
    format!(
        "SELECT (extract(epoch FROM {time}) * 1000000)::bigint, {topic}::text, {value}::double precision, \
         {value_str}::text, {quality}::integer, {unit}::text FROM {} WHERE {} ORDER BY {time}",
        Tables::new(settings).metrics,
        conditions.join(" AND ")
    )
}

/// What holds of all topics that the filter matches; none if that is nothing.
fn condition(column: &str, filter: &TopicFilter) -> Option<String> {
    let text = filter.as_str();
    let Some(wildcard) = text.find(['+', '#']) else { return Some(format!("{column} = {}", literal(text))) };
    // `a/#` matches `a` as well.
    let start =
        if text[wildcard..].starts_with('#') { text[..wildcard].trim_end_matches('/') } else { &text[..wildcard] };
    (!start.is_empty()).then(|| format!("starts_with({column}, {})", literal(start)))
}

fn put(page: &mut Page, span: &Span, names: &mut Names, row: &Row) -> Result<(), tokio_postgres::Error> {
    let topic: &str = row.try_get(1)?;
    if !span.has_topic(topic) {
        return Ok(());
    }
    let Some(series) = names.series(topic, row.try_get(5)?) else {
        page.nameless += 1;
        return Ok(());
    };
    let value: Option<f64> = row.try_get(2)?;
    let quality = row.try_get::<_, Option<i32>>(4)?.and_then(|quality| u8::try_from(quality).ok());
    page.points.push(series, row.try_get(0)?, value.unwrap_or(f64::NAN), quality.unwrap_or(192).into());
    if let Some(text) = row.try_get::<_, Option<&str>>(3)? {
        page.points.texts.push(page.points.len() as u32 - 1, text.as_bytes());
    }
    Ok(())
}

fn unreadable(address: &str, fault: Fault) -> HistoryError {
    HistoryError(format!("the points cannot be read: {}", fault.into_sink_error(address)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use tidegate_config::Secret;

    use super::*;

    /// Guarantees: what the server is told of topics holds of all that match, and nothing of a request becomes SQL.
    #[test]
    fn conditions() {
        for (filter, expected) in [
            ("a/b", Some("t = 'a/b'")),
            ("a/#", Some("starts_with(t, 'a')")),
            ("a/+/c", Some("starts_with(t, 'a/')")),
            ("/#", None),
            ("#", None),
            ("+/x", None),
            ("it's/#", Some("starts_with(t, 'it''s')")),
            (r"a\') --", Some(r"t =  E'a\\'') --'")),
        ] {
            assert_eq!(condition("t", &filter.parse().unwrap()).as_deref(), expected, "{filter}");
        }
        let settings = TimescaleSink::new(Secret::new(""));
        let sql =
            select(&settings, &Span { topics: vec!["a".parse().unwrap(), "#".parse().unwrap()], ..Span::default() });
        assert!(!sql.contains("\"topic\" ="), "one of them is any topic: {sql}");
    }
}
