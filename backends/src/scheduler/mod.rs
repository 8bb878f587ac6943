//! Decides what runs where and when. Pure: it is told what happened and what time it is, and answers what to do.
//!
//! Nodes are added while the build is still being traced. A node whose dependencies are done is first checked for a
//! recorded result, then waits for a slot; what lies on the longest remaining path goes first, and before that whatever
//! somebody waits for, with what would otherwise be left over at the build's end. Failures outside the program are handled
//! by the table in `policy.rs`; stragglers, and where slots stand idle what the build's end hangs on, get a duplicate, and
//! the first result wins.
//!
//! **Invariant:** a node is settled ([`Action::Done`] or [`Action::Failed`]) exactly once, and started only after all that
//! it waits for is done. **Invariant:** each [`Action::Start`] gets exactly one [`Event::Ended`], and until then holds
//! its slot. **Bound:** 64 bytes a node and its edges; finished nodes keep no edges. Each event costs amortised
//! constant time, and the logarithm of the ready queue for each start.

mod balance;
mod callers;
mod ended;
mod event;
mod follower;
mod homes;
mod node;
mod path;
mod policy;
mod ready;
mod runs;
mod settle;
mod spare;
mod stragglers;
mod timers;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Instant;

use balance::{Left, is_left};
use callers::Callers;
pub use event::{
    Action, AttemptId, BackendId, BackendSet, DoubtCause, Ending, Event, FailCause, NewNode, NodeId, Urgency,
};
pub(crate) use follower::CHAINED;
pub use homes::Home;

use homes::{HomeNote, Reach, place_for};
use node::{Edges, NO_RUN, Node, State, Ticks};
use path::Waves;
use ready::ReadyQueue;
use runs::Runs;
use spare::Critical;
use stragglers::Stragglers;
use timers::{Timer, Timers};

/// What the scheduler knows of a backend.
#[derive(Clone, Copy, Debug)]
pub struct BackendSpec {
    /// How many jobs it runs side by side.
    pub slots: u32,
    /// Whether a duplicate of a straggler may help there; see [`Backend::duplicates`](crate::Backend::duplicates).
    pub duplicates: bool,
    /// Whether it keeps inputs for later jobs; see [`Backend::keeps`](crate::Backend::keeps).
    pub keeps: bool,
}

/// A backend and what is in flight on it.
#[derive(Debug)]
struct Place {
    spec: BackendSpec,
    /// May be over `spec.slots` for a while after the backend became smaller.
    used: u32,
    /// How many nodes whose home it is wait for a slot.
    homed: u32,
    /// It takes only what every other refuses.
    standby: bool,
    /// It could not be reached a moment ago.
    away: bool,
}

impl Place {
    fn of(spec: BackendSpec) -> Self {
        Self { spec, used: 0, homed: 0, standby: false, away: false }
    }
}

/// The state machine.
#[derive(Debug)]
pub struct Scheduler {
    nodes: Vec<Node>,
    places: Vec<Place>,
    ready: ReadyQueue,
    waves: Waves,
    runs: Runs,
    timers: Timers,
    stragglers: Stragglers,
    /// Stragglers that are worth a slot that others wait for. Bound: the attempts in flight.
    overdue: VecDeque<AttemptId>,
    critical: Critical,
    callers: Callers,
    left: Left,
    /// Nodes that are not settled.
    open: usize,
    tally: Tally,
    draining: bool,
    /// Whether there is a place that keeps inputs.
    keeps: bool,
    random: u64,
}

/// How many nodes stand where.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Tally {
    /// Waiting for a slot.
    pub ready: u64,
    /// Waiting for the caller's answer to [`Action::Doubt`].
    pub doubted: u64,
}

impl Tally {
    fn at(&mut self, state: State) -> Option<&mut u64> {
        match state {
            State::Ready => Some(&mut self.ready),
            State::Doubted => Some(&mut self.doubted),
            _ => None,
        }
    }
}

impl Scheduler {
    /// Makes one over these backends, which are filled in the order given. The seed is for the jitter of retries.
    ///
    /// # Panics
    /// If there are more than [`BackendSet::MAX`] backends.
    pub fn new(backends: &[BackendSpec], seed: u64) -> Self {
        assert!(backends.len() <= BackendSet::MAX, "at most {} backends", BackendSet::MAX);
        Self {
            nodes: Vec::new(),
            places: backends.iter().map(|spec| Place::of(*spec)).collect(),
            ready: ReadyQueue::default(),
            waves: Waves::default(),
            runs: Runs::default(),
            timers: Timers::default(),
            stragglers: Stragglers::default(),
            overdue: VecDeque::new(),
            critical: Critical::default(),
            callers: Callers::default(),
            left: Left::default(),
            open: 0,
            tally: Tally::default(),
            draining: false,
            keeps: backends.iter().any(|spec| spec.keeps),
            random: seed,
        }
    }

    /// From now on this backend takes only what every other backend has refused or given up.
    pub fn stand_by(&mut self, backend: BackendId) {
        self.places[usize::from(backend.0)].standby = true;
    }

    /// How many nodes are not settled.
    pub fn open(&self) -> usize {
        self.open
    }

    /// How many nodes stand where. Constant time.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// How many nodes were added: the number of the next one.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether no node was ever added.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// When [`Event::Tick`] is due, if nothing happens before.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Takes in what happened; appends what to do about it, except for starts of waiting nodes: those come with
    /// [`fill`](Self::fill). `now` must not run backwards.
    ///
    /// # Panics
    /// If [`Event::Add`] does not carry the next number, or an event names a node that was not added.
    pub fn handle(&mut self, event: Event, now: Instant, actions: &mut Vec<Action>) {
        let open_calls = self.open_calls();
        match event {
            Event::Add(new) => self.add(new, now, actions),
            Event::Missed { node, refused, home } => self.missed(node, refused, home, actions),
            Event::External(node) => self.finish(node, actions),
            Event::Ended { attempt, ending } => self.ended(attempt, ending, now, actions),
            Event::Demand(node) => self.demand(node, now),
            Event::Confirm(node) => self.confirm(node, actions),
            Event::Healed { node, healed } => self.healed(node, healed, actions),
            Event::Cancel(node) => self.fail(node, FailCause::Cancelled, actions),
            Event::CancelAll => self.cancel_all(actions),
            Event::Drain => self.drain(actions),
            Event::Slots { backend, slots } => self.places[usize::from(backend.0)].spec.slots = slots,
            Event::Tick => {}
        }
        self.note_callers(open_calls, now);
        self.wake(now, actions);
        self.waves.advance(&mut self.nodes, &mut self.ready);
    }

    fn node(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id.0 as usize]
    }

    /// The only place where a node's state changes.
    fn set_state(&mut self, id: NodeId, state: State) {
        let node = self.node(id);
        let (old, called) = (node.state, node.is_called_for());
        node.state = state;
        match (called, node.is_called_for()) {
            (false, true) => self.callers.opened(),
            (true, false) => self.callers.closed(),
            _ => {}
        }
        match (is_left(old), is_left(state)) {
            (false, true) => self.left.add(&self.nodes[id.0 as usize]),
            (true, false) => self.left.remove(&self.nodes[id.0 as usize]),
            _ => {}
        }
        self.count_homed(self.nodes[id.0 as usize].home, old, state);
        if let Some(count) = self.tally.at(old) {
            *count -= 1;
        }
        if let Some(count) = self.tally.at(state) {
            *count += 1;
        }
        if matches!(state, State::Done | State::Failed) {
            self.open -= 1;
        }
    }

    fn add(&mut self, new: NewNode, now: Instant, actions: &mut Vec<Action>) {
        let id = NodeId(u32::try_from(self.nodes.len()).expect("nodes are numbered with 32 bits"));
        assert_eq!(new.node, id, "nodes are added in the order of their numbers");
        let poison = new.deps.iter().find(|dep| self.nodes[dep.0 as usize].state == State::Failed).copied();
        let deps: Edges =
            new.deps.iter().filter(|dep| !self.nodes[dep.0 as usize].settled()).copied().collect();
        for dep in deps.iter() {
            self.node(dep).dependants.push(id);
        }
        let estimate = Ticks::of(new.estimate);
        self.nodes.push(Node {
            state: State::Waiting,
            kind: new.kind,
            awaited: false,
            dirty: false,
            announced: false,
            home: HomeNote::NONE,
            tries: 0,
            refused: BackendSet::EMPTY,
            waiting_on: deps.len() as u32,
            estimate,
            path: estimate,
            run: NO_RUN,
            deps,
            dependants: Edges::EMPTY,
        });
        self.open += 1;
        self.left.add(&self.nodes[id.0 as usize]);
        if self.draining {
            return self.fail(id, FailCause::Cancelled, actions);
        }
        if let Some(by) = poison {
            return self.fail(id, FailCause::Poisoned { by }, actions);
        }
        if new.urgency == Urgency::Awaited {
            self.demand(id, now);
        }
        self.waves.push(id, &mut self.nodes[id.0 as usize]);
        self.release(id, actions);
        self.announce(id, actions);
    }

    /// Asks for the check of a node that has nothing left to wait for.
    fn release(&mut self, id: NodeId, actions: &mut Vec<Action>) {
        let node = self.node(id);
        if node.state == State::Waiting && node.waiting_on == 0 {
            self.set_state(id, State::Checking);
            actions.push(Action::Check(id));
        }
    }

    fn missed(&mut self, id: NodeId, refused: BackendSet, home: Option<Home>, actions: &mut Vec<Action>) {
        if self.node(id).state != State::Checking {
            return;
        }
        self.node(id).refused = refused;
        self.node(id).home = HomeNote::of(home);
        if self.somewhere(refused) {
            self.make_ready(id);
        } else {
            self.doubt(id, DoubtCause::Refused, actions);
        }
    }

    /// Whether a backend outside the set exists.
    fn somewhere(&self, refused: BackendSet) -> bool {
        (0..self.places.len()).any(|i| !refused.contains(BackendId(i as u8)))
    }

    fn make_ready(&mut self, id: NodeId) {
        self.set_state(id, State::Ready);
        self.ready.push(id, &self.nodes[id.0 as usize]);
    }

    /// Marks the node and all that it waits for as awaited. Each node is marked once: linear over a whole build.
    fn demand(&mut self, id: NodeId, now: Instant) {
        self.callers.ask(now);
        let mut stack = vec![id];
        while let Some(id) = stack.pop() {
            let node = &mut self.nodes[id.0 as usize];
            if node.settled() || node.awaited {
                continue;
            }
            node.awaited = true;
            if is_left(node.state) {
                self.left.await_it(node);
            }
            if node.is_called_for() {
                self.callers.opened();
            }
            stack.extend(node.deps.iter());
            if node.state == State::Ready {
                self.ready.push(id, node);
            }
        }
    }

    /// Fills the free slots with what matters most. To be called when a batch of events has been told and the checks that
    /// they led to have been answered: were slots filled after each event, what an ended node has just set free would
    /// always find the slot taken by something else.
    pub fn fill(&mut self, now: Instant, actions: &mut Vec<Action>) {
        self.fill_overdue(now, actions);
        let (kept, urgent) = (self.kept(now), self.urgent());
        while self.places.iter().any(|place| place.used < place.spec.slots) {
            let at_home = |node: &Node, waiting| place_for(&self.places, node, waiting, Reach::Own, &kept);
            let elsewhere =
                |node: &Node, waiting| place_for(&self.places, node, waiting, Reach::Others, &kept);
            let found = self.ready.pop(&self.nodes, urgent, at_home);
            let found = found.or_else(|| self.ready.pop_longest(&self.nodes, urgent, elsewhere));
            let Some((id, backend)) = found else {
                return self.clone_critical(now, actions);
            };
            self.start(id, backend, now, actions);
        }
    }

    fn start(&mut self, id: NodeId, backend: BackendId, now: Instant, actions: &mut Vec<Action>) {
        let place = &mut self.places[usize::from(backend.0)];
        place.used += 1;
        let duplicates = place.spec.duplicates;
        let node = &mut self.nodes[id.0 as usize];
        let duplicate = node.run != NO_RUN;
        let attempt = self.runs.start(id, backend, node.run, now);
        node.run = attempt.index;
        self.stragglers.started(node.kind);
        let late = self.stragglers.late(node.kind, node.estimate);
        self.set_state(id, State::Running);
        if let (true, false, Some(late)) = (duplicates, duplicate, late) {
            self.timers.set(now + late.idle, Timer::Straggler(attempt));
        }
        self.note_start(attempt, id, duplicate, now);
        actions.push(Action::Start { attempt, node: id, backend, duplicate });
        self.announce_dependants(id, actions);
    }
}

/// Whether only backends on standby are left outside the set.
fn all_refused(places: &[Place], refused: BackendSet) -> bool {
    let mut all = places.iter().enumerate();
    all.all(|(i, place)| place.standby || refused.contains(BackendId(i as u8)))
}

/// The first backend with a free slot that passes.
fn first_free(places: &[Place], pass: impl Fn(BackendId, &Place) -> bool) -> Option<BackendId> {
    places
        .iter()
        .enumerate()
        .map(|(i, place)| (BackendId(i as u8), place))
        .find(|(backend, place)| place.used < place.spec.slots && pass(*backend, place))
        .map(|(backend, _)| backend)
}
