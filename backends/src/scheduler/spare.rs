//! Second attempts beside ones that are still running: for stragglers that are overdue, and where slots stand idle for what
//! the build's end hangs on.
//!
//! A straggler on the critical path delays the whole build by all that it takes longer before it is found. So what is started on
//! that path gets its second attempt at once where slots stand idle (clones; Dolly, Ananthanarayanan et al., NSDI '13), as far
//! as second attempts stay under a share of the work.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::event::{Action, AttemptId, BackendId, NodeId};
use super::node::{State, Ticks};
use super::{NO_RUN, Scheduler, first_free};

/// Past this many thousandths of the work started so far, a straggler gets its second attempt only when it is overdue and nothing
/// else wants the slot. Stragglers take about twenty where two in a hundred straggle.
const SPARE: u64 = 30;

/// The first ones are free, or a small build would have none.
const FREE: u64 = 4;

/// Clones take at most so many thousandths, and leave some for stragglers: a straggler that is found is worth more than a
/// clone of what may become one.
const CLONES: u64 = 15;
const LEAVE: u64 = 10;

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
    /// What all second attempts took, in ticks; of those in flight, the estimate.
    spare: u64,
    /// How many there were.
    count: u64,
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
        let other = first_free(&self.places, |b, place| {
            b != on && place.spec.duplicates && !place.standby && !refused.contains(b)
        });
        other.or_else(|| first_free(&self.places, |b, _| b == on))
    }

    /// Gives overdue stragglers their second attempts, before others get the slots.
    pub(super) fn fill_overdue(&mut self, now: Instant, actions: &mut Vec<Action>) {
        while let Some(&attempt) = self.overdue.front() {
            if let Some((id, on, _)) = self.lone(attempt) {
                let Some(backend) = self.place_beside(id, on) else { return };
                if !self.affords(id) && self.ready.has_work_for(&self.nodes, backend) {
                    return;
                }
                self.start(id, backend, now, actions);
            }
            self.overdue.pop_front();
        }
    }

    /// Notes what was started.
    pub(super) fn note_start(&mut self, attempt: AttemptId, id: NodeId, duplicate: bool, now: Instant) {
        let node = &self.nodes[id.0 as usize];
        let estimate = u64::from(node.estimate.0);
        if duplicate {
            self.critical.spare += estimate;
            self.critical.count += 1;
            return;
        }
        self.critical.work += estimate;
        let end = now + node.path.duration();
        self.critical.horizon = self.critical.horizon.max(Some(end));
        if self.is_critical(id, now) {
            if self.critical.candidates.len() == CANDIDATES {
                self.critical.candidates.pop_front();
            }
            self.critical.candidates.push_back(attempt);
        }
    }

    /// Notes what a second attempt really took.
    pub(super) fn note_end(&mut self, id: NodeId, took: Duration) {
        let estimate = u64::from(self.nodes[id.0 as usize].estimate.0);
        let known = self.critical.spare.saturating_sub(estimate);
        self.critical.spare = known + u64::from(Ticks::of(took).0);
    }

    /// Whether a straggler may have its second attempt.
    pub(super) fn affords(&self, id: NodeId) -> bool {
        let Critical { work, spare, count, .. } = self.critical;
        count < FREE || (spare + u64::from(self.nodes[id.0 as usize].estimate.0)) * 1000 <= work * SPARE
    }

    /// Whether an attempt may be cloned.
    fn affords_clone(&self, id: NodeId) -> bool {
        let Critical { work, spare, cloned, .. } = self.critical;
        let estimate = u64::from(self.nodes[id.0 as usize].estimate.0);
        (cloned + estimate) * 1000 <= work * CLONES && (spare + estimate) * 1000 <= work * (SPARE - LEAVE)
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
            match self.place_beside(id, on) {
                Some(backend) if self.affords_clone(id) => {
                    self.critical.cloned += u64::from(self.nodes[id.0 as usize].estimate.0);
                    self.start(id, backend, now, actions);
                }
                _ => self.critical.candidates.push_back(attempt),
            }
        }
    }
}
