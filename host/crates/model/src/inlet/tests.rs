//! Parcels on their way to lanes.

use std::sync::atomic::Ordering::Relaxed;

use super::*;
use crate::{Excess, Limit, Marks, Outcome, SystemClock};

/// Guarantees: of a parcel that a limit holds, what may go goes at once and the rest later, in order, each with its own token;
/// nothing is counted as received before it goes.
#[tokio::test]
async fn a_limit_parts_parcels() {
    let books = Arc::new(Books::new(10));
    let (sender, mut lane) = mpsc::channel(8);
    let limit = Limit { per_second: 200, burst: 3, excess: Excess::Hold };
    let limits = Limits { source: Some(limit), prefix: None };
    let inlet = Inlet::new("s".into(), books, Arc::new(SystemClock), vec![sender], ParcelLimits::default());
    let inlet = inlet.limited(limits);
    let settled = Arc::new(AtomicUsize::new(0));
    let sum = settled.clone();
    let mut parcels = inlet.parcels(move |tokens: Vec<usize>| {
        let sum = sum.clone();
        Ack::new(move |_| {
            sum.fetch_add(tokens.iter().sum::<usize>(), Relaxed);
        })
    });
    let route = inlet.topic("a", "a").unwrap();
    for token in 0..5_usize {
        parcels.push(route, 0, Marks::default(), &[token as u8], 1 << token);
    }
    assert!(!parcels.try_send().unwrap());
    assert_eq!((parcels.len(), parcels.bytes(), inlet.ledger().totals().received), (2, 2, 3));
    let first = lane.recv().await.unwrap();
    assert_eq!(first.messages.payload.iter().flatten().copied().collect::<Vec<u8>>(), [0, 1, 2]);
    first.ack.resolve(Outcome::Settled);
    assert_eq!(settled.load(Relaxed), 0b111);
    parcels.send().await.unwrap();
    let mut rest = Vec::new();
    while let Ok(parcel) = lane.try_recv() {
        rest.extend(parcel.messages.payload.iter().flatten().copied());
        parcel.ack.resolve(Outcome::Settled);
    }
    assert_eq!((rest, settled.load(Relaxed), parcels.is_empty()), (vec![3, 4], 0b11111, true));
}
