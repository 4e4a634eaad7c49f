//! The TimescaleDB sink with a great many rows and connections.

use std::sync::Arc;

use tidegate_config::TimescaleSink;
use tidegate_model::{Books, Sink as _};
use tidegate_sinks::Timescale;

use crate::postgres::Postgres;
use crate::timescale_pool::{CONNECTIONS, COUNT, DISTINCT, many, number};

/// Guarantees: twenty connections, as many as may be configured, are made for a write of twenty thousand rows and more, and each writes some of them.
#[tokio::test]
async fn twenty_connections() {
    let Some(server) = Postgres::start() else { return };
    let client = server.client().await;
    let books = Arc::new(Books::new(99));
    let settings = TimescaleSink { connections: 20, ..server.settings("postgres") };
    let mut sink = Timescale::new(settings, Arc::clone(&books));
    // The first makes the tables, and what is known of the series.
    sink.write(&[many(&books, 0, 1_000)]).await.unwrap();
    let written = sink.write(&[many(&books, 1_000, 30_000)]).await.unwrap();
    assert_eq!(written.points, 30_000);
    assert_eq!(number(&client, CONNECTIONS).await, 20);
    assert_eq!((number(&client, COUNT).await, number(&client, DISTINCT).await), (31_000, 31_000));
    let transactions = "SELECT count(DISTINCT xmin::text) FROM metrics WHERE value >= 1000";
    assert!(number(&client, transactions).await >= 20);
    sink.close().await;
}

/// Guarantees: what the writer allocates does not grow with the rows of a transaction: for 35,000 more of them it is an allocation in about 280, some four for each
/// part of 64 KiB (126 in each of six runs).
#[test]
fn rows_allocate_nothing() {
    let Some(server) = Postgres::start() else { return };
    // All of it on this thread, whose allocations are counted.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let books = Arc::new(Books::new(99));
    let settings = TimescaleSink { connections: 1, max_rows: Some(40_000), ..server.settings("postgres") };
    let mut sink = Timescale::new(settings, Arc::clone(&books));
    let mut from = 0;
    let mut write = |rows: i64| {
        let delivery = [many(&books, from, rows)];
        from += rows;
        let taken = allocation_counter::measure(|| {
            assert_eq!(runtime.block_on(sink.write(&delivery)).unwrap().points, rows as u64);
        });
        taken.count_total
    };
    // Tables, series, and buffers that grow to their size.
    write(40_000);
    let (few, many) = (write(5_000), write(40_000));
    assert!(many.saturating_sub(few) < 150, "{few} allocations for 5,000 rows, {many} for 40,000");
    runtime.block_on(sink.close());
}
