//! One connection to a service: requests with numbers, their answers, and blobs both ways.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ggr_ir::protocol::service::{self as wire, FromService, Hello, MAX_FRAME, MAX_IDS, ToService, VERSION};
use ggr_ir::protocol::worker;
use ggr_ir::{Attempt, BlobId, InfraFailure, Job};
use tokio::io::{AsyncRead, AsyncWriteExt};
use tokio::sync::{Mutex as AsyncMutex, mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::{RemoteOptions, confused, lock};
use crate::service::Address;
use crate::service::address::connect;
use crate::service::wire::{Intake, Pieces, QUEUE, read_frame, reading, write_frames};
use crate::store::FsStore;

/// Each side is told so often within the client's patience that the other is there.
const PINGS: u32 = 4;

/// What the reader and the requests share.
#[derive(Debug)]
struct Shared {
    waiting: Mutex<HashMap<u64, oneshot::Sender<FromService>>>,
    alive: AtomicBool,
    /// Why it ended.
    why: Mutex<String>,
}

/// Where blobs that come are put.
#[derive(Clone, Debug)]
pub(crate) struct Shelf {
    pub(crate) store: Arc<FsStore>,
    /// The user that their files are given to.
    pub(crate) owner: Option<u32>,
}

/// A connection that has been welcomed.
#[derive(Debug)]
pub(crate) struct Connection {
    shared: Arc<Shared>,
    out: mpsc::Sender<Vec<u8>>,
    next: AtomicU64,
    /// When programs were last said to be near.
    expected: Mutex<HashMap<String, Instant>>,
    /// Whether it is for what is done ahead, beside the one for jobs.
    aside: bool,
    /// Held while a blob is sent: they go one at a time.
    sending: AsyncMutex<()>,
    tasks: [AbortHandle; 3],
    /// What the service said of itself.
    pub(super) slots: u32,
    /// Whether its jobs run in guests.
    pub(super) guests: bool,
}

impl Connection {
    /// Connects and says hello. Blobs that come go into `store`; without one they are refused.
    pub(crate) async fn open(options: &RemoteOptions, store: Option<Shelf>) -> io::Result<Self> {
        let patience = options.patience;
        let opened = timeout(patience, Self::greet(options, store)).await;
        opened.unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "it does not answer")))
    }

    async fn greet(options: &RemoteOptions, store: Option<Shelf>) -> io::Result<Self> {
        let stream = connect(&options.address, options.authority.as_deref()).await?;
        let packed = options.packed && !matches!(options.address, Address::Unix(_));
        let (mut from, mut to) = tokio::io::split(stream);
        let hello = Hello { version: VERSION, token: options.token.clone(), packed };
        to.write_all(&worker::to_frame(&hello)).await?;
        to.flush().await?;
        let frame = read_frame(&mut from, MAX_FRAME).await?;
        let frame = frame.ok_or_else(|| io::Error::other("it hangs up"))?;
        let (slots, isolation) = match wire::from_service(&frame)? {
            FromService::Welcome { version: VERSION, slots, isolation, .. } => (slots, isolation),
            FromService::Refused(why) => {
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("it refuses: {why}")));
            }
            other => return Err(confused(&other)),
        };
        let shared = Arc::new(Shared {
            waiting: Mutex::default(),
            alive: AtomicBool::new(true),
            why: Mutex::default(),
        });
        let (out, frames) = mpsc::channel(QUEUE);
        let writer = tokio::spawn(write_frames(to, frames, packed)).abort_handle();
        let (heard, patience, from) = (Arc::clone(&shared), options.patience, reading(from, packed)?);
        let reader = tokio::spawn(async move {
            let ended = heard.listen(from, store, patience).await;
            heard.end(&ended.map_or_else(|e| e.to_string(), |()| "it hung up".to_owned()));
        });
        let pinger = tokio::spawn(ping(out.downgrade(), patience / PINGS));
        Ok(Self {
            shared,
            out,
            next: AtomicU64::new(1),
            expected: Mutex::default(),
            aside: false,
            sending: AsyncMutex::default(),
            tasks: [writer, reader.abort_handle(), pinger.abort_handle()],
            slots,
            guests: isolation == "microvm",
        })
    }

    /// A connection for what is done ahead: what jobs have to say does not queue up behind it.
    pub(super) fn aside(mut self) -> Self {
        self.aside = true;
        self
    }

    pub(super) fn is_aside(&self) -> bool {
        self.aside
    }

    pub(crate) fn alive(&self) -> bool {
        self.shared.alive.load(Ordering::Acquire)
    }

    pub(super) fn died(&self) -> InfraFailure {
        let why = lock(&self.shared.why);
        InfraFailure::WorkerDied(format!("the connection to the service broke: {why}"))
    }

    async fn send(&self, message: &ToService) -> Result<(), InfraFailure> {
        self.out.send(worker::to_frame(message)).await.map_err(|_| self.died())
    }

    /// Sends a request and waits for its answer. Dropping the future withdraws it.
    pub(super) async fn ask(
        &self,
        request: impl FnOnce(u64) -> ToService,
    ) -> Result<FromService, InfraFailure> {
        let seq = self.next.fetch_add(1, Ordering::Relaxed);
        let (reply, answer) = oneshot::channel();
        lock(&self.shared.waiting).insert(seq, reply);
        let _withdraw = Withdraw { connection: self, seq };
        // Looked at after the line above: the reader fails those that wait when it ends.
        if !self.alive() {
            return Err(self.died());
        }
        self.send(&request(seq)).await?;
        answer.await.map_err(|_| self.died())
    }

    /// Which of these the service lacks.
    pub(super) async fn missing(&self, ids: &[BlobId]) -> Result<Vec<BlobId>, InfraFailure> {
        let mut all = Vec::new();
        for ids in ids.chunks(MAX_IDS) {
            match self.ask(|seq| ToService::Missing { seq, ids: ids.to_vec() }).await? {
                FromService::Missing { ids, .. } => all.extend(ids),
                other => return Err(InfraFailure::WorkerDied(confused(&other).to_string())),
            }
        }
        Ok(all)
    }

    /// Sends a blob; whether it is here.
    pub(super) async fn push_one(&self, store: &FsStore, id: BlobId) -> Result<bool, InfraFailure> {
        let _turn = self.sending.lock().await;
        let Ok(file) = store.open(id) else { return Ok(false) };
        let mut pieces = Pieces::of(id, file);
        loop {
            match pieces.next() {
                Ok(Some(piece)) => self.send(&ToService::Blob(piece)).await?,
                Ok(None) => return Ok(true),
                Err(_) => return Ok(false),
            }
        }
    }

    /// Says that thunks of this program are near; not again before half of that time is over.
    pub(super) async fn expect(&self, program: &str, within_ms: u32) -> Result<(), InfraFailure> {
        let half = Duration::from_millis(u64::from(within_ms / 2));
        {
            let mut expected = lock(&self.expected);
            if expected.get(program).is_some_and(|told: &Instant| told.elapsed() < half) {
                return Ok(());
            }
            expected.insert(program.to_owned(), Instant::now());
        }
        self.send(&ToService::Expect { program: program.to_owned(), count: 1, within_ms }).await
    }

    /// Has the service run a job whose inputs it has.
    pub(super) async fn run(&self, job: &Job) -> Result<Attempt, InfraFailure> {
        match self.ask(|seq| ToService::Run { seq, job: job.clone() }).await? {
            FromService::Done { attempt, .. } => Ok(attempt),
            other => Err(InfraFailure::WorkerDied(confused(&other).to_string())),
        }
    }

    /// Has the service send these; what it does not have is missing afterwards.
    pub(crate) async fn fetch(&self, ids: &[BlobId]) -> Result<(), InfraFailure> {
        for ids in ids.chunks(MAX_IDS) {
            match self.ask(|seq| ToService::Fetch { seq, ids: ids.to_vec() }).await? {
                FromService::Fetched { .. } => {}
                other => return Err(InfraFailure::WorkerDied(confused(&other).to_string())),
            }
        }
        Ok(())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

/// Tells the service that nobody waits for an answer any more.
struct Withdraw<'a> {
    connection: &'a Connection,
    seq: u64,
}

impl Drop for Withdraw<'_> {
    fn drop(&mut self) {
        let waited = lock(&self.connection.shared.waiting).remove(&self.seq).is_some();
        if waited && self.connection.alive() {
            let frame = worker::to_frame(&ToService::Cancel { seq: self.seq });
            // A full queue is that of a slow link; then the job runs on for nothing, which is harmless.
            let _ = self.connection.out.try_send(frame);
        }
    }
}

impl Shared {
    /// Reads until the connection ends, or nothing was heard for `patience`.
    async fn listen(
        &self,
        mut from: impl AsyncRead + Unpin,
        store: Option<Shelf>,
        patience: Duration,
    ) -> io::Result<()> {
        let mut intake = Intake::default();
        loop {
            let heard = timeout(patience, read_frame(&mut from, MAX_FRAME)).await;
            let silent = |_| io::Error::other(format!("nothing was heard for {patience:?}"));
            let Some(frame) = heard.map_err(silent)?? else { return Ok(()) };
            let message = wire::from_service(&frame)?;
            let seq = match &message {
                FromService::Pong | FromService::Draining => continue,
                FromService::Refused(why) => return Err(io::Error::other(why.clone())),
                FromService::Blob(piece) => {
                    let shelf = store.as_ref().ok_or_else(|| confused(&message))?;
                    // What cannot be stored is found missing by who asked for it.
                    let _ = intake.take(&shelf.store, piece, shelf.owner);
                    continue;
                }
                FromService::Missing { seq, .. }
                | FromService::Fetched { seq, .. }
                | FromService::Done { seq, .. }
                | FromService::Status { seq, .. }
                | FromService::Carried { seq, .. } => *seq,
                FromService::Welcome { .. } => return Err(confused(&message)),
            };
            // Whoever asked may not be there any more.
            if let Some(waiting) = lock(&self.waiting).remove(&seq) {
                let _ = waiting.send(message);
            }
        }
    }

    fn end(&self, why: &str) {
        why.clone_into(&mut lock(&self.why));
        self.alive.store(false, Ordering::Release);
        lock(&self.waiting).clear();
    }
}

/// Asks whether the service is there, for as long as the connection is.
async fn ping(out: mpsc::WeakSender<Vec<u8>>, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        let Some(out) = out.upgrade() else { return };
        // A full queue is as good as a ping.
        let _ = out.try_send(worker::to_frame(&ToService::Ping));
    }
}
