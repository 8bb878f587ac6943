//! Short jobs that are ready together go in one invocation: starting one costs more than they do. Not while all slots are
//! taken: a job holds its slot until the whole invocation has ended, and others wait for it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use ggr_ir::protocol::lambda::{Inline, MAX_INLINE};
use ggr_ir::{Attempt, Followed, Follower, InfraFailure, Job, Outcome};
use tokio::sync::oneshot;

use super::send::Sender;

/// What usually takes no longer is short: about what an invocation costs beside its program (5 to 50 ms).
const SHORT: Duration = Duration::from_millis(60);

/// What one invocation's jobs may usually take together: the last one waits for all before it.
const TOGETHER: Duration = Duration::from_millis(120);

/// The most of them.
const MOST: usize = 16;

/// How long the first one waits for company: the scheduler starts what is ready in one turn, which takes less.
pub(crate) const WINDOW: Duration = Duration::from_millis(2);

/// A job that is to be sent.
pub(super) struct Waiting {
    pub(super) job: Job,
    /// What runs behind it.
    pub(super) next: Vec<Follower>,
    pub(super) inline: Vec<Inline>,
    pub(super) attempt: Attempt,
    pub(super) reply: oneshot::Sender<(Attempt, Vec<Followed>)>,
    usual: Duration,
}

/// Those that wait for company. Bound: the backend's slots.
#[derive(Default)]
pub(super) struct Batch(Mutex<Vec<Waiting>>);

impl Batch {
    /// Adds one; whether it is the first.
    fn add(&self, waiting: Waiting) -> bool {
        let mut all = self.0.lock().expect("no holder panics");
        all.push(waiting);
        all.len() == 1
    }

    fn take(&self) -> Vec<Waiting> {
        std::mem::take(&mut *self.0.lock().expect("no holder panics"))
    }
}

/// Sends a job, alone or with others, and waits for its end. Dropping this takes the job out of what others wait for.
pub(super) async fn run(
    sender: &Arc<Sender>,
    (job, next): (&Job, Vec<Follower>),
    inline: Vec<Inline>,
    attempt: Attempt,
) -> (Attempt, Vec<Followed>) {
    let (reply, end) = oneshot::channel();
    let alone = !next.is_empty() || sender.is_solitary(job);
    let usual = company((sender.options.expected)(job), alone);
    let worker = attempt.worker;
    let waiting =
        Waiting { job: job.clone(), next, inline, attempt, reply, usual: usual.unwrap_or_default() };
    if usual.is_none() {
        // In this future itself: dropping it breaks the request off.
        sender.send(vec![waiting]).await;
    } else if sender.batch.add(waiting) {
        // Not in this future: whoever is first may be cancelled, and the others not.
        tokio::spawn(flush(Arc::clone(sender)));
    }
    end.await.unwrap_or_else(|_| {
        let outcome = Outcome::Infra(InfraFailure::WorkerDied("its invocation was given up".to_owned()));
        (Attempt { outcome, worker, ..super::nothing_yet() }, Vec::new())
    })
}

/// Sends all that have come together. Ends with the last answer; those who were cancelled do not wait for theirs.
async fn flush(sender: Arc<Sender>) {
    tokio::time::sleep(WINDOW).await;
    let size = |waiting: &Waiting| waiting.inline.iter().map(|inline| inline.bytes.len()).sum();
    let groups = divide(sender.batch.take(), sender.is_full(), |waiting| (waiting.usual, size(waiting)));
    let all = groups.into_iter().map(|mut group| {
        let sender = &sender;
        async move {
            group.retain(|waiting| !waiting.reply.is_closed());
            if !group.is_empty() {
                sender.send(group).await;
            }
        }
    });
    join_all(all).await;
}

/// What a job usually takes, if it is to wait for company: it is remembered to be short. One that a chain follows has that.
pub(crate) fn company(usual: Option<Duration>, alone: bool) -> Option<Duration> {
    usual.filter(|usual| *usual <= SHORT && !alone)
}

/// In the order in which they came, each group within the bounds; each alone if all slots are taken (`full`). `weigh` says what one usually takes, and the bytes of its
/// inputs that travel along.
pub(crate) fn divide<T>(all: Vec<T>, full: bool, weigh: impl Fn(&T) -> (Duration, usize)) -> Vec<Vec<T>> {
    let most = if full { 1 } else { MOST };
    let mut groups: Vec<Vec<T>> = Vec::new();
    let (mut time, mut bytes) = (Duration::ZERO, 0);
    for waiting in all {
        let (usual, size) = weigh(&waiting);
        (time, bytes) = (time + usual, bytes + size);
        match groups.last_mut() {
            Some(group) if group.len() < most && time <= TOGETHER && bytes <= MAX_INLINE / 2 => {
                group.push(waiting)
            }
            _ => {
                (time, bytes) = (usual, size);
                groups.push(vec![waiting]);
            }
        }
    }
    groups
}
