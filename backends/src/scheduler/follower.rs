//! Which node can go with another one.

use super::Scheduler;
use super::event::NodeId;
use super::node::State;

impl Scheduler {
    /// The node that waits for this one alone and is all that waits for it; none where somebody waits for this one's result
    /// and not for that one's.
    pub fn only_follower(&self, id: NodeId) -> Option<NodeId> {
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
