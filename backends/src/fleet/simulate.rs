//! The discrete-event simulation: what the driver does, with a queue of times in place of futures.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use ggr_ir::InfraFailure;
use rustc_hash::{FxHashMap, FxHashSet};

use super::cloud::{Cloud, Environment, Functions};
use super::graph::{Graph, Task};
use crate::dice::Dice;
use crate::lambda::batch;
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
    /// Invocations that got one.
    pub invocations: u64,
    /// Thunks that ran behind the one that they wait for, with no attempt of their own.
    pub chained: u64,
    /// Invocations that found no environment ready.
    pub cold: u64,
    /// Invocations that the ramp refused.
    pub throttled: u64,
    /// Programs that straggled.
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
    /// Short thunks have waited long enough for company.
    Flush,
    /// An invocation has ended; its attempts may have been given up before.
    Answered(u64),
    /// The service refused an invocation.
    Refused(u64),
    /// The user's machine has run it.
    RanHere(NodeId),
}

/// An attempt in flight.
#[derive(Clone, Copy, Debug)]
struct Try {
    started: Duration,
    duplicate: bool,
}

/// An attempt that is to be sent.
#[derive(Clone, Debug)]
struct Sent {
    attempt: AttemptId,
    node: NodeId,
    /// Those that run behind it.
    behind: Vec<NodeId>,
}

/// An invocation in flight.
#[derive(Debug)]
struct Invocation {
    function: usize,
    sent: Vec<Sent>,
}

struct Simulation<'a> {
    graph: &'a Graph,
    cloud: &'a Cloud,
    workers: u32,
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
    /// By their numbers.
    invocations: FxHashMap<u64, Invocation>,
    /// Short thunks that wait for company, and what each usually takes.
    waiting: Vec<(Sent, Duration)>,
    /// Made behind another thunk, and not checked yet.
    early: FxHashSet<NodeId>,
    /// What is remembered of each thunk.
    usual: Vec<Duration>,
    ran: Ran,
}

/// Runs the graph on so many workers. The same seed gives the same result.
pub fn simulate(graph: &Graph, cloud: &Cloud, workers: u32, seed: u64) -> Ran {
    let backend = BackendSpec { slots: workers, duplicates: true, keeps: false };
    let simulation = Simulation {
        graph,
        cloud,
        workers,
        scheduler: Scheduler::new(&[backend], seed),
        functions: Functions::new(cloud, workers),
        dice: Dice(seed),
        origin: Instant::now(),
        now: Duration::ZERO,
        traced: 0,
        queue: BinaryHeap::new(),
        number: 0,
        tries: FxHashMap::default(),
        invocations: FxHashMap::default(),
        waiting: Vec::new(),
        early: FxHashSet::default(),
        usual: Vec::new(),
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
            self.usual.push(estimate);
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
            Action::Check(node) if self.early.remove(&node) => {
                self.ran.chained += 1;
                self.tell(Event::External(node));
            }
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

    /// Starts an attempt: the driver's part and that of the Lambda backend, which decide who goes with whom.
    fn start(&mut self, attempt: AttemptId, node: NodeId, duplicate: bool) {
        self.tries.insert(attempt, Try { started: self.now, duplicate });
        self.ran.duplicates += u64::from(duplicate);
        let mut behind = Vec::new();
        if self.cloud.together {
            let usual = |node: NodeId| Some(self.usual[node.0 as usize]);
            behind = self.scheduler.behind(attempt, usual, Some);
        }
        let usual = self.usual[node.0 as usize];
        let company = batch::company(Some(usual), !behind.is_empty()).filter(|_| self.cloud.together);
        let sent = Sent { attempt, node, behind };
        let Some(usual) = company else { return self.invoke(vec![sent]) };
        if self.waiting.is_empty() {
            self.put(batch::WINDOW, Happening::Flush);
        }
        self.waiting.push((sent, usual));
    }

    /// Sends what has waited for company, but for what was given up meanwhile.
    fn flush(&mut self) {
        let waiting = std::mem::take(&mut self.waiting);
        let full = self.tries.len() >= self.workers as usize;
        for group in batch::divide(waiting, full, |(_, usual)| (*usual, 0)) {
            let group = group.into_iter().map(|(sent, _)| sent);
            let group: Vec<_> = group.filter(|sent| self.tries.contains_key(&sent.attempt)).collect();
            if !group.is_empty() {
                self.invoke(group);
            }
        }
    }

    fn invoke(&mut self, sent: Vec<Sent>) {
        let (function, found) = self.functions.take(self.cloud, self.now);
        self.number += 1;
        let number = self.number;
        if found == Environment::None {
            self.ran.throttled += 1;
            self.put(THROTTLED_IN, Happening::Refused(number));
        } else {
            self.ran.invocations += 1;
            self.ran.attempts += sent.len() as u64;
            let took = self.takes(&sent, found);
            self.put(took, Happening::Answered(number));
        }
        self.invocations.insert(number, Invocation { function, sent });
    }

    /// What an invocation takes: as a function does it, one thunk after the other, each with its transfers; what runs behind
    /// another finds its inputs there.
    fn takes(&mut self, sent: &[Sent], found: Environment) -> Duration {
        let mut took = Duration::ZERO;
        for (place, Sent { node, behind, .. }) in sent.iter().enumerate() {
            took += self.cloud.fetch.draw(&mut self.dice) + self.cloud.store.draw(&mut self.dice);
            if found == Environment::Cold && place == 0 {
                self.ran.cold += 1;
                took += self.cloud.cold.draw(&mut self.dice);
            }
            took += self.program(*node);
            for node in behind {
                took += self.program(*node) + self.cloud.store.draw(&mut self.dice);
            }
        }
        took
    }

    /// What a thunk's program takes this time.
    fn program(&mut self, node: NodeId) -> Duration {
        let straggles = self.dice.unit() <= self.cloud.stragglers;
        let [least, most] = self.cloud.slower;
        let slower = if straggles { least + (most - least) * self.dice.unit() } else { 1.0 };
        self.ran.stragglers += u64::from(straggles);
        self.task(node).duration().mul_f64(slower)
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
            Happening::Flush => self.flush(),
            // What was given up runs on out there, and keeps its environment until then.
            Happening::Answered(number) => {
                let invocation = self.invocations.remove(&number).expect("an invocation ends once");
                self.functions.give_back(invocation.function);
                for Sent { attempt, behind, .. } in invocation.sent {
                    if self.tries.contains_key(&attempt) {
                        self.early.extend(behind);
                    }
                    self.end(attempt, Ending::Reduced);
                }
            }
            Happening::Refused(number) => {
                let invocation = self.invocations.remove(&number).expect("an invocation ends once");
                for Sent { attempt, .. } in invocation.sent {
                    let failure = InfraFailure::Throttled { after: THROTTLED_FOR };
                    self.end(attempt, Ending::Infra(failure));
                }
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
