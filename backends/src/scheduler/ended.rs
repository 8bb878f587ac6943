//! How attempts end, and what is done about those that failed outside the program.

use std::time::{Duration, Instant};

use ggr_ir::InfraFailure;

use super::Scheduler;
use super::event::{Action, AttemptId, BackendId, DoubtCause, Ending, FailCause, NodeId};
use super::node::{NO_RUN, State};
use super::policy::{self, Remedy};
use super::timers::Timer;

impl Scheduler {
    /// An attempt has ended.
    pub(super) fn ended(
        &mut self,
        attempt: AttemptId,
        ending: Ending,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        let Some(run) = self.runs.end(attempt) else { return };
        self.places[usize::from(run.backend.0)].used -= 1;
        if run.duplicate {
            self.note_end(run.node, now - run.started);
        }
        let node = &mut self.nodes[run.node.0 as usize];
        self.stragglers.ended(node.kind);
        node.run = self.runs.unlink(node.run, attempt.index, run.older);
        if node.state != State::Running {
            return;
        }
        let (kind, estimate, alone) = (node.kind, node.estimate, node.run == NO_RUN);
        match ending {
            Ending::Reduced => {
                if self.stragglers.learn(kind, estimate, now - run.started) {
                    self.watch_running(kind);
                }
                self.finish(run.node, actions);
            }
            Ending::ToolFailed => self.doubt(run.node, DoubtCause::Tool, actions),
            // The other attempt at the node is still running, and may do better.
            Ending::Infra(_) | Ending::Cancelled if !alone => {}
            Ending::Infra(failure) => self.remedy(run.node, run.backend, &failure, now, actions),
            Ending::Cancelled => {
                let failure = InfraFailure::WorkerDied("it broke off without being told to".to_owned());
                self.remedy(run.node, run.backend, &failure, now, actions);
            }
        }
    }

    fn remedy(
        &mut self,
        id: NodeId,
        backend: BackendId,
        failure: &InfraFailure,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        if self.draining {
            return self.fail(id, FailCause::Cancelled, actions);
        }
        if let InfraFailure::Unreachable(_) = failure {
            self.went_away(backend, now);
        }
        let rule = policy::policy(failure);
        let random = self.next_random();
        let node = self.node(id);
        node.tries = node.tries.saturating_add(1);
        let remedy = if node.tries < rule.tries { rule.remedy } else { rule.then };
        let mut after = Duration::ZERO;
        match (remedy, failure) {
            (Remedy::AtOnce, _) => self.make_ready(id),
            (Remedy::Backoff { base }, _) => {
                after = policy::wait(base, node.tries, policy::asked(failure), random);
                self.set_state(id, State::Delayed);
                self.timers.set(now + after, Timer::Retry(id));
            }
            (Remedy::Heal, InfraFailure::InputsMissing(missing)) => {
                self.set_state(id, State::Healing);
                actions.push(Action::Heal { node: id, missing: missing.clone() });
            }
            (Remedy::OtherBackend, _) => {
                node.refused = node.refused.with(backend);
                node.tries = 0;
                let refused = node.refused;
                if !self.somewhere(refused) {
                    return self.doubt(id, DoubtCause::Infra, actions);
                }
                self.make_ready(id);
            }
            (Remedy::Heal, _) => return self.doubt(id, DoubtCause::Infra, actions),
        }
        actions.push(Action::Retry { node: id, after });
    }

    /// The caller has tried to bring a node's inputs back.
    pub(super) fn healed(&mut self, id: NodeId, healed: bool, actions: &mut Vec<Action>) {
        match (self.node(id).state, healed) {
            (State::Healing, true) => self.make_ready(id),
            (State::Healing, false) => self.doubt(id, DoubtCause::Infra, actions),
            _ => {}
        }
    }

    /// The next number of a splitmix64 sequence: jitter needs no better.
    fn next_random(&mut self) -> u32 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed >> 32) as u32
    }
}
