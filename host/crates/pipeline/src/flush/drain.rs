//! From the spool to the sink.

use std::pin::pin;
use std::sync::Arc;

use tidegate_model::{DeadLetter, Delivery, RecordId, SinkError, Spool, SpoolOrder, Spooled, Wants, Written};
use tokio::time::Instant;

use super::confirmed::Confirmed;
use super::intake::{AtEnd, SPOOL_RETRY, weight};
use super::{Flush, UNLIMITED};

/// Why draining ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Drained {
    /// Nothing stands in the spool.
    Empty,
    /// Nobody sends any more, and all that was sent is settled; what stands in the spool stays.
    Over,
}

/// Records on their way from the spool to the sink.
pub(super) struct Given {
    deliveries: Vec<Arc<Delivery>>,
    /// For points that no series can be given to.
    letters: Vec<DeadLetter>,
    records: u64,
    through: RecordId,
    standing: Standing,
    /// What stands in these records that the sink does not take any more. A record has only what the sink took when it was written; a delivery that was not
    /// read from the spool has what other sinks take beside, and nothing is to be said of that.
    no_longer_taken: Option<&'static str>,
}

/// Where records stand in the spool.
#[derive(Clone, Copy)]
enum Standing {
    First,
    /// Others stand before them; these begin with this one.
    Behind(RecordId),
}

impl Given {
    /// Nothing, of no records. What the sink has confirmed before is left out.
    fn of(records: Vec<Spooled>, confirmed: &Confirmed, wants: &Wants) -> Option<Self> {
        let through = records.last()?.id;
        let mut given = Self { records: records.len() as u64, ..Self::again(Vec::new(), through) };
        for mut record in records.into_iter().filter(|record| !confirmed.has(record.id)) {
            given.letters.append(&mut record.unplaced);
            // Of one whose points all became letters nothing is left.
            if !record.delivery.is_empty() {
                given.deliveries.push(record.delivery);
            }
        }
        given.no_longer_taken = given.deliveries.iter().find_map(|delivery| wants.lacks(delivery));
        Some(given)
    }

    /// What the sink was given before it was spooled: a record each, the oldest there are.
    pub fn again(deliveries: Vec<Arc<Delivery>>, through: RecordId) -> Self {
        let (records, standing) = (deliveries.len() as u64, Standing::First);
        Self { records, deliveries, letters: Vec::new(), through, standing, no_longer_taken: None }
    }

    /// The same, where older ones stand before them.
    pub fn before_its_turn(deliveries: Vec<Arc<Delivery>>, through: RecordId) -> Self {
        let first = RecordId((through.0 + 1).saturating_sub(deliveries.len() as u64));
        Self { standing: Standing::Behind(first), ..Self::again(deliveries, through) }
    }
}

fn no_longer_taken(part: &str) -> SinkError {
    SinkError::NeedsOperator(format!(
        "{part} stand in its spool from when its settings let it take them; let it take {part} again until the spool is empty"
    ))
}

impl Flush {
    /// Gives the sink what stands in the spool, the oldest first, until nothing does.
    pub(super) async fn drain(&mut self, spool: &Arc<dyn Spool>) -> Drained {
        let wants = self.sink.wants();
        let in_turn = spool.order() == SpoolOrder::LiveFirst;
        // Whether the last write succeeded.
        let mut works = false;
        // Rows of the last write.
        let mut leaving = 0;
        self.intake.allowance = UNLIMITED;
        loop {
            if self.intake.is_over() || *self.give_up.borrow() {
                return Drained::Over;
            }
            if let Some(wait) = self.wait.take() {
                let slept = self.intake.meanwhile(&**spool, AtEnd::Leave, tokio::time::sleep(wait)).await;
                if slept.is_none() {
                    return Drained::Over;
                }
            }
            let given = match self.unfinished.take() {
                Some(given) => Ok(Some(given)),
                None => {
                    let oldest = spool.oldest(self.intake.rows).await;
                    oldest.map(|records| Given::of(records, &self.confirmed, &wants))
                }
            };
            let given = match given {
                Ok(Some(given)) => given,
                Ok(None) => {
                    if works {
                        tracing::info!(sink = &*self.name, "nothing stands in the spool any more");
                    }
                    return Drained::Empty;
                }
                // What stands in it is not known. In order, nothing may pass it.
                Err(_) => {
                    match in_turn.then(|| self.intake.waiting()).flatten() {
                        Some(batch) => {
                            self.live(batch).await;
                        }
                        None => self.wait = Some(SPOOL_RETRY),
                    }
                    continue;
                }
            };
            if given.deliveries.is_empty() {
                // There is nothing in it for the sink: it has had it, or all of it are letters.
                if !self.forget(given.letters, given.through).await {
                    self.wait = Some(SPOOL_RETRY);
                }
                continue;
            }
            let all = spool.totals().records <= given.records;
            self.intake.allowance = match works {
                true if all || in_turn => 0,
                true => self.intake.allowance.saturating_add(leaving / 2).min(leaving),
                false => UNLIMITED,
            };
            leaving = weight(&wants, &given.deliveries);
            let written = match given.no_longer_taken {
                Some(part) => Some(Err(no_longer_taken(part))),
                None => self.give(&**spool, &given.deliveries, works).await,
            };
            let Some(written) = written else {
                return Drained::Over;
            };
            match written {
                Err(error) => {
                    self.failed(&error);
                    works = false;
                    self.intake.allowance = UNLIMITED;
                    self.unfinished = Some(given);
                }
                Ok(written) => {
                    self.worked();
                    works = true;
                    let Given { deliveries, mut letters, through, standing, .. } = given;
                    self.status.count(&wants, &deliveries, &written);
                    letters.append(&mut self.refused(&deliveries, &written));
                    let over = match standing {
                        Standing::First => self.forget(letters, through).await,
                        Standing::Behind(first) => {
                            let buried = self.buried(&**spool, letters).await;
                            if buried {
                                self.confirmed.add(first, through);
                            }
                            buried
                        }
                    };
                    if !over {
                        self.wait = Some(SPOOL_RETRY);
                    }
                    if let Some(batch) = in_turn.then(|| self.intake.waiting()).flatten() {
                        self.live(batch).await;
                        works = self.wait.is_none();
                    }
                }
            }
        }
    }

    /// Writes what stood in the spool, and meanwhile appends what comes: of a sink that works, only as much as is allowed, and for no
    /// longer than the grace; else all. None when the write was left.
    async fn give(
        &mut self,
        spool: &dyn Spool,
        deliveries: &[Arc<Delivery>],
        works: bool,
    ) -> Option<Result<Written, SinkError>> {
        let mut write = pin!(self.sink.write(deliveries));
        if works && !*self.intake.finish.borrow() {
            let soon = tokio::time::timeout(self.grace, &mut write);
            if let Ok(written) = self.intake.meanwhile(spool, AtEnd::SeeThrough, soon).await? {
                return Some(written);
            }
        }
        self.intake.allowance = UNLIMITED;
        // A sink that works is about to confirm; one that does not may take long to say so again.
        let at_end = if works { AtEnd::SeeThrough } else { AtEnd::Leave };
        self.intake.meanwhile(spool, at_end, write).await
    }

    /// Waits until what the sink refused is in the dead letters, and meanwhile appends what comes.
    async fn buried(&mut self, spool: &dyn Spool, letters: Vec<DeadLetter>) -> bool {
        if letters.is_empty() {
            return true;
        }
        // The dead letters may be long in coming back: no source waits for them.
        self.intake.allowance = UNLIMITED;
        let buried = self.bury(letters);
        self.intake.meanwhile(spool, AtEnd::SeeThrough, buried).await == Some(true)
    }

    /// Removes what the sink has confirmed, once what it refused is in the dead letters. False if it stays, to be written again.
    pub(super) async fn forget(&mut self, letters: Vec<DeadLetter>, through: RecordId) -> bool {
        let Some(spool) = self.spool.clone() else { return false };
        if !self.buried(&*spool, letters).await {
            return false;
        }
        while spool.remove(through).await.is_err() {
            self.intake.allowance = UNLIMITED;
            let wait = tokio::time::sleep(SPOOL_RETRY);
            if self.intake.meanwhile(&*spool, AtEnd::Leave, wait).await.is_none() {
                return false;
            }
        }
        self.confirmed.removed(through);
        // There is room now.
        self.intake.ask_at = Instant::now();
        true
    }
}
