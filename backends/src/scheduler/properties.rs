//! Random graphs, random failures, random orders: what must hold whatever happens.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ggr_ir::{InfraFailure, Kind};
use proptest::prelude::*;

use super::*;

/// How one attempt ends, drawn in advance.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Reduced,
    ToolFailed,
    Died,
    Throttled,
    Missing,
    TooBig,
    BreaksOff,
}

/// What the caller does next, if it can.
#[derive(Clone, Debug)]
enum Move {
    /// Adds a node that waits for these (as distances back).
    Add {
        back: Vec<u8>,
        estimate: u8,
        awaited: bool,
    },
    /// Ends one of the running attempts.
    End {
        which: u8,
        fate: Fate,
    },
    /// Answers one of the open questions (checks, heals, doubts) one way or the other.
    Answer {
        which: u8,
        well: bool,
        refused: u8,
    },
    /// Lets time pass.
    Wait {
        millis: u16,
    },
    Demand {
        which: u8,
    },
    Cancel {
        which: u8,
    },
    External {
        which: u8,
    },
    Slots {
        backend: u8,
        slots: u8,
    },
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        8 => Just(Fate::Reduced),
        1 => Just(Fate::ToolFailed),
        2 => Just(Fate::Died),
        1 => Just(Fate::Throttled),
        1 => Just(Fate::Missing),
        1 => Just(Fate::TooBig),
        1 => Just(Fate::BreaksOff),
    ]
}

fn a_move() -> impl Strategy<Value = Move> {
    prop_oneof![
        10 => (prop::collection::vec(any::<u8>(), 0..5), 1..200u8, prop::bool::weighted(0.1))
            .prop_map(|(back, estimate, awaited)| Move::Add { back, estimate, awaited }),
        12 => (any::<u8>(), fate()).prop_map(|(which, fate)| Move::End { which, fate }),
        12 => (any::<u8>(), prop::bool::weighted(0.7), any::<u8>())
            .prop_map(|(which, well, refused)| Move::Answer { which, well, refused }),
        4 => any::<u16>().prop_map(|millis| Move::Wait { millis }),
        1 => any::<u8>().prop_map(|which| Move::Demand { which }),
        1 => any::<u8>().prop_map(|which| Move::Cancel { which }),
        1 => any::<u8>().prop_map(|which| Move::External { which }),
        1 => (0..2u8, 0..4u8).prop_map(|(backend, slots)| Move::Slots { backend, slots }),
    ]
}

/// Some nodes have a home, near or far.
fn homes(node: NodeId) -> Option<Home> {
    let lag = Duration::from_millis(u64::from(node.0 % 5) * 40);
    (node.0 % 3).checked_sub(1).map(|at| Home { backend: BackendId(at as u8), lag })
}

/// A caller that checks each action against the promises.
struct Caller {
    scheduler: Scheduler,
    now: Instant,
    slots: [u32; 2],
    deps: Vec<Vec<NodeId>>,
    refused: BTreeMap<NodeId, BackendSet>,
    done: BTreeMap<NodeId, bool>,
    running: Vec<(AttemptId, NodeId, BackendId)>,
    questions: Vec<Action>,
}

impl Caller {
    fn new() -> Self {
        let slots = [2, 3];
        let specs = slots.map(|slots| BackendSpec { slots, duplicates: true, keeps: true });
        Self {
            scheduler: Scheduler::new(&specs, 7),
            now: Instant::now(),
            slots,
            deps: Vec::new(),
            refused: BTreeMap::new(),
            done: BTreeMap::new(),
            running: Vec::new(),
            questions: Vec::new(),
        }
    }

    fn tell(&mut self, event: Event) {
        let mut actions = Vec::new();
        self.scheduler.handle(event, self.now, &mut actions);
        self.scheduler.fill(self.now, &mut actions);
        for action in actions {
            self.heed(action);
        }
        assert_eq!(self.scheduler.open(), self.deps.len() - self.done.len());
    }

    fn heed(&mut self, action: Action) {
        match action {
            Action::Start { attempt, node, backend, duplicate } => {
                assert!(!self.done.contains_key(&node), "a settled node is not started");
                for dep in &self.deps[node.0 as usize] {
                    assert_eq!(self.done.get(dep), Some(&true), "{node:?} starts before {dep:?}");
                }
                assert!(!self.refused[&node].contains(backend), "{backend:?} refused {node:?}");
                let others = self.running.iter().filter(|r| r.1 == node).count();
                assert!(others <= 1 && duplicate == (others == 1), "{others} other attempts at {node:?}");
                self.running.push((attempt, node, backend));
                let used = self.running.iter().filter(|r| r.2 == backend).count();
                assert!(used <= self.slots[usize::from(backend.0)] as usize, "{used} jobs on {backend:?}");
            }
            Action::Cancel(attempt) => {
                assert!(self.running.iter().any(|r| r.0 == attempt), "only what runs is cancelled");
            }
            Action::Done(node) => assert_eq!(self.done.insert(node, true), None, "{node:?} is settled once"),
            Action::Failed { node, .. } => {
                assert_eq!(self.done.insert(node, false), None, "{node:?} is settled once");
            }
            question @ (Action::Check(_) | Action::Heal { .. } | Action::Doubt { .. }) => {
                self.questions.push(question);
            }
            Action::Retry { .. } => {}
            Action::Soon(node) => {
                assert!(!self.done.contains_key(&node), "a settled node is not announced");
            }
        }
    }

    fn some_node(&self, which: u8) -> Option<NodeId> {
        (!self.deps.is_empty()).then(|| NodeId((usize::from(which) % self.deps.len()) as u32))
    }

    fn make(&mut self, a_move: Move) {
        match a_move {
            Move::Add { back, estimate, awaited } => self.add(&back, estimate, awaited),
            Move::End { which, fate } => {
                if !self.running.is_empty() {
                    self.end(usize::from(which) % self.running.len(), fate);
                }
            }
            Move::Answer { which, well, refused } => {
                if !self.questions.is_empty() {
                    self.answer(usize::from(which) % self.questions.len(), well, refused);
                }
            }
            Move::Wait { millis } => {
                self.now += Duration::from_millis(u64::from(millis));
                self.tell(Event::Tick);
            }
            Move::Demand { which } => {
                self.some_node(which).into_iter().for_each(|n| self.tell(Event::Demand(n)))
            }
            Move::Cancel { which } => {
                self.some_node(which).into_iter().for_each(|n| self.tell(Event::Cancel(n)))
            }
            Move::External { which } => {
                // The caller only knows results of nodes whose dependencies are done.
                let ready =
                    |n: &NodeId| self.deps[n.0 as usize].iter().all(|d| self.done.get(d) == Some(&true));
                if let Some(node) = self.some_node(which).filter(ready) {
                    self.tell(Event::External(node));
                }
            }
            Move::Slots { backend, slots } => {
                let of = |b: u8| self.running.iter().filter(|r| r.2.0 == b).count() as u32;
                // The check above counts what was started before the backend became smaller.
                self.slots[usize::from(backend)] = u32::from(slots).max(of(backend));
                let slots = self.slots[usize::from(backend)];
                self.tell(Event::Slots { backend: BackendId(backend), slots });
            }
        }
    }

    fn add(&mut self, back: &[u8], estimate: u8, awaited: bool) {
        let node = NodeId(self.deps.len() as u32);
        let deps: Vec<_> =
            back.iter().filter_map(|b| node.0.checked_sub(1 + u32::from(*b) % 8)).map(NodeId).collect();
        self.deps.push(deps.clone());
        let kind = if estimate.is_multiple_of(2) { Kind::Compile } else { Kind::Link };
        let urgency = if awaited { Urgency::Awaited } else { Urgency::Eventual };
        let estimate = Duration::from_millis(u64::from(estimate));
        self.tell(Event::Add(NewNode { node, deps, kind, estimate, urgency }));
    }

    fn end(&mut self, at: usize, fate: Fate) {
        let (attempt, node, backend) = self.running.swap_remove(at);
        let ending = match fate {
            Fate::Reduced => Ending::Reduced,
            Fate::ToolFailed => Ending::ToolFailed,
            Fate::Died => Ending::Infra(InfraFailure::WorkerDied(String::new())),
            Fate::Throttled => Ending::Infra(InfraFailure::Throttled { after: Duration::from_millis(70) }),
            Fate::Missing => Ending::Infra(InfraFailure::InputsMissing(Vec::new())),
            Fate::TooBig => {
                let refused = self.refused.entry(node).or_default();
                // With another attempt running, the scheduler lets that one decide.
                if !self.running.iter().any(|r| r.1 == node) && !self.done.contains_key(&node) {
                    *refused = refused.with(backend);
                }
                Ending::Infra(InfraFailure::TooBig(String::new()))
            }
            Fate::BreaksOff => Ending::Cancelled,
        };
        self.tell(Event::Ended { attempt, ending });
    }

    fn answer(&mut self, at: usize, well: bool, refused: u8) {
        match (self.questions.swap_remove(at), well) {
            (Action::Check(node), false) => self.tell(Event::External(node)),
            (Action::Check(node), true) => {
                let refused = BackendSet(u16::from((refused % 7) & 3));
                self.refused.insert(node, refused);
                let home = homes(node);
                self.tell(Event::Missed { node, refused, home });
            }
            (Action::Heal { node, .. }, healed) => self.tell(Event::Healed { node, healed }),
            (Action::Doubt { node, .. }, true) => self.tell(Event::External(node)),
            (Action::Doubt { node, .. }, false) => self.tell(Event::Confirm(node)),
            (other, _) => unreachable!("{other:?} is no question"),
        }
    }

    /// From here on everything goes well: the build must end.
    fn settle(&mut self) {
        for backend in 0..2 {
            self.slots[backend] = self.slots[backend].max(2);
            let slots = self.slots[backend];
            self.tell(Event::Slots { backend: BackendId(backend as u8), slots });
        }
        let mut turns = 0;
        while self.scheduler.open() > 0 || !self.running.is_empty() {
            turns += 1;
            assert!(turns < 100_000, "the build does not end");
            if !self.questions.is_empty() {
                self.answer(0, true, 0);
            } else if !self.running.is_empty() {
                self.end(0, Fate::Reduced);
            } else {
                let deadline = self.scheduler.next_deadline();
                self.now = self.now.max(deadline.expect("a build that is not done waits for something"));
                self.tell(Event::Tick);
            }
        }
        assert_eq!(self.done.len(), self.deps.len(), "every node is settled");
        assert_eq!(self.scheduler.tally(), Tally::default());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_build_ends_with_each_node_settled_once_and_no_promise_broken(
        moves in prop::collection::vec(a_move(), 0..300)
    ) {
        let mut caller = Caller::new();
        moves.into_iter().for_each(|a_move| caller.make(a_move));
        caller.settle();
    }
}
