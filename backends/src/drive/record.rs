//! What the driver remembers of each thunk, and what it tells those who wait.

use std::sync::Arc;

use ggr_ir::{
    BlobId, Harvest, InfraFailure, Job, Kind, Limits, OutputEntry, OutputName, OutputRef, ReadyThunk,
    Reduction, Thunk, ThunkId, ToolFailure,
};

use super::pack::Packed;
use crate::backend::Refusal;
use crate::durations::SizeClass;

/// Where a result came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// It was recorded by an earlier run.
    Cache,
    /// A backend ran it.
    Backend,
    /// The caller knew it, as after a run on the user's tree.
    External,
}

/// A thunk's result. A [`Reduction`] without its maps, which would take a kilobyte each.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finished {
    /// The outputs in the order of their names.
    pub outputs: Box<[(OutputName, OutputEntry)]>,
    /// What the program wrote to its standard output.
    pub stdout: BlobId,
    /// What it wrote to its standard error.
    pub stderr: BlobId,
    /// How long it took when it ran, in microseconds of wall clock.
    pub duration_us: u64,
    /// Where the result came from.
    pub origin: Origin,
}

impl Finished {
    /// The result that a reduction records.
    pub fn new(reduction: Reduction, origin: Origin) -> Self {
        Self {
            outputs: reduction.outputs.into_iter().collect(),
            stdout: reduction.stdout,
            stderr: reduction.stderr,
            duration_us: reduction.duration_us,
            origin,
        }
    }

    /// Names and paths that the thunk declares share their text with it, not with the frame they came in.
    pub(super) fn share_text(mut self, thunk: &ReadyThunk) -> Self {
        for (name, entry) in &mut self.outputs {
            if let Some((declared, path)) = thunk.outputs.get_key_value(name) {
                *name = declared.clone();
                entry.path = path.clone();
            }
        }
        self
    }

    /// The output of this name.
    pub fn output(&self, name: &OutputName) -> Option<&OutputEntry> {
        let at = self.outputs.binary_search_by(|(other, _)| other.cmp(name)).ok()?;
        Some(&self.outputs[at].1)
    }

    /// The record for a cache.
    pub fn reduction(&self) -> Reduction {
        Reduction {
            outputs: self.outputs.iter().cloned().collect(),
            stdout: self.stdout,
            stderr: self.stderr,
            duration_us: self.duration_us,
        }
    }
}

/// Why a thunk has no result.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Failure {
    /// The program failed in the sandbox.
    #[error("the program failed")]
    Tool(ToolFailure),
    /// Every try failed for a reason outside the program; this is the last of them.
    #[error("gave up on `{backend}`: {failure}")]
    Infra {
        /// Where the last try was.
        backend: Arc<str>,
        /// Why it failed.
        failure: InfraFailure,
    },
    /// No backend takes the job.
    #[error("no backend takes it{}", .0.iter().map(|(name, why)| format!("; `{name}`: {why}")).collect::<String>())]
    Refused(Vec<(Arc<str>, Refusal)>),
    /// It reads an output that no submitted thunk has.
    #[error("its input `{0}` is an output that nothing makes")]
    InputUnknown(OutputRef),
    /// It waits for a thunk that has failed.
    #[error("it needs `{label}`, which failed")]
    Poisoned {
        /// The thunk that it needs, directly or not.
        by: ThunkId,
        /// What that one is called.
        label: Arc<str>,
    },
    /// It was cancelled.
    #[error("cancelled")]
    Cancelled,
    /// No thunk of this id was submitted.
    #[error("thunk {0} was not submitted")]
    Unknown(ThunkId),
    /// The driver has stopped.
    #[error("the scheduler has stopped")]
    Stopped,
}

/// What the driver keeps of a thunk that is not settled.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) id: ThunkId,
    pub(super) label: Arc<str>,
    pub(super) kind: Kind,
    pub(super) size: SizeClass,
    pub(super) limits: Arc<Limits>,
    pub(super) cacheable: bool,
    pub(super) work: Work,
    /// Its place was told to prepare for it.
    pub(super) prepared: bool,
    /// Set while it is in doubt.
    pub(super) failure: Option<Arc<Failure>>,
}

impl Pending {
    /// The job that it comes to.
    pub(super) fn job(&self, id: ThunkId, ready: ReadyThunk) -> Job {
        let network = ready.network.or(self.limits.network);
        Job {
            id,
            thunk: Arc::new(ready),
            limits: Limits { network, ..*self.limits },
            kind: self.kind,
            label: self.label.to_string(),
        }
    }
}

/// What is to be run.
#[derive(Debug)]
pub(super) enum Work {
    /// As it was submitted.
    Thunk(Arc<Thunk>),
    /// The same, in little memory.
    Packed(Packed),
    /// Resolved, and about to run.
    Job(Arc<Job>),
    /// In the hands of the check that makes a job of it.
    Taken,
}

/// What is remembered of a thunk.
#[derive(Debug)]
pub(super) enum Record {
    Pending(Box<Pending>),
    Done(Arc<Finished>),
    Failed(Box<Failed>),
}

/// A thunk that failed for good.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) id: ThunkId,
    pub(super) label: Arc<str>,
    pub(super) failure: Arc<Failure>,
}

/// What is wrong with a reduction that a backend answered, if anything: each declared output must be there, at its path,
/// and others only where the thunk asks for them.
pub(super) fn fault(job: &Job, reduction: &Reduction) -> Option<String> {
    let declared = &job.thunk.outputs;
    for (name, path) in declared {
        match reduction.outputs.get(name) {
            None => return Some(format!("the declared output `{path}` is not in the answer")),
            Some(entry) if entry.path != *path => {
                return Some(format!("the output `{path}` came back as `{}`", entry.path));
            }
            Some(_) => {}
        }
    }
    let extra = reduction.outputs.keys().find(|name| !declared.contains_key(name));
    match (job.thunk.harvest, extra) {
        (Harvest::Declared, Some(name)) => {
            Some(format!("the answer holds `{}`, which was not asked for", name.0))
        }
        _ => None,
    }
}
