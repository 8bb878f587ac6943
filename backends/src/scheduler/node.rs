//! One node of the graph, small enough for a million of them.

use std::time::Duration;

use ggr_ir::Kind;

use super::event::{BackendSet, NodeId};
use super::homes::HomeNote;

/// Where a node stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// Some of what it waits for is not done.
    Waiting,
    /// The caller looks for a recorded result.
    Checking,
    /// In the ready queue.
    Ready,
    /// At least one attempt runs.
    Running,
    /// A retry waits for its time.
    Delayed,
    /// Its inputs are being brought back.
    Healing,
    /// It seems to have failed; the caller will say.
    Doubted,
    /// It has its result.
    Done,
    /// It has failed for good, or was cancelled.
    Failed,
}

/// Durations inside the scheduler: units of 100 µs, so that 32 bits reach five days.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Ticks(pub(super) u32);

impl Ticks {
    /// How many microseconds one is.
    const MICROS: u128 = 100;

    /// Rounded up to at least one, so that a longer path always sorts before a shorter one.
    pub(super) fn of(duration: Duration) -> Self {
        Self(u32::try_from((duration.as_micros() / Self::MICROS).max(1)).unwrap_or(u32::MAX))
    }

    /// As a duration again.
    pub(super) fn duration(self) -> Duration {
        Duration::from_micros(u64::from(self.0) * Self::MICROS as u64)
    }

    /// The sum, or the largest there is.
    pub(super) fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

/// No attempt.
pub(super) const NO_RUN: u32 = u32::MAX;

/// One node: 64 bytes, and the edges of those with more than three either way.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) state: State,
    pub(super) kind: Kind,
    /// Somebody waits for it.
    pub(super) awaited: bool,
    /// Its longer path is still to be passed on to what it waits for.
    pub(super) dirty: bool,
    /// It was said to be ready soon.
    pub(super) announced: bool,
    /// Where most of its inputs are.
    pub(super) home: HomeNote,
    /// Failed attempts on the backend that it is on.
    pub(super) tries: u8,
    /// Backends that will not take it, or have shown that they cannot.
    pub(super) refused: BackendSet,
    /// Edges to nodes that are not done.
    pub(super) waiting_on: u32,
    pub(super) estimate: Ticks,
    /// The longest chain of estimates from its start to the end of the build, as far as known.
    pub(super) path: Ticks,
    /// The latest attempt that is in flight (an index into the runs), or [`NO_RUN`].
    pub(super) run: u32,
    /// What it waits for; emptied when it is settled.
    pub(super) deps: Edges,
    /// What waits for it; emptied when it is settled.
    pub(super) dependants: Edges,
}

impl Node {
    /// Whether nothing more will happen to it.
    pub(super) fn settled(&self) -> bool {
        matches!(self.state, State::Done | State::Failed)
    }

    /// Whether somebody waits for it and it goes on: not while it waits itself, or for the answer to a doubt. Callers were told
    /// of that one, and it may stay so to the end.
    pub(super) fn is_called_for(&self) -> bool {
        let still = matches!(self.state, State::Waiting | State::Doubted | State::Done | State::Failed);
        self.awaited && !still
    }
}

/// A list of nodes, up to three of them in place: most thunks have few edges.
#[derive(Debug)]
pub(super) enum Edges {
    Few {
        len: u8,
        ids: [u32; 3],
    },
    #[expect(clippy::box_collection, reason = "a bare Vec would make every node 16 bytes larger")]
    Many(Box<Vec<u32>>),
}

impl Edges {
    pub(super) const EMPTY: Self = Self::Few { len: 0, ids: [0; 3] };

    pub(super) fn push(&mut self, node: NodeId) {
        match self {
            Self::Few { len, ids } if usize::from(*len) < ids.len() => {
                ids[usize::from(*len)] = node.0;
                *len += 1;
            }
            Self::Few { ids, .. } => {
                let mut many = Vec::with_capacity(8);
                many.extend_from_slice(ids);
                many.push(node.0);
                *self = Self::Many(Box::new(many));
            }
            Self::Many(many) => many.push(node.0),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.as_slice().len()
    }

    pub(super) fn at(&self, i: usize) -> NodeId {
        NodeId(self.as_slice()[i])
    }

    /// Leaves it empty and gives what was in it.
    pub(super) fn take(&mut self) -> Self {
        std::mem::replace(self, Self::EMPTY)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.as_slice().iter().map(|id| NodeId(*id))
    }

    fn as_slice(&self) -> &[u32] {
        match self {
            Self::Few { len, ids } => &ids[..usize::from(*len)],
            Self::Many(many) => many,
        }
    }
}

impl FromIterator<NodeId> for Edges {
    fn from_iter<I: IntoIterator<Item = NodeId>>(nodes: I) -> Self {
        let mut edges = Self::EMPTY;
        nodes.into_iter().for_each(|node| edges.push(node));
        edges
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_small() {
        assert!(size_of::<Node>() <= 64, "{}", size_of::<Node>());
    }

    #[test]
    fn edges_spill_and_keep_their_order() {
        for n in [0, 1, 3, 4, 100] {
            let edges: Edges = (0..n).map(NodeId).collect();
            assert_eq!(edges.iter().map(|id| id.0).collect::<Vec<_>>(), (0..n).collect::<Vec<_>>());
        }
    }
}
