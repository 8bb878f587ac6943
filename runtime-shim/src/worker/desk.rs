//! Who runs, who waits, who is told to stop.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use ggr_ir::protocol::worker::{self as wire, Request};
use ggr_ir::{Job, Outcome, Timings};

use super::crew::{Crew, Shared, Work};
use super::dir::WorkerDir;
use super::task::{Cause, End, Staged, Stop, Task};
use super::{WorkerError, WorkerOptions};
use crate::sandbox::message::{Order, Report};
use crate::sandbox::zygote::{Reports, Zygote};

/// What the desk is told.
pub(crate) enum Event {
    /// By the coordinator; nothing when it hung up.
    Request(Option<Request>),
    /// By the zygote or a sandbox; nothing when the zygote is gone.
    Report(Option<Report>),
    /// By the crew: the root is ready and the sandbox will be ordered.
    Staged(Box<Staged>),
    /// By the crew: this one could not be staged, and has been answered.
    Unstaged(u64),
    /// By the crew: this one has been answered.
    Answered(Box<Staged>),
}

/// Serves until the coordinator hangs up.
pub(super) fn serve(
    stream: UnixStream,
    options: &WorkerOptions,
    dir: &WorkerDir,
    zygote: Zygote,
    reports: Reports,
) -> Result<(), WorkerError> {
    // Unbounded, and bounded all the same: by the requests that the coordinator has open.
    let (sender, events) = channel();
    let requests = stream.try_clone().map_err(WorkerError::Stream)?;
    let reader = listen(sender.clone(), move || {
        let request = wire::read(&requests).ok().flatten();
        let last = request.is_none();
        (Event::Request(request), last)
    });
    let reporter = listen(sender.clone(), move || {
        let report = reports.next().ok().flatten();
        let last = report.is_none();
        (Event::Report(report), last)
    });
    let shared = Shared::new(stream, options, dir, zygote, sender);
    let result = thread::scope(|scope| {
        let crew = Crew::start(scope, &shared);
        let mut desk = Desk {
            shared: &shared,
            crew,
            waiting: VecDeque::new(),
            free: (0..options.slots.max(1)).collect(),
            open: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            answered: BTreeMap::new(),
        };
        // The crew ends when its queue is dropped, with the desk.
        desk.run(&events)
    });
    // The zygote's orders end here, and with it every sandbox, and the reports.
    drop(shared);
    if result.is_ok() {
        join(reader);
        join(reporter);
    }
    result
}

/// Feeds events from a blocking source until its last one.
fn listen(to: Sender<Event>, mut next: impl FnMut() -> (Event, bool) + Send + 'static) -> JoinHandle<()> {
    thread::spawn(move || {
        loop {
            let (event, last) = next();
            if to.send(event).is_err() || last {
                return;
            }
        }
    })
}

fn join(thread: JoinHandle<()>) {
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

struct Desk<'a> {
    shared: &'a Shared<'a>,
    crew: Crew,
    waiting: VecDeque<(u64, Job, Instant)>,
    free: BTreeSet<u32>,
    open: BTreeMap<u64, Open>,
    /// When which of them is late, the first first.
    deadlines: BTreeSet<(Instant, u64)>,
    /// Those that wait for their sandbox to go.
    answered: BTreeMap<u64, Box<Staged>>,
}

/// A job that has been given to the crew.
struct Open {
    /// Free again when the job is answered, though its sandbox may be a moment longer in going.
    slot: u32,
    stop: Arc<Stop>,
    deadline: Option<Instant>,
    at: Stage,
    gone: bool,
}

/// Where a job is.
enum Stage {
    Staging,
    /// In its sandbox.
    Running(Box<Staged>),
    /// With the crew, which takes what it left.
    Harvesting,
}

impl Desk<'_> {
    fn run(&mut self, events: &Receiver<Event>) -> Result<(), WorkerError> {
        loop {
            let event = match self.deadlines.first() {
                None => events.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some((at, _)) => events.recv_timeout(at.saturating_duration_since(Instant::now())),
            };
            match event {
                Ok(Event::Request(None)) => return Ok(()),
                Ok(Event::Report(None)) | Err(RecvTimeoutError::Disconnected) => {
                    return Err(WorkerError::ZygoteDied);
                }
                Ok(event) => self.handle(event),
                Err(RecvTimeoutError::Timeout) => self.stop_late(Instant::now()),
            }
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Request(Some(Request::Run { seq, job })) => {
                self.waiting.push_back((seq, job, Instant::now()));
                self.start_waiting();
            }
            Event::Request(Some(Request::Cancel { seq })) => self.cancel(seq),
            Event::Report(Some(report)) => self.note(report),
            Event::Staged(staged) => {
                if let Some(open) = self.open.get_mut(&staged.task.seq) {
                    open.deadline = Instant::now().checked_add(staged.task.job.limits.wall);
                    self.deadlines.extend(open.deadline.map(|at| (at, staged.task.seq)));
                    open.at = Stage::Running(staged);
                }
            }
            Event::Unstaged(seq) => {
                if let Some(open) = self.open.remove(&seq) {
                    self.free.insert(open.slot);
                }
                self.start_waiting();
            }
            Event::Answered(staged) => self.close(staged),
            Event::Request(None) | Event::Report(None) => {}
        }
    }

    fn start_waiting(&mut self) {
        while !self.waiting.is_empty()
            && let Some(slot) = self.free.pop_first()
            && let Some((seq, job, received)) = self.waiting.pop_front()
        {
            let stop = Arc::new(Stop::default());
            let open = Open { slot, stop: stop.clone(), deadline: None, at: Stage::Staging, gone: false };
            self.open.insert(seq, open);
            self.crew.give(Work::Stage(Task { seq, job, slot, received, stop }));
        }
    }

    fn cancel(&mut self, seq: u64) {
        if let Some(index) = self.waiting.iter().position(|(other, ..)| *other == seq) {
            self.waiting.remove(index);
            self.shared.answer_with(seq, Outcome::Cancelled, Timings::default(), 0);
        } else {
            self.stop(seq, Cause::Cancelled);
        }
    }

    fn stop_late(&mut self, now: Instant) {
        while let Some(&(at, seq)) = self.deadlines.first()
            && at <= now
        {
            self.deadlines.pop_first();
            self.stop(seq, Cause::Deadline);
        }
    }

    fn stop(&mut self, seq: u64, cause: Cause) {
        let Some(open) = self.open.get_mut(&seq) else { return };
        if let Some(at) = open.deadline.take() {
            self.deadlines.remove(&(at, seq));
        }
        let stop = open.stop.clone();
        self.shared.order(&Order::Kill(seq), || {
            stop.set(cause);
            true
        });
    }

    fn note(&mut self, report: Report) {
        match report {
            // The first report counts: a program that could not be executed is refused, and its process then exits.
            Report::Refused { seq, why } => self.harvest(seq, End::Refused(why)),
            Report::Ended { seq, status, ran, cpu, max_rss } => {
                self.harvest(seq, End::Ended { status, ran, cpu, max_rss });
            }
            Report::Gone { seq } => {
                self.harvest(seq, End::Killed);
                if let Some(open) = self.open.get_mut(&seq) {
                    open.gone = true;
                }
                self.clean(seq);
            }
            Report::Ready | Report::Broken(_) => {}
        }
    }

    /// Gives a job that runs to the crew, to be harvested and answered.
    fn harvest(&mut self, seq: u64, end: End) {
        let Some(open) = self.open.get_mut(&seq) else { return };
        if let Some(at) = open.deadline.take() {
            self.deadlines.remove(&(at, seq));
        }
        match std::mem::replace(&mut open.at, Stage::Harvesting) {
            Stage::Running(staged) => self.crew.give(Work::Harvest(staged, end, Instant::now())),
            other => open.at = other,
        }
    }

    fn close(&mut self, staged: Box<Staged>) {
        let seq = staged.task.seq;
        self.free.insert(staged.task.slot);
        self.answered.insert(seq, staged);
        self.clean(seq);
        self.start_waiting();
    }

    /// Lets go of a job's root and scratch directory, when it is answered and its sandbox is gone.
    fn clean(&mut self, seq: u64) {
        if self.open.get(&seq).is_some_and(|open| open.gone)
            && let Some(staged) = self.answered.remove(&seq)
        {
            self.open.remove(&seq);
            self.shared.release(&staged);
            self.crew.give(Work::Remove(staged.scratch));
        }
    }
}
