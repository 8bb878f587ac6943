//! Second attempts beside ones that are still running: for stragglers that are overdue, and where slots stand idle for what
//! the build's end hangs on.
//!
//! A straggler on the critical path delays the whole build by all that it takes longer before it is found. So what is started on
//! that path gets its second attempt at once where slots stand idle (clones; Dolly, Ananthanarayanan et al., NSDI '13), as far
//! as clones stay under a share of the work.

use std::collections::VecDeque;
use std::time::Instant;

use super::event::{Action, AttemptId, BackendId, NodeId};
use super::node::State;
use super::{NO_RUN, Scheduler, first_free};

/// Clones take at most this share of the work started so far: a hundredth. (The duplicates of stragglers take two hundredths where
/// two in a hundred straggle.)
const SHARE: u64 = 100;

/// How many attempts may wait for an idle slot for their clone. The latest are the likeliest to be critical still.
const CANDIDATES: usize = 16;

/// What is known for the making of clones.
#[derive(Debug, Default)]
pub(super) struct Critical {
    /// When the build would end, had every node started in time: the latest of all starts and their paths.
    horizon: Option<Instant>,
    /// Attempts on the critical path that have no clone.
    candidates: VecDeque<AttemptId>,
    /// Estimates of all first attempts, in ticks.
    work: u64,
    /// Estimates of all clones, in ticks.
    cloned: u64,
}

impl Scheduler {
    /// An attempt that runs alone: its node, where, and since when.
    pub(super) fn lone(&self, attempt: AttemptId) -> Option<(NodeId, BackendId, Instant)> {
        let run = self.runs.get(attempt)?;
        let node = &self.nodes[run.node.0 as usize];
        let only = node.run == attempt.index && run.older == NO_RUN;
        (!run.cancelled && node.state == State::Running && only).then_some((
            run.node,
            run.backend,
            run.started,
        ))
    }

    /// A free slot for a second attempt: on another backend if it can be, as the first may be what is slow.
    pub(super) fn place_beside(&self, id: NodeId, on: BackendId) -> Option<BackendId> {
        let refused = self.nodes[id.0 as usize].refused;
        let other =
            first_free(&self.places, |b, place| b != on && place.spec.duplicates && !refused.contains(b));
        other.or_else(|| first_free(&self.places, |b, _| b == on))
    }

    /// Gives overdue stragglers their second attempts, before others get the slots.
    pub(super) fn fill_overdue(&mut self, now: Instant, actions: &mut Vec<Action>) {
        while let Some(&attempt) = self.overdue.front() {
            if let Some((id, on, _)) = self.lone(attempt) {
                let Some(backend) = self.place_beside(id, on) else { return };
                self.start(id, backend, now, actions);
            }
            self.overdue.pop_front();
        }
    }

    /// Notes what was started.
    pub(super) fn note_start(&mut self, attempt: AttemptId, id: NodeId, duplicate: bool, now: Instant) {
        if duplicate {
            return;
        }
        let node = &self.nodes[id.0 as usize];
        self.critical.work += u64::from(node.estimate.0);
        let end = now + node.path.duration();
        self.critical.horizon = self.critical.horizon.max(Some(end));
        if self.is_critical(id, now) {
            if self.critical.candidates.len() == CANDIDATES {
                self.critical.candidates.pop_front();
            }
            self.critical.candidates.push_back(attempt);
        }
    }

    /// Whether the build's end hangs on a node that was started then. Paths are known to an eighth (`path.rs`).
    fn is_critical(&self, id: NodeId, started: Instant) -> bool {
        let path = self.nodes[id.0 as usize].path.duration();
        self.critical.horizon.is_some_and(|horizon| started + path + path / 8 >= horizon)
    }

    /// Clones what is critical into idle slots. Constant time for each start.
    pub(super) fn clone_critical(&mut self, now: Instant, actions: &mut Vec<Action>) {
        for _ in 0..self.critical.candidates.len() {
            let Some(attempt) = self.critical.candidates.pop_front() else { return };
            let Some((id, on, started)) = self.lone(attempt) else { continue };
            // The horizon may have moved on.
            if !self.is_critical(id, started) || !self.places[usize::from(on.0)].spec.duplicates {
                continue;
            }
            let estimate = u64::from(self.nodes[id.0 as usize].estimate.0);
            let affordable = (self.critical.cloned + estimate) * SHARE <= self.critical.work;
            match self.place_beside(id, on) {
                Some(backend) if affordable => {
                    self.critical.cloned += estimate;
                    self.start(id, backend, now, actions);
                }
                _ => self.critical.candidates.push_back(attempt),
            }
        }
    }
}
