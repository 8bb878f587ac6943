//! How nodes end: done, in doubt, failed, cancelled, and what that means for their dependants.

use super::Scheduler;
use super::event::{Action, DoubtCause, FailCause, NodeId};
use super::node::{NO_RUN, State};

impl Scheduler {
    /// The node has its result, wherever it came from.
    pub(super) fn finish(&mut self, id: NodeId, actions: &mut Vec<Action>) {
        if self.node(id).settled() {
            return;
        }
        self.cancel_runs(id, actions);
        self.set_state(id, State::Done);
        actions.push(Action::Done(id));
        self.node(id).deps.take();
        for dependant in self.node(id).dependants.take().iter() {
            let node = self.node(dependant);
            node.waiting_on -= 1;
            self.release(dependant, actions);
            self.announce(dependant, actions);
        }
    }

    /// The node seems to have failed: its other attempt is stopped, and the caller will say.
    pub(super) fn doubt(&mut self, id: NodeId, cause: DoubtCause, actions: &mut Vec<Action>) {
        self.cancel_runs(id, actions);
        self.set_state(id, State::Doubted);
        actions.push(Action::Doubt { node: id, cause });
    }

    /// The caller says that the node in doubt has failed.
    pub(super) fn confirm(&mut self, id: NodeId, actions: &mut Vec<Action>) {
        if self.node(id).state == State::Doubted {
            self.fail(id, FailCause::Itself, actions);
        }
    }

    /// Ends the node, and with it everything that waits for it. What does not depend on it goes on, as under `make -k`.
    pub(super) fn fail(&mut self, id: NodeId, cause: FailCause, actions: &mut Vec<Action>) {
        let mut stack = vec![(id, cause)];
        while let Some((at, cause)) = stack.pop() {
            if self.node(at).settled() {
                continue;
            }
            self.cancel_runs(at, actions);
            self.set_state(at, State::Failed);
            actions.push(Action::Failed { node: at, cause });
            self.node(at).deps.take();
            let dependants = self.node(at).dependants.take();
            stack.extend(dependants.iter().map(|dependant| (dependant, FailCause::Poisoned { by: id })));
        }
    }

    /// Cancels all that was added so far.
    pub(super) fn cancel_all(&mut self, actions: &mut Vec<Action>) {
        for i in 0..self.nodes.len() {
            self.cancel_if(NodeId(i as u32), |_| true, actions);
        }
    }

    /// Starts nothing more; cancels what neither runs nor is being decided by the caller.
    pub(super) fn drain(&mut self, actions: &mut Vec<Action>) {
        self.draining = true;
        for i in 0..self.nodes.len() {
            self.cancel_if(
                NodeId(i as u32),
                |state| !matches!(state, State::Running | State::Doubted),
                actions,
            );
        }
    }

    fn cancel_if(&mut self, id: NodeId, pass: impl Fn(State) -> bool, actions: &mut Vec<Action>) {
        if !self.node(id).settled() && pass(self.node(id).state) {
            self.cancel_runs(id, actions);
            self.set_state(id, State::Failed);
            self.node(id).deps.take();
            self.node(id).dependants.take();
            actions.push(Action::Failed { node: id, cause: FailCause::Cancelled });
        }
    }

    fn cancel_runs(&mut self, id: NodeId, actions: &mut Vec<Action>) {
        let mut at = self.node(id).run;
        while at != NO_RUN {
            let (attempt, run) = self.runs.at_mut(at);
            at = run.older;
            if !std::mem::replace(&mut run.cancelled, true) {
                actions.push(Action::Cancel(attempt));
            }
        }
    }
}
