//! Which nodes go with another one, where the backend runs chains in one place.

use std::time::Duration;

use super::Scheduler;
use super::event::{AttemptId, NodeId};
use super::node::State;

/// The most nodes behind one.
const MOST: usize = 4;

/// What those behind a node may usually take together. A chain saves an invocation and a fetch for each, some 50 ms, and
/// makes a result that was asked for in between, and the finding of stragglers, later by this; and they run for nothing if
/// the first one's output is as before, so that their results are known.
pub(crate) const CHAINED: Duration = Duration::from_millis(250);

impl Scheduler {
    /// Those that are to go with an attempt that has just been started, as `carry` packs them up: each waits for the one
    /// before it alone, is all that waits for that one, and is remembered to be short. None behind a duplicate: what it is
    /// to overtake has them. `usual` says what is remembered; where one of the two has nothing, the chain ends.
    pub fn behind<T>(
        &self,
        attempt: AttemptId,
        usual: impl Fn(NodeId) -> Option<Duration>,
        carry: impl Fn(NodeId) -> Option<T>,
    ) -> Vec<T> {
        let mut chain = Vec::new();
        let Some(run) = self.runs.get(attempt).filter(|run| !run.duplicate) else { return chain };
        let (mut last, mut time) = (run.node, Duration::ZERO);
        while let Some(next) = self.only_follower(last).filter(|_| chain.len() < MOST) {
            let Some(usual) = usual(next) else { break };
            time += usual;
            let Some(carried) = (time <= CHAINED).then(|| carry(next)).flatten() else { break };
            chain.push(carried);
            last = next;
        }
        chain
    }

    /// The node that waits for this one alone and is all that waits for it; none where somebody waits for this one's result
    /// and not for that one's.
    fn only_follower(&self, id: NodeId) -> Option<NodeId> {
        let node = &self.nodes[id.0 as usize];
        let next = node.dependants.iter().next()?;
        let follower = &self.nodes[next.0 as usize];
        // Who reads two outputs has two edges.
        let edges = node.dependants.iter().take_while(|dependant| *dependant == next).count();
        let only = node.dependants.iter().nth(edges).is_none();
        let alone = follower.state == State::Waiting && follower.waiting_on as usize == edges;
        (only && alone && (follower.awaited || !node.awaited)).then_some(next)
    }
}
