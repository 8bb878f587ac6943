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
    /// By the crew: this one has been answered.
    Answered(u64),
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
}

/// A job that has a slot.
struct Open {
    slot: u32,
    stop: Arc<Stop>,
    staged: Option<Box<Staged>>,
    deadline: Option<Instant>,
    end: End,
}

impl Desk<'_> {
    fn run(&mut self, events: &Receiver<Event>) -> Result<(), WorkerError> {
        loop {
            let deadline = self.open.values().filter_map(|open| open.deadline).min();
            let event = match deadline {
                None => events.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(at) => events.recv_timeout(at.saturating_duration_since(Instant::now())),
            };
            match event {
                Ok(Event::Request(None)) => return Ok(()),
                Ok(Event::Report(None)) | Err(RecvTimeoutError::Disconnected) => return Err(WorkerError::ZygoteDied),
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
                    open.staged = Some(staged);
                }
            }
            Event::Answered(seq) => {
                if let Some(open) = self.open.remove(&seq) {
                    self.free.insert(open.slot);
                }
                self.start_waiting();
            }
            Event::Request(None) | Event::Report(None) => {}
        }
    }

    fn start_waiting(&mut self) {
        while !self.waiting.is_empty()
            && let Some(slot) = self.free.pop_first()
            && let Some((seq, job, received)) = self.waiting.pop_front()
        {
            let stop = Arc::new(Stop::default());
            let open = Open { slot, stop: stop.clone(), staged: None, deadline: None, end: End::Killed };
            self.open.insert(seq, open);
            self.crew.give(Work::Stage(Task { seq, job, slot, received, stop }));
        }
    }

    fn cancel(&mut self, seq: u64) {
        if let Some(index) = self.waiting.iter().position(|(other, ..)| *other == seq) {
            self.waiting.remove(index);
            self.shared.answer_unrun(seq, Outcome::Cancelled, Timings::default(), 0);
        } else {
            self.stop(seq, Cause::Cancelled);
        }
    }

    fn stop_late(&mut self, now: Instant) {
        let late = |open: &Open| open.deadline.is_some_and(|deadline| deadline <= now);
        let late: Vec<u64> = self.open.iter().filter(|(_, open)| late(open)).map(|(seq, _)| *seq).collect();
        for seq in late {
            self.stop(seq, Cause::Deadline);
        }
    }

    fn stop(&mut self, seq: u64, cause: Cause) {
        let Some(open) = self.open.get_mut(&seq) else { return };
        open.deadline = None;
        let stop = open.stop.clone();
        self.shared.order(&Order::Kill(seq), || {
            stop.set(cause);
            true
        });
    }

    fn note(&mut self, report: Report) {
        match report {
            Report::Refused { seq, why } => self.end(seq, End::Refused(why)),
            Report::Ended { seq, status, ran, cpu, max_rss } => {
                self.end(seq, End::Ended { status, ran, cpu, max_rss });
            }
            Report::Gone { seq } => self.harvest(seq),
            Report::Ready | Report::Broken(_) => {}
        }
    }

    /// The first report counts: a program that could not be executed is refused, and its process then exits.
    fn end(&mut self, seq: u64, end: End) {
        if let Some(open) = self.open.get_mut(&seq)
            && matches!(open.end, End::Killed)
        {
            open.end = end;
        }
    }

    fn harvest(&mut self, seq: u64) {
        let Some(open) = self.open.get_mut(&seq) else { return };
        open.deadline = None;
        if let Some(staged) = open.staged.take() {
            let end = std::mem::replace(&mut open.end, End::Killed);
            self.crew.give(Work::Harvest(staged, end, Instant::now()));
        }
    }
}

