//! One action after the other.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{FutureExt, abortable};
use ggr_ir::{
    Attempt, BlobId, Followed, InfraFailure, Job, Lookup, Outcome, OutputRef, ReadyThunk, Reduction, ThunkId,
};

use super::ahead::inputs;
use super::handle::{Doubt, Failures, Until, Verdict};
use super::record::{Failed, Failure, Finished, Origin, Pending, Record, Work, fault};
use super::report::{AttemptReport, BuildEvent};
use super::{Completion, Driver, Flight, Stash};
use crate::scheduler::{
    Action, AttemptId, BackendId, BackendSet, DoubtCause, Ending, Event, FailCause, NodeId,
};

/// A ready thunk and its id, or an output that nothing has made.
type Resolved = Result<(ThunkId, ReadyThunk), OutputRef>;

/// A thunk that reads no outputs has the id of its ready self: most compiles are spared the hashing.
fn ready_id(id: ThunkId, leaf: bool, ready: &ReadyThunk) -> ThunkId {
    if leaf { id } else { ready.id() }
}

impl Driver {
    pub(super) fn act(&mut self, action: Action) {
        match action {
            Action::Check(node) => self.checks.push_back(node),
            Action::Soon(node) => self.foresee(node),
            Action::Start { attempt, node, backend, duplicate } => {
                self.start(attempt, node, backend, duplicate)
            }
            Action::Cancel(attempt) => {
                if let Some(flight) = self.flights.get(&attempt) {
                    flight.abort.abort();
                }
            }
            Action::Heal { node, missing } => self.heal(node, missing),
            Action::Retry { node, after } => self.retry(node, after),
            Action::Done(node) => self.done(node),
            Action::Doubt { node, cause } => self.doubt(node, cause),
            Action::Failed { node, cause } => self.failed(node, cause),
        }
    }

    fn pending(&mut self, node: NodeId) -> Option<&mut Pending> {
        match &mut self.records[node.0 as usize] {
            Record::Pending(pending) => Some(pending),
            Record::Done(_) | Record::Failed(_) => None,
        }
    }

    /// Resolves a thunk whose dependencies are done, and looks for a recorded result.
    pub(super) fn check(&mut self, node: NodeId) {
        // With many thunks open this one is packed again in a moment, and so kept as it is.
        let resolved = match self.is_crowded() {
            true => self.resolve(node),
            false => self.consume(node),
        };
        let (id, ready) = match resolved {
            None => return,
            Some(Ok(ready)) => ready,
            Some(Err(missing)) => {
                self.stash = Stash::Failure(Failure::InputUnknown(missing));
                return self.tell(Event::Missed { node, refused: BackendSet::ALL, home: None });
            }
        };
        let Some(ready) = self.take_early(node, id, ready) else { return };
        let Record::Pending(pending) = &self.records[node.0 as usize] else { return };
        let cache = self.options.cache.as_ref().filter(|_| pending.cacheable);
        match cache.map_or(Lookup::Miss, |cache| cache.look(id)) {
            Lookup::Hit(reduction) => self.recorded(node, reduction, &ready),
            Lookup::Miss => {
                let job = Arc::new(pending.job(id, ready));
                self.offer(node, job);
            }
            Lookup::Far => {
                let cache = cache.cloned().expect("whoever answered is there");
                let job = Arc::new(pending.job(id, ready));
                if let Some(pending) = self.pending(node) {
                    pending.work = Work::Job(job);
                }
                let fetch = tokio::task::spawn_blocking(move || cache.get(id));
                let fetched = move |got: Result<_, _>| Completion::Fetched(node, got.ok().flatten());
                self.running.push(fetch.map(fetched).boxed());
            }
        }
    }

    fn recorded(&mut self, node: NodeId, reduction: Reduction, ready: &ReadyThunk) {
        let finished = Finished::new(reduction, Origin::Cache).share_text(ready);
        self.stash = Stash::Finished(finished, None);
        self.tell(Event::External(node));
    }

    /// Goes on with a check whose answer was far away. A node that was settled meanwhile has no use for it.
    pub(super) fn fetched(&mut self, node: NodeId, reduction: Option<Reduction>) {
        let Some(job) = self.job(node) else { return };
        match reduction {
            Some(reduction) => self.recorded(node, reduction, &job.thunk),
            None => self.offer(node, job),
        }
    }

    /// What an output became, if anything.
    pub(super) fn became(&self, output: &OutputRef) -> Option<BlobId> {
        let node = self.nodes.get(&output.thunk)?;
        let Record::Done(finished) = &self.records[node.0 as usize] else { return None };
        Some(finished.output(&output.name)?.blob)
    }

    /// The thunk with each output that it reads replaced by what it became, and its id; or one that nothing has made.
    /// Nothing if the thunk is settled.
    fn resolve(&self, node: NodeId) -> Option<Resolved> {
        let Record::Pending(pending) = &self.records[node.0 as usize] else { return None };
        let leaf = Cell::new(true);
        let known = |output: &OutputRef| {
            leaf.set(false);
            self.became(output)
        };
        let resolved = match &pending.work {
            Work::Thunk(thunk) => thunk.resolve(known),
            Work::Packed(packed) => self.packer.unpack(packed).resolve(known),
            Work::Job(job) => return Some(Ok((job.id, ReadyThunk::clone(&job.thunk)))),
            Work::Taken => unreachable!("a check puts back what it took"),
        };
        let ready = resolved
            .map_err(|missing| missing.into_iter().next().expect("an unresolved thunk lacks an output"));
        Some(ready.map(|ready| (ready_id(pending.id, leaf.get(), &ready), ready)))
    }

    /// As [`resolve`](Self::resolve), and of a thunk that nobody else holds the parts are moved. Where this gives a ready
    /// thunk, the caller puts the job in its place.
    fn consume(&mut self, node: NodeId) -> Option<Resolved> {
        let pending = self.pending(node)?;
        let id = pending.id;
        let thunk = match std::mem::replace(&mut pending.work, Work::Taken) {
            Work::Thunk(thunk) => thunk,
            other => {
                pending.work = other;
                return self.resolve(node);
            }
        };
        let thunk = match Arc::try_unwrap(thunk) {
            Ok(thunk) => thunk,
            Err(shared) => {
                pending.work = Work::Thunk(shared);
                return self.resolve(node);
            }
        };
        let leaf = Cell::new(true);
        let ready = thunk.into_ready(|output| {
            leaf.set(false);
            self.became(output)
        });
        match ready {
            Ok(ready) => Some(Ok((ready_id(id, leaf.get(), &ready), ready))),
            Err(unready) => {
                let (thunk, missing) = *unready;
                self.pending(node)?.work = Work::Thunk(Arc::new(thunk));
                Some(Err(missing))
            }
        }
    }

    /// Asks the backends whether they would take the job, and lets it wait for a slot.
    fn offer(&mut self, node: NodeId, job: Arc<Job>) {
        let mut refusals = Vec::new();
        let mut refused = BackendSet::EMPTY;
        for (i, backend) in self.backends.iter().enumerate() {
            if let Err(refusal) = backend.accepts(&job) {
                refused = refused.with(BackendId(i as u8));
                refusals.push((self.names[i].clone(), refusal));
            }
        }
        let home = self.home(&job, refused);
        let crowded = self.is_crowded();
        let Record::Pending(pending) = &mut self.records[node.0 as usize] else { return };
        let thunk = pending.id;
        match &pending.work {
            Work::Thunk(thunk) if crowded => pending.work = Work::Packed(self.packer.pack(thunk)),
            Work::Packed(_) if crowded => {}
            _ => pending.work = Work::Job(job),
        }
        self.emit(|| BuildEvent::Ready { id: thunk });
        self.stash = Stash::Failure(Failure::Refused(refusals));
        self.tell(Event::Missed { node, refused, home });
    }

    /// The job of a node that has been checked; resolved again if it was packed meanwhile.
    fn job_to_start(&mut self, node: NodeId) -> Arc<Job> {
        if let Some(job) = self.job(node) {
            return job;
        }
        let resolved = self.resolve(node).expect("a settled node is not started");
        let (id, ready) = resolved.expect("it was resolved when it was checked");
        let Record::Pending(pending) = &self.records[node.0 as usize] else {
            unreachable!("a settled node is not started")
        };
        let job = Arc::new(pending.job(id, ready));
        if let Some(pending) = self.pending(node) {
            pending.work = Work::Job(job.clone());
        }
        job
    }

    fn start(&mut self, attempt: AttemptId, node: NodeId, on: BackendId, duplicate: bool) {
        let backend = self.backends[usize::from(on.0)].clone();
        let name = self.names[usize::from(on.0)].clone();
        let job = self.job_to_start(node);
        self.counts.duplicates += u64::from(duplicate);
        self.locality.came(on, inputs(&job));
        if let Record::Pending(pending) = &self.records[node.0 as usize] {
            let (id, label) = (pending.id, pending.label.clone());
            self.emit(|| BuildEvent::Started { id, label, backend: name, duplicate });
        }
        let next = if backend.chains() { self.chain(attempt) } else { Vec::new() };
        let (run, abort) = abortable(async move {
            match next.is_empty() {
                true => (backend.run(&job).await, Vec::new()),
                false => backend.run_chain(&job, &next).await,
            }
        });
        self.flights.insert(attempt, Flight { node, backend: on, abort });
        self.running.push(run.map(move |end| Completion::Ended(attempt, end.ok().map(Box::new))).boxed());
    }

    fn heal(&mut self, node: NodeId, missing: Vec<BlobId>) {
        let job = self.job(node);
        let healed = match (&self.options.heal, job) {
            (Some(heal), Some(job)) => heal(job, missing),
            _ => futures_util::future::ready(Err("nothing here can do that".to_owned())).boxed(),
        };
        self.running.push(healed.map(move |result| Completion::Healed(node, result)).boxed());
    }

    pub(super) fn attempt_ended(
        &mut self,
        attempt: AttemptId,
        result: Option<Box<(Attempt, Vec<Followed>)>>,
    ) {
        let Some(flight) = self.flights.remove(&attempt) else { return };
        let backend = self.names[usize::from(flight.backend.0)].clone();
        let Some(result) = result else {
            return self.tell(Event::Ended { attempt, ending: Ending::Cancelled });
        };
        let (result, chain) = *result;
        self.keep_early(chain, &backend);
        self.counts.work += result.timings.ran;
        self.counts.cost_microdollars += result.cost_microdollars;
        let report =
            AttemptReport { backend: backend.clone(), worker: result.worker, timings: result.timings };
        let mut outcome = result.outcome;
        if let (Outcome::Reduced(reduction), Some(job)) = (&outcome, self.job(flight.node))
            && let Some(fault) = fault(&job, reduction)
        {
            outcome = Outcome::Infra(InfraFailure::OutputsNotStored(fault));
        }
        let ending = match outcome {
            Outcome::Reduced(reduction) => {
                self.locality.came(flight.backend, reduction.outputs.values().map(|entry| entry.blob));
                self.stash = Stash::Finished(Finished::new(reduction, Origin::Backend), Some(report));
                Ending::Reduced
            }
            Outcome::ToolFailed(failure) => {
                self.stash = Stash::Failure(Failure::Tool(failure));
                Ending::ToolFailed
            }
            Outcome::Infra(failure) => {
                self.stash = Stash::Failure(Failure::Infra { backend, failure: failure.clone() });
                Ending::Infra(failure)
            }
            Outcome::Cancelled => {
                let failure = InfraFailure::WorkerDied("it broke off without being told to".to_owned());
                self.stash = Stash::Failure(Failure::Infra { backend, failure });
                Ending::Cancelled
            }
        };
        self.tell(Event::Ended { attempt, ending });
    }

    fn job(&mut self, node: NodeId) -> Option<Arc<Job>> {
        match &self.pending(node)?.work {
            Work::Job(job) => Some(job.clone()),
            Work::Thunk(_) | Work::Packed(_) | Work::Taken => None,
        }
    }

    fn retry(&mut self, node: NodeId, after: Duration) {
        self.counts.retried += 1;
        let Stash::Failure(Failure::Infra { failure, .. }) = &self.stash else { return };
        let failure = failure.clone();
        let Some(pending) = self.pending(node) else { return };
        let (id, label) = (pending.id, pending.label.clone());
        self.emit(|| BuildEvent::Retried { id, label, failure, after });
    }

    fn done(&mut self, node: NodeId) {
        let Stash::Finished(finished, attempt) = std::mem::take(&mut self.stash) else {
            unreachable!("a node is done by the event in hand, which carries its result")
        };
        let job = self.job(node).filter(|_| finished.origin == Origin::Backend);
        let finished = Arc::new(match &job {
            Some(job) => finished.share_text(&job.thunk),
            None => finished,
        });
        let record = std::mem::replace(&mut self.records[node.0 as usize], Record::Done(finished.clone()));
        let Record::Pending(pending) = record else { unreachable!("a node is settled once") };
        match finished.origin {
            Origin::Cache => self.counts.cached += 1,
            Origin::Backend => self.counts.ran += 1,
            Origin::External => self.counts.external += 1,
        }
        if let Some(job) = job {
            self.remember(&pending, &job, &finished);
        }
        let origin = finished.origin;
        self.emit(|| BuildEvent::Finished {
            id: pending.id,
            label: pending.label,
            kind: pending.kind,
            origin,
            attempt,
        });
        self.answer(node, &Ok(finished));
    }

    /// Records what a backend made, and how long it took.
    fn remember(&mut self, pending: &Pending, job: &Job, finished: &Arc<Finished>) {
        if let Some(recorder) = self.recorder.as_ref().filter(|_| pending.cacheable) {
            recorder.record(job.id, finished.clone());
        }
        if let Some(mut durations) = self.durations() {
            let took = Duration::from_micros(finished.duration_us);
            durations.learn(&pending.label, pending.kind, pending.size, took);
        }
    }

    fn doubt(&mut self, node: NodeId, cause: DoubtCause) {
        let failure = match std::mem::take(&mut self.stash) {
            Stash::Failure(failure) => Arc::new(failure),
            stash => unreachable!("a doubt ({cause:?}) comes with its reason, not with {stash:?}"),
        };
        let Some(pending) = self.pending(node) else { return };
        pending.failure = Some(failure.clone());
        let doubt = Doubt { id: pending.id, label: pending.label.clone(), failure: failure.clone() };
        let believe = match &self.options.failures {
            Failures::Believe => true,
            Failures::Ask(caller) => caller.send(doubt.clone()).is_err(),
        };
        if believe {
            return self.tell(Event::Confirm(node));
        }
        self.emit(|| BuildEvent::Doubted { id: doubt.id, label: doubt.label, failure: failure.clone() });
        self.answer_doubt(node, &Err(failure));
    }

    fn failed(&mut self, node: NodeId, cause: FailCause) {
        let failure = match cause {
            FailCause::Itself => self.pending(node).and_then(|pending| pending.failure.take()),
            FailCause::Cancelled => Some(Arc::new(Failure::Cancelled)),
            FailCause::Poisoned { by } => match &self.records[by.0 as usize] {
                Record::Failed(by) => {
                    Some(Arc::new(Failure::Poisoned { by: by.id, label: by.label.clone() }))
                }
                Record::Pending(_) | Record::Done(_) => None,
            },
        };
        let failure =
            failure.expect("a node in doubt has a reason, and poison comes from a node that failed");
        let Some(pending) = self.pending(node) else { return };
        let (id, label) = (pending.id, pending.label.clone());
        let failed = Failed { id, label: label.clone(), failure: failure.clone() };
        self.records[node.0 as usize] = Record::Failed(Box::new(failed));
        self.counts.failed += 1;
        self.emit(|| BuildEvent::Failed { id, label, failure: failure.clone() });
        self.answer(node, &Err(failure));
    }

    /// Answers all who wait for the node.
    fn answer(&mut self, node: NodeId, verdict: &Verdict) {
        for waiter in self.waiters.remove(&node).unwrap_or_default() {
            let _ = waiter.reply.send(verdict.clone());
        }
    }

    /// Answers those who want to know of a doubt.
    fn answer_doubt(&mut self, node: NodeId, verdict: &Verdict) {
        let Some(waiters) = self.waiters.remove(&node) else { return };
        let (told, kept): (Vec<_>, Vec<_>) = waiters.into_iter().partition(|w| w.until == Until::Doubted);
        for waiter in told {
            let _ = waiter.reply.send(verdict.clone());
        }
        if !kept.is_empty() {
            self.waiters.insert(node, kept);
        }
    }
}
