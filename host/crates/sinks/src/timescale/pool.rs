//! The connections of a sink, and a write spread over them.
//!
//! Each share of a write goes over one connection, in a transaction of its own, while those of other connections go over theirs; the bytes of the
//! next are made while the database works on this one (`copy`). All shares of a write are over before the next write begins, so the rows of a
//! series stay in order whichever connection takes them. Late ones, nearly all of which come to a sink and a pool of their own, are dealt out over all of
//! its connections, in no order.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tidegate_config::TimescaleSink;

use super::copy::Lines;
use super::dial::LastHost;
use super::fault::Fault;
use super::session::Session;
use super::store::{Alerts, Announced, Manner, Next, Others, Store, Stored, Task};
use super::survey::{Share, Survey};

/// How long fewer connections than wanted do, after one could not be made: the server may have no more to give.
const GROW_PAUSE: Duration = Duration::from_secs(10);

/// What went wrong on a connection, and why that ended if it did so by itself.
pub(super) type Failed = (Fault, Option<String>);

/// What a connection has stored, by the number of the share, and what ended that.
type Outcome = (Vec<(usize, Stored)>, Option<Fault>);

/// Connections to one database. Dropping them closes them, and rolls their transactions back.
#[derive(Debug, Default)]
pub(super) struct Pool {
    members: Vec<Member>,
    /// No more connections are asked for before.
    grow_at: Option<Instant>,
}

#[derive(Debug)]
struct Member {
    session: Session,
    lines: Lines,
}

impl Member {
    async fn open(settings: &TimescaleSink, last: &LastHost) -> Result<Self, Fault> {
        Ok(Self { session: Session::open(settings, last).await?, lines: Lines::default() })
    }

    /// Stores its shares up to the first fault; it is number `at` of `of`. Whether the database has taken any row is told to all by `passed`.
    async fn store(
        &mut self,
        (survey, announced): (&Survey, &Announced<'_>),
        before: &[Option<Stored>],
        mut manner: Manner<'_>,
        (at, of): (usize, usize),
        passed: &AtomicBool,
    ) -> Outcome {
        let Self { session, lines } = self;
        let mut stored = Vec::new();
        let ours = survey.shares().iter().enumerate().filter(|(_, share)| share.connection % of == at);
        let mut ours = ours.filter(|(number, share)| before[*number].is_none() && !is_empty(survey, *number, share));
        let mut now = ours.next();
        while let Some((number, share)) = now {
            let after = ours.next();
            let next = match after {
                Some((number, _)) => Next::Share(survey, number),
                None => Next::Write(announced, (at, of)),
            };
            let (spans, alerts) = (survey.spans_of(share), alerts_of(number));
            let next = Some(next);
            let task = Task { survey, share, number, next, numbers: &share.numbers, spans: &spans, alerts };
            if passed.load(Relaxed) {
                manner.others = Others::Passed;
            }
            match (Store { session, manner }).share(task, lines).await {
                Ok(what) => {
                    passed.fetch_or(what.has_passed(share), Relaxed);
                    stored.push((number, what));
                }
                Err(fault) => return (stored, Some(fault)),
            }
            now = after;
        }
        (stored, None)
    }
}

impl Pool {
    /// A connection that stands, made if there is none, and whether it is the first: then nothing is known of the database behind it.
    pub(super) async fn first(
        &mut self,
        settings: &TimescaleSink,
        last: &LastHost,
    ) -> Result<(&Session, bool), Fault> {
        self.members.retain(|member| !member.session.is_closed());
        let is_new = self.members.is_empty();
        if is_new {
            self.members.push(Member::open(settings, last).await?);
        }
        match self.members.first() {
            Some(member) => Ok((&member.session, is_new)),
            None => Err(Fault::Passing("there is no connection".to_owned())),
        }
    }

    /// Ends the first connection, after a fault outside of [`Self::store`]: its transaction may stand there, failed, and take nothing more.
    pub(super) async fn end_first(&mut self) {
        if !self.members.is_empty() {
            self.members.remove(0).session.end().await;
        }
    }

    /// Makes connections until there are so many, all at a time. Fewer will do.
    pub(super) async fn grow(&mut self, settings: &TimescaleSink, last: &LastHost, connections: usize) {
        let wanted = connections.saturating_sub(self.members.len());
        if wanted == 0 || self.grow_at.is_some_and(|at| Instant::now() < at) {
            return;
        }
        self.grow_at = None;
        for opened in join_all((0..wanted).map(|_| Member::open(settings, last))).await {
            match opened {
                Ok(member) => self.members.push(member),
                Err(fault) => {
                    let why = fault.into_sink_error("another connection").to_string();
                    tracing::debug!(
                        why,
                        standing = self.members.len(),
                        "fewer connections than configured will do for now"
                    );
                    self.grow_at = Some(Instant::now() + GROW_PAUSE);
                }
            }
        }
    }

    /// Stores the shares that are not `done` yet, and notes in it what came of them. Gives what went wrong; each connection stops at its
    /// first fault and is ended. One that met a share of which no row passes has another try when the others have stored theirs: by then it is known whether
    /// the rows are at fault.
    pub(super) async fn store(
        &mut self,
        survey: &Survey,
        announced: &Announced<'_>,
        done: &mut [Option<Stored>],
        manner: Manner<'_>,
    ) -> Vec<Failed> {
        let (of, knew) = (self.members.len(), manner.others == Others::Passed);
        let passed = &AtomicBool::new(knew);
        let mut faults = Vec::with_capacity(of);
        let before = &*done;
        let work = self.members.iter_mut().enumerate();
        let work = work.map(|(at, member)| member.store((survey, announced), before, manner, (at, of), passed));
        for (stored, fault) in join_all(work).await {
            note(done, stored);
            faults.push(fault);
        }
        if !knew && passed.load(Relaxed) {
            let before = &*done;
            let members = self.members.iter_mut().zip(&mut faults).enumerate();
            let again =
                members.filter(|(_, (_, fault))| fault.as_ref().is_some_and(|fault| fault.of_data().is_some()));
            let again = again.map(|(at, (member, fault))| async move {
                let (stored, left) = match member.session.run("ROLLBACK").await {
                    Ok(_) => member.store((survey, announced), before, manner, (at, of), passed).await,
                    Err(fault) => (Vec::new(), Some(fault)),
                };
                *fault = left;
                stored
            });
            for stored in join_all(again).await {
                note(done, stored);
            }
        }
        let (mut failed, mut standing) = (Vec::new(), Vec::new());
        for (member, fault) in self.members.drain(..).zip(faults) {
            match fault {
                None => standing.push(member),
                Some(fault) => failed.push((fault, member.session)),
            }
        }
        self.members = standing;
        Session::end_all(failed).await
    }

    /// What was made ahead is of no use.
    pub(super) fn forget_ahead(&mut self) {
        self.members.iter_mut().for_each(|member| member.lines.forget_ahead());
    }

    /// Ends all connections.
    pub(super) async fn close(self) {
        Session::end_all(self.members.into_iter().map(|member| ((), member.session)).collect()).await;
    }
}

fn note(done: &mut [Option<Stored>], stored: Vec<(usize, Stored)>) {
    for (share, what) in stored {
        done[share] = Some(what);
    }
}

/// The alerts go with the first share.
fn alerts_of(share: usize) -> Alerts {
    if share == 0 { Alerts::WithThis } else { Alerts::Elsewhere }
}

/// Whether a share has nothing to store.
fn is_empty(survey: &Survey, number: usize, share: &Share) -> bool {
    let no_alerts = alerts_of(number) == Alerts::Elsewhere || survey.alerts().next().is_none();
    share.numbers.is_empty() && no_alerts && survey.spans_of(share).is_empty()
}
