//! What the scheduler is told, and what it answers.

use std::time::Duration;

use ggr_ir::{BlobId, InfraFailure, Kind};

use super::homes::Home;

/// A thunk in the scheduler's graph: a dense number, chosen by the caller in the order of adding (0, 1, 2, …).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NodeId(pub u32);

/// A backend: its place in the list that the scheduler was made with.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BackendId(pub u8);

/// A set of backends, at most [`BackendSet::MAX`] of them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct BackendSet(pub(super) u16);

impl BackendSet {
    /// How many backends a scheduler may have.
    pub const MAX: usize = 16;

    /// The set of none.
    pub const EMPTY: Self = Self(0);

    /// Every backend there could be.
    pub const ALL: Self = Self(u16::MAX);

    /// This set and one more.
    #[must_use]
    pub fn with(self, backend: BackendId) -> Self {
        Self(self.0 | 1 << backend.0)
    }

    /// The members of either set.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether the backend is in it.
    pub fn contains(self, backend: BackendId) -> bool {
        self.0 & 1 << backend.0 != 0
    }
}

/// One start of one node. Never used again on the same scheduler.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AttemptId {
    pub(super) index: u32,
    pub(super) generation: u32,
}

/// Whether somebody waits for a node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Urgency {
    /// It will be wanted in the end.
    Eventual,
    /// Somebody waits: it and all that it waits for go first.
    Awaited,
}

/// A node to add. What it waits for has been added before it.
#[derive(Clone, Debug)]
pub struct NewNode {
    /// Its number: how many nodes there were.
    pub node: NodeId,
    /// What must be done first. Naming one twice does no harm.
    pub deps: Vec<NodeId>,
    /// The kind of work.
    pub kind: Kind,
    /// How long it will run, as far as anybody knows.
    pub estimate: Duration,
    /// Whether somebody waits for it already.
    pub urgency: Urgency,
}

/// How an attempt ended: [`Outcome`](ggr_ir::Outcome) without what only the caller needs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ending {
    /// The outputs are in the store.
    Reduced,
    /// The program failed.
    ToolFailed,
    /// Something else failed.
    Infra(InfraFailure),
    /// It was told to stop.
    Cancelled,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A node was traced.
    Add(NewNode),
    /// The answer to [`Action::Check`]: there is no recorded result, and these backends refuse the job.
    Missed {
        /// The node that was checked.
        node: NodeId,
        /// Who will not take it.
        refused: BackendSet,
        /// Where most of its inputs are, if that is somewhere.
        home: Option<Home>,
    },
    /// The node's result is known without an attempt: a hit in the cache, or the command was run on the user's tree.
    External(NodeId),
    /// An attempt ended, also one that was cancelled. Each [`Action::Start`] gets exactly one of these.
    Ended {
        /// Which attempt.
        attempt: AttemptId,
        /// How.
        ending: Ending,
    },
    /// Somebody waits for the node.
    Demand(NodeId),
    /// The answer to [`Action::Doubt`]: it has truly failed.
    Confirm(NodeId),
    /// The answer to [`Action::Heal`].
    Healed {
        /// The node whose inputs were missing.
        node: NodeId,
        /// Whether all are in the store now.
        healed: bool,
    },
    /// Nobody wants the node, nor what depends on it.
    Cancel(NodeId),
    /// Nobody wants anything that has been added so far.
    CancelAll,
    /// From now on nothing is started; what runs may end. What has not started is cancelled.
    Drain,
    /// A backend has become larger or smaller.
    Slots {
        /// Which backend.
        backend: BackendId,
        /// How many jobs it runs side by side now.
        slots: u32,
    },
    /// Time has passed: [`Scheduler::next_deadline`](super::Scheduler::next_deadline) is reached.
    Tick,
}

/// What the node is in doubt for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DoubtCause {
    /// The program failed in the sandbox.
    Tool,
    /// The last attempt failed for a reason outside the program, and the policy is at its end.
    Infra,
    /// No backend takes the job.
    Refused,
}

/// Why a node failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FailCause {
    /// By itself; [`Event::Confirm`] said so.
    Itself,
    /// It waits for a node that failed or was cancelled.
    Poisoned {
        /// The node that it began with.
        by: NodeId,
    },
    /// It was cancelled.
    Cancelled,
}

/// What to do next. To be carried out in the order given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// All that the node waits for is done: resolve it and look for a recorded result, then answer with
    /// [`Event::Missed`] or [`Event::External`].
    Check(NodeId),
    /// Run it.
    Start {
        /// The name of this attempt.
        attempt: AttemptId,
        /// What to run.
        node: NodeId,
        /// Where.
        backend: BackendId,
        /// Whether another attempt at it is still running.
        duplicate: bool,
    },
    /// All that the node still waits for runs: it is ready soon. Told at most once, and only where a place keeps inputs.
    Soon(NodeId),
    /// Stop the attempt; it is still answered with [`Event::Ended`].
    Cancel(AttemptId),
    /// Bring these blobs into the store again, then answer with [`Event::Healed`].
    Heal {
        /// The node that needs them.
        node: NodeId,
        /// What is missing.
        missing: Vec<BlobId>,
    },
    /// The attempt that ended is not the last one: another will follow, after this time.
    Retry {
        /// The node.
        node: NodeId,
        /// How long it waits first (healing not counted).
        after: Duration,
    },
    /// The node has its result: that of the attempt whose end was just told, or of the [`Event::External`].
    Done(NodeId),
    /// The node seems to have failed. What depends on it waits until [`Event::External`] or [`Event::Confirm`] comes.
    Doubt {
        /// The node.
        node: NodeId,
        /// Why.
        cause: DoubtCause,
    },
    /// The node has failed for good.
    Failed {
        /// The node.
        node: NodeId,
        /// Why.
        cause: FailCause,
    },
}
