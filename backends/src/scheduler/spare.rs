//! Second attempts beside ones that are still running: for stragglers that are overdue, and where slots stand idle for what
//! the build's end hangs on.
//!
//! A second attempt must pay. While others wait for the slots, it does by the slots that it saves (`stragglers.rs`). In an idle slot it
//! saves nothing but time, and that only at the build's end: a straggler gets one when a new attempt, started now, would
//! end no sooner than the build. Until then the first one may end by itself, and nothing is lost by waiting.
//!
//! A straggler on the critical path delays the whole build by all that it takes longer before it is found. So what is started on
//! that path gets its second attempt at once where slots stand idle (clones; Dolly, Ananthanarayanan et al., NSDI '13), as far
//! as second attempts stay under a share of the work.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::event::{Action, AttemptId, BackendId, NodeId};
use super::node::{State, Ticks};
use super::timers::LOOK_AGAIN;
use super::{NO_RUN, Scheduler, first_free};

/// Past this many thousandths of the work started so far, a straggler gets its second attempt only when it is overdue, the build's
/// end hangs on it, and nothing else wants the slot. Stragglers take about twenty where two in a hundred straggle.
const SPARE: u64 = 30;

/// The first one is free, or a small build would have none.
const FREE: u64 = 1;

/// Clones take at most so many thousandths, and leave some for stragglers: a straggler that is found is worth more than a
/// clone of what may become one.
const CLONES: u64 = 15;
const LEAVE: u64 = 10;

/// How many attempts may wait for an idle slot for their clone. The latest are the likeliest to be critical still.
const CANDIDATES: usize = 16;

/// Whether a straggler may have its second attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Chance {
    /// Yes, there.
    Now(BackendId),
    /// Not while others have or want the slots.
    NoSlot,
    /// It would save nothing yet, or is beyond the share of the work.
    Later,
}

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

    /// Whether this straggler may have its second attempt now. One that is overdue may have it before others, as far as the
    /// share of the work goes, and in an idle slot beyond that.
    pub(super) fn chance(&mut self, id: NodeId, on: BackendId, overdue: bool, now: Instant) -> Chance {
        let Some(backend) = self.place_beside(id, on) else { return Chance::NoSlot };
        if self.ready.has_work_for(&self.nodes, backend) {
            let pays = overdue && self.affords(id);
            return if pays { Chance::Now(backend) } else { Chance::NoSlot };
        }
        let pays = self.is_critical(id, now) && (overdue || self.affords(id));
        if pays { Chance::Now(backend) } else { Chance::Later }
    }

    /// Gives overdue stragglers their second attempts, before others get the slots.
    pub(super) fn fill_overdue(&mut self, now: Instant, actions: &mut Vec<Action>) {
        for _ in 0..self.overdue.len() {
            if first_free(&self.places, |_, _| true).is_none() {
                return;
            }
            let Some(attempt) = self.overdue.pop_front() else { return };
            let Some((id, on, _)) = self.lone(attempt) else { continue };
            match self.chance(id, on, true, now) {
                Chance::Now(backend) => self.start(id, backend, now, actions),
                Chance::NoSlot => self.overdue.push_back(attempt),
                Chance::Later => self.look_later(attempt, id, now + LOOK_AGAIN),
            }
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

    /// Whether the share of the work has room for a straggler's second attempt.
    fn affords(&self, id: NodeId) -> bool {
        let Critical { work, spare, count, .. } = self.critical;
        count < FREE || (spare + u64::from(self.nodes[id.0 as usize].estimate.0)) * 1000 <= work * SPARE
    }

    /// Whether an attempt may be cloned.
    fn affords_clone(&self, id: NodeId) -> bool {
        let Critical { work, spare, cloned, .. } = self.critical;
        let estimate = u64::from(self.nodes[id.0 as usize].estimate.0);
        (cloned + estimate) * 1000 <= work * CLONES && (spare + estimate) * 1000 <= work * (SPARE - LEAVE)
    }

    /// Whether the build's end hangs on a node that was started then.
    fn is_critical(&self, id: NodeId, started: Instant) -> bool {
        self.critical_from(id).is_some_and(|from| started >= from)
    }

    /// The build's end hangs on a node that is started later than this. Paths are known to an eighth (`path.rs`).
    pub(super) fn critical_from(&self, id: NodeId) -> Option<Instant> {
        let path = self.nodes[id.0 as usize].path.duration();
        self.critical.horizon?.checked_sub(path + path / 8)
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
