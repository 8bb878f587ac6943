//! The coordinator's side of the driver.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use ggr_ir::{BlobId, Job, Kind, Limits, Reduction, ReductionCache, Thunk, ThunkId};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use super::record::{Failure, Finished};
use super::report::{BuildEvent, Counts};
use crate::durations::Durations;
use crate::locality::Placement;
use crate::scheduler::Urgency;

/// A thunk to be forced.
#[derive(Clone, Debug)]
pub struct Submission {
    /// The id of the thunk as it is, with what it waits for named as outputs of other thunks.
    pub id: ThunkId,
    /// What to run. Each thunk that it waits for has been submitted before it.
    pub thunk: Arc<Thunk>,
    /// The kind of work.
    pub kind: Kind,
    /// What to call it in front of the user, as `gcc foo.o`. Also the key of its remembered duration.
    pub label: Arc<str>,
    /// Bounds on each attempt.
    pub limits: Limits,
    /// How long it will take; by default what [`Durations`] remembers.
    pub estimate: Option<Duration>,
    /// Whether results may be looked up and recorded.
    pub cacheable: bool,
    /// Whether somebody waits for it already.
    pub urgency: Urgency,
}

/// A thunk that seems to have failed. What depends on it waits until the caller answers with
/// [`DriverHandle::resolve_externally`] or [`DriverHandle::confirm_failure`].
#[derive(Clone, Debug)]
pub struct Doubt {
    /// Which thunk.
    pub id: ThunkId,
    /// What it is called.
    pub label: Arc<str>,
    /// Why.
    pub failure: Arc<Failure>,
}

/// What is done about a thunk that fails in the sandbox.
#[derive(Clone, Debug, Default)]
pub enum Failures {
    /// It has failed.
    #[default]
    Believe,
    /// The receiver looks into it and answers. Bound: the submitted thunks.
    Ask(mpsc::UnboundedSender<Doubt>),
}

/// Brings blobs that are missing from the store, and that this job reads, back into it, or says why that is not possible.
pub type Heal = Arc<dyn Fn(Arc<Job>, Vec<BlobId>) -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// What a driver works with besides its backends.
#[derive(Clone, Default)]
pub struct Options {
    /// Recorded results; with none, everything runs.
    pub cache: Option<Arc<dyn ReductionCache>>,
    /// Remembered durations: read for estimates, and added to.
    pub durations: Option<Arc<Mutex<Durations>>>,
    /// What is done about failures.
    pub failures: Failures,
    /// How to bring missing inputs back; with none, they stay missing.
    pub heal: Option<Heal>,
    /// Which of several places that keep inputs gets a thunk.
    pub placement: Placement,
    /// Where the jitter of retries starts from.
    pub seed: u64,
}

/// The answer to a wait.
pub type Verdict = Result<Arc<Finished>, Arc<Failure>>;

/// Until when to wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Until {
    /// It is settled.
    Settled,
    /// It is settled or in doubt.
    Doubted,
}

#[derive(Debug)]
pub(super) enum Message {
    Submit(Submission),
    Wait { id: ThunkId, until: Until, urgency: Urgency, reply: oneshot::Sender<Verdict> },
    Demand(ThunkId),
    Resolve { id: ThunkId, reduction: Reduction },
    Confirm(ThunkId),
    Cancel(ThunkId),
    CancelAll,
    Idle(oneshot::Sender<()>),
    Shutdown(oneshot::Sender<()>),
}

/// Talks to a driver. Clones talk to the same one; when the last is gone, the driver cancels what is left and ends.
///
/// Messages of one task are taken in their order: a wait after a submit finds the thunk.
#[derive(Clone, Debug)]
pub struct DriverHandle {
    pub(super) messages: mpsc::Sender<Message>,
    pub(super) events: broadcast::Sender<BuildEvent>,
    pub(super) counts: watch::Receiver<Counts>,
}

impl DriverHandle {
    /// Hands over a thunk. Waits while the driver is hundreds of messages behind. A thunk that was submitted before is
    /// not submitted again, unless it has failed since.
    pub async fn submit(&self, submission: Submission) {
        self.send(Message::Submit(submission)).await;
    }

    /// Waits for the thunk's result, and has it made first.
    ///
    /// # Errors
    /// Why there is none. A thunk in doubt is waited for until somebody answers.
    pub async fn wait(&self, id: ThunkId) -> Verdict {
        self.ask(id, Until::Settled, Urgency::Awaited).await
    }

    /// As [`wait`](Self::wait), but also returns when the thunk is in doubt, with the reason for that.
    ///
    /// # Errors
    /// Why there is no result, or why there seems to be none.
    pub async fn verdict(&self, id: ThunkId) -> Verdict {
        self.ask(id, Until::Doubted, Urgency::Awaited).await
    }

    /// As [`verdict`](Self::verdict), but the thunk is left to its turn: for those who do not hold anybody up.
    ///
    /// # Errors
    /// Why there is no result, or why there seems to be none.
    pub async fn follow(&self, id: ThunkId) -> Verdict {
        self.ask(id, Until::Doubted, Urgency::Eventual).await
    }

    /// Has the thunk, and all that it waits for, made before others.
    pub async fn demand(&self, id: ThunkId) {
        self.send(Message::Demand(id)).await;
    }

    /// Gives a thunk its result: somebody ran the command on the user's tree. The outputs are in the store. Nothing
    /// happens if it is settled already.
    pub async fn resolve_externally(&self, id: ThunkId, reduction: Reduction) {
        self.send(Message::Resolve { id, reduction }).await;
    }

    /// Says that a thunk in doubt has failed.
    pub async fn confirm_failure(&self, id: ThunkId) {
        self.send(Message::Confirm(id)).await;
    }

    /// Gives up a thunk and all that depends on it.
    pub async fn cancel(&self, id: ThunkId) {
        self.send(Message::Cancel(id)).await;
    }

    /// Gives up all that was submitted so far. Later submissions are taken as ever.
    pub async fn cancel_all(&self) {
        self.send(Message::CancelAll).await;
    }

    /// Waits until every thunk submitted so far, and since, is settled.
    pub async fn idle(&self) {
        let (reply, done) = oneshot::channel();
        self.send(Message::Idle(reply)).await;
        let _ = done.await;
    }

    /// Gives up what is left, waits for the attempts in flight to end, for the records to be written, and for the
    /// backends to close (unless somebody else holds them).
    pub async fn shutdown(&self) {
        let (reply, done) = oneshot::channel();
        self.send(Message::Shutdown(reply)).await;
        let _ = done.await;
    }

    /// What happens from now on.
    pub fn events(&self) -> broadcast::Receiver<BuildEvent> {
        self.events.subscribe()
    }

    /// How far the build is.
    pub fn counts(&self) -> watch::Receiver<Counts> {
        self.counts.clone()
    }

    async fn ask(&self, id: ThunkId, until: Until, urgency: Urgency) -> Verdict {
        let (reply, verdict) = oneshot::channel();
        self.send(Message::Wait { id, until, urgency, reply }).await;
        verdict.await.unwrap_or_else(|_| Err(Arc::new(Failure::Stopped)))
    }

    /// A driver that has stopped takes no messages; whoever waits learns that from his reply channel.
    async fn send(&self, message: Message) {
        let _ = self.messages.send(message).await;
    }
}
