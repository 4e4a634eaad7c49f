//! A store in memory.

use tidegate_model::{
    Alert, Cell, KeptAlerts, KeptState, OffsetMark, PacketMark, PartitionId, SavedState, SeriesId, Severity,
    StateChange, StateTotals, StateUnread,
};

use super::*;

/// A store in memory, for pipelines that share their books.
#[derive(Debug, Default)]
pub struct Memory(Mutex<Kept>);

#[derive(Clone, Debug, Default)]
struct Kept {
    series: BTreeMap<(String, u32), (String, Cell)>,
    partitions: BTreeMap<(String, u32), (String, Cell)>,
    alerts: BTreeMap<(String, String), Alert>,
    /// Cells that it was told to keep.
    written: usize,
    /// So many times more it does not say what it has.
    unread: usize,
}

impl Memory {
    /// As it is now, for a host that comes after one that dies now.
    pub fn as_it_is(&self) -> Arc<Self> {
        Arc::new(Self(Mutex::new(self.0.lock().unwrap().clone())))
    }

    /// From now on it says that so many alerts of a rule stand.
    pub fn stand(&self, rule: &str, count: usize) {
        let alerts = (0..count).map(|n| Alert {
            rule: rule.into(),
            topic: format!("made/up/{n}").into(),
            key: "".into(),
            time_us: 1,
            transition: Transition::Raised,
            severity: Severity::Warning,
            value: f64::NAN,
            message: String::new(),
        });
        self.put(alerts.map(StateChange::Alert).collect(), Ack::none());
    }

    /// It does not say so many times what it has.
    pub fn unread(&self, times: usize) {
        self.0.lock().unwrap().unread = times;
    }

    /// How many cells it was told to keep until now.
    pub fn written(&self) -> usize {
        self.0.lock().unwrap().written
    }

    /// How many cells of series it has, and how many alerts that stand.
    pub fn kept(&self) -> (usize, usize) {
        let kept = self.0.lock().unwrap();
        (kept.series.len(), kept.alerts.len())
    }

    fn read(&self) -> Result<(), StateUnread> {
        let mut kept = self.0.lock().unwrap();
        if kept.unread == 0 {
            return Ok(());
        }
        kept.unread -= 1;
        Err(StateUnread("told so".into()))
    }
}

impl StateStore for Memory {
    fn put(&self, changes: Vec<StateChange>, kept_now: Ack) {
        let mut kept = self.0.lock().unwrap();
        for change in changes {
            match change {
                StateChange::Saved { rule, version, cells } => {
                    let key = |id: u32| (rule.to_string(), id);
                    kept.written += cells.series.len() + cells.partitions.len();
                    cells.removed_series.iter().for_each(|id| drop(kept.series.remove(&key(id.0))));
                    cells.removed_partitions.iter().for_each(|id| drop(kept.partitions.remove(&key(id.0))));
                    kept.series
                        .extend(cells.series.into_iter().map(|(id, cell)| (key(id.0), (version.clone(), cell))));
                    kept.partitions
                        .extend(cells.partitions.into_iter().map(|(id, cell)| (key(id.0), (version.clone(), cell))));
                }
                StateChange::Alert(alert) => {
                    let key = (alert.rule.to_string(), alert.topic.to_string());
                    match alert.transition {
                        Transition::Raised => drop(kept.alerts.insert(key, alert)),
                        _ => drop(kept.alerts.remove(&key)),
                    }
                }
                StateChange::Taken { .. } => {}
                StateChange::Forgotten { rule } => {
                    kept.series.retain(|(of, _), _| *of != *rule);
                    kept.partitions.retain(|(of, _), _| *of != *rule);
                }
            }
        }
        kept_now.resolve(Outcome::Settled);
    }

    fn load(&self, rule: &str) -> Result<Vec<KeptState>, StateUnread> {
        self.read()?;
        let kept = self.0.lock().unwrap();
        let mut states = BTreeMap::<String, SavedState>::new();
        for ((_, id), (version, cell)) in kept.series.iter().filter(|((of, _), _)| of == rule) {
            states.entry(version.clone()).or_default().series.push((SeriesId(*id), cell.clone()));
        }
        for ((_, id), (version, cell)) in kept.partitions.iter().filter(|((of, _), _)| of == rule) {
            states.entry(version.clone()).or_default().partitions.push((PartitionId(*id), cell.clone()));
        }
        Ok(states.into_iter().map(|(version, cells)| KeptState { version, cells }).collect())
    }

    fn alerts(&self) -> Result<KeptAlerts, StateUnread> {
        self.read()?;
        let standing = self.0.lock().unwrap().alerts.values().cloned().collect();
        Ok(KeptAlerts { standing, void: Vec::new() })
    }

    fn packets(&self, _: &str) -> Result<Vec<PacketMark>, StateUnread> {
        Ok(Vec::new())
    }

    fn offsets(&self, _: &str) -> Result<Option<OffsetMark>, StateUnread> {
        Ok(None)
    }

    fn rules(&self) -> Vec<String> {
        let kept = self.0.lock().unwrap();
        let all = kept.series.keys().map(|(rule, _)| rule).chain(kept.alerts.keys().map(|(rule, _)| rule));
        all.cloned().collect::<BTreeSet<_>>().into_iter().collect()
    }

    fn epoch(&self) -> u64 {
        0
    }

    fn sync(&self, _: Duration) -> bool {
        true
    }

    fn totals(&self) -> StateTotals {
        StateTotals::default()
    }
}

pub fn house_with(lanes: usize, books: &Arc<Books>, store: &Arc<Memory>) -> House {
    let mut house = House::with(lanes, books.clone(), Some(store.clone()));
    house.install("read", "json-reading", 0, "dev/#", "{}");
    house
}

/// Waits until the store has nothing of any rule: that an alert is cleared it learns when it is published.
pub fn wait_empty(store: &Memory) {
    wait_until("an empty store", || store.rules().is_empty());
}

pub fn end(house: &House) {
    let drained = house.runtime.block_on(house.pipeline.shutdown(Duration::from_secs(180)));
    assert_eq!(drained, Drained::Completely);
}
