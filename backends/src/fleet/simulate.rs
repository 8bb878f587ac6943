//! The discrete-event simulation: what the driver does, with a queue of times in place of futures.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use ggr_ir::InfraFailure;
use rustc_hash::FxHashMap;

use super::cloud::{Cloud, Environment, Functions};
use super::graph::{Graph, Task};
use crate::dice::Dice;
use crate::scheduler::{
    Action, AttemptId, BackendId, BackendSet, BackendSpec, Ending, Event, NewNode, NodeId, Scheduler, Urgency,
};

/// How soon Lambda says that there are too many invocations, and how long the backend then asks to wait at least.
const THROTTLED_IN: Duration = Duration::from_millis(30);
const THROTTLED_FOR: Duration = Duration::from_millis(200);

/// How it went.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
pub struct Ran {
    /// From the first thunk that was traced to the last result.
    pub makespan: Duration,
    /// Attempts that got an environment.
    pub attempts: u64,
    /// Attempts that found no environment ready.
    pub cold: u64,
    /// Attempts that the ramp refused.
    pub throttled: u64,
    /// Attempts that straggled.
    pub stragglers: u64,
    /// Attempts beside another one.
    pub duplicates: u64,
    /// Slots times seconds that these took.
    pub duplicate_time: Duration,
    /// Slots times seconds of attempts that were cancelled because another one won, whichever began first.
    pub lost_time: Duration,
    /// Thunks that no try out there brought to an end, and that were run on the user's machine.
    pub here: u64,
}

/// What happens at some time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Happening {
    /// An environment has finished; its attempt may have been given up before.
    Finished { attempt: AttemptId, function: usize },
    /// The service refused.
    Refused(AttemptId),
    /// The user's machine has run it.
    RanHere(NodeId),
}

/// An attempt in flight.
#[derive(Clone, Copy, Debug)]
struct Try {
    started: Duration,
    duplicate: bool,
}

struct Simulation<'a> {
    graph: &'a Graph,
    cloud: &'a Cloud,
    scheduler: Scheduler,
    functions: Functions,
    dice: Dice,
    origin: Instant,
    now: Duration,
    /// How many thunks have been traced.
    traced: usize,
    queue: BinaryHeap<Reverse<(Duration, u64, Happening)>>,
    /// Numbers what is put into the queue, so that what happens at one time happens in that order.
    number: u64,
    tries: FxHashMap<AttemptId, Try>,
    ran: Ran,
}

/// Runs the graph on so many workers. The same seed gives the same result.
pub fn simulate(graph: &Graph, cloud: &Cloud, workers: u32, seed: u64) -> Ran {
    let backend = BackendSpec { slots: workers, duplicates: true, keeps: false };
    let simulation = Simulation {
        graph,
        cloud,
        scheduler: Scheduler::new(&[backend], seed),
        functions: Functions::new(cloud, workers),
        dice: Dice(seed),
        origin: Instant::now(),
        now: Duration::ZERO,
        traced: 0,
        queue: BinaryHeap::new(),
        number: 0,
        tries: FxHashMap::default(),
        ran: Ran::default(),
    };
    simulation.run()
}

impl Simulation<'_> {
    /// Ends, because each turn takes something from the queue, a timer or the list of thunks, and the scheduler tries
    /// nothing for ever.
    fn run(mut self) -> Ran {
        while let Some(now) = self.next() {
            self.now = now;
            self.trace();
            if self.deadline().is_some_and(|at| at <= now) {
                self.tell(Event::Tick);
            }
            while let Some(Reverse((at, ..))) = self.queue.peek()
                && *at <= now
            {
                let Some(Reverse((_, _, happening))) = self.queue.pop() else { break };
                self.happen(happening);
            }
            let mut actions = Vec::new();
            self.scheduler.fill(self.instant(), &mut actions);
            actions.into_iter().for_each(|action| self.act(action));
        }
        self.ran
    }

    fn instant(&self) -> Instant {
        self.origin + self.now
    }

    /// When the next thunk is traced.
    fn trace_at(&self) -> Option<Duration> {
        let more = self.traced < self.graph.tasks().len();
        more.then(|| Duration::from_secs_f64(self.traced as f64 / self.cloud.traced_per_second))
    }

    fn deadline(&self) -> Option<Duration> {
        self.scheduler.next_deadline().map(|at| at.saturating_duration_since(self.origin))
    }

    /// When something happens next; nothing when all is done.
    fn next(&self) -> Option<Duration> {
        if self.scheduler.open() == 0 && self.trace_at().is_none() {
            return None;
        }
        let queued = self.queue.peek().map(|Reverse((at, ..))| *at);
        let next = [queued, self.deadline(), self.trace_at()].into_iter().flatten().min();
        Some(next.expect("a build that is not done waits for something").max(self.now))
    }

    fn trace(&mut self) {
        while self.trace_at().is_some_and(|at| at <= self.now) {
            let task = &self.graph.tasks()[self.traced];
            let node = NodeId(self.traced as u32);
            let estimate = task.duration().mul_f64(self.dice.log_normal(self.cloud.misjudged));
            let deps = task.deps.iter().copied().map(NodeId).collect();
            let new = NewNode { node, deps, kind: task.kind, estimate, urgency: Urgency::Eventual };
            self.traced += 1;
            self.tell(Event::Add(new));
        }
    }

    fn tell(&mut self, event: Event) {
        let mut actions = Vec::new();
        self.scheduler.handle(event, self.instant(), &mut actions);
        actions.into_iter().for_each(|action| self.act(action));
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Check(node) => self.tell(Event::Missed { node, refused: BackendSet::EMPTY, home: None }),
            Action::Start { attempt, node, backend: BackendId(_), duplicate } => {
                self.start(attempt, node, duplicate);
            }
            Action::Cancel(attempt) => {
                if let Some(tried) = self.tries.remove(&attempt) {
                    self.ran.lost_time += self.now - tried.started;
                    self.account(tried);
                    self.tell(Event::Ended { attempt, ending: Ending::Cancelled });
                }
            }
            Action::Doubt { node, .. } => {
                self.ran.here += 1;
                let took = self.task(node).duration();
                self.put(took, Happening::RanHere(node));
            }
            Action::Done(_) => self.ran.makespan = self.now,
            Action::Retry { .. } | Action::Soon(_) => {}
            Action::Heal { .. } | Action::Failed { .. } => {
                unreachable!("no blob is lost here, and nothing fails")
            }
        }
    }

    fn start(&mut self, attempt: AttemptId, node: NodeId, duplicate: bool) {
        self.tries.insert(attempt, Try { started: self.now, duplicate });
        self.ran.duplicates += u64::from(duplicate);
        let (function, found) = self.functions.take(self.cloud, self.now);
        if found == Environment::None {
            self.ran.throttled += 1;
            return self.put(THROTTLED_IN, Happening::Refused(attempt));
        }
        self.ran.attempts += 1;
        let mut took = self.cloud.fetch.draw(&mut self.dice) + self.cloud.store.draw(&mut self.dice);
        if found == Environment::Cold {
            self.ran.cold += 1;
            took += self.cloud.cold.draw(&mut self.dice);
        }
        let straggles = self.dice.unit() <= self.cloud.stragglers;
        let [least, most] = self.cloud.slower;
        let slower = if straggles { least + (most - least) * self.dice.unit() } else { 1.0 };
        self.ran.stragglers += u64::from(straggles);
        took += self.task(node).duration().mul_f64(slower);
        self.put(took, Happening::Finished { attempt, function });
    }

    fn task(&self, node: NodeId) -> &Task {
        &self.graph.tasks()[node.0 as usize]
    }

    fn put(&mut self, after: Duration, happening: Happening) {
        self.number += 1;
        self.queue.push(Reverse((self.now + after, self.number, happening)));
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            // What was given up runs on out there, and keeps its environment until then.
            Happening::Finished { attempt, function } => {
                self.functions.give_back(function);
                self.end(attempt, Ending::Reduced);
            }
            Happening::Refused(attempt) => {
                self.end(attempt, Ending::Infra(InfraFailure::Throttled { after: THROTTLED_FOR }));
            }
            Happening::RanHere(node) => self.tell(Event::External(node)),
        }
    }

    fn end(&mut self, attempt: AttemptId, ending: Ending) {
        if let Some(tried) = self.tries.remove(&attempt) {
            self.account(tried);
            self.tell(Event::Ended { attempt, ending });
        }
    }

    fn account(&mut self, tried: Try) {
        if tried.duplicate {
            self.ran.duplicate_time += self.now - tried.started;
        }
    }
}
