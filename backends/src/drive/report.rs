//! What the driver lets others watch.

use std::sync::Arc;
use std::time::Duration;

use ggr_ir::{InfraFailure, Kind, ThunkId, Timings};

use super::record::{Failure, Origin};

/// Something that happened, for reporters and traces. Who reads too slowly loses the oldest; [`Counts`] are never lost.
#[derive(Clone, Debug)]
pub enum BuildEvent {
    /// A thunk was submitted.
    Traced {
        /// Which.
        id: ThunkId,
        /// What to call it.
        label: Arc<str>,
        /// The kind of work.
        kind: Kind,
    },
    /// All that it waits for is done, and nothing was recorded for it.
    Ready {
        /// Which.
        id: ThunkId,
    },
    /// An attempt was started.
    Started {
        /// Which thunk.
        id: ThunkId,
        /// What to call it.
        label: Arc<str>,
        /// Where.
        backend: Arc<str>,
        /// Whether another attempt at it is still running.
        duplicate: bool,
    },
    /// An attempt failed and another will follow.
    Retried {
        /// Which thunk.
        id: ThunkId,
        /// What to call it.
        label: Arc<str>,
        /// Why the attempt failed.
        failure: InfraFailure,
        /// How long until the next.
        after: Duration,
    },
    /// It has its result.
    Finished {
        /// Which thunk.
        id: ThunkId,
        /// What to call it.
        label: Arc<str>,
        /// The kind of work.
        kind: Kind,
        /// Where the result came from.
        origin: Origin,
        /// The attempt's own account, if a backend ran it.
        attempt: Option<AttemptReport>,
    },
    /// It failed in the sandbox; the caller looks into it.
    Doubted {
        /// Which thunk.
        id: ThunkId,
        /// What to call it.
        label: Arc<str>,
        /// Why.
        failure: Arc<Failure>,
    },
    /// It has failed for good.
    Failed {
        /// Which thunk.
        id: ThunkId,
        /// What to call it.
        label: Arc<str>,
        /// Why.
        failure: Arc<Failure>,
    },
    /// Something that the user should know, and that stops nothing.
    Notice(String),
}

/// Where an attempt ran and where its time went.
#[derive(Clone, Debug)]
pub struct AttemptReport {
    /// The backend's name.
    pub backend: Arc<str>,
    /// The worker, as the backend numbers them.
    pub worker: u32,
    /// Where the time went.
    pub timings: Timings,
}

/// How far the build is. Each number counts thunks unless it says otherwise.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Counts {
    /// Submitted.
    pub traced: u64,
    /// Waiting for a slot now.
    pub ready: u64,
    /// Attempts in flight now.
    pub running: u64,
    /// In doubt now.
    pub doubted: u64,
    /// Not settled now.
    pub open: u64,
    /// Finished because the result was recorded before.
    pub cached: u64,
    /// Finished by a backend.
    pub ran: u64,
    /// Of these, those that came with the thunk before them.
    pub chained: u64,
    /// Finished by the caller.
    pub external: u64,
    /// Failed, poisoned or cancelled.
    pub failed: u64,
    /// Attempts that were followed by another.
    pub retried: u64,
    /// Attempts started next to a straggler.
    pub duplicates: u64,
    /// Time that programs ran on backends, over all attempts that ended.
    pub work: Duration,
    /// What the attempts cost, in millionths of a US dollar.
    pub cost_microdollars: u64,
}
