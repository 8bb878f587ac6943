//! AWS Lambda: each thunk in a function's environment, its objects in the payload or in a store that functions reach.
//!
//! Functions run `bootstrap` (`runtime-shim`); one call of [`Backend::run`] is one synchronous `Invoke`, or a part of one where
//! several short thunks are ready together. Messages are [`ggr_ir::protocol::lambda`]. The SDK does not retry: the scheduler
//! does, by kind of failure. A refusal that stays (no credentials, no permission, no function), or the limit on costs, closes the
//! backend: it takes nothing more, and what waits goes elsewhere.
//!
//! **Invariant:** before a function is invoked, each input is in the message or in the store that the message names.

mod aws;
pub(crate) mod batch;
pub mod deploy;
mod invoke;
mod objects;
mod outputs;
mod price;
mod send;
mod spending;
mod uploads;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::{BoxFuture, FutureExt};
use ggr_ir::protocol::lambda::{MAX_INLINE, StoreAddress};
use ggr_ir::{Attempt, BlobId, Followed, Follower, InfraFailure, Job, Object, ObjectStore, Outcome, Timings};

use crate::backend::{Backend, Refusal};
use crate::store::FsStore;
pub use aws::ServiceError;
pub(crate) use aws::shared_config;
pub use invoke::{Connection, connect};
pub use objects::Objects;
pub use price::Price;
use send::Sender;
pub use spending::{Requests, Spending};

/// Inputs up to this size travel in the message: below it, a request to the store costs more than the bytes.
const SMALL: u64 = 4 << 10;

/// Small inputs of one message, in all: they travel with every thunk, and a store's objects only once to a place.
const SMALL_IN_ALL: usize = 96 << 10;

/// What a Lambda function takes at most, whoever asks: 15 minutes.
const LONGEST: Duration = Duration::from_secs(900);

/// Between the time limit of a thunk and that of its function: fetching inputs, storing outputs.
const MARGIN: Duration = Duration::from_secs(30);

/// A store that functions reach.
#[derive(Clone)]
pub struct Remote {
    /// How this process reaches it.
    pub store: Arc<dyn ObjectStore>,
    /// How a function does.
    pub address: StoreAddress,
    /// What this process asks of it, as `store` counts it.
    pub requests: Arc<Requests>,
}

/// How long a job usually takes, if that is known.
pub type Expected = dyn Fn(&Job) -> Option<Duration> + Send + Sync;

/// How the backend is made.
pub struct LambdaOptions {
    /// The service.
    pub connection: Connection,
    /// The functions' names; thunks go to them in turn. At least one.
    pub functions: Vec<String>,
    /// How many thunks run at once.
    pub slots: usize,
    /// The blobs of this machine.
    pub local: Arc<FsStore>,
    /// Where functions find what is too big for a message.
    pub remote: Option<Remote>,
    /// A function's memory, in MB: what it is priced by.
    pub memory_mb: u32,
    /// The functions' own time limit.
    pub function_limit: Duration,
    /// What invocations and requests cost.
    pub price: Price,
    /// With this much spent, in US dollars, nothing more is sent.
    pub max_cost: Option<f64>,
    /// Short thunks that are ready together share an invocation.
    pub expected: Box<Expected>,
    /// Is told what the user should know.
    pub notice: Box<dyn Fn(&str) + Send + Sync>,
}

/// Thunks on AWS Lambda.
pub struct LambdaBackend {
    slots: usize,
    remote: bool,
    sender: Arc<Sender>,
}

impl LambdaBackend {
    /// A backend over functions that exist.
    ///
    /// # Panics
    /// If no function is named.
    pub fn new(options: LambdaOptions) -> Self {
        assert!(!options.functions.is_empty(), "a backend has a function");
        let slots = options.slots.max(1);
        let remote = options.remote.is_some();
        Self { slots, remote, sender: Arc::new(Sender::new(options)) }
    }

    /// Whether thunks can be sent at all: asks each function for nothing, which also starts an environment.
    ///
    /// # Errors
    /// What will not go away by itself.
    pub async fn check(&self) -> Result<(), ServiceError> {
        self.sender.check().await
    }

    /// What was spent so far.
    pub fn spending(&self) -> Spending {
        self.sender.account.spending()
    }

    async fn attempt(&self, job: &Job, next: &[Follower]) -> (Attempt, Vec<Followed>) {
        let started = Instant::now();
        let _permit = self.sender.permits.acquire().await.expect("the semaphore is never closed");
        let mut attempt = nothing_yet();
        attempt.timings.queued = started.elapsed();
        self.sender.account.look_at_limit();
        if let Some(why) = self.sender.account.closed() {
            attempt.outcome = Outcome::Infra(InfraFailure::Closed(why.to_owned()));
            return (attempt, Vec::new());
        }
        let next = self.sender.behind(job, next);
        let uploading = Instant::now();
        match self.sender.offer(inputs(job).chain(next.iter().flat_map(reads)).collect()).await {
            Ok(inline) => {
                attempt.timings.staged = uploading.elapsed();
                batch::run(&self.sender, (job, next), inline, attempt).await
            }
            Err(failure) => (Attempt { outcome: Outcome::Infra(failure), ..attempt }, Vec::new()),
        }
    }
}

/// An attempt that has not come to anything.
fn nothing_yet() -> Attempt {
    Attempt { outcome: Outcome::Cancelled, timings: Timings::default(), cost_microdollars: 0, worker: 0 }
}

impl Backend for LambdaBackend {
    fn name(&self) -> &str {
        "lambda"
    }

    fn slots(&self) -> usize {
        self.slots
    }

    fn accepts(&self, job: &Job) -> Result<(), Refusal> {
        if let Some(why) = self.sender.account.closed() {
            return Err(Refusal::Unsupported(why.to_owned()));
        }
        let size: u64 = inputs(job).map(|id| id.size()).sum();
        Refusal::unless_plain(&job.limits)?;
        if !self.remote && size > MAX_INLINE as u64 {
            return Err(Refusal::TooBig { what: "inputs", size, bound: MAX_INLINE as u64 });
        }
        Ok(())
    }

    fn run<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Attempt> {
        self.attempt(job, &[]).map(|(attempt, _)| attempt).boxed()
    }

    fn chains(&self) -> bool {
        true
    }

    fn run_chain<'a>(
        &'a self,
        job: &'a Job,
        next: &'a [Follower],
    ) -> BoxFuture<'a, (Attempt, Vec<Followed>)> {
        self.attempt(job, next).boxed()
    }
}

/// The blobs that a job reads.
fn inputs(job: &Job) -> impl Iterator<Item = BlobId> {
    job.thunk.inputs.values().map(|entry| entry.object)
}

/// The blobs that a follower reads, beside what the job before it makes.
fn reads(follower: &Follower) -> impl Iterator<Item = BlobId> {
    follower.thunk.inputs.values().filter_map(|entry| match entry.object {
        Object::Blob(id) => Some(id),
        Object::Output(_) => None,
    })
}
