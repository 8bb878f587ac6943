//! Thunks that go with the one before them, where the backend runs chains in one place.
//!
//! What comes back for them is kept until their turn comes: they are checked as always, and what was made is taken if it was
//! made of just the thunk that the check comes to. So the scheduler knows nothing of chains, and no result is taken on trust.

use std::sync::Arc;
use std::time::Duration;

use ggr_ir::{Attempt, Followed, Follower, Outcome, ReadyThunk, ThunkId};

use super::record::{Finished, Origin, Pending, Record, Work, fault};
use super::report::{AttemptReport, BuildEvent};
use super::{Driver, Stash};
use crate::backend::Refusal;
use crate::scheduler::{Event, NodeId};

/// The most thunks behind one.
const MOST: usize = 4;

/// What those behind a thunk may usually take together. A chain saves an invocation and a fetch for each, some 50 ms, and
/// makes a result that was asked for in between, and the finding of stragglers, later by this; and they run for nothing if
/// the first one's output is as before, so that their results are known.
const TOGETHER: Duration = Duration::from_millis(250);

/// What was made behind another thunk, until the check of its own thunk.
#[derive(Debug)]
pub(super) struct Early {
    attempt: Attempt,
    backend: Arc<str>,
}

impl Driver {
    /// Those that are to go with a node: each waits for the one before it alone, is all that waits for that one, and is
    /// remembered to be short.
    pub(super) fn chain(&self, node: NodeId) -> Vec<Follower> {
        let mut chain = Vec::new();
        let (mut last, mut time) = (node, Duration::ZERO);
        while let Some(next) = self.scheduler.only_follower(last).filter(|_| chain.len() < MOST) {
            let Record::Pending(pending) = &self.records[next.0 as usize] else { break };
            let Some(usual) = self.remembered(pending) else { break };
            time += usual;
            let follower = (time <= TOGETHER).then(|| self.follower(pending)).flatten();
            let Some(follower) = follower else { break };
            chain.push(follower);
            last = next;
        }
        chain
    }

    fn remembered(&self, pending: &Pending) -> Option<Duration> {
        self.durations()?.remembered(&pending.label, pending.kind)
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
