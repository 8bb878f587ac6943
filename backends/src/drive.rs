//! Carries out what the scheduler decides: one task that owns the scheduler and the backends, and the crate's only
//! `select!`.
//!
//! The coordinator submits thunks as it traces them, and waits for those that somebody reads. A thunk whose inputs are
//! known is resolved, looked up in the cache, and else run. A thunk that fails is put in doubt, and what depends on it
//! waits for the caller's answer.
//!
//! **Invariant:** a result is recorded only after the backend said that its outputs are in the store.
//! **Invariant:** each wait is answered exactly once, also when the driver ends.
//! **Bound:** messages queue up to [`INBOX`]; after that, submitting waits.

mod act;
mod ahead;
mod chain;
mod handle;
mod pack;
mod record;
mod recorder;
mod report;
mod submit;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::{AbortHandle, BoxFuture, FutureExt};
use futures_util::stream::{FuturesUnordered, StreamExt};
use ggr_ir::{Attempt, Followed, InfraFailure, Limits, Reduction, ThunkId};
use rustc_hash::FxHashMap;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

pub use handle::{Doubt, DriverHandle, Failures, Heal, Options, Submission, Verdict};
pub use record::{Failure, Finished, Origin};
pub use report::{AttemptReport, BuildEvent, Counts};

use crate::backend::Backend;
use crate::locality::Locality;
use crate::scheduler::{Action, AttemptId, BackendId, BackendSpec, Event, NodeId, Scheduler, Urgency};
use chain::Early;
use handle::{Message, Until};
use pack::Packer;
use record::Record;
use recorder::Recorder;

/// Messages that may wait for the driver: some milliseconds of work. Each may hold a thunk, of 2 KiB and more.
pub const INBOX: usize = 512;

/// Events that a slow reader may be behind; about 200 bytes each, which the channel holds from the start.
const EVENTS: usize = 4096;

/// Messages, ended attempts or checks handled in one turn, before the others get theirs. The same for all, or what comes
/// in faster than it goes out would pile up. Slots may stand idle until the turn ends, and a check of a real compile (300
/// inputs, one look into the cache) takes about 100 µs.
const BATCH: usize = 64;

/// With more thunks open than this, new ones are packed. A packed thunk is packed once and unpacked twice, together 50 to
/// 100 µs for 300 inputs: nothing next to the time until its turn comes.
const PACK_OVER: usize = 2048;

/// An estimate where nothing at all is known.
const UNKNOWN: Duration = Duration::from_millis(500);

/// An attempt in flight.
#[derive(Debug)]
struct Flight {
    node: NodeId,
    backend: BackendId,
    abort: AbortHandle,
}

/// What one of the driver's futures came to.
enum Completion {
    /// An attempt ended, and what ran behind it; with nothing if it was aborted.
    Ended(AttemptId, Option<Box<(Attempt, Vec<Followed>)>>),
    /// A result was fetched from far away, or was not there after all.
    Fetched(NodeId, Option<Reduction>),
    /// Healing ended.
    Healed(NodeId, Result<(), String>),
}

/// What the event in hand carries, for the action that it leads to.
#[derive(Debug, Default)]
enum Stash {
    #[default]
    Empty,
    Finished(Finished, Option<AttemptReport>),
    Failure(Failure),
}

/// Somebody who waits for a thunk.
#[derive(Debug)]
struct Waiter {
    until: Until,
    reply: oneshot::Sender<Verdict>,
}

/// The task.
pub struct Driver {
    scheduler: Scheduler,
    locality: Locality,
    backends: Vec<Arc<dyn Backend>>,
    names: Vec<Arc<str>>,
    options: Options,
    recorder: Option<Recorder>,
    messages: mpsc::Receiver<Message>,
    events: broadcast::Sender<BuildEvent>,
    published: watch::Sender<Counts>,
    counts: Counts,
    nodes: FxHashMap<ThunkId, NodeId>,
    records: Vec<Record>,
    packer: Packer,
    /// Those of the latest submission: nearly all have the same.
    limits: Arc<Limits>,
    waiters: FxHashMap<NodeId, Vec<Waiter>>,
    idlers: Vec<oneshot::Sender<()>>,
    stoppers: Vec<oneshot::Sender<()>>,
    checks: VecDeque<NodeId>,
    flights: FxHashMap<AttemptId, Flight>,
    running: FuturesUnordered<BoxFuture<'static, Completion>>,
    /// Bound: those behind attempts that have ended; each is taken by its check, which follows at once.
    early: FxHashMap<ThunkId, Early>,
    stash: Stash,
    actions: Vec<Action>,
}

impl Driver {
    /// Starts a driver on the current tokio runtime. The backends are filled in the order given.
    ///
    /// # Panics
    /// Outside a tokio runtime, or with more than 16 backends.
    pub fn spawn(backends: Vec<Arc<dyn Backend>>, options: Options) -> DriverHandle {
        let (messages, inbox) = mpsc::channel(INBOX);
        let (events, _) = broadcast::channel(EVENTS);
        let (published, counts) = watch::channel(Counts::default());
        let specs: Vec<_> = backends
            .iter()
            .map(|b| BackendSpec {
                slots: u32::try_from(b.slots()).unwrap_or(u32::MAX),
                duplicates: b.duplicates(),
                keeps: b.keeps(),
            })
            .collect();
        let mut scheduler = Scheduler::new(&specs, options.seed);
        for (i, _) in backends.iter().enumerate().filter(|(_, backend)| backend.standby()) {
            scheduler.stand_by(BackendId(i as u8));
        }
        let keepers = backends.iter().enumerate().filter(|(_, backend)| backend.keeps());
        let keepers = keepers.map(|(i, _)| BackendId(i as u8)).collect();
        let driver = Self {
            scheduler,
            locality: Locality::new(options.placement, keepers, options.seed),
            names: backends.iter().map(|b| b.name().into()).collect(),
            backends,
            recorder: options.cache.clone().map(|cache| Recorder::start(cache, events.clone())),
            options,
            messages: inbox,
            events: events.clone(),
            published,
            counts: Counts::default(),
            nodes: FxHashMap::default(),
            records: Vec::new(),
            packer: Packer::default(),
            limits: Arc::default(),
            waiters: FxHashMap::default(),
            idlers: Vec::new(),
            stoppers: Vec::new(),
            checks: VecDeque::new(),
            flights: FxHashMap::default(),
            running: FuturesUnordered::new(),
            early: FxHashMap::default(),
            stash: Stash::Empty,
            actions: Vec::new(),
        };
        drop(tokio::spawn(driver.run()));
        DriverHandle { messages, events, counts }
    }

    async fn run(mut self) {
        let mut inbox = Vec::with_capacity(BATCH);
        loop {
            let deadline = self.scheduler.next_deadline();
            tokio::select! {
                taken = self.messages.recv_many(&mut inbox, BATCH) => {
                    if taken == 0 {
                        break;
                    }
                }
                Some(completion) = self.running.next() => self.complete(completion),
                () = std::future::ready(()), if !self.checks.is_empty() => {}
                () = sleep_until(deadline) => self.tell(Event::Tick),
            }
            // Whatever woke it, each source gets a bounded turn: so none starves, and what is nearly done goes first.
            self.complete_batch();
            inbox.drain(..).for_each(|message| self.take(message));
            self.check_batch();
            self.fill();
            self.prepare_next();
            self.publish();
            if !self.stoppers.is_empty() {
                break;
            }
        }
        self.stop().await;
    }

    /// Ends: what is left is cancelled, attempts are waited for, records written, backends let go.
    async fn stop(mut self) {
        self.tell(Event::CancelAll);
        while let Some(completion) = self.running.next().await {
            self.complete(completion);
        }
        if let Some(recorder) = self.recorder.take() {
            recorder.finish().await;
        }
        let backends = std::mem::take(&mut self.backends);
        // Backends may have processes to end, and wait for them.
        let _ = tokio::task::spawn_blocking(move || drop(backends)).await;
        self.publish();
        release(self.stoppers.drain(..).chain(self.idlers.drain(..)));
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Submit(submission) => self.submit(submission),
            Message::Wait { id, until, urgency, reply } => self.wait(id, Waiter { until, reply }, urgency),
            Message::Demand(id) => self.tell_of(id, Event::Demand),
            Message::Resolve { id, reduction } => {
                self.stash = Stash::Finished(Finished::new(reduction, Origin::External), None);
                self.tell_of(id, Event::External);
                self.stash = Stash::Empty;
            }
            Message::Confirm(id) => self.tell_of(id, Event::Confirm),
            Message::Cancel(id) => self.tell_of(id, Event::Cancel),
            Message::CancelAll => self.tell(Event::CancelAll),
            Message::Idle(reply) => self.idlers.push(reply),
            Message::Shutdown(reply) => self.stoppers.push(reply),
        }
    }

    fn tell_of(&mut self, id: ThunkId, event: impl Fn(NodeId) -> Event) {
        if let Some(node) = self.nodes.get(&id) {
            self.tell(event(*node));
        }
    }

    /// Tells the scheduler, and does what it says.
    fn tell(&mut self, event: Event) {
        let mut actions = std::mem::take(&mut self.actions);
        self.scheduler.handle(event, Instant::now(), &mut actions);
        actions.drain(..).for_each(|action| self.act(action));
        self.actions = actions;
        self.stash = Stash::Empty;
    }

    /// Has the free slots filled.
    fn fill(&mut self) {
        let mut actions = std::mem::take(&mut self.actions);
        self.scheduler.fill(Instant::now(), &mut actions);
        actions.drain(..).for_each(|action| self.act(action));
        self.actions = actions;
    }

    fn wait(&mut self, id: ThunkId, waiter: Waiter, urgency: Urgency) {
        let Some(&node) = self.nodes.get(&id) else {
            let _ = waiter.reply.send(Err(Arc::new(Failure::Unknown(id))));
            return;
        };
        let answer = match &self.records[node.0 as usize] {
            Record::Done(finished) => Some(Ok(finished.clone())),
            Record::Failed(failed) => Some(Err(failed.failure.clone())),
            Record::Pending(pending) if waiter.until == Until::Doubted => pending.failure.clone().map(Err),
            Record::Pending(_) => None,
        };
        match answer {
            Some(answer) => drop(waiter.reply.send(answer)),
            None => {
                self.waiters.entry(node).or_default().push(waiter);
                if urgency == Urgency::Awaited {
                    self.tell(Event::Demand(node));
                }
            }
        }
    }

    /// Handles the ends that are there already.
    fn complete_batch(&mut self) {
        for _ in 0..BATCH {
            match self.running.next().now_or_never() {
                Some(Some(completion)) => self.complete(completion),
                _ => break,
            }
        }
    }

    fn complete(&mut self, completion: Completion) {
        match completion {
            Completion::Ended(attempt, result) => self.attempt_ended(attempt, result),
            Completion::Fetched(node, reduction) => self.fetched(node, reduction),
            Completion::Healed(node, result) => {
                if let Err(why) = &result {
                    let failure =
                        InfraFailure::Unreachable(format!("missing inputs could not be restored: {why}"));
                    self.stash = Stash::Failure(Failure::Infra { backend: "store".into(), failure });
                }
                self.tell(Event::Healed { node, healed: result.is_ok() });
            }
        }
    }

    fn check_batch(&mut self) {
        for _ in 0..BATCH {
            let Some(node) = self.checks.pop_front() else { return };
            self.check(node);
        }
    }

    fn emit(&self, event: impl FnOnce() -> BuildEvent) {
        if self.events.receiver_count() > 0 {
            let _ = self.events.send(event());
        }
    }

    /// Shows how far it is, and lets those go who wait for the end.
    fn publish(&mut self) {
        let tally = self.scheduler.tally();
        self.counts.ready = tally.ready;
        self.counts.doubted = tally.doubted;
        self.counts.running = self.flights.len() as u64;
        self.counts.open = self.scheduler.open() as u64;
        let counts = self.counts;
        self.published.send_if_modified(|shown| std::mem::replace(shown, counts) != counts);
        if self.scheduler.open() == 0 {
            self.packer.clear();
            self.early.clear();
            release(self.idlers.drain(..));
        }
    }
}

/// Lets them go. One who has gone already is none of our business.
fn release(waiters: impl Iterator<Item = oneshot::Sender<()>>) {
    for waiter in waiters {
        let _ = waiter.send(());
    }
}

/// Never, if there is no deadline.
async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
