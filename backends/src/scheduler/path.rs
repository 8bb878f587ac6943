//! The longest remaining path from each node, kept while nodes arrive.
//!
//! Each new node makes the paths of all that it waits for longer, in the worst case of every node in the graph; a million
//! adds must stay linear all the same. Two bounds make them so. A path is only replaced by one that is an eighth longer (a
//! priority that is 12 % off starts nothing late that matters), so that a node is touched a logarithmic number of times.
//! And each event pays for a fixed number of edges; what is left over waits in a queue for the next event.

use std::collections::VecDeque;

use super::event::NodeId;
use super::node::{Node, State};
use super::ready::ReadyQueue;

/// Edges looked at for each event. Build graphs have about two edges a node, so that waves seldom queue up.
const BUDGET: usize = 64;

/// Nodes whose path has grown, and whose dependencies have not been told.
#[derive(Debug, Default)]
pub(super) struct Waves {
    dirty: VecDeque<NodeId>,
}

impl Waves {
    /// The node's path has grown, or the node is new.
    pub(super) fn push(&mut self, id: NodeId, node: &mut Node) {
        if node.deps.len() > 0 && !std::mem::replace(&mut node.dirty, true) {
            self.dirty.push_back(id);
        }
    }

    /// Passes on what the budget allows.
    pub(super) fn advance(&mut self, nodes: &mut [Node], ready: &mut ReadyQueue) {
        let mut looked = 0;
        while looked < BUDGET
            && let Some(id) = self.dirty.pop_front()
        {
            let node = &mut nodes[id.0 as usize];
            node.dirty = false;
            let below = node.path;
            for i in 0..node.deps.len() {
                looked += 1;
                let dep_id = nodes[id.0 as usize].deps.at(i);
                let dep = &mut nodes[dep_id.0 as usize];
                let path = dep.estimate.plus(below);
                if dep.settled() || path.0.saturating_sub(dep.path.0) <= dep.path.0 / 8 {
                    continue;
                }
                dep.path = path;
                if dep.state == State::Ready {
                    ready.push(dep_id, dep);
                }
                self.push(dep_id, dep);
            }
        }
    }
}
