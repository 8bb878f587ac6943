//! What happens only because time passes: retries whose wait is over, and stragglers.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use ggr_ir::Kind;

use super::event::{Action, AttemptId, NodeId};
use super::node::State;
use super::{Scheduler, first_free};

/// A straggler that finds no idle slot is looked at again after this, or after a quarter of its threshold.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// What is due.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Timer {
    /// The node's wait is over.
    Retry(NodeId),
    /// The attempt may have become a straggler.
    Straggler(AttemptId),
}

/// The alarms, soonest first. Bound: one for each delayed node, and one for each attempt on a remote backend that was
/// started within the last threshold.
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
                Timer::Retry(_) => {}
                Timer::Straggler(attempt) => self.look_at_straggler(attempt, now, actions),
            }
        }
    }

    /// Sets alarms for what is running of a kind whose usual duration has just become known.
    pub(super) fn watch_running(&mut self, kind: Kind) {
        for (attempt, run) in self.runs.iter() {
            let node = &self.nodes[run.node.0 as usize];
            let duplicates = self.places[usize::from(run.backend.0)].spec.duplicates;
            if node.kind == kind
                && duplicates
                && let Some(threshold) = self.stragglers.threshold(kind, node.estimate)
            {
                self.timers.set(run.started + threshold, Timer::Straggler(attempt));
            }
        }
    }

    fn look_at_straggler(&mut self, attempt: AttemptId, now: Instant, actions: &mut Vec<Action>) {
        let Some(run) = self.runs.get(attempt) else { return };
        let (id, started, on) = (run.node, run.started, run.backend);
        let node = &self.nodes[id.0 as usize];
        let only = node.run == attempt.index && run.older == super::NO_RUN;
        if run.cancelled || node.state != State::Running || !only {
            return;
        }
        let Some(threshold) = self.stragglers.threshold(node.kind, node.estimate) else { return };
        // The usual duration may have grown since the alarm was set.
        if now < started + threshold {
            return self.timers.set(started + threshold, Timer::Straggler(attempt));
        }
        let refused = node.refused;
        let other = first_free(&self.places, |b, place| {
            b != on && place.spec.duplicates && !place.standby && !refused.contains(b)
        });
        let idle = other.or_else(|| first_free(&self.places, |b, _| b == on));
        match idle {
            Some(backend) if !self.ready.has_work_for(&self.nodes, backend) => {
                self.start(id, backend, now, actions);
            }
            _ => self.timers.set(now + LOOK_AGAIN.max(threshold / 4), Timer::Straggler(attempt)),
        }
    }
}
