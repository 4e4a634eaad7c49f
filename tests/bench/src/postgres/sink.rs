//! The sink alone, given points as the pipeline does: as many deliveries in one write as that gathers.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, ensure};
use tidegate_config::TimescaleSink;
use tidegate_model::{Books, Delivery, Description, NO_ROW, PartitionId, Points, SeriesId, Sink};
use tidegate_sinks::Timescale;
use tokio::runtime::Runtime;

use super::Ours;
use crate::measure::seconds_since;
use crate::workload;

/// Points of one delivery.
const DELIVERY: usize = 1_000;

/// The sink and what it is given.
pub(super) struct Alone {
    sink: Timescale,
    runtime: Runtime,
    deliveries: Vec<Arc<Delivery>>,
    points: usize,
    /// Deliveries of one write.
    write: usize,
}

impl Alone {
    pub(super) fn start(settings: TimescaleSink, points: usize) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let books = Arc::new(Books::new(workload::TOPICS));
        let deliveries = deliveries(points, &books)?;
        let write = Timescale::rows_at_once(&settings) / DELIVERY;
        Ok(Self { sink: Timescale::new(settings, books), runtime, deliveries, points, write })
    }
}

impl Ours for Alone {
    fn store(&mut self) -> Result<f64> {
        let (sink, deliveries) = (&mut self.sink, &self.deliveries);
        let began = Instant::now();
        let written = self.runtime.block_on(async {
            let mut written = 0;
            for some in deliveries.chunks(self.write) {
                written += sink.write(some).await?.points;
            }
            anyhow::Ok(written)
        })?;
        let seconds = seconds_since(began);
        ensure!(written == self.points as u64, "the sink stored {written} of {} points", self.points);
        Ok(seconds)
    }

    fn close(mut self: Box<Self>) -> Result<()> {
        self.runtime.block_on(self.sink.close());
        Ok(())
    }
}

fn deliveries(points: usize, books: &Books) -> Result<Vec<Arc<Delivery>>> {
    let series = (0..workload::TOPICS)
        .map(|number| {
            let description = Description { unit: Some("°C".into()), labels: Vec::new() };
            books.intern_series(&workload::topic(number), PartitionId(number as u32), description)
        })
        .collect::<Result<Vec<SeriesId>, _>>()?;
    let delivery = |first: usize| {
        let mut column = Points::default();
        for message in first..(first + DELIVERY).min(points) {
            let series = series[workload::topic_of(message)];
            column.push(series, workload::time_us(message), workload::value(message), 192);
        }
        let from_row = vec![NO_ROW; column.len()];
        Arc::new(Delivery { points: column, from_row, ..Delivery::default() })
    };
    Ok((0..points).step_by(DELIVERY).map(delivery).collect())
}
