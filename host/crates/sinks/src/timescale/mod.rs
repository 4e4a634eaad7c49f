//! Points and alerts in TimescaleDB or PostgreSQL, by binary COPY over several connections.
//!
//! A write is shared out by series, a transaction for each connection (`pool`); what is new about series is told before, the alerts go with the
//! first share. A write that fails in part is finished when it comes again: what was committed is not written twice. Points that cannot
//! be stored are found before the wire where that is possible (`survey`), else by halving until they stand alone (`halves`); all
//! others are stored with them left out. What takes too long is tried again with fewer rows in a statement (`pace`). Nothing is kept in the server's session between transactions but an empty temporary
//! table, so PgBouncer may stand between, in transaction mode.
//!
//! It never changes a table that exists, unless [`migrate`] is asked for, and never shows the URL, since a password may be in it.
//!
//! A connection that breaks within COMMIT leaves it open whether the rows are there; they are written again: at least once, unless
//! repeats are dropped (`stage`), or the points' messages have positions that are stored with them (`positions`): exactly once.
//!
//! | file | what |
//! |---|---|
//! | `template` | the binary format of a row |
//! | `survey` | the points of a write, shared out, and those that cannot be stored |
//! | `earlier` | rows whose unit is another by now |
//! | `believed` | which times are believed |
//! | `chunks` | which rows go into one transaction, by their times |
//! | `pool` | the connections, and a write spread over them |
//! | `store` | the transaction of a share |
//! | `copy` | rows on their way to the wire, and those of the next share made ahead |
//! | `halves` | rows that the database refuses, found |
//! | `left` | rows that are left to be sent, in parts |
//! | `news` | what is new about series |
//! | `positions` | how far Kafka partitions are stored, with the points |
//! | `pace` | fewer rows in a statement where it took too long |
//! | `stage` | repeats told apart |
//! | `session` | one connection |
//! | `dial` | reaching the database, host by host |
//! | `schema` | the tables, made and looked at |
//! | `jobs` | what became of the database's own jobs |
//! | `fault` | errors by SQLSTATE |
//! | `history` | what is stored, read again |

mod believed;
mod chunks;
mod copy;
mod dial;
mod earlier;
mod fault;
mod halves;
mod history;
mod jobs;
mod left;
mod news;
mod pace;
mod pool;
mod positions;
mod schema;
mod session;
mod stage;
mod store;
mod survey;
mod template;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use tidegate_config::{Offsets, TimescaleSink};
use tidegate_model::{Books, Clock as _, Delivery, Sink, SinkError, SystemClock, Wants, Written};

use crate::series::SeriesCache;
use believed::Believed;
use chunks::Chunks;
use dial::LastHost;
use fault::Fault;
use pace::{Pace, Slower};
use pool::{Failed, Pool};
use schema::{ExtensionTried, Found, Tables};
use store::{Announced, Manner, Others, Stored};
use survey::{Division, Survey};
use template::RowTemplate;

pub use history::TimescaleHistory;
pub use jobs::watch_jobs;
pub use positions::SourcePositions;
pub use schema::{Migrated, MigrationStep, Progress, migrate, migration};

/// Points and alerts in TimescaleDB or PostgreSQL.
#[derive(Debug)]
pub struct Timescale {
    settings: TimescaleSink,
    books: Arc<Books>,
    tables: Tables,
    /// For messages: where the database is, without secrets.
    address: String,
    extension_tried: ExtensionTried,
    last_host: LastHost,
    pool: Pool,
    known: Option<Known>,
    unfinished: Option<Unfinished>,
    /// What the next write will bring.
    upcoming: Vec<Arc<Delivery>>,
    pace: Pace,
    /// Whether the database has ever taken a point, since the process began.
    ever: Others,
}

/// What is known of the database behind the connections: looked at anew after each fault, since another may stand there then.
#[derive(Debug)]
struct Known {
    found: Found,
    series: SeriesCache<RowTemplate>,
    /// The write announced, looked over during the one before it; the connections have its first rows.
    ahead: Option<Survey>,
}

/// A write that failed in part.
#[derive(Debug)]
struct Unfinished {
    deliveries: Vec<Arc<Delivery>>,
    /// How they were shared out: the same again, though time has passed. A write made ready ahead was shared out then, not when it was written.
    division: Division,
    /// By share, those that are committed.
    done: Vec<Option<Stored>>,
}

impl Unfinished {
    fn of(survey: &Survey, done: Vec<Option<Stored>>) -> Self {
        let (deliveries, division) = survey.made_of();
        Self { deliveries: deliveries.to_vec(), division, done }
    }

    fn is_of(&self, deliveries: &[Arc<Delivery>]) -> bool {
        are_same(&self.deliveries, deliveries)
    }
}

/// Whether these are the very same deliveries.
fn are_same(some: &[Arc<Delivery>], others: &[Arc<Delivery>]) -> bool {
    some.len() == others.len() && some.iter().zip(others).all(|(a, b)| Arc::ptr_eq(a, b))
}

impl Timescale {
    /// A sink for the database of `settings`; connects at the first write.
    pub fn new(settings: TimescaleSink, books: Arc<Books>) -> Self {
        Self {
            tables: Tables::new(&settings),
            address: session::address(&settings),
            settings,
            books,
            extension_tried: false,
            last_host: LastHost::default(),
            pool: Pool::default(),
            known: None,
            unfinished: None,
            upcoming: Vec::new(),
            pace: Pace::default(),
            ever: Others::Unknown,
        }
    }

    /// The settings of a second sink, for late points alone: the same database over half as many connections. None where a write has all its points in
    /// transactions with their offsets, or there is to be one connection only.
    pub fn for_late_points(settings: &TimescaleSink) -> Option<TimescaleSink> {
        let own = settings.offsets == Offsets::Group && settings.connections > 1;
        own.then(|| TimescaleSink {
            connections: settings.connections / 2,
            max_rows: Some(settings.copy_rows()),
            ..settings.clone()
        })
    }

    /// How many rows it is best given at once: of two transactions for each connection, so that the second is made ready while the first is
    /// committed. With offsets a connection has one transaction a write.
    pub fn rows_at_once(settings: &TimescaleSink) -> usize {
        let transactions = match settings.offsets {
            Offsets::Group => 2,
            Offsets::WithPoints => 1,
        };
        settings.copy_rows() * settings.connections * transactions
    }

    async fn write_over(
        &mut self,
        pool: &mut Pool,
        deliveries: &[Arc<Delivery>],
        upcoming: &[Arc<Delivery>],
    ) -> Result<Written, SinkError> {
        let mut known = match self.known(pool).await {
            Ok(known) => known,
            Err(fault) => return Err(self.failed_first(pool, fault).await),
        };
        // It stays where it is until the shares are written: what fails before them must not have them all written again.
        let unfinished = self.unfinished.as_ref().filter(|unfinished| unfinished.is_of(deliveries));
        let survey = match known.ahead.take().filter(|ahead| ahead.is_of(deliveries)) {
            Some(ahead) => ahead,
            None => {
                pool.forget_ahead();
                let division =
                    unfinished.map_or_else(|| self.division(known.found.chunks), |unfinished| unfinished.division);
                Survey::new(deliveries, &self.books, &mut known.series, division)
            }
        };
        let shares = survey.shares().len();
        if let Err(fault) = self.tell_series(pool, &mut known).await {
            return Err(self.failed_first(pool, fault).await);
        }
        pool.grow(&self.settings, &self.last_host, survey.connections()).await;

        let unfinished = self.unfinished.take().filter(|unfinished| unfinished.is_of(deliveries));
        let mut done = unfinished.map_or_else(|| vec![None; shares], |unfinished| unfinished.done);
        let (max_rows, steps) = self.pace.rows(self.settings.copy_rows());
        let others = others_of(&survey, &done);
        let manner = Manner {
            tables: &self.tables,
            series: &known.series,
            repeats: self.settings.repeats,
            max_rows,
            steps,
            others,
            ever: self.ever,
            timeout: self.timeout(),
            unpacking: known.found.unpacking,
        };
        let chunks = known.found.chunks;
        let look = || match upcoming {
            [] => None,
            some => Survey::ahead(some, &self.books, &known.series, self.division(chunks)),
        };
        let announced = Announced { look: &look, survey: OnceLock::new() };
        let faults = pool.store(&survey, &announced, &mut done, manner).await;
        let ahead = announced.survey.into_inner().flatten();
        let faults = self.paced(faults);
        if !faults.is_empty() {
            if done.iter().any(Option::is_some) {
                self.unfinished = Some(Unfinished::of(&survey, done));
            }
            return Err(self.gravest(faults));
        }
        // Not before all others are stored: what of them no message brings again would be gone.
        if let Some(why) = done.iter().flatten().find_map(|stored| stored.went_back.clone()) {
            return Err(Fault::WentBack(why).into_sink_error(&self.address));
        }
        if others_of(&survey, &done) == Others::Passed {
            self.ever = Others::Passed;
        }
        self.known = Some(Known { ahead, ..known });
        self.pace.stored(self.settings.copy_rows());
        let all = survey.shares().iter().map(|share| share.numbers.len()).sum::<usize>() as u64;
        let (again, late) = (survey.again(), survey.late());
        let mut written = Written { points: all + again, repeats: again, late, ..Written::default() };
        written.alerts = survey.alerts().count() as u64;
        let mut refused = Vec::new();
        for stored in done.into_iter().flatten() {
            written.repeats += stored.repeats;
            written.differing += stored.differing;
            refused.extend(stored.refused);
        }
        written.points -= refused.len() as u64;
        written.rejected = survey.rejected(refused);
        Ok(written)
    }

    /// A fault of the first connection, before shares are written.
    async fn failed_first(&self, pool: &mut Pool, fault: Fault) -> SinkError {
        pool.end_first().await;
        self.told(fault)
    }

    fn told(&self, fault: Fault) -> SinkError {
        fault.lacking(&self.tables.grants).into_sink_error(&self.address)
    }

    /// What is known of the database, after a look at it if that is nothing.
    async fn known(&mut self, pool: &mut Pool) -> Result<Known, Fault> {
        let (session, is_new) = pool.first(&self.settings, &self.last_host).await?;
        match self.known.take() {
            Some(known) if !is_new => Ok(known),
            _ => {
                let found = schema::prepare(session, &self.settings, &self.tables, &mut self.extension_tried).await?;
                tracing::debug!(database = self.address, "connected");
                Ok(Known { found, series: SeriesCache::default(), ahead: None })
            }
        }
    }

    async fn tell_series(&self, pool: &mut Pool, known: &mut Known) -> Result<(), Fault> {
        if known.found.series && !known.series.untold().is_empty() {
            let (session, _) = pool.first(&self.settings, &self.last_host).await?;
            news::tell_series(session, &self.tables, &self.books, known.series.untold(), self.timeout()).await?;
        }
        known.series.all_told();
        Ok(())
    }

    /// How a write that comes for the first time is shared out.
    fn division(&self, chunks: Option<Chunks>) -> Division {
        let now_us = SystemClock.now_us();
        Division {
            most: self.settings.connections,
            rows: self.settings.copy_rows(),
            chunks,
            offsets: self.settings.offsets,
            now_us,
            believed: Believed::near(now_us, &self.settings),
        }
    }

    fn timeout(&self) -> Duration {
        self.settings.statement_timeout.max(Duration::from_millis(1))
    }

    /// The same faults, after what follows from those of time: the next try has fewer rows in a statement, or, where there was but one, somebody
    /// has to act.
    fn paced(&mut self, faults: Vec<Failed>) -> Vec<Failed> {
        let slow = |(fault, _): &Failed| match fault {
            Fault::Slow { rows, .. } => Some(*rows),
            _ => None,
        };
        let Some(rows) = faults.iter().filter_map(slow).min() else { return faults };
        let seconds = self.settings.statement_timeout.as_secs_f64();
        let slower = self.pace.slower(rows, self.settings.copy_rows());
        let told = |(fault, why): Failed| {
            let fault = match (fault, slower) {
                (Fault::Slow { said, rows }, Slower::To(fewer)) => {
                    Fault::Passing(format!("{said}, with {rows} rows; the next try has {fewer} in a statement"))
                }
                (Fault::Slow { said, .. }, Slower::Never) => Fault::Operator(format!(
                    "{said}, with one row at most; look for what holds a lock on it (pg_locks) or makes it slow, or set \
                     statement_timeout_s, which is {seconds}, higher"
                )),
                (other, _) => other,
            };
            (fault, why)
        };
        faults.into_iter().map(told).collect()
    }

    /// Of several faults the one that somebody has to act on, with what only its connection knows: why it ended, as in "terminating
    /// connection due to administrator command".
    fn gravest(&self, faults: Vec<Failed>) -> SinkError {
        let mut errors = faults.into_iter().map(|(fault, why)| match (self.told(fault), why) {
            (SinkError::Retry(text), Some(why)) if !text.contains(&why) => SinkError::Retry(format!("{text}: {why}")),
            (error, _) => error,
        });
        let first = errors.next();
        let grave = first.iter().cloned().chain(errors).find(|error| matches!(error, SinkError::NeedsOperator(_)));
        grave.or(first).unwrap_or_else(|| SinkError::Retry(format!("{}: nothing was said", self.address)))
    }
}

/// Whether some points of the write are stored.
fn others_of(survey: &Survey, done: &[Option<Stored>]) -> Others {
    let mut shares = survey.shares().iter().zip(done);
    let passed = shares.any(|(share, done)| done.as_ref().is_some_and(|stored| stored.has_passed(share)));
    if passed { Others::Passed } else { Others::Unknown }
}

#[async_trait]
impl Sink for Timescale {
    fn wants(&self) -> Wants {
        let positions = self.settings.offsets == Offsets::WithPoints;
        Wants { points: true, alerts: true, positions, ..Wants::default() }
    }

    async fn write(&mut self, deliveries: &[Arc<Delivery>]) -> Result<Written, SinkError> {
        // Taken out: a write that is given up in the middle takes its connections, and their open transactions, with it.
        let mut pool = std::mem::take(&mut self.pool);
        let upcoming = std::mem::take(&mut self.upcoming);
        let written = self.write_over(&mut pool, deliveries, &upcoming).await;
        self.pool = pool;
        written
    }

    fn upcoming(&mut self) -> Option<&mut Vec<Arc<Delivery>>> {
        Some(&mut self.upcoming)
    }

    fn late_before_us(&self) -> Option<i64> {
        self.known.as_ref()?.found.chunks?.late_before_us(SystemClock.now_us())
    }

    async fn close(&mut self) {
        std::mem::take(&mut self.pool).close().await;
    }
}
