//! The ready queue: urgent nodes first (`balance.rs`), then the longest path, then the oldest.
//!
//! One heap for each set of refusing backends, each home, and what is awaited and what is not (there are few), so that a job which
//! only one backend takes never hides those behind it, nor an awaited one a long one that is urgent. A node whose key grows is
//! pushed again; entries whose key is no longer the node's are dropped when they come up.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::balance::Urgent;
use super::event::{BackendId, BackendSet, NodeId};
use super::node::{Node, State, Ticks};

/// What a lane sorts by; the largest goes first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Entry {
    path: Ticks,
    node: Reverse<NodeId>,
}

impl Entry {
    fn of(id: NodeId, node: &Node) -> Self {
        Self { path: node.path, node: Reverse(id) }
    }
}

/// What the nodes of a lane have in common: who refuses them, their home, and whether they are awaited.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Sort {
    refused: BackendSet,
    home: u8,
    awaited: bool,
}

/// Nodes of one sort.
#[derive(Debug)]
struct Lane {
    sort: Sort,
    heap: BinaryHeap<Entry>,
}

impl Lane {
    /// The first entry that still holds.
    fn first(&mut self, nodes: &[Node]) -> Option<Entry> {
        while self.heap.peek().is_some_and(|entry| !self.holds(entry, nodes)) {
            self.heap.pop();
        }
        self.heap.peek().copied()
    }

    /// Whether the node still waits under this key. Keys only grow, and each is pushed once for each time that the node
    /// becomes ready.
    fn holds(&self, entry: &Entry, nodes: &[Node]) -> bool {
        let node = &nodes[entry.node.0.0 as usize];
        node.state == State::Ready && node.awaited == self.sort.awaited && node.path == entry.path
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
        let sort = Sort { refused: node.refused, home: node.home.at, awaited: node.awaited };
        match self.lanes.iter_mut().find(|lane| lane.sort == sort) {
            Some(lane) => lane.heap.push(entry),
            None => self.lanes.push(Lane { sort, heap: BinaryHeap::from([entry]) }),
        }
    }

    /// Takes the first node that finds a place, with that place. `place` gives it for the first node of a lane and the
    /// number of those that wait for the same places.
    pub(super) fn pop(
        &mut self,
        nodes: &[Node],
        urgent: Urgent,
        place: impl Fn(&Node, usize) -> Option<BackendId>,
    ) -> Option<(NodeId, BackendId)> {
        self.pop_by(nodes, urgent, place, |entry, _| entry)
    }

    /// As [`pop`](Self::pop), but from where the most wait for the same places.
    pub(super) fn pop_longest(
        &mut self,
        nodes: &[Node],
        urgent: Urgent,
        place: impl Fn(&Node, usize) -> Option<BackendId>,
    ) -> Option<(NodeId, BackendId)> {
        self.pop_by(nodes, urgent, place, |_, length| length)
    }

    fn pop_by<K: Ord>(
        &mut self,
        nodes: &[Node],
        urgent: Urgent,
        place: impl Fn(&Node, usize) -> Option<BackendId>,
        key: impl Fn(Entry, usize) -> K,
    ) -> Option<(NodeId, BackendId)> {
        let mut best: Option<((bool, K), usize, BackendId)> = None;
        for number in 0..self.lanes.len() {
            let Some(entry) = self.lanes[number].first(nodes) else { continue };
            let Sort { refused, home, awaited } = self.lanes[number].sort;
            let alike =
                self.lanes.iter().filter(|lane| lane.sort.refused == refused && lane.sort.home == home);
            let length = alike.map(|lane| lane.heap.len()).sum();
            let key = (awaited || urgent.is(entry.path), key(entry, length));
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
        let mut lanes: Vec<_> = self.lanes.iter_mut().filter(|lane| lane.sort.home == home.0).collect();
        lanes.sort_by_key(|lane| Reverse(lane.sort.awaited));
        for lane in lanes {
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
        let mut lanes = self.lanes.iter_mut().filter(|lane| !lane.sort.refused.contains(backend));
        lanes.any(|lane| lane.first(nodes).is_some())
    }
}
