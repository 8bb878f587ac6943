//! What happens only because time passes: retries whose wait is over, stragglers, and callers that do not call again.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use ggr_ir::Kind;

use super::Scheduler;
use super::event::{Action, AttemptId, BackendId, NodeId};
use super::node::State;
use super::spare::Chance;

/// A straggler that finds no idle slot is looked at again after this, or after a quarter of the time that made it one.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// What is due.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Timer {
    /// The node's wait is over.
    Retry(NodeId),
    /// The attempt may have become a straggler.
    Straggler(AttemptId),
    /// A slot that was kept for a caller is free for others, if nobody has called again.
    Pause,
    /// A place that was out of reach may be back.
    Back(BackendId),
}

/// The alarms, soonest first. Bound: one for each delayed node, one for each attempt on a remote backend that was started
/// within the last threshold, and one for each call that was waited for within the last pause.
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(Instant, Timer)>>,
}

impl Timers {
    pub(super) fn set(&mut self, at: Instant, timer: Timer) {
        self.heap.push(Reverse((at, timer)));
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    fn pop_due(&mut self, now: Instant) -> Option<Timer> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse((_, timer))| timer)
    }
}

impl Scheduler {
    /// Handles what is due.
    pub(super) fn wake(&mut self, now: Instant, actions: &mut Vec<Action>) {
        while let Some(timer) = self.timers.pop_due(now) {
            match timer {
                Timer::Retry(id) if self.node(id).state == State::Delayed => self.make_ready(id),
                Timer::Retry(_) | Timer::Pause => {}
                Timer::Back(backend) => self.comes_back(backend),
                Timer::Straggler(attempt) => self.look_at_straggler(attempt, now, actions),
            }
        }
    }

    /// Sets alarms for what is running of a kind of which has just become known when it is late.
    pub(super) fn watch_running(&mut self, kind: Kind) {
        for (attempt, run) in self.runs.iter() {
            let node = &self.nodes[run.node.0 as usize];
            let duplicates = self.places[usize::from(run.backend.0)].spec.duplicates;
            if node.kind == kind
                && duplicates
                && let Some(late) = self.stragglers.late(kind, node.estimate)
            {
                self.timers.set(run.started + late.idle, Timer::Straggler(attempt));
            }
        }
    }

    fn look_at_straggler(&mut self, attempt: AttemptId, now: Instant, actions: &mut Vec<Action>) {
        let Some((id, on, started)) = self.lone(attempt) else { return };
        let node = &self.nodes[id.0 as usize];
        let Some(late) = self.stragglers.late(node.kind, node.estimate) else { return };
        // What is usual may have grown since the alarm was set.
        if now < started + late.idle {
            return self.timers.set(started + late.idle, Timer::Straggler(attempt));
        }
        let overdue = now >= started + late.busy;
        let again = now + LOOK_AGAIN.max(late.idle / 4);
        match self.chance(id, on, overdue, now) {
            Chance::Now(backend) => self.start(id, backend, now, actions),
            Chance::NoSlot if overdue => self.overdue.push_back(attempt),
            Chance::NoSlot => self.timers.set(again.min(started + late.busy), Timer::Straggler(attempt)),
            Chance::Later => self.look_later(attempt, id, now + LOOK_AGAIN),
        }
    }

    /// Looks at a straggler again when the build's end may hang on it, and not before the time.
    pub(super) fn look_later(&mut self, attempt: AttemptId, id: NodeId, soonest: Instant) {
        let at = self.critical_from(id).map_or(soonest, |from| from.max(soonest));
        self.timers.set(at, Timer::Straggler(attempt));
    }
}
