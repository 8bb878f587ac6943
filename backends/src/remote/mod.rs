//! Thunks on somebody else's machine, or on a service of this one: the client of `ggr worker serve`.
//!
//! A job's inputs that the service lacks are asked for in one request and sent once; outputs come home before the job's
//! future resolves, and stay with the service for the next thunk. A connection that breaks, or on which nothing is heard for
//! [`PATIENCE`], fails the jobs on it ([`InfraFailure::WorkerDied`]), and the next job opens another.
//!
//! **Invariant:** an output is believed only if its bytes have the hash that it is named by, computed here.

pub(crate) mod connection;
mod control;
mod delivery;
mod has;

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::{BoxFuture, FutureExt};
use ggr_ir::protocol::service::FromService;
use ggr_ir::{Attempt, BlobId, InfraFailure, Job, Mode, ObjectStore, Outcome, RootPath, Timings};
use tokio::sync::{Mutex as AsyncMutex, Semaphore, mpsc};
use tokio::task::AbortHandle;

use crate::backend::{Backend, Refusal};
use crate::service::Address;
use crate::store::FsStore;
use connection::{Connection, Shelf};
pub use control::{Control, ControlError};
use delivery::Ahead;
use has::Has;
pub use has::Peers;

/// A service that says nothing for so long, though it is pinged, is gone.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A service that was there and is not has this long to come back before its jobs fail: it is being started again.
const RESTART: Duration = Duration::from_secs(3);

/// Between tries to connect.
const AGAIN: Duration = Duration::from_millis(50);

/// A service may lose a blob between its answer and the job; more often than this it is not to be relied on.
const TRIES: u32 = 3;

/// Hints that wait to be acted on; more are dropped, as they are no more than hints.
const AHEAD: usize = 64;

/// How to reach a service.
#[derive(Clone, Debug)]
pub struct RemoteOptions {
    /// Where it listens.
    pub address: Address,
    /// The tenant's token; empty over a Unix socket of one's own.
    pub token: String,
    /// The certificates that are trusted (PEM), for TLS.
    pub authority: Option<PathBuf>,
    /// Whether what goes over a network is packed; over a Unix socket nothing is.
    pub packed: bool,
    /// [`PATIENCE`] but in tests.
    pub patience: Duration,
}

/// A service as a place where thunks run.
#[derive(Debug)]
pub struct RemoteBackend {
    inner: Arc<Inner>,
    slots: usize,
    /// Whether its jobs run in guests.
    guests: bool,
    permits: Semaphore,
    ahead: mpsc::Sender<Ahead>,
    task: AbortHandle,
}

/// What jobs share with what is done ahead of them.
#[derive(Debug)]
struct Inner {
    options: RemoteOptions,
    store: Arc<FsStore>,
    has: Arc<Has>,
    peers: Arc<Peers>,
    /// Peers that the service did not fetch from when it was asked.
    deaf: Mutex<BTreeSet<String>>,
    link: AsyncMutex<Link>,
}

#[derive(Debug)]
struct Link {
    connection: Arc<Connection>,
    /// When the last try to connect failed, and why.
    failed: Option<(Instant, String)>,
}

impl Drop for RemoteBackend {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl RemoteBackend {
    /// Connects. `store` is where inputs are, and outputs go.
    ///
    /// # Errors
    /// Why it cannot, in words for the user.
    pub async fn connect(options: RemoteOptions, store: Arc<FsStore>) -> Result<Self, String> {
        Self::connect_among(options, store, Arc::default()).await
    }

    /// As [`connect`](Self::connect), one of several services that may fetch from each other.
    ///
    /// # Errors
    /// Why it cannot, in words for the user.
    pub async fn connect_among(
        options: RemoteOptions,
        store: Arc<FsStore>,
        peers: Arc<Peers>,
    ) -> Result<Self, String> {
        let shelf = Shelf { store: Arc::clone(&store), owner: None };
        let connection = Connection::open(&options, Some(shelf))
            .await
            .map_err(|e| format!("`{}`: {e}", options.address))?;
        let (slots, guests) = ((connection.slots as usize).max(1), connection.guests);
        let link = Link { connection: Arc::new(connection), failed: None };
        let has = Arc::<Has>::default();
        peers.join(options.address.clone(), Arc::clone(&has));
        let link = AsyncMutex::new(link);
        let inner = Arc::new(Inner { options, store, has, peers, deaf: Mutex::default(), link });
        let (ahead, todo) = mpsc::channel(AHEAD);
        let task = tokio::spawn(Arc::clone(&inner).work_ahead(todo)).abort_handle();
        Ok(Self { inner, slots, guests, permits: Semaphore::new(slots), ahead, task })
    }

    async fn attempt(&self, job: &Job, received: Instant) -> Result<Attempt, InfraFailure> {
        let _permit = self.permits.acquire().await.expect("the semaphore is never closed");
        let began = Instant::now();
        let inner = &self.inner;
        let inputs: BTreeSet<BlobId> = (job.thunk.inputs.values())
            .filter(|entry| entry.mode != Mode::Directory)
            .map(|entry| entry.object)
            .collect();
        let mut tries = 0;
        loop {
            tries += 1;
            let connection = inner.connection().await?;
            inner.deliver(&connection, &inputs).await?;
            let pushed = began.elapsed();
            let mut attempt = connection.run(job).await?;
            match &attempt.outcome {
                Outcome::Infra(InfraFailure::InputsMissing(lost)) if tries < TRIES => {
                    // It has collected them since it was asked; here they are.
                    inner.has.forget(lost);
                    continue;
                }
                Outcome::Reduced(_) => inner.bring_home(&connection, job, &attempt).await?,
                _ => {}
            }
            attempt.cost_microdollars = 0;
            attempt.timings.queued += began - received;
            attempt.timings.staged += pushed;
            attempt.timings.moved += pushed;
            return Ok(attempt);
        }
    }
}

impl Inner {
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
        // One whose link is down does not even refuse.
        let dial = RemoteOptions { patience: self.options.patience.min(RESTART), ..self.options.clone() };
        loop {
            match self.dial(&dial).await {
                Ok(connection) => {
                    self.has.clear();
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

    async fn dial(&self, options: &RemoteOptions) -> io::Result<Connection> {
        let shelf = Shelf { store: Arc::clone(&self.store), owner: None };
        let opening = Connection::open(&self.options, Some(shelf));
        let opened = tokio::time::timeout(options.patience, opening).await;
        opened.unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "it does not answer")))
    }

    /// Does what is asked for ahead, one after the other, over a connection of its own. What fails is left to the jobs.
    async fn work_ahead(self: Arc<Self>, mut todo: mpsc::Receiver<Ahead>) {
        let mut aside: Option<Connection> = None;
        while let Some(ahead) = todo.recv().await {
            if !aside.as_ref().is_some_and(Connection::alive) {
                aside = self.dial(&self.options).await.ok().map(Connection::aside);
            }
            if let Some(connection) = &aside {
                let _ = self.do_ahead(connection, &ahead).await;
            }
        }
    }

    fn is_deaf(&self, peer: &Address) -> bool {
        lock(&self.deaf).contains(&peer.to_string())
    }

    fn now_deaf(&self, peer: &str) {
        lock(&self.deaf).insert(peer.to_owned());
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
        self.has.add(&named);
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

    fn keeps(&self) -> bool {
        true
    }

    fn prepare(&self, program: &RootPath, inputs: &[BlobId]) {
        let inputs = inputs.iter().copied().filter(|id| !self.inner.has.contains(*id)).collect();
        let _ = self.ahead.try_send(Ahead { program: program.clone(), inputs });
    }

    fn accepts(&self, job: &Job) -> Result<(), Refusal> {
        if self.guests { Refusal::unless_plain(&job.limits) } else { Ok(()) }
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

/// No code that holds one of these locks can panic half-way through a change.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What an answer of a wrong kind is.
fn confused(answer: &FromService) -> io::Error {
    let text = format!("{answer:?}");
    let text: String = text.chars().take(100).collect();
    io::Error::new(io::ErrorKind::InvalidData, format!("the service answers with {text}"))
}
