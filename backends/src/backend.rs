//! A place where thunks run.

use futures_util::future::{BoxFuture, FutureExt};
use ggr_ir::{Attempt, BlobId, Followed, Follower, Job, Limits, Network, RootPath};

/// Why a place will not take a job. Not a failure: the job goes to the next place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The job is larger than the place's own bound.
    #[error("`{what}` of {size} is over the bound of {bound}")]
    TooBig {
        /// What is too big: `inputs`, `payload`, `wall time in seconds`.
        what: &'static str,
        /// How big it is.
        size: u64,
        /// The bound.
        bound: u64,
    },
    /// The place cannot give what the job asks for.
    #[error("it cannot do this: {0}")]
    Unsupported(String),
}

impl Refusal {
    /// Of a job that asks for what only this machine's and a service's sandboxes have: a network, or a bound on its processes.
    ///
    /// # Errors
    /// What it asks for.
    pub(crate) fn unless_plain(limits: &Limits) -> Result<(), Self> {
        if limits.network != Network::None {
            return Err(Self::Unsupported("a network for the program".to_owned()));
        }
        if limits.processes > 0 {
            return Err(Self::Unsupported("a bound on the program's processes".to_owned()));
        }
        Ok(())
    }
}

/// A place where thunks run.
///
/// **Who retries.** The scheduler, never the backend: one call of [`run`](Self::run) is one attempt, and what went wrong
/// is said in its [`Outcome`](ggr_ir::Outcome), so that the policy for each kind of failure stands in one table
/// (`scheduler/policy.rs`).
///
/// **Starts and finishes.** Each future that `run` returns ends exactly once: it resolves to an [`Attempt`], or it is
/// dropped. Dropping it cancels the attempt: the program is stopped soon, nothing of it is recorded, and its slot is free
/// for the next job (which may wait for that a moment).
///
/// **Overlap.** Calls overlap freely, up to [`slots`](Self::slots) at a time; a caller that starts more of them waits.
///
/// **Outputs.** With [`Outcome::Reduced`](ggr_ir::Outcome::Reduced) every output is in the store before the future
/// resolves. After any other end, blobs may have been left there, and are harmless.
///
/// **Twice.** Running a job twice, also at the same time, is harmless.
///
/// [`contract::check`](crate::contract::check) tests these promises on any implementation.
pub trait Backend: Send + Sync {
    /// What users call it: `local`, `lambda`.
    fn name(&self) -> &str;

    /// How many jobs it runs side by side; at least 1.
    fn slots(&self) -> usize;

    /// Whether a second attempt at a straggler, next to the first, can end sooner. It cannot where all slots share one
    /// machine: there it only takes time from the first.
    fn duplicates(&self) -> bool {
        true
    }

    /// Whether this place is only for what every other place refuses or gives up.
    fn standby(&self) -> bool {
        false
    }

    /// Whether what a job reads and makes stays there for later jobs, so that it pays to send a thunk to where its inputs
    /// are, and to [prepare](Self::prepare) it.
    fn keeps(&self) -> bool {
        false
    }

    /// A hint: a job with this program and these inputs, as far as they are known, is likely to come soon. Returns at once;
    /// what can be done beforehand is done beside other jobs, or not at all.
    fn prepare(&self, _program: &RootPath, _inputs: &[BlobId]) {}

    /// Whether thunks behind a job are worth giving with it; see [`run_chain`](Self::run_chain).
    fn chains(&self) -> bool {
        false
    }

    /// Whether this place would take the job. Cheap (no input or output): asked once for each job.
    ///
    /// # Errors
    /// Why not.
    fn accepts(&self, job: &Job) -> Result<(), Refusal>;

    /// Tries the job once.
    fn run<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Attempt>;

    /// Tries the job once, and behind it, in the same place, those that are ready by its result. What is answered of them has
    /// reduced; the others are the caller's to start, as if they had not been given. What they cost is in the job's attempt.
    fn run_chain<'a>(
        &'a self,
        job: &'a Job,
        next: &'a [Follower],
    ) -> BoxFuture<'a, (Attempt, Vec<Followed>)> {
        let _ = next;
        self.run(job).map(|attempt| (attempt, Vec::new())).boxed()
    }
}
