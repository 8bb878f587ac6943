//! Thunks on somebody else's machine, or on a service of this one: the client of `ggr worker serve`.
//!
//! A job's inputs that the service lacks are asked for in one request and sent once; outputs come home before the job's
//! future resolves, and stay with the service for the next thunk. A connection that breaks, or on which nothing is heard for
//! [`PATIENCE`], fails the jobs on it ([`InfraFailure::WorkerDied`]), and the next job opens another.
//!
//! **Invariant:** an output is believed only if its bytes have the hash that it is named by, computed here.

mod connection;
mod control;

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::{BoxFuture, FutureExt};
use ggr_ir::protocol::service::FromService;
use ggr_ir::{Attempt, BlobId, InfraFailure, Job, Mode, ObjectStore, Outcome, Timings};
use tokio::sync::{Mutex as AsyncMutex, Semaphore};

use crate::backend::{Backend, Refusal};
use crate::service::Address;
use crate::store::FsStore;
use connection::Connection;
pub use control::{Control, ControlError};

/// A service that says nothing for so long, though it is pinged, is gone.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A service that was there and is not has this long to come back before its jobs fail: it is being started again.
const RESTART: Duration = Duration::from_secs(3);

/// Between tries to connect.
const AGAIN: Duration = Duration::from_millis(50);

/// A service may lose a blob between its answer and the job; more often than this it is not to be relied on.
const TRIES: u32 = 3;

/// How to reach a service.
#[derive(Clone, Debug)]
pub struct RemoteOptions {
    /// Where it listens.
    pub address: Address,
    /// The tenant's token; empty over a Unix socket of one's own.
    pub token: String,
    /// The certificates that are trusted (PEM), for TLS.
    pub authority: Option<PathBuf>,
    /// [`PATIENCE`] but in tests.
    pub patience: Duration,
}

/// A service as a place where thunks run.
#[derive(Debug)]
pub struct RemoteBackend {
    options: RemoteOptions,
    store: Arc<FsStore>,
    slots: usize,
    /// Whether its jobs run in guests.
    guests: bool,
    permits: Semaphore,
    link: AsyncMutex<Link>,
}

#[derive(Debug)]
struct Link {
    connection: Arc<Connection>,
    /// When the last try to connect failed, and why.
    failed: Option<(Instant, String)>,
}

impl RemoteBackend {
    /// Connects. `store` is where inputs are, and outputs go.
    ///
    /// # Errors
    /// Why it cannot, in words for the user.
    pub async fn connect(options: RemoteOptions, store: Arc<FsStore>) -> Result<Self, String> {
        let connection = Connection::open(&options, Some(Arc::clone(&store)))
            .await
            .map_err(|e| format!("`{}`: {e}", options.address))?;
        let (slots, guests) = ((connection.slots as usize).max(1), connection.guests);
        let link = Link { connection: Arc::new(connection), failed: None };
        Ok(Self {
            options,
            store,
            slots,
            guests,
            permits: Semaphore::new(slots),
            link: AsyncMutex::new(link),
        })
    }

    /// The connection, or a new one. One job dials, the others wait for it.
    async fn connection(&self) -> Result<Arc<Connection>, InfraFailure> {
        let mut link = self.link.lock().await;
        if link.connection.alive() {
            return Ok(Arc::clone(&link.connection));
        }
        let unreachable = |why: &str| InfraFailure::Unreachable(format!("{}: {why}", self.options.address));
        if let Some((when, why)) = &link.failed
            && when.elapsed() < RESTART
        {
            return Err(unreachable(why));
        }
        let limit = Instant::now() + RESTART;
        loop {
            match Connection::open(&self.options, Some(Arc::clone(&self.store))).await {
                Ok(connection) => {
                    let connection = Arc::new(connection);
                    *link = Link { connection: Arc::clone(&connection), failed: None };
                    return Ok(connection);
                }
                Err(e) if Instant::now() > limit || e.kind() == io::ErrorKind::PermissionDenied => {
                    link.failed = Some((Instant::now(), e.to_string()));
                    return Err(unreachable(&e.to_string()));
                }
                Err(_) => tokio::time::sleep(AGAIN).await,
            }
        }
    }

    async fn attempt(&self, job: &Job, received: Instant) -> Result<Attempt, InfraFailure> {
        let _permit = self.permits.acquire().await.expect("the semaphore is never closed");
        let began = Instant::now();
        let inputs: BTreeSet<BlobId> = (job.thunk.inputs.values())
            .filter(|entry| entry.mode != Mode::Directory)
            .map(|entry| entry.object)
            .collect();
        let mut tries = 0;
        loop {
            tries += 1;
            let connection = self.connection().await?;
            connection.push(&self.store, &inputs).await?;
            let pushed = began.elapsed();
            let mut attempt = connection.run(job).await?;
            match &attempt.outcome {
                Outcome::Infra(InfraFailure::InputsMissing(lost)) if tries < TRIES => {
                    // It has collected them since it was asked; here they are.
                    connection.forget(lost);
                    continue;
                }
                Outcome::Reduced(_) => self.bring_home(&connection, job, &attempt).await?,
                _ => {}
            }
            attempt.cost_microdollars = 0;
            attempt.timings.queued += began - received;
            attempt.timings.staged += pushed;
            return Ok(attempt);
        }
    }

    /// Checks a reduction against its thunk, and has all that it names stored here.
    async fn bring_home(
        &self,
        connection: &Connection,
        job: &Job,
        attempt: &Attempt,
    ) -> Result<(), InfraFailure> {
        let Outcome::Reduced(reduction) = &attempt.outcome else { return Ok(()) };
        for (name, path) in &job.thunk.outputs {
            if reduction.outputs.get(name).is_none_or(|entry| entry.path != *path) {
                return Err(InfraFailure::WorkerDied(format!("the service's answer lacks `{path}`")));
            }
        }
        let named: BTreeSet<BlobId> = (reduction.outputs.values().map(|entry| entry.blob))
            .chain([reduction.stdout, reduction.stderr])
            .collect();
        let named: Vec<_> = named.into_iter().collect();
        connection.remember(&named);
        let failed = |what: String| InfraFailure::OutputsNotStored(what);
        let lacking = |ids: &[BlobId]| self.store.missing(ids).map_err(|e| failed(e.to_string()));
        let wanted = lacking(&named)?;
        if !wanted.is_empty() {
            connection.fetch(&wanted).await?;
        }
        match lacking(&wanted)?.first() {
            Some(id) => Err(failed(format!("the service does not send {id}"))),
            None => Ok(()),
        }
    }
}

impl Backend for RemoteBackend {
    fn name(&self) -> &str {
        "worker"
    }

    fn slots(&self) -> usize {
        self.slots
    }

    /// All of a service's slots share its machine.
    fn duplicates(&self) -> bool {
        false
    }

    fn accepts(&self, job: &Job) -> Result<(), Refusal> {
        if self.guests { Refusal::unless_plain(job) } else { Ok(()) }
    }

    fn run<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Attempt> {
        let received = Instant::now();
        self.attempt(job, received)
            .map(|result| {
                result.unwrap_or_else(|failure| Attempt {
                    outcome: Outcome::Infra(failure),
                    timings: Timings::default(),
                    cost_microdollars: 0,
                    worker: 0,
                })
            })
            .boxed()
    }
}

/// What an answer of a wrong kind is.
fn confused(answer: &FromService) -> io::Error {
    let text = format!("{answer:?}");
    let text: String = text.chars().take(100).collect();
    io::Error::new(io::ErrorKind::InvalidData, format!("the service answers with {text}"))
}
