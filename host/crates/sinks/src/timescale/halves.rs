//! The way when some rows are refused: what fails is halved, under savepoints, until the rows at fault stand alone.

use std::ops::Range;

use tidegate_config::Repeats;
use tidegate_model::Alert;
use tokio_postgres::Statement;

use super::copy::{Lines, Then};
use super::fault::{Fault, Objection, To};
use super::left::Left;
use super::pace::Steps;
use super::positions::Divided;
use super::stage;
use super::store::{Others, Store, Stored, Task};

/// How many rows are tried alone to see whether any passes.
const PROBES: usize = 32;

/// What becomes of the parts of a share that the database takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Parts {
    Kept,
    /// They were only tried.
    Undone,
}

const UNDO: &str = "ROLLBACK TO SAVEPOINT part; RELEASE SAVEPOINT part";

impl Parts {
    fn end(self) -> &'static str {
        match self {
            Parts::Kept => "RELEASE SAVEPOINT part",
            Parts::Undone => UNDO,
        }
    }
}

impl Store<'_> {
    /// Stores a share in one transaction, but the rows that are refused. Nothing is made ahead meanwhile: it has many small steps.
    pub(super) async fn by_halves(&self, task: Task<'_>, lines: &mut Lines) -> Result<Stored, Fault> {
        let task = Task { next: None, ..task };
        // Constraints that would speak at COMMIT, when no row can be told any more, speak at once.
        let copy = self.begin("SET CONSTRAINTS ALL IMMEDIATE").await?;
        let divided = self.advance(task).await?;
        let mut stored = self.told_again(&copy, task, divided.as_ref(), lines).await?;
        let task = Task { numbers: divided.as_ref().map_or(task.numbers, |(left, _)| left), ..task };
        self.alerts_by_halves(&task.alerts(), lines).await?;
        let halved = self.halve(&copy, task, Parts::Kept, lines).await?;
        drop(copy);
        self.session.commit().await?;
        stored.refused.extend(halved.refused);
        stored.repeats += halved.repeats;
        stored.differing += halved.differing;
        Ok(stored)
    }

    /// Stores alerts, but those that the table refuses: they were published, and are in the host's history. Where it refuses all of several, somebody
    /// has to look at the table.
    async fn alerts_by_halves(&self, alerts: &[&Alert], lines: &mut Lines) -> Result<(), Fault> {
        let most = match self.manner.steps {
            Steps::Usual => alerts.len(),
            Steps::Short => self.manner.max_rows,
        };
        let (mut refused, mut left) = (0, Left::new(alerts.len(), most));
        let mut last = None;
        while let Some(range) = left.part() {
            self.session.run("SAVEPOINT part").await?;
            let Err(fault) = self.copy_alerts(&alerts[range.clone()], lines).await else {
                self.session.run(Parts::Kept.end()).await?;
                left.passed();
                continue;
            };
            if fault.of_data().is_none() {
                return Err(fault.of_table(&self.manner.tables.alerts));
            }
            self.session.run(UNDO).await?;
            if range.len() == 1 {
                refused += 1;
                last = Some(fault);
                left.refused();
            } else {
                left.again(range, None);
            }
        }
        let Some(fault) = last else { return Ok(()) };
        if refused == alerts.len() && refused > 1 {
            return Err(fault.of_table(&self.manner.tables.alerts));
        }
        let (table, why) = (&*self.manner.tables.alerts, fault.of_data().map(|objection| objection.reason));
        tracing::error!(
            table,
            refused,
            why,
            "the database does not store some alerts; they were published all the same"
        );
        Ok(())
    }

    /// What is said of points that are stored already. Some of them may have been refused then, and whoever was to hear of it died, or lost the
    /// connection within COMMIT: they are written once more and undone, and what the database refuses now is told again; so is what the survey
    /// may have refused then, by a clock that stood elsewhere. Only what comes a second time has this to bear.
    pub(super) async fn told_again(
        &self,
        copy: &Statement,
        task: Task<'_>,
        divided: Option<&Divided>,
        lines: &mut Lines,
    ) -> Result<Stored, Fault> {
        let Some((_, known)) = divided else { return Ok(Stored::default()) };
        let all = known.len();
        let mut refused = Vec::new();
        let mut tried = Vec::with_capacity(all);
        for &number in known {
            match task.survey.doubt(number) {
                Some(reason) => refused.push((number, reason)),
                None => tried.push(number),
            }
        }
        // As when they were refused: by row, not at COMMIT.
        self.session.run("SET CONSTRAINTS ALL IMMEDIATE").await?;
        let halved = self.halve(copy, Task { numbers: &tried, next: None, ..task }, Parts::Undone, lines).await?;
        refused.extend(halved.refused);
        Ok(Stored { repeats: (all - refused.len()) as u64, refused, ..Stored::default() })
    }

    /// Writes the points of a task in parts, and what fails of them in halves.
    async fn halve(
        &self,
        copy: &Statement,
        task: Task<'_>,
        parts_are: Parts,
        lines: &mut Lines,
    ) -> Result<Stored, Fault> {
        let mut stored = Stored::default();
        // Of points that are stored already it is only told what becomes of them: to be told of too many loses nothing.
        let mut others = if parts_are == Parts::Undone { Others::Passed } else { self.manner.others };
        let mut left = Left::new(task.numbers.len(), self.manner.max_rows);
        while let Some(range) = left.part() {
            self.session.run("SAVEPOINT part").await?;
            let fault = match self.part(copy.clone(), range.clone(), task, lines).await {
                Ok((repeats, differing)) => {
                    stored.repeats += repeats;
                    stored.differing += differing;
                    others = Others::Passed;
                    left.passed();
                    self.session.run(parts_are.end()).await?;
                    continue;
                }
                Err(fault) => fault,
            };
            let Some(Objection { reason, line, to }) = fault.of_data() else { return Err(fault) };
            self.session.run(UNDO).await?;
            let passed = others == Others::Passed || (to == To::RowIfAnyPassed && self.manner.ever == Others::Passed);
            if to != To::Row && !passed {
                if !self.any_passes(copy, task, lines).await? {
                    return Err(fault);
                }
                others = Others::Passed;
            }
            // It is in its own way, and so are most of them, perhaps.
            let is_there = parts_are == Parts::Undone && fault.of_repeat();
            if range.len() == 1 {
                let number = task.numbers.get(range.start).filter(|_| !is_there);
                stored.refused.extend(number.map(|&number| (number, reason)));
                left.refused();
                continue;
            }
            // The row that the database names is tried alone: a hint, which saves most of the halving.
            let named = line
                .and_then(|line| Some(range.start + line.checked_sub(1)?))
                .filter(|row| range.contains(row) && !is_there);
            left.again(range, named);
        }
        Ok(stored)
    }

    /// Whether the database takes any of a task's points: some from all over it are tried alone, and undone.
    async fn any_passes(&self, copy: &Statement, task: Task<'_>, lines: &mut Lines) -> Result<bool, Fault> {
        let rows = task.numbers.len();
        let stride = rows.div_ceil(PROBES).max(1);
        for from in (0..rows).step_by(stride) {
            // Not each time at the same place of a stride: points of one series may come so.
            let row = fastrand::usize(from..rows.min(from + stride));
            self.session.run("SAVEPOINT part").await?;
            let tried = self.part(copy.clone(), row..row + 1, task, lines).await;
            match tried {
                Err(fault) if fault.of_data().is_none() => return Err(fault),
                _ => self.session.run(UNDO).await?,
            }
            if tried.is_ok() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// One part of the way by halves; gives repeats and differing ones.
    async fn part(
        &self,
        copy: Statement,
        range: Range<usize>,
        task: Task<'_>,
        lines: &mut Lines,
    ) -> Result<(u64, u64), Fault> {
        let rows = range.len();
        if self.manner.repeats == Repeats::Stored {
            self.copy_points(copy, range, task, lines, Then::Nothing).await?;
            return Ok((0, 0));
        }
        let moved = self.copy_points(copy, range, task, lines, Then::Move).await?;
        let left_out = stage::left_out(self.session, self.manner.tables, task.share.age, rows, moved).await?;
        self.session.run(stage::EMPTY).await?;
        Ok(left_out)
    }
}
