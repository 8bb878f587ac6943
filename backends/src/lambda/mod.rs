//! AWS Lambda: each thunk in a function's environment, its objects in the payload or in a store that functions reach.
//!
//! Functions run `bootstrap` (`runtime-shim`); one call of [`Backend::run`] is one synchronous `Invoke`. Messages are
//! [`ggr_ir::protocol::lambda`]. The SDK does not retry: the scheduler does, by kind of failure.
//!
//! **Invariant:** before a function is invoked, each input is in the message or in the store that the message names.

mod invoke;
mod objects;
mod outputs;
mod price;
mod uploads;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::{BoxFuture, FutureExt};
use ggr_ir::protocol::lambda::{Answer, Inline, Invocation, MAX_INLINE, StoreAddress, encode};
use ggr_ir::{Attempt, BlobId, InfraFailure, Job, Network, ObjectStore, Outcome, Timings};
use tokio::sync::Semaphore;

use crate::backend::{Backend, Refusal};
use crate::store::FsStore;
pub use invoke::{Connection, connect};
pub use objects::Objects;
pub use price::Price;
use uploads::Uploads;

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
}

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
    /// What attempts cost.
    pub price: Price,
}

/// Thunks on AWS Lambda.
pub struct LambdaBackend {
    options: LambdaOptions,
    uploads: Uploads,
    permits: Semaphore,
    turn: AtomicUsize,
}

impl LambdaBackend {
    /// A backend over functions that exist.
    ///
    /// # Panics
    /// If no function is named.
    pub fn new(options: LambdaOptions) -> Self {
        assert!(!options.functions.is_empty(), "a backend has a function");
        let slots = options.slots.max(1);
        let uploads = Uploads::new(options.local.clone(), options.remote.clone());
        Self { options, uploads, permits: Semaphore::new(slots), turn: AtomicUsize::new(0) }
    }

    async fn attempt(&self, job: &Job) -> Attempt {
        let started = Instant::now();
        let _permit = self.permits.acquire().await.expect("the semaphore is never closed");
        let mut attempt = Attempt {
            outcome: Outcome::Cancelled,
            timings: Timings { queued: started.elapsed(), ..Timings::default() },
            cost_microdollars: 0,
            worker: 0,
        };
        let uploading = Instant::now();
        let inline = match self.uploads.offer(job).await {
            Ok(inline) => inline,
            Err(failure) => {
                attempt.outcome = Outcome::Infra(failure);
                return attempt;
            }
        };
        attempt.timings.staged = uploading.elapsed();
        self.invoke(job, inline, &mut attempt).await;
        attempt
    }

    async fn invoke(&self, job: &Job, inline: Vec<Inline>, attempt: &mut Attempt) {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % self.options.functions.len();
        attempt.worker = u32::try_from(turn).unwrap_or(0);
        let store = self.options.remote.as_ref().map_or(StoreAddress::None, |remote| remote.address.clone());
        let mut job = job.clone();
        job.limits.wall = job.limits.wall.min(self.wall_limit());
        let message = encode(&Invocation { store, jobs: vec![job.clone()], inline });
        if message.len() > ggr_ir::protocol::lambda::MAX_MESSAGE {
            let text = format!("its message has {} bytes", message.len());
            attempt.outcome = Outcome::Infra(InfraFailure::TooBig(text));
            return;
        }
        let invoked = Instant::now();
        let limit = self.options.function_limit + MARGIN;
        let answer = self.options.connection.invoke(&self.options.functions[turn], message, limit).await;
        let took = invoked.elapsed();
        attempt.cost_microdollars = self.options.price.of(self.options.memory_mb, took, answer.as_ref().ok());
        attempt.outcome = match answer {
            Ok(answer) => self.accept(answer, took, &mut attempt.timings).await,
            Err(failure) => Outcome::Infra(failure),
        };
        if let Outcome::Infra(InfraFailure::InputsMissing(gone)) = &attempt.outcome {
            // Put there again before the next try.
            self.uploads.forget(gone);
        }
    }

    /// Takes an answer apart: the outputs into this machine's store, the times into the attempt.
    async fn accept(&self, mut answer: Answer, took: Duration, timings: &mut Timings) -> Outcome {
        let Some(attempt) = answer.attempts.pop().filter(|_| answer.attempts.is_empty()) else {
            return Outcome::Infra(InfraFailure::WorkerDied("it answered another number of jobs".to_owned()));
        };
        let theirs = attempt.timings;
        let way = took.saturating_sub(theirs.staged + theirs.ran + theirs.harvested);
        timings.staged += theirs.staged + way;
        (timings.ran, timings.cpu, timings.max_rss) = (theirs.ran, theirs.cpu, theirs.max_rss);
        let taking = Instant::now();
        let outcome = match attempt.outcome {
            Outcome::Reduced(reduction) => {
                let inline = std::mem::take(&mut answer.inline);
                let took =
                    outputs::take(&self.options.local, self.options.remote.as_ref(), &reduction, inline);
                match took.await {
                    Ok(stored) => {
                        self.uploads.note(&stored);
                        Outcome::Reduced(reduction)
                    }
                    Err(failure) => Outcome::Infra(failure),
                }
            }
            other => other,
        };
        timings.harvested = theirs.harvested + taking.elapsed();
        outcome
    }

    /// How long a program may take, so that its function is still there to answer.
    fn wall_limit(&self) -> Duration {
        self.options.function_limit.min(LONGEST).saturating_sub(MARGIN).max(Duration::from_secs(1))
    }
}

impl Backend for LambdaBackend {
    fn name(&self) -> &str {
        "lambda"
    }

    fn slots(&self) -> usize {
        self.options.slots.max(1)
    }

    fn accepts(&self, job: &Job) -> Result<(), Refusal> {
        let size: u64 = inputs(job).map(|id| id.size()).sum();
        if job.limits.network != Network::None {
            return Err(Refusal::Unsupported("a network for the program".to_owned()));
        }
        if self.options.remote.is_none() && size > MAX_INLINE as u64 {
            return Err(Refusal::TooBig { what: "inputs", size, bound: MAX_INLINE as u64 });
        }
        Ok(())
    }

    fn run<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Attempt> {
        self.attempt(job).boxed()
    }
}

/// The blobs that a job reads.
fn inputs(job: &Job) -> impl Iterator<Item = BlobId> {
    job.thunk.inputs.values().map(|entry| entry.object)
}
