//! Thunks that go with the one before them, where the backend runs chains in one place.
//!
//! What comes back for them is kept until their turn comes: they are checked as always, and what was made is taken if it was
//! made of just the thunk that the check comes to. So the scheduler keeps no account of chains, and no result is taken on trust.

use std::sync::Arc;

use ggr_ir::{Attempt, Followed, Follower, Outcome, ReadyThunk, ThunkId};

use super::record::{Finished, Origin, Pending, Record, Work, fault};
use super::report::{AttemptReport, BuildEvent};
use super::{Driver, Stash};
use crate::backend::Refusal;
use crate::scheduler::{AttemptId, Event, NodeId};

/// What was made behind another thunk, until the check of its own thunk.
#[derive(Debug)]
pub(super) struct Early {
    attempt: Attempt,
    backend: Arc<str>,
}

impl Driver {
    /// Those that are to go with an attempt.
    pub(super) fn chain(&self, attempt: AttemptId) -> Vec<Follower> {
        let pending = |node: NodeId| match &self.records[node.0 as usize] {
            Record::Pending(pending) => Some(pending),
            Record::Done(_) | Record::Failed(_) => None,
        };
        let usual = |node| {
            let pending = pending(node)?;
            self.durations()?.remembered(&pending.label, pending.kind)
        };
        self.scheduler.behind(attempt, usual, |node| self.follower(pending(node)?))
    }

    /// Nothing if a place that runs chains would not take it by itself.
    fn follower(&self, pending: &Pending) -> Option<Follower> {
        Refusal::unless_plain(&pending.limits).ok()?;
        let thunk = match &pending.work {
            Work::Thunk(thunk) => thunk.resolve_some(|output| self.became(output)),
            Work::Packed(packed) => self.packer.unpack(packed).resolve_some(|output| self.became(output)),
            Work::Job(_) | Work::Taken => return None,
        };
        let label = pending.label.to_string();
        Some(Follower { thunk: Arc::new(thunk), limits: *pending.limits, kind: pending.kind, label })
    }

    /// Keeps what was made behind a thunk whose attempt has just ended.
    pub(super) fn keep_early(&mut self, chain: Vec<Followed>, backend: &Arc<str>) {
        for Followed { id, attempt } in chain {
            self.counts.work += attempt.timings.ran;
            self.early.insert(id, Early { attempt, backend: backend.clone() });
        }
    }

    /// Settles a node by what was made behind another one; gives the thunk back if there is no such thing.
    pub(super) fn take_early(&mut self, node: NodeId, id: ThunkId, ready: ReadyThunk) -> Option<ReadyThunk> {
        let Some(Early { attempt, backend }) = self.early.remove(&id) else { return Some(ready) };
        let Record::Pending(pending) = &mut self.records[node.0 as usize] else { return Some(ready) };
        let job = pending.job(id, ready);
        let reduction = match attempt.outcome {
            Outcome::Reduced(reduction) if fault(&job, &reduction).is_none() => reduction,
            _ => return Some(Arc::unwrap_or_clone(job.thunk)),
        };
        let label = pending.label.clone();
        let thunk = pending.id;
        pending.work = Work::Job(Arc::new(job));
        self.counts.chained += 1;
        self.emit(|| BuildEvent::Ready { id: thunk });
        self.emit(|| BuildEvent::Started { id: thunk, label, backend: backend.clone(), duplicate: false });
        let report = AttemptReport { backend, worker: attempt.worker, timings: attempt.timings };
        self.stash = Stash::Finished(Finished::new(reduction, Origin::Backend), Some(report));
        self.tell(Event::External(node));
        None
    }
}
