//! One connection to the database.

use std::str::FromStr;
use std::time::Duration;

use futures_util::future::{join, join_all};
use tidegate_config::TimescaleSink;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::config::Host;
use tokio_postgres::{Client, Config, SimpleQueryMessage};

use super::dial::{KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, KEEPALIVE_RETRIES, LastHost, dial};
use super::fault::Fault;

/// The server's own `statement_timeout` comes first; this is for one that does not answer at all.
pub(super) const GRACE: Duration = Duration::from_secs(10);

/// How long a COMMIT may take. No `statement_timeout` runs in it, and where it waits for a standby it is over when that is back. Given up sooner, it
/// would stay, with its place and its locks, beside the next try, and what it holds would be there once more. A server that is gone is noticed by TCP.
const COMMIT_WITHIN: Duration = Duration::from_secs(600);

/// What each transaction of ours begins with. A host that vanishes in the middle of one (its power, its network) must not hold locks for as long
/// as the server's system takes to notice, two hours by default: its successor waits for them. Between statements no `statement_timeout` runs,
/// and within a COPY that waits for us none is heard. All of it ends with the transaction, and none is an error where it cannot be had.
pub(super) fn begin(statement: Duration) -> String {
    format!(
        "BEGIN; SET LOCAL statement_timeout = {}; SET LOCAL idle_in_transaction_session_timeout = {}; \
         SET LOCAL tcp_keepalives_idle = {}; SET LOCAL tcp_keepalives_interval = {}; SET LOCAL tcp_keepalives_count = {};",
        statement.as_millis(),
        (statement + GRACE).as_millis(),
        KEEPALIVE_IDLE.as_secs(),
        KEEPALIVE_INTERVAL.as_secs(),
        KEEPALIVE_RETRIES
    )
}

/// An open connection. Dropping it closes it; a transaction in it is rolled back.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) client: Client,
    /// Moves the bytes; ends with the connection and then tells why.
    connection: Carrier,
    patience: Duration,
}

/// The task of a connection. It ends with its owner: left to itself it would wait for a server that never answers, and hold a place there.
#[derive(Debug)]
struct Carrier(JoinHandle<Option<String>>);

impl Drop for Carrier {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Where the database is, without anything secret, for messages.
pub(super) fn address(settings: &TimescaleSink) -> String {
    let Ok(config) = Config::from_str(settings.url.reveal()) else { return "the database".to_owned() };
    let ports = config.get_ports();
    let hosts = config.get_hosts().iter().enumerate().map(|(i, host)| {
        let host = match host {
            Host::Tcp(host) => host.clone(),
            #[cfg(unix)]
            Host::Unix(path) => path.display().to_string(),
        };
        // One port may stand for all hosts.
        format!("{host}:{}", ports.get(i).or(ports.first()).copied().unwrap_or(5432))
    });
    let hosts: Vec<String> = hosts.collect();
    let database = config.get_dbname().or(config.get_user()).unwrap_or("");
    format!("database {database} at {}", hosts.join(" or "))
}

impl Session {
    /// Connects, and fails in bounded time. Keeps no state in the server's session: works through PgBouncer in transaction mode.
    pub(super) async fn open(settings: &TimescaleSink, last: &LastHost) -> Result<Self, Fault> {
        let (client, carrier) = dial(settings, last).await?;
        Ok(Self { client, connection: Carrier(carrier), patience: settings.statement_timeout + GRACE })
    }

    /// Waits for an answer of the server, but not for ever.
    pub(super) async fn answer<T>(
        &self,
        asked: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, Fault> {
        within(self.patience, asked).await
    }

    /// Waits for the answers to two things that were asked at once, of which the server does the second after the first.
    pub(super) async fn answers<A, B>(
        &self,
        first: impl Future<Output = Result<A, tokio_postgres::Error>>,
        then: impl Future<Output = Result<B, tokio_postgres::Error>>,
    ) -> Result<B, Fault> {
        in_turn(self.patience, first, then).await
    }

    /// Commits.
    pub(super) async fn commit(&self) -> Result<(), Fault> {
        within(COMMIT_WITHIN, self.client.batch_execute("COMMIT")).await
    }

    /// Runs statements that give no rows.
    pub(super) async fn run(&self, sql: &str) -> Result<(), Fault> {
        self.answer(self.client.batch_execute(sql)).await
    }

    /// Runs statements that give no rows, however long they take.
    pub(super) async fn run_long(&self, sql: &str) -> Result<(), Fault> {
        self.client.batch_execute(sql).await.map_err(Fault::from)
    }

    /// The rows of a query, as texts; empty for NULL.
    pub(super) async fn rows(&self, query: &str) -> Result<Vec<Vec<String>>, Fault> {
        let messages = self.answer(self.client.simple_query(query)).await?;
        let texts = messages.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|i| row.get(i).unwrap_or_default().to_owned()).collect())
            }
            _ => None,
        });
        Ok(texts.collect())
    }

    /// Whether the server or the network has ended it.
    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Ends it, and gives the reason if the connection had one of its own: the client only knows that it is closed.
    pub(super) async fn end(self) -> Option<String> {
        let closed = self.client.is_closed();
        drop(self.client);
        let mut connection = self.connection;
        let why = timeout(Duration::from_secs(1), &mut connection.0).await.ok()?.ok()?;
        why.filter(|_| closed)
    }

    /// Ends several, all at a time: a server that is gone lets each of them wait. Gives with each why it had ended by itself, if it had.
    pub(super) async fn end_all<T>(sessions: Vec<(T, Self)>) -> Vec<(T, Option<String>)> {
        join_all(sessions.into_iter().map(|(with, session)| async { (with, session.end().await) })).await
    }
}

async fn in_turn<A, B>(
    patience: Duration,
    first: impl Future<Output = Result<A, tokio_postgres::Error>>,
    then: impl Future<Output = Result<B, tokio_postgres::Error>>,
) -> Result<B, Fault> {
    let (first, then) = join(within(patience, first), within(2 * patience, then)).await;
    first.and(then)
}

async fn within<T>(
    patience: Duration,
    asked: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, Fault> {
    match timeout(patience, asked).await {
        Ok(answer) => answer.map_err(Fault::from),
        Err(_) => Err(Fault::Silent(patience)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use tokio::io::{AsyncWriteExt as _, duplex};
    use tokio::sync::Barrier;
    use tokio_postgres::NoTls;

    use super::*;

    /// Guarantees: of two statements said in one breath each has its full time: the second begins when the first is done.
    #[tokio::test]
    async fn each_has_its_time() {
        let after = |ms| async move {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            Ok(ms)
        };
        let patience = Duration::from_millis(40);
        assert_eq!(in_turn(patience, after(30), after(60)).await.unwrap(), 60);
        let never = || after(u64::from(u32::MAX));
        for never in [in_turn(patience, never(), after(1)).await, in_turn(patience, after(1), never()).await] {
            assert!(matches!(never, Err(Fault::Silent(_))), "{never:?}");
        }
    }

    /// Guarantees: connections are ended side by side: none waits until a server that is gone has let another one wait.
    #[tokio::test]
    async fn all_end_at_a_time() {
        let (all, ended) = (Arc::new(Barrier::new(3)), Arc::new(AtomicUsize::new(0)));
        let (mut sessions, mut servers) = (Vec::new(), Vec::new());
        for number in 0..3 {
            let (ours, mut server) = duplex(1 << 10);
            // AuthenticationOk, ReadyForQuery.
            server.write_all(b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I").await.unwrap();
            servers.push(server);
            let (client, connection) = Config::new().user("one").connect_raw(ours, NoTls).await.unwrap();
            let (all, ended) = (all.clone(), ended.clone());
            let carrier = tokio::spawn(async move {
                let why = connection.await.err().map(|error| error.to_string());
                all.wait().await;
                ended.fetch_add(1, Relaxed);
                why
            });
            sessions.push((number, Session { client, connection: Carrier(carrier), patience: GRACE }));
        }
        let ends = Session::end_all(sessions).await;
        assert_eq!(ends.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(ended.load(Relaxed), 3);
    }
}
