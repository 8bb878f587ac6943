//! One decision a test, with a made-up clock.

mod callers;
mod endings;
mod homes;
mod order;
mod retries;
mod stragglers;

use std::time::{Duration, Instant};

use ggr_ir::{BlobId, InfraFailure, Kind};

use super::*;

/// A scheduler, its clock, and what it said since it was last asked.
struct World {
    scheduler: Scheduler,
    now: Instant,
    said: Vec<Action>,
    /// Checks are answered with a miss at once, unless told otherwise.
    answer_checks: bool,
    refused: BackendSet,
    /// The home of what is checked.
    home: Option<Home>,
}

const SECOND: Duration = Duration::from_secs(1);

/// A world with one backend for each number of slots; all may run duplicates.
fn world(slots: &[u32]) -> World {
    let specs: Vec<_> =
        slots.iter().map(|&slots| BackendSpec { slots, duplicates: true, keeps: false }).collect();
    World {
        scheduler: Scheduler::new(&specs, 1),
        now: Instant::now(),
        said: Vec::new(),
        answer_checks: true,
        refused: BackendSet::EMPTY,
        home: None,
    }
}

fn died() -> Ending {
    Ending::Infra(InfraFailure::WorkerDied("test".to_owned()))
}

impl World {
    fn tell(&mut self, event: Event) {
        self.tell_only(event);
        self.scheduler.fill(self.now, &mut self.said);
    }

    fn tell_only(&mut self, event: Event) {
        let mut actions = Vec::new();
        self.scheduler.handle(event, self.now, &mut actions);
        for action in actions {
            self.said.push(action.clone());
            if let (Action::Check(node), true) = (action, self.answer_checks) {
                self.tell_only(Event::Missed { node, refused: self.refused, home: self.home });
            }
        }
    }

    fn add_of(&mut self, kind: Kind, seconds: u64, deps: &[NodeId]) -> NodeId {
        let node = NodeId(self.scheduler.len() as u32);
        let estimate = SECOND * seconds as u32;
        let urgency = Urgency::Eventual;
        self.tell(Event::Add(NewNode { node, deps: deps.to_vec(), kind, estimate, urgency }));
        node
    }

    fn add(&mut self, seconds: u64, deps: &[NodeId]) -> NodeId {
        self.add_of(Kind::Compile, seconds, deps)
    }

    fn add_many(&mut self, count: u32) {
        for _ in 0..count {
            self.add(1, &[]);
        }
    }

    fn ended(&mut self, attempt: AttemptId, ending: Ending) {
        self.tell(Event::Ended { attempt, ending });
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.tell(Event::Tick);
    }

    /// What it said since the last time.
    fn said(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.said)
    }

    /// What it started since the last time.
    fn started(&mut self) -> Vec<(NodeId, BackendId, AttemptId)> {
        let start = |action| match action {
            Action::Start { attempt, node, backend, .. } => Some((node, backend, attempt)),
            _ => None,
        };
        self.said().into_iter().filter_map(start).collect()
    }

    fn started_nodes(&mut self) -> Vec<u32> {
        self.started().into_iter().map(|(node, ..)| node.0).collect()
    }

    /// The one attempt that was started since the last time.
    fn only_start(&mut self) -> AttemptId {
        let started = self.started();
        assert_eq!(started.len(), 1, "{started:?}");
        started[0].2
    }

    /// Makes the usual duration of a kind known: one second.
    fn learn(&mut self, kind: Kind) {
        for _ in 0..10 {
            self.add_of(kind, 1, &[]);
            let attempt = self.only_start();
            self.now += SECOND;
            self.ended(attempt, Ending::Reduced);
        }
        self.said();
    }
}
