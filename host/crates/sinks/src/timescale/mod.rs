//! Points and alerts in TimescaleDB or PostgreSQL, by binary COPY.
//!
//! One transaction a write holds all of it: what is new about series, the alerts, the points. Points that cannot be stored are
//! found before the wire where that is possible (`survey`), else by halving until they stand alone (`store`); all others are
//! stored with them left out. Nothing is kept in the server's session between transactions, so PgBouncer may stand between, in
//! transaction mode.
//!
//! It never changes a table that exists, and never shows the URL, since a password may be in it.
//!
//! A connection that breaks within COMMIT leaves it open whether the rows are there; they are written again: at least once.
//!
//! | file | what |
//! |---|---|
//! | `template` | the binary format of a row |
//! | `survey` | the points of a write, numbered through, and those that cannot be stored |
//! | `store` | the transaction |
//! | `session` | the connection |
//! | `schema` | the tables, made and looked at |
//! | `fault` | errors by SQLSTATE |

mod fault;
mod schema;
mod session;
mod store;
mod survey;
mod template;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::BytesMut;
use tidegate_config::TimescaleSink;
use tidegate_model::{Books, Delivery, Sink, SinkError, Wants, Written};

use crate::series::SeriesCache;
use fault::Fault;
use schema::{ExtensionTried, Found, Tables};
use session::Session;
use survey::Survey;
use template::RowTemplate;

/// Points and alerts in TimescaleDB or PostgreSQL.
#[derive(Debug)]
pub struct Timescale {
    settings: TimescaleSink,
    books: Arc<Books>,
    tables: Tables,
    /// For messages: where the database is, without secrets.
    address: String,
    extension_tried: ExtensionTried,
    open: Option<Open>,
    /// Rows on their way to the wire; kept for its memory.
    buffer: BytesMut,
}

/// A connection, and what is known of the database behind it: another may stand there after it.
#[derive(Debug)]
struct Open {
    session: Session,
    found: Found,
    series: SeriesCache<RowTemplate>,
}

impl Timescale {
    /// A sink for the database of `settings`; connects at the first write.
    pub fn new(settings: TimescaleSink, books: Arc<Books>) -> Self {
        Self {
            tables: Tables::new(&settings.table),
            address: session::address(&settings),
            settings,
            books,
            extension_tried: false,
            open: None,
            buffer: BytesMut::new(),
        }
    }

    /// The standing connection, or a new one to a database whose tables have been looked at.
    async fn connected(&mut self) -> Result<Open, Fault> {
        if let Some(open) = self.open.take().filter(|open| !open.session.is_closed()) {
            return Ok(open);
        }
        let session = Session::open(&self.settings).await?;
        let found = schema::prepare(&session, &self.settings, &self.tables, &mut self.extension_tried).await?;
        tracing::debug!(database = self.address, "connected");
        Ok(Open { session, found, series: SeriesCache::default() })
    }
}

#[async_trait]
impl Sink for Timescale {
    fn wants(&self) -> Wants {
        Wants { points: true, alerts: true, ..Wants::default() }
    }

    async fn write(&mut self, deliveries: &[Arc<Delivery>]) -> Result<Written, SinkError> {
        // Taken out: a write that is given up in the middle takes its connection, and the open transaction, with it.
        let mut open = match self.connected().await {
            Ok(open) => open,
            Err(fault) => return Err(fault.into_sink_error(&self.address)),
        };
        let mut survey = Survey::new(deliveries, &self.books, &mut open.series);
        let store = store::Store {
            session: &open.session,
            tables: &self.tables,
            books: &self.books,
            series: &open.series,
            found: open.found,
            max_rows: self.settings.max_rows.max(1),
            timeout_ms: self.settings.statement_timeout.as_millis().max(1),
        };
        match store.all(&mut survey, &mut self.buffer).await {
            Ok(()) => {
                open.series.all_told();
                self.open = Some(open);
                let points = survey.storable(&(0..survey.len())) as u64;
                let alerts = survey.alerts().count() as u64;
                Ok(Written { points, alerts, rejected: survey.into_rejected() })
            }
            Err(fault) => {
                let error = fault.into_sink_error(&self.address);
                // Only the connection itself knows why it ended, as in "terminating connection due to administrator command".
                match (error, open.session.end().await) {
                    (SinkError::Retry(text), Some(why)) if !text.contains(&why) => {
                        Err(SinkError::Retry(format!("{text}: {why}")))
                    }
                    (error, _) => Err(error),
                }
            }
        }
    }

    async fn close(&mut self) {
        if let Some(open) = self.open.take() {
            open.session.end().await;
        }
    }
}
