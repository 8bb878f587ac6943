//! The threads that stage and harvest.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Scope;
use std::time::{Duration, Instant};

use ggr_ir::protocol::worker::{self as wire, Response};
use ggr_ir::{Attempt, InfraFailure, Outcome, Reduction, StoreError, Timings, ToolFailure};

use super::WorkerOptions;
use super::desk::Event;
use super::dir::{WorkerDir, remove_tree};
use super::task::{Cause, End, Staged, Task};
use crate::blobs::Blobs;
use crate::harvest;
use crate::harvest::survey::{SurveyError, survey};
use crate::sandbox::message::{Order, Report, Start};
use crate::sandbox::zygote::Zygote;
use crate::stage::plan::Plan;
use crate::stage::root::StageError;
use crate::stage::shelf::{Lease, Shelf};

/// How many bytes of each stream of a failed program are sent, so that an answer stays far below the wire's bound. The
/// command then runs where its user sees all of it.
const STREAM_MAX: u64 = 16 << 20;

/// What the crew and the desk share.
pub(crate) struct Shared<'a> {
    dir: &'a WorkerDir,
    stream: Mutex<UnixStream>,
    zygote: Zygote,
    blobs: Blobs,
    shelf: Shelf,
    events: Sender<Event>,
}

/// Something for the crew to do.
pub(crate) enum Work {
    /// Prepare the root, and order the sandbox.
    Stage(Task),
    /// The program ended then: take what it left, and answer.
    Harvest(Box<Staged>, End, Instant),
    /// Remove a scratch directory.
    Remove(PathBuf),
}

/// The crew's queue; dropping it ends the crew when the queue is empty.
pub(crate) struct Crew(Sender<Work>);

impl Crew {
    /// One thread per core: staging and harvesting are system calls and hashing, and wait for nothing.
    pub(crate) fn start<'scope>(scope: &'scope Scope<'scope, '_>, shared: &'scope Shared<'_>) -> Self {
        let (sender, queue) = channel::<Work>();
        let queue = Arc::new(Mutex::new(queue));
        let threads = std::thread::available_parallelism().map_or(2, usize::from).max(2);
        for _ in 0..threads {
            let queue = queue.clone();
            scope.spawn(move || {
                while let Some(work) = next(&queue) {
                    match work {
                        Work::Stage(task) => shared.stage(task),
                        Work::Harvest(staged, end, ended) => shared.harvest(staged, &end, ended),
                        Work::Remove(scratch) => remove_tree(&scratch),
                    }
                }
            });
        }
        Self(sender)
    }

    pub(crate) fn give(&self, work: Work) {
        self.0.send(work).expect("the crew's threads end only after this queue is dropped");
    }
}

fn next(queue: &Mutex<Receiver<Work>>) -> Option<Work> {
    queue.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

impl<'a> Shared<'a> {
    pub(crate) fn new(
        stream: UnixStream,
        options: &WorkerOptions,
        dir: &'a WorkerDir,
        zygote: Zygote,
        events: Sender<Event>,
    ) -> Self {
        let slots = options.slots as usize;
        Self {
            dir,
            stream: Mutex::new(stream),
            zygote,
            blobs: Blobs::at(&options.root),
            // For compiles, links and listings of dependencies, each in the directories of a few parts of a project; not
            // thousands of full roots.
            shelf: Shelf::new(&dir.roots(), (4 * slots).clamp(16, 128)),
            events,
        }
    }

    /// Sends an order, and says whether it was wanted; a zygote that is gone is noticed by the desk.
    pub(crate) fn order(&self, order: &Order, wanted: impl FnOnce() -> bool) -> bool {
        self.zygote.order(order, wanted).unwrap_or(true)
    }

    /// Answers a job.
    pub(crate) fn answer_with(&self, seq: u64, outcome: Outcome, timings: Timings, worker: u32) {
        self.answer(seq, Attempt { outcome, timings, cost_microdollars: 0, worker });
    }

    fn answer(&self, seq: u64, attempt: Attempt) {
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody there any more: the reader sees the same, and the desk closes.
        let _ = wire::write(&mut *stream, &Response { seq, attempt });
    }

    fn tell(&self, event: Event) {
        // The desk is gone when the coordinator has hung up; nobody wants to know then.
        let _ = self.events.send(event);
    }

    fn stage(&self, task: Task) {
        let started = Instant::now();
        let mut timings = Timings { queued: started - task.received, ..Timings::default() };
        let seq = task.seq;
        match self.prepare(&task) {
            Ok((plan, lease, scratch)) => {
                let ordered = Instant::now();
                timings.staged = ordered - started;
                let order = Order::Start(Box::new(start(&task, &plan, lease.number, &scratch)));
                let stop = task.stop.clone();
                // The desk knows of it before any report can come.
                self.tell(Event::Staged(Box::new(Staged { task, plan, lease, scratch, timings, ordered })));
                if !self.order(&order, || stop.cause().is_none()) {
                    self.tell(Event::Report(Some(Report::Gone { seq })));
                }
            }
            Err(failure) => {
                timings.staged = started.elapsed();
                self.answer_with(seq, Outcome::Infra(failure), timings, task.slot);
                self.tell(Event::Unstaged(seq));
            }
        }
    }

    fn prepare(&self, task: &Task) -> Result<(Plan, Lease, PathBuf), InfraFailure> {
        let plan = Plan::new(task.job.thunk.clone(), task.job.kind)
            .map_err(|error| InfraFailure::Sandbox(error.to_string()))?;
        let lease = self.shelf.lease(&plan, &self.blobs).map_err(|error| match error {
            StageError::Missing(blobs) => InfraFailure::InputsMissing(blobs),
            other => InfraFailure::Sandbox(chain(&other)),
        })?;
        match self.dir.new_scratch(self.dir.choose(task.job.kind), &task.seq.to_string()) {
            Ok(scratch) => Ok((plan, lease, scratch)),
            Err(error) => {
                self.shelf.release(&lease);
                Err(InfraFailure::Sandbox(format!("making a scratch directory: {error}")))
            }
        }
    }

    fn harvest(&self, staged: Box<Staged>, end: &End, ended: Instant) {
        let started = Instant::now();
        let mut timings = staged.timings;
        if let End::Ended { ran, cpu, max_rss, .. } = *end {
            (timings.ran, timings.cpu, timings.max_rss) = (ran, cpu, max_rss);
            // What the sandbox took before the program and after it.
            timings.staged += (ended - staged.ordered).saturating_sub(ran);
        }
        let outcome = self.outcome(&staged, end);
        timings.harvested = started.elapsed();
        self.answer_with(staged.task.seq, outcome, timings, staged.task.slot);
        self.tell(Event::Answered(staged));
    }

    /// Hands back the root of a job whose sandbox is gone.
    pub(crate) fn release(&self, staged: &Staged) {
        self.shelf.release(&staged.lease);
    }

    fn outcome(&self, staged: &Staged, end: &End) -> Outcome {
        let (status, ran) = match end {
            End::Ended { status, ran, .. } => (*status, *ran),
            End::Refused(why) => return Outcome::Infra(InfraFailure::Sandbox(why.clone())),
            End::Killed => {
                return match staged.task.stop.cause() {
                    Some(Cause::Cancelled) => Outcome::Cancelled,
                    Some(Cause::Deadline) => Outcome::Infra(InfraFailure::DeadlinePassed),
                    None => Outcome::Infra(InfraFailure::WorkerDied("the sandbox was killed".to_owned())),
                };
            }
        };
        if libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0 {
            return self.reduce(staged, ran);
        }
        let signal = libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status));
        let limit = staged.task.job.limits.output;
        if signal == Some(libc::SIGXFSZ) && limit > 0 {
            return Outcome::Infra(too_big(limit));
        }
        let code = libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status));
        failed(staged, code, signal, None)
    }

    /// Takes the outputs of a program that exited 0.
    fn reduce(&self, staged: &Staged, ran: Duration) -> Outcome {
        let upper = staged.scratch.join("u");
        let (found, bytes) = match survey(&staged.plan, &upper, &staged.lease.path) {
            Ok(surveyed) => surveyed,
            Err(SurveyError::Unrepresentable(why)) => return failed(staged, Some(0), None, Some(why)),
            Err(error) => return Outcome::Infra(InfraFailure::OutputsNotStored(chain(&error))),
        };
        let streams = ["out", "err"].map(|name| staged.scratch.join(name));
        let written: u64 = streams.iter().filter_map(|file| Some(file.symlink_metadata().ok()?.len())).sum();
        let limit = staged.task.job.limits.output;
        if limit > 0 && bytes + written > limit {
            return Outcome::Infra(too_big(limit));
        }
        let store = || -> Result<Reduction, StoreError> {
            let outputs = harvest::store_outputs(found, &staged.plan, &self.blobs)?;
            let [stdout, stderr] = &streams;
            Ok(Reduction {
                outputs,
                stdout: harvest::store_stream(stdout, &self.blobs)?,
                stderr: harvest::store_stream(stderr, &self.blobs)?,
                duration_us: u64::try_from(ran.as_micros()).unwrap_or(u64::MAX),
            })
        };
        match store() {
            Ok(reduction) => Outcome::Reduced(reduction),
            Err(error) => Outcome::Infra(InfraFailure::OutputsNotStored(chain(&error))),
        }
    }
}

fn start(task: &Task, plan: &Plan, root: u64, scratch: &Path) -> Start {
    let (command, limits) = (&task.job.thunk.command, &task.job.limits);
    // The area and the job's number: all that is below the worker's directory.
    let names: Vec<_> = scratch.iter().rev().take(2).map(|name| name.to_string_lossy()).collect();
    let scratch = format!("{}/{}", names[1], names[0]);
    Start {
        seq: task.seq,
        lower: format!("roots/{root}"),
        read_only: plan.read_only().map(str::to_owned).collect(),
        scratch,
        program: command.program.as_str().to_owned(),
        args: command.args.clone(),
        env: command.env.clone(),
        dir: command.dir.as_str().to_owned(),
        memory: limits.memory,
        file_size: limits.output,
        processes: limits.processes,
        network: limits.network,
    }
}

fn failed(
    staged: &Staged,
    code: Option<i32>,
    signal: Option<i32>,
    unrepresentable: Option<String>,
) -> Outcome {
    let stream =
        |name: &str| harvest::read_stream(&staged.scratch.join(name), STREAM_MAX).unwrap_or_default();
    Outcome::ToolFailed(ToolFailure {
        code,
        signal,
        stdout: stream("out"),
        stderr: stream("err"),
        unrepresentable,
    })
}

fn too_big(limit: u64) -> InfraFailure {
    InfraFailure::TooBig(format!("the program wrote more than {limit} bytes"))
}

/// An error and its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(error.source(), |cause| cause.source())
        .fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
