//! The ready queue: awaited nodes first, then the longest path, then the oldest.
//!
//! One heap for each set of refusing backends and each home (there are few), so that a job which only one backend takes
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

/// What has the same home and is refused by the same backends.
#[derive(Debug)]
struct Lane {
    refused: BackendSet,
    home: u8,
    heap: BinaryHeap<Entry>,
}

impl Lane {
    /// The first entry that still holds.
    fn first(&mut self, nodes: &[Node]) -> Option<Entry> {
        while self.heap.peek().is_some_and(|entry| !entry.holds(nodes)) {
            self.heap.pop();
        }
        self.heap.peek().copied()
    }
}

/// All that is ready to run.
#[derive(Debug, Default)]
pub(super) struct ReadyQueue {
    lanes: Vec<Lane>,
}

impl ReadyQueue {
    /// Puts in a node that is [`State::Ready`], or puts it in again because its key has grown.
    pub(super) fn push(&mut self, id: NodeId, node: &Node) {
        let entry = Entry::of(id, node);
        let (refused, home) = (node.refused, node.home.at);
        match self.lanes.iter_mut().find(|lane| lane.refused == refused && lane.home == home) {
            Some(lane) => lane.heap.push(entry),
            None => self.lanes.push(Lane { refused, home, heap: BinaryHeap::from([entry]) }),
        }
    }

    /// Takes the first node that finds a place, with that place. `place` gives it for the first node of a lane and the
    /// lane's length.
    pub(super) fn pop(
        &mut self,
        nodes: &[Node],
        place: impl Fn(&Node, usize) -> Option<BackendId>,
    ) -> Option<(NodeId, BackendId)> {
        self.pop_by(nodes, place, |entry, _| entry)
    }

    /// As [`pop`](Self::pop), but from the longest lane.
    pub(super) fn pop_longest(
        &mut self,
        nodes: &[Node],
        place: impl Fn(&Node, usize) -> Option<BackendId>,
    ) -> Option<(NodeId, BackendId)> {
        self.pop_by(nodes, place, |entry, length| (entry.awaited, length))
    }

    fn pop_by<K: Ord>(
        &mut self,
        nodes: &[Node],
        place: impl Fn(&Node, usize) -> Option<BackendId>,
        key: impl Fn(Entry, usize) -> K,
    ) -> Option<(NodeId, BackendId)> {
        let mut best: Option<(K, usize, BackendId)> = None;
        for (number, lane) in self.lanes.iter_mut().enumerate() {
            let Some(entry) = lane.first(nodes) else { continue };
            let length = lane.heap.len();
            let key = key(entry, length);
            if best.as_ref().is_some_and(|(other, ..)| *other >= key) {
                continue;
            }
            if let Some(backend) = place(&nodes[entry.node.0.0 as usize], length) {
                best = Some((key, number, backend));
            }
        }
        let (_, number, backend) = best?;
        let entry = self.lanes[number].heap.pop()?;
        Some((entry.node.0, backend))
    }

    /// The first `count` nodes whose home this is.
    pub(super) fn first_at(&mut self, nodes: &[Node], home: BackendId, count: usize) -> Vec<NodeId> {
        let mut found = Vec::new();
        for lane in self.lanes.iter_mut().filter(|lane| lane.home == home.0) {
            let mut taken = Vec::new();
            while found.len() + taken.len() < count
                && let Some(entry) = lane.first(nodes)
            {
                lane.heap.pop();
                // A node whose key has grown may be there twice under the same key.
                if !taken.contains(&entry) {
                    taken.push(entry);
                }
            }
            found.extend(taken.iter().map(|entry| entry.node.0));
            lane.heap.extend(taken);
        }
        found
    }

    /// Whether a node waits that this backend would take.
    pub(super) fn has_work_for(&mut self, nodes: &[Node], backend: BackendId) -> bool {
        let mut lanes = self.lanes.iter_mut().filter(|lane| !lane.refused.contains(backend));
        lanes.any(|lane| lane.first(nodes).is_some())
    }
}
