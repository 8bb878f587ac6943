//! The ready queue: awaited nodes first, then the longest path, then the oldest.
//!
//! One heap for each set of refusing backends (there are very few such sets), so that a job which only one backend takes
//! never hides those behind it. A node whose key grows is pushed again; entries whose key is no longer the node's are
//! dropped when they come up.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::event::{BackendId, BackendSet, NodeId};
use super::node::{Node, State, Ticks};

/// What the queue sorts by; the largest goes first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Entry {
    awaited: bool,
    path: Ticks,
    node: Reverse<NodeId>,
}

impl Entry {
    fn of(id: NodeId, node: &Node) -> Self {
        Self { awaited: node.awaited, path: node.path, node: Reverse(id) }
    }

    /// Whether the node still waits under this key. Keys only grow, and each is pushed once for each time that the node
    /// becomes ready.
    fn holds(&self, nodes: &[Node]) -> bool {
        let node = &nodes[self.node.0.0 as usize];
        node.state == State::Ready && node.awaited == self.awaited && node.path == self.path
    }
}

/// All that is ready to run.
#[derive(Debug, Default)]
pub(super) struct ReadyQueue {
    lanes: Vec<(BackendSet, BinaryHeap<Entry>)>,
}

impl ReadyQueue {
    /// Puts in a node that is [`State::Ready`], or puts it in again because its key has grown.
    pub(super) fn push(&mut self, id: NodeId, node: &Node) {
        let entry = Entry::of(id, node);
        match self.lanes.iter_mut().find(|(refused, _)| *refused == node.refused) {
            Some((_, heap)) => heap.push(entry),
            None => self.lanes.push((node.refused, BinaryHeap::from([entry]))),
        }
    }

    /// Takes the first node that one of the free backends accepts, with that backend. `free` gives the first backend
    /// outside a set that has a free slot, for what is awaited or not.
    pub(super) fn pop(
        &mut self,
        nodes: &[Node],
        free: impl Fn(BackendSet, bool) -> Option<BackendId>,
    ) -> Option<(NodeId, BackendId)> {
        let mut best: Option<(Entry, usize, BackendId)> = None;
        for (lane, (refused, heap)) in self.lanes.iter_mut().enumerate() {
            while heap.peek().is_some_and(|entry| !entry.holds(nodes)) {
                heap.pop();
            }
            let Some(entry) = heap.peek().copied() else { continue };
            let Some(backend) = free(*refused, entry.awaited) else { continue };
            if best.is_none_or(|(other, _, _)| other < entry) {
                best = Some((entry, lane, backend));
            }
        }
        let (entry, lane, backend) = best?;
        self.lanes[lane].1.pop();
        Some((entry.node.0, backend))
    }

    /// Whether a node waits that this backend would take.
    pub(super) fn has_work_for(&mut self, nodes: &[Node], backend: BackendId) -> bool {
        self.lanes.iter_mut().filter(|(refused, _)| !refused.contains(backend)).any(|(_, heap)| {
            while heap.peek().is_some_and(|entry| !entry.holds(nodes)) {
                heap.pop();
            }
            !heap.is_empty()
        })
    }
}
