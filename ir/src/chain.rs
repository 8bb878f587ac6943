//! Thunks that run one behind the other in the same place, so that what one makes need not travel to the next.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::hash::ThunkId;
use crate::job::{Attempt, Job, Kind, Limits};
use crate::reduction::Reduction;
use crate::thunk::Thunk;

/// A thunk that is ready as soon as the job before it has run.
///
/// **Invariant:** what it reads is blobs and outputs of that one job, whatever the references call it.
#[derive(Serialize, Deserialize, Debug, Clone)]
pub struct Follower {
    /// What to run.
    pub thunk: Arc<Thunk>,
    /// Bounds; not part of the id.
    pub limits: Limits,
    /// The kind of work.
    pub kind: Kind,
    /// What to call it in front of the user.
    pub label: String,
}

impl Follower {
    /// The job that it becomes behind this result; nothing if that lacks an output.
    pub fn behind(&self, before: &Reduction) -> Option<Job> {
        let thunk = self.thunk.resolve(|output| before.outputs.get(&output.name).map(|entry| entry.blob));
        let thunk = Arc::new(thunk.ok()?);
        let (limits, kind, label) = (self.limits, self.kind, self.label.clone());
        Some(Job { id: thunk.id(), thunk, limits, kind, label })
    }
}

/// What became of a follower.
#[derive(Serialize, Deserialize, Debug, Clone)]
pub struct Followed {
    /// The ready thunk that was run: who asked compares it with what they make of it themselves.
    pub id: ThunkId,
    /// How it went.
    pub attempt: Attempt,
}
