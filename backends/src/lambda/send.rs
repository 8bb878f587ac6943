//! Sends jobs to functions, and takes their answers apart.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use ggr_ir::protocol::lambda::{Answer, Inline, Invocation, MAX_MESSAGE, StoreAddress, encode};
use ggr_ir::{
    Attempt, BlobId, Followed, Follower, InfraFailure, Job, Limits, Network, Outcome, Reduction, ThunkId,
};
use tokio::sync::Semaphore;

use super::aws::ServiceError;
use super::batch::{Batch, Waiting};
use super::invoke::{Failed, Received};
use super::spending::Account;
use super::uploads::Uploads;
use super::{LONGEST, LambdaOptions, MARGIN, outputs};

/// The way to the functions; what all jobs share.
pub(super) struct Sender {
    pub(super) options: LambdaOptions,
    pub(super) uploads: Uploads,
    pub(super) account: Account,
    /// One for each slot.
    pub(super) permits: Semaphore,
    /// Short jobs that wait for company.
    pub(super) batch: Batch,
    /// Jobs whose invocation failed while they shared it: they go alone.
    solitary: Mutex<BTreeSet<ThunkId>>,
    turn: AtomicUsize,
}

impl Sender {
    pub(super) fn new(mut options: LambdaOptions) -> Self {
        let permits = Semaphore::new(options.slots.max(1));
        let uploads = Uploads::new(options.local.clone(), options.remote.clone());
        let requests = options.remote.as_ref().map(|remote| remote.requests.clone()).unwrap_or_default();
        let notice = std::mem::replace(&mut options.notice, Box::new(|_| ()));
        let account = Account::new(options.price, options.memory_mb, options.max_cost, requests, notice);
        Self {
            options,
            uploads,
            account,
            permits,
            batch: Batch::default(),
            solitary: Mutex::default(),
            turn: AtomicUsize::new(0),
        }
    }

    /// Asks every function to do nothing.
    pub(super) async fn check(&self) -> Result<(), ServiceError> {
        let ask = async |function: &String| {
            let mut invoked = self.account.begin(0);
            let sent = self
                .options
                .connection
                .invoke(function, self.message(Vec::new(), Vec::new(), Vec::new()), MARGIN)
                .await;
            invoked.ended(sent.as_ref().ok().map(|received| (&received.answer, received.bytes)));
            match sent {
                Err(Failed::Lasting(error) | Failed::Nobody(error)) => Err(error),
                // Throttled, or broken for the moment: the scheduler knows what to do about that.
                Err(Failed::Attempt(_)) | Ok(_) => Ok(()),
            }
        };
        join_all(self.options.functions.iter().map(ask)).await.into_iter().collect()
    }

    /// Brings inputs to where a function finds them; those that travel in the message.
    pub(super) async fn offer(&self, ids: BTreeSet<BlobId>) -> Result<Vec<Inline>, InfraFailure> {
        let offered = self.uploads.offer(ids).await;
        let refused = self.options.remote.as_ref().and_then(|remote| remote.requests.refused.get());
        if let (Err(_), Some(error)) = (&offered, refused) {
            self.account.close(&error.to_string());
            return Err(InfraFailure::Closed(error.to_string()));
        }
        offered
    }

    /// Whether all slots are taken.
    pub(super) fn is_full(&self) -> bool {
        self.permits.available_permits() == 0
    }

    /// Whether it is to go without company.
    pub(super) fn is_solitary(&self, job: &Job) -> bool {
        self.solitary.lock().expect("no holder panics").contains(&job.id)
    }

    /// Those that go with a job: none behind one that is to be alone, nor from one on that this place cannot run.
    pub(super) fn behind(&self, job: &Job, next: &[Follower]) -> Vec<Follower> {
        if self.is_solitary(job) {
            return Vec::new();
        }
        let fit = next.iter().take_while(|follower| follower.limits.network == Network::None);
        fit.map(|follower| Follower { limits: self.limited(follower.limits), ..follower.clone() }).collect()
    }

    /// Sends jobs in one invocation, and answers each.
    pub(super) async fn send(&self, group: Vec<Waiting>) {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % self.options.functions.len();
        let jobs: Vec<Job> = group
            .iter()
            .map(|Waiting { job, .. }| Job { limits: self.limited(job.limits), ..job.clone() })
            .collect();
        let chains: Vec<Vec<Follower>> = group.iter().map(|waiting| waiting.next.clone()).collect();
        let thunks = jobs.len() + chains.iter().map(Vec::len).sum::<usize>();
        let mut seen = BTreeSet::new();
        let inline = group.iter().flat_map(|waiting| &waiting.inline);
        let inline: Vec<Inline> = inline.filter(|inline| seen.insert(inline.id)).cloned().collect();
        let message = self.message(jobs, chains, inline);
        if message.len() > MAX_MESSAGE {
            let failure = InfraFailure::TooBig(format!("its message has {} bytes", message.len()));
            return self.all_failed(group, &failure, 0);
        }
        let mut invoked = self.account.begin(thunks);
        let limit = self.options.function_limit + MARGIN;
        let sent = self.options.connection.invoke(&self.options.functions[turn], message, limit).await;
        let took = invoked.elapsed();
        let cost = invoked.ended(sent.as_ref().ok().map(|received| (&received.answer, received.bytes)));
        drop(invoked);
        let share = cost.div_ceil(group.len() as u64);
        match sent {
            Ok(Received { answer, .. }) if answer.attempts.len() == group.len() => {
                self.accept_all(group, answer, took, share, u32::try_from(turn).unwrap_or(0)).await;
            }
            Ok(_) => {
                let failure = InfraFailure::WorkerDied("it answered another number of jobs".to_owned());
                self.all_failed(group, &failure, share);
            }
            Err(Failed::Attempt(failure)) => self.all_failed(group, &failure, share),
            Err(Failed::Nobody(error)) => {
                self.all_failed(group, &InfraFailure::Unreachable(error.to_string()), share);
            }
            Err(Failed::Lasting(error)) => {
                self.account.close(&error.to_string());
                self.all_failed(group, &InfraFailure::Closed(error.to_string()), share);
            }
        }
    }

    fn message(&self, jobs: Vec<Job>, chains: Vec<Vec<Follower>>, inline: Vec<Inline>) -> String {
        let remote = self.options.remote.as_ref();
        let store = remote.map_or(StoreAddress::None, |remote| remote.address.clone());
        encode(&Invocation { store, jobs, chains, inline })
    }

    /// With a time limit that lets the function answer.
    fn limited(&self, limits: Limits) -> Limits {
        let most =
            self.options.function_limit.min(LONGEST).saturating_sub(MARGIN).max(Duration::from_secs(1));
        Limits { wall: limits.wall.min(most), ..limits }
    }

    /// Answers jobs whose invocation failed. Where they were several, any of them may be to blame: each is tried again alone.
    fn all_failed(&self, group: Vec<Waiting>, failure: &InfraFailure, share: u64) {
        let blame = matches!(
            failure,
            InfraFailure::DeadlinePassed | InfraFailure::TooBig(_) | InfraFailure::WorkerDied(_)
        );
        let parted = blame && (group.len() > 1 || group.iter().any(|waiting| !waiting.next.is_empty()));
        for waiting in group {
            let failure = match parted {
                true => InfraFailure::WorkerDied(format!("with others in one invocation: {failure}")),
                false => failure.clone(),
            };
            if parted {
                self.solitary.lock().expect("no holder panics").insert(waiting.job.id);
            }
            let mut attempt = waiting.attempt;
            (attempt.outcome, attempt.cost_microdollars) = (Outcome::Infra(failure), share);
            // Who was cancelled does not wait.
            let _ = waiting.reply.send((attempt, Vec::new()));
        }
    }

    async fn accept_all(&self, group: Vec<Waiting>, answer: Answer, took: Duration, share: u64, worker: u32) {
        let behind = answer.chains.iter().flatten().map(|followed| &followed.attempt);
        let theirs = answer.attempts.iter().chain(behind).map(|attempt| attempt.timings);
        let theirs: Duration = theirs.map(|times| times.staged + times.ran + times.harvested).sum();
        let way = took.saturating_sub(theirs);
        let shared = group.len() > 1;
        let chains = answer.chains.into_iter().chain(std::iter::repeat_with(Vec::new));
        for ((waiting, theirs), chain) in group.into_iter().zip(answer.attempts).zip(chains) {
            let mut attempt = self.accept(theirs, waiting.attempt, &answer.inline, way).await;
            (attempt.cost_microdollars, attempt.worker) = (share, worker);
            if shared && matches!(attempt.outcome, Outcome::Infra(InfraFailure::DeadlinePassed)) {
                self.solitary.lock().expect("no holder panics").insert(waiting.job.id);
            }
            let chain = self.accept_chain(chain, &answer.inline).await;
            self.account.note_behind(chain.len());
            let _ = waiting.reply.send((attempt, chain));
        }
    }

    /// Takes the answers of those behind a job, up to the first that cannot be taken: that one is started again.
    async fn accept_chain(&self, chain: Vec<Followed>, inline: &[Inline]) -> Vec<Followed> {
        let mut taken = Vec::new();
        for Followed { id, attempt } in chain {
            let attempt = self.accept(attempt, super::nothing_yet(), inline, Duration::ZERO).await;
            if !matches!(attempt.outcome, Outcome::Reduced(_)) {
                break;
            }
            taken.push(Followed { id, attempt });
        }
        taken
    }

    /// Takes one job's answer: the outputs into this machine's store, the times into the attempt.
    async fn accept(
        &self,
        theirs: Attempt,
        mut attempt: Attempt,
        inline: &[Inline],
        way: Duration,
    ) -> Attempt {
        let times = theirs.timings;
        attempt.timings.staged += times.staged + way;
        (attempt.timings.ran, attempt.timings.cpu) = (times.ran, times.cpu);
        attempt.timings.max_rss = times.max_rss;
        let taking = Instant::now();
        attempt.outcome = match theirs.outcome {
            Outcome::Reduced(reduction) => self.take(reduction, inline).await,
            Outcome::Infra(InfraFailure::InputsMissing(gone)) => {
                // Put there again before the next try.
                self.uploads.forget(&gone);
                Outcome::Infra(InfraFailure::InputsMissing(gone))
            }
            other => other,
        };
        attempt.timings.harvested = times.harvested + taking.elapsed();
        attempt
    }

    async fn take(&self, reduction: Reduction, inline: &[Inline]) -> Outcome {
        let mut wanted: BTreeSet<BlobId> = reduction.outputs.values().map(|entry| entry.blob).collect();
        wanted.extend([reduction.stdout, reduction.stderr]);
        let inline = inline.iter().filter(|inline| wanted.contains(&inline.id)).cloned().collect();
        let (local, remote) = (&self.options.local, self.options.remote.as_ref());
        match outputs::take(local, remote, &reduction, inline).await {
            Ok(stored) => {
                self.uploads.note(&stored);
                Outcome::Reduced(reduction)
            }
            Err(failure) => Outcome::Infra(failure),
        }
    }
}
