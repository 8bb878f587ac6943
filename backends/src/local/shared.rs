//! What the pool's thread and its callers share: the connection, and who waits for which answer.

use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};

use ggr_ir::protocol::worker::{self, Hello, Request};
use ggr_ir::{Attempt, InfraFailure, Job};
use rustc_hash::FxHashMap;
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};

use crate::jobserver::Token;

/// What a job holds until the worker has answered: its slot here, and its token of make's.
pub(super) type Hold = (OwnedSemaphorePermit, Option<Token>);

/// Whether there is a worker.
#[derive(Clone, Debug)]
enum Status {
    /// It is being started.
    Starting,
    /// It takes jobs.
    Up(Hello),
    /// There will be none.
    Broken(Arc<str>),
}

/// A job that the worker has.
#[derive(Debug)]
struct Waiting {
    reply: oneshot::Sender<Result<Attempt, InfraFailure>>,
    _hold: Hold,
}

/// The connection to the worker that runs now.
#[derive(Debug)]
pub(super) struct Connection {
    /// Frames for the writing thread. Bound: a `Run` and a `Cancel` for each slot.
    pub(super) frames: mpsc::Sender<Vec<u8>>,
}

#[derive(Debug, Default)]
struct State {
    /// The socket of the worker that runs now, also before it has said hello.
    socket: Option<UnixStream>,
    connection: Option<Connection>,
    waiting: FxHashMap<u64, Waiting>,
    next: u64,
    /// Somebody has asked for a worker.
    wanted: bool,
    closing: bool,
}

/// The meeting place.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    /// Told when `wanted` or `closing` is set.
    woken: Condvar,
    status: watch::Sender<Status>,
}

impl Shared {
    pub(super) fn new() -> Self {
        Self { state: Mutex::default(), woken: Condvar::new(), status: watch::channel(Status::Starting).0 }
    }

    /// No code that holds the lock can panic half-way through a change.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Blocks until a worker is wanted; false if the pool closes before.
    pub(super) fn wait_until_wanted(&self) -> bool {
        let state = self.lock();
        let idle = |state: &mut State| !state.wanted && !state.closing;
        let state = self.woken.wait_while(state, idle).unwrap_or_else(PoisonError::into_inner);
        !state.closing
    }

    /// What the worker that runs now has said of itself.
    pub(super) fn hello(&self) -> Option<Hello> {
        match &*self.status.borrow() {
            Status::Up(hello) => Some(hello.clone()),
            Status::Starting | Status::Broken(_) => None,
        }
    }

    /// Waits for a worker, and has it started if it is the first.
    pub(super) async fn up(&self) -> Result<Hello, String> {
        self.lock().wanted = true;
        self.woken.notify_all();
        let mut status = self.status.subscribe();
        let known = status.wait_for(|status| !matches!(status, Status::Starting)).await;
        match known.as_deref() {
            Ok(Status::Up(hello)) => Ok(hello.clone()),
            Ok(Status::Broken(why)) => Err(why.to_string()),
            Ok(Status::Starting) | Err(_) => Err("the local pool has been closed".to_owned()),
        }
    }

    /// Has the worker run the job. Dropping the future cancels the job; what it holds is given back when the worker has
    /// answered.
    pub(super) async fn run(self: &Arc<Self>, job: &Job, hold: Hold) -> Result<Attempt, InfraFailure> {
        let mut hold = hold;
        loop {
            self.up().await.map_err(InfraFailure::Unreachable)?;
            match self.send(job, hold) {
                Ok((seq, answer)) => {
                    let _cancel = CancelOnDrop { shared: self, seq };
                    let dropped = || Err(InfraFailure::WorkerDied("the local pool was closed".to_owned()));
                    return answer.await.unwrap_or_else(|_| dropped());
                }
                // The worker died between the two lines above.
                Err(again) => hold = again,
            }
            tokio::task::yield_now().await;
        }
    }

    fn send(&self, job: &Job, hold: Hold) -> Result<(u64, Answer), Hold> {
        let mut state = self.lock();
        let state = &mut *state;
        let Some(connection) = &state.connection else { return Err(hold) };
        let seq = state.next;
        state.next += 1;
        // A connection that is going down takes frames and loses them; its jobs are failed when it is down.
        let _ = connection.frames.send(worker::to_frame(&Request::Run { seq, job: job.clone() }));
        let (reply, answer) = oneshot::channel();
        state.waiting.insert(seq, Waiting { reply, _hold: hold });
        Ok((seq, answer))
    }

    /// A worker was started. False if the pool is closing.
    pub(super) fn starting(&self, socket: UnixStream) -> bool {
        let mut state = self.lock();
        state.socket = Some(socket);
        !state.closing
    }

    /// The worker has said hello. False if the pool is closing.
    pub(super) fn open(&self, connection: Connection, hello: Hello) -> bool {
        let mut state = self.lock();
        if !state.closing {
            state.connection = Some(connection);
            self.status.send_replace(Status::Up(hello));
        }
        !state.closing
    }

    /// The worker has answered. False if nobody asked: then it is confused.
    pub(super) fn answer(&self, seq: u64, attempt: Attempt) -> bool {
        let waiting = self.lock().waiting.remove(&seq);
        match waiting {
            // Whoever cancelled does not listen any more.
            Some(waiting) => drop(waiting.reply.send(Ok(attempt))),
            None => return false,
        }
        true
    }

    /// The worker takes no more jobs. Whatever it has is still waited for.
    pub(super) fn disconnect(&self) {
        let mut state = self.lock();
        self.status.send_replace(Status::Starting);
        (state.connection, state.socket) = (None, None);
    }

    /// The worker is gone: whatever it had has failed.
    pub(super) fn lost(&self, why: &str) {
        let waiting = std::mem::take(&mut self.lock().waiting);
        for (_, waiting) in waiting {
            let _ = waiting.reply.send(Err(InfraFailure::WorkerDied(why.to_owned())));
        }
    }

    /// There will be no worker.
    pub(super) fn give_up(&self, why: &str) {
        self.status.send_replace(Status::Broken(why.into()));
    }

    /// The pool ends: the worker's socket is shut, which it takes as the order to stop everything.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closing = true;
        self.woken.notify_all();
        if let Some(socket) = &state.socket {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    pub(super) fn closing(&self) -> bool {
        self.lock().closing
    }
}

type Answer = oneshot::Receiver<Result<Attempt, InfraFailure>>;

/// Tells the worker to stop a job that nobody waits for any more.
struct CancelOnDrop<'a> {
    shared: &'a Shared,
    seq: u64,
}

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        let state = self.shared.lock();
        if state.waiting.contains_key(&self.seq)
            && let Some(connection) = &state.connection
        {
            let _ = connection.frames.send(worker::to_frame(&Request::Cancel { seq: self.seq }));
        }
    }
}
