//! One decision a test, with a made-up clock.

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
}

const SECOND: Duration = Duration::from_secs(1);

/// A world with one backend for each number of slots; all may run duplicates.
fn world(slots: &[u32]) -> World {
    let specs: Vec<_> = slots.iter().map(|&slots| BackendSpec { slots, duplicates: true }).collect();
    World {
        scheduler: Scheduler::new(&specs, 1),
        now: Instant::now(),
        said: Vec::new(),
        answer_checks: true,
        refused: BackendSet::EMPTY,
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
                self.tell_only(Event::Missed { node, refused: self.refused });
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

#[test]
fn a_node_starts_when_all_that_it_waits_for_is_done() {
    let mut w = world(&[9]);
    let a = w.add(1, &[]);
    let b = w.add(1, &[]);
    let c = w.add(1, &[a, b]);
    let started = w.started();
    assert_eq!(started.iter().map(|s| s.0).collect::<Vec<_>>(), [a, b]);
    w.ended(started[0].2, Ending::Reduced);
    assert_eq!(w.started(), []);
    w.ended(started[1].2, Ending::Reduced);
    assert_eq!(w.started()[0].0, c);
}

#[test]
fn a_dependency_named_twice_counts_once() {
    let mut w = world(&[1]);
    let a = w.add(1, &[]);
    let b = w.add(1, &[a, a]);
    let attempt = w.only_start();
    w.ended(attempt, Ending::Reduced);
    assert_eq!(w.started_nodes(), [b.0]);
}

#[test]
fn a_dependency_that_is_done_is_not_waited_for() {
    let mut w = world(&[1]);
    let a = w.add(1, &[]);
    w.tell(Event::External(a));
    w.said();
    let b = w.add(1, &[a]);
    // The attempt at `a` is still being cancelled and holds the slot.
    assert_eq!(w.said(), [Action::Check(b)]);
}

#[test]
fn no_backend_gets_more_than_its_slots_and_the_first_is_filled_first() {
    let mut w = world(&[2, 1]);
    w.add_many(5);
    let started = w.started();
    assert_eq!(started.iter().map(|s| s.1.0).collect::<Vec<_>>(), [0, 0, 1]);
    w.ended(started[2].2, Ending::Reduced);
    assert_eq!(w.started()[0].1, BackendId(1));
}

#[test]
fn the_longest_remaining_path_goes_first() {
    let mut w = world(&[1]);
    w.add(1, &[]);
    let first = w.only_start();
    let long = w.add(50, &[]);
    let head = w.add(5, &[]);
    let short = w.add(20, &[]);
    w.add(100, &[head]);
    w.ended(first, Ending::Reduced);
    let mut order = Vec::new();
    for _ in 0..4 {
        let started = w.started();
        order.push(started[0].0);
        w.ended(started[0].2, Ending::Reduced);
    }
    assert_eq!(order, [head, NodeId(4), long, short]);
}

#[test]
fn among_equals_the_oldest_goes_first() {
    let mut w = world(&[0]);
    w.add_many(4);
    w.tell(Event::Slots { backend: BackendId(0), slots: 9 });
    assert_eq!(w.started_nodes(), [0, 1, 2, 3]);
}

#[test]
fn what_somebody_waits_for_goes_first_with_all_that_it_needs() {
    let mut w = world(&[0]);
    w.add(100, &[]);
    let needed = w.add(1, &[]);
    let wanted = w.add(1, &[needed]);
    w.tell(Event::Demand(wanted));
    w.tell(Event::Slots { backend: BackendId(0), slots: 1 });
    let started = w.started();
    assert_eq!(started[0].0, needed);
    w.ended(started[0].2, Ending::Reduced);
    assert_eq!(w.started()[0].0, wanted);
}

#[test]
fn a_node_that_is_added_awaited_pulls_its_dependencies() {
    let mut w = world(&[0]);
    w.add(100, &[]);
    let needed = w.add(1, &[]);
    let node = NodeId(2);
    w.tell(Event::Add(NewNode {
        node,
        deps: vec![needed],
        kind: Kind::Link,
        estimate: SECOND,
        urgency: Urgency::Awaited,
    }));
    w.tell(Event::Slots { backend: BackendId(0), slots: 1 });
    assert_eq!(w.started_nodes(), [needed.0]);
}

#[test]
fn a_recorded_result_takes_no_slot() {
    let mut w = world(&[0]);
    w.answer_checks = false;
    let a = w.add(1, &[]);
    let b = w.add(1, &[a]);
    assert_eq!(w.said(), [Action::Check(a)]);
    w.tell(Event::External(a));
    assert_eq!(w.said(), [Action::Done(a), Action::Check(b)]);
    w.tell(Event::External(b));
    assert_eq!(w.said(), [Action::Done(b)]);
    assert_eq!(w.scheduler.open(), 0);
}

#[test]
fn a_job_goes_to_a_backend_that_takes_it_and_hides_no_other() {
    let mut w = world(&[1, 1]);
    w.add(1, &[]);
    w.refused = BackendSet::EMPTY.with(BackendId(1));
    w.add(100, &[]);
    w.refused = BackendSet::EMPTY;
    w.add(1, &[]);
    let started: Vec<_> = w.started().into_iter().map(|(node, backend, _)| (node.0, backend.0)).collect();
    assert_eq!(started, [(0, 0), (2, 1)]);
}

#[test]
fn a_job_that_no_backend_takes_is_in_doubt() {
    let mut w = world(&[1, 1]);
    w.refused = BackendSet::EMPTY.with(BackendId(0)).with(BackendId(1));
    let a = w.add(1, &[]);
    assert_eq!(w.said().last(), Some(&Action::Doubt { node: a, cause: DoubtCause::Refused }));
}

#[test]
fn a_failed_tool_is_not_retried() {
    let mut w = world(&[1]);
    let a = w.add(1, &[]);
    let attempt = w.only_start();
    w.ended(attempt, Ending::ToolFailed);
    assert_eq!(w.said(), [Action::Doubt { node: a, cause: DoubtCause::Tool }]);
    w.pass(SECOND * 1000);
    assert_eq!(w.said(), []);
}

#[test]
fn dependants_of_a_doubted_node_wait_for_the_answer() {
    let mut w = world(&[1]);
    let a = w.add(1, &[]);
    let b = w.add(1, &[a]);
    let attempt = w.only_start();
    w.ended(attempt, Ending::ToolFailed);
    w.said();
    w.tell(Event::External(a));
    assert_eq!(w.said()[..2], [Action::Done(a), Action::Check(b)]);
}

#[test]
fn a_confirmed_failure_poisons_what_depends_on_it_and_nothing_else() {
    let mut w = world(&[1]);
    let a = w.add(1, &[]);
    let b = w.add(1, &[a]);
    let c = w.add(1, &[b]);
    let other = w.add(1, &[]);
    let attempt = w.only_start();
    w.ended(attempt, Ending::ToolFailed);
    w.said();
    w.tell(Event::Confirm(a));
    let poisoned = FailCause::Poisoned { by: a };
    assert_eq!(
        w.said(),
        [
            Action::Failed { node: a, cause: FailCause::Itself },
            Action::Failed { node: b, cause: poisoned },
            Action::Failed { node: c, cause: poisoned },
        ]
    );
    let late = w.add(1, &[c]);
    assert_eq!(w.said(), [Action::Failed { node: late, cause: FailCause::Poisoned { by: c } }]);
    assert_eq!(w.scheduler.open(), 1);
    w.tell(Event::External(other));
    assert_eq!(w.scheduler.open(), 0);
}

#[test]
fn a_confirmation_without_doubt_means_nothing() {
    let mut w = world(&[1]);
    let a = w.add(1, &[]);
    w.said();
    w.tell(Event::Confirm(a));
    assert_eq!(w.said(), []);
}

#[test]
fn a_dead_worker_s_job_is_tried_three_times_at_once_then_elsewhere() {
    let mut w = world(&[1, 1]);
    let a = w.add(1, &[]);
    let mut places = Vec::new();
    for _ in 0..6 {
        let (_, backend, attempt) = w.started()[0];
        places.push(backend.0);
        w.ended(attempt, died());
    }
    assert_eq!(places, [0, 0, 0, 1, 1, 1]);
    assert_eq!(w.said(), [Action::Doubt { node: a, cause: DoubtCause::Infra }]);
}

#[test]
fn a_throttled_job_waits_as_long_as_the_service_asks() {
    let mut w = world(&[1]);
    let a = w.add(1, &[]);
    let attempt = w.only_start();
    w.ended(attempt, Ending::Infra(InfraFailure::Throttled { after: SECOND * 30 }));
    assert_eq!(w.said(), [Action::Retry { node: a, after: SECOND * 30 }]);
    assert_eq!(w.scheduler.next_deadline(), Some(w.now + SECOND * 30));
    w.pass(SECOND * 29);
    assert_eq!(w.said(), []);
    w.pass(SECOND);
    assert_eq!(w.started_nodes(), [a.0]);
}

#[test]
fn backoff_grows_and_other_work_goes_on_meanwhile() {
    let mut w = world(&[1]);
    let a = w.add(1, &[]);
    let mut attempt = w.only_start();
    let mut waits = Vec::new();
    for _ in 0..4 {
        w.ended(attempt, Ending::Infra(InfraFailure::Unreachable(String::new())));
        let [Action::Retry { node, after }] = w.said()[..] else { panic!() };
        assert_eq!(node, a);
        waits.push(after);
        w.pass(after);
        attempt = w.only_start();
    }
    assert!(waits[0] >= Duration::from_millis(50) && waits[0] <= Duration::from_millis(150), "{waits:?}");
    assert!(waits[3] >= Duration::from_millis(400), "{waits:?}");
    w.ended(attempt, Ending::Infra(InfraFailure::Unreachable(String::new())));
    assert_eq!(w.said(), [Action::Doubt { node: a, cause: DoubtCause::Infra }]);
    w.add(1, &[]);
    assert_eq!(w.started_nodes(), [1]);
}

#[test]
fn a_delayed_job_holds_no_slot() {
    let mut w = world(&[1]);
    w.add(1, &[]);
    let attempt = w.only_start();
    w.ended(attempt, Ending::Infra(InfraFailure::Throttled { after: SECOND }));
    w.add(1, &[]);
    assert_eq!(w.started_nodes(), [1]);
}

#[test]
fn missing_inputs_are_healed_before_the_next_try() {
    let mut w = world(&[1]);
    let a = w.add(1, &[]);
    let attempt = w.only_start();
    let missing = vec![BlobId::of(b"x")];
    w.ended(attempt, Ending::Infra(InfraFailure::InputsMissing(missing.clone())));
    assert_eq!(w.said()[0], Action::Heal { node: a, missing });
    w.tell(Event::Healed { node: a, healed: true });
    assert_eq!(w.started_nodes(), [a.0]);
}

#[test]
fn inputs_that_cannot_be_healed_put_the_node_in_doubt() {
    let mut w = world(&[1]);
    let a = w.add(1, &[]);
    let attempt = w.only_start();
    w.ended(attempt, Ending::Infra(InfraFailure::InputsMissing(vec![])));
    w.said();
    w.tell(Event::Healed { node: a, healed: false });
    assert_eq!(w.said(), [Action::Doubt { node: a, cause: DoubtCause::Infra }]);
}

#[test]
fn what_is_too_big_for_one_place_goes_to_the_next_and_never_back() {
    let mut w = world(&[1, 1]);
    let a = w.add(1, &[]);
    let attempt = w.only_start();
    w.ended(attempt, Ending::Infra(InfraFailure::TooBig("disk".to_owned())));
    let (node, backend, attempt) = w.started()[0];
    assert_eq!((node, backend), (a, BackendId(1)));
    w.ended(attempt, died());
    assert_eq!(w.started()[0].1, BackendId(1));
}

#[test]
fn an_attempt_that_breaks_off_by_itself_is_tried_again() {
    let mut w = world(&[1]);
    let a = w.add(1, &[]);
    let attempt = w.only_start();
    w.ended(attempt, Ending::Cancelled);
    assert_eq!(w.started_nodes(), [a.0]);
}

#[test]
fn an_attempt_ends_once() {
    let mut w = world(&[1]);
    w.add(1, &[]);
    w.add(1, &[]);
    let attempt = w.only_start();
    w.ended(attempt, Ending::Reduced);
    w.said();
    w.ended(attempt, Ending::Reduced);
    assert_eq!(w.said(), [], "the slot was not given back a second time");
}

#[test]
fn a_straggler_gets_a_duplicate_and_the_first_result_wins() {
    let mut w = world(&[2]);
    w.learn(Kind::Compile);
    let slow = w.add(1, &[]);
    let first = w.only_start();
    w.pass(Duration::from_millis(1999));
    assert_eq!(w.said(), []);
    w.pass(Duration::from_millis(1));
    let [Action::Start { attempt: second, node, duplicate: true, .. }] = w.said()[..] else { panic!() };
    assert_eq!(node, slow);
    w.ended(second, Ending::Reduced);
    assert_eq!(w.said(), [Action::Cancel(first), Action::Done(slow)]);
    w.ended(first, Ending::Cancelled);
    assert_eq!(w.said(), []);
    assert_eq!(w.scheduler.open(), 0);
}

#[test]
fn a_duplicate_goes_to_another_backend_if_one_is_free() {
    let mut w = world(&[2, 2]);
    w.learn(Kind::Compile);
    w.add(1, &[]);
    w.said();
    w.pass(SECOND * 3);
    assert_eq!(w.started()[0].1, BackendId(1));
}

#[test]
fn a_duplicate_is_not_duplicated() {
    let mut w = world(&[9]);
    w.learn(Kind::Compile);
    w.add(1, &[]);
    w.said();
    w.pass(SECOND * 3);
    assert_eq!(w.started().len(), 1);
    w.pass(SECOND * 1000);
    assert_eq!(w.started(), []);
}

#[test]
fn there_are_no_duplicates_while_other_work_waits_for_the_slots() {
    let mut w = world(&[1]);
    w.learn(Kind::Compile);
    w.add(1, &[]);
    let slow = w.only_start();
    w.add(1, &[]);
    w.pass(SECOND * 10);
    assert_eq!(w.started(), []);
    w.ended(slow, Ending::Reduced);
    assert_eq!(w.started_nodes().len(), 1);
}

#[test]
fn a_straggler_that_found_no_slot_is_looked_at_again() {
    let mut w = world(&[2]);
    w.learn(Kind::Compile);
    let slow = w.add(1, &[]);
    w.add_of(Kind::Link, 1, &[]);
    let link = w.started()[1].2;
    w.pass(SECOND * 3);
    assert_eq!(w.started(), []);
    w.ended(link, Ending::Reduced);
    w.pass(SECOND);
    assert_eq!(w.started_nodes(), [slow.0]);
}

#[test]
fn there_are_no_duplicates_where_they_cannot_help() {
    let mut w = world(&[2]);
    w.scheduler = Scheduler::new(&[BackendSpec { slots: 2, duplicates: false }], 1);
    w.learn(Kind::Compile);
    w.add(1, &[]);
    w.said();
    w.pass(SECOND * 100);
    assert_eq!(w.said(), []);
    assert_eq!(w.scheduler.next_deadline(), None);
}

#[test]
fn what_ran_before_its_kind_was_known_is_watched_too() {
    let mut w = world(&[11]);
    let slow = w.add(1, &[]);
    w.add_many(10);
    let started = w.started();
    w.pass(SECOND);
    started[1..].iter().for_each(|s| w.ended(s.2, Ending::Reduced));
    assert_eq!(w.started(), []);
    w.pass(SECOND);
    assert_eq!(w.started_nodes(), [slow.0]);
}

#[test]
fn one_of_two_attempts_may_fail() {
    let mut w = world(&[2]);
    w.learn(Kind::Compile);
    let slow = w.add(1, &[]);
    let first = w.only_start();
    w.pass(SECOND * 3);
    let second = w.only_start();
    w.ended(first, died());
    assert_eq!(w.said(), []);
    w.ended(second, Ending::Reduced);
    assert_eq!(w.said(), [Action::Done(slow)]);
}

#[test]
fn a_tool_that_fails_in_one_attempt_stops_the_other() {
    let mut w = world(&[2]);
    w.learn(Kind::Compile);
    let slow = w.add(1, &[]);
    let first = w.only_start();
    w.pass(SECOND * 3);
    let second = w.only_start();
    w.ended(second, Ending::ToolFailed);
    assert_eq!(w.said(), [Action::Cancel(first), Action::Doubt { node: slow, cause: DoubtCause::Tool }]);
    w.ended(first, Ending::Reduced);
    assert_eq!(w.said(), [], "the caller is looking into it");
}

#[test]
fn an_external_result_stops_the_attempt_and_frees_the_slot_when_it_has_ended() {
    let mut w = world(&[1]);
    let a = w.add(1, &[]);
    w.add(1, &[]);
    let attempt = w.only_start();
    w.tell(Event::External(a));
    assert_eq!(w.said(), [Action::Cancel(attempt), Action::Done(a)]);
    w.ended(attempt, Ending::Cancelled);
    assert_eq!(w.started_nodes(), [1]);
}

#[test]
fn a_cancelled_node_takes_its_dependants_along() {
    let mut w = world(&[1]);
    let a = w.add(1, &[]);
    let b = w.add(1, &[a]);
    let attempt = w.only_start();
    w.tell(Event::Cancel(a));
    assert_eq!(
        w.said(),
        [
            Action::Cancel(attempt),
            Action::Failed { node: a, cause: FailCause::Cancelled },
            Action::Failed { node: b, cause: FailCause::Poisoned { by: a } },
        ]
    );
}

#[test]
fn cancelling_all_leaves_room_for_what_comes_after() {
    let mut w = world(&[1]);
    let a = w.add(1, &[]);
    w.add(1, &[a]);
    let attempt = w.only_start();
    w.tell(Event::CancelAll);
    assert_eq!(w.said().iter().filter(|a| matches!(a, Action::Failed { .. })).count(), 2);
    assert_eq!(w.scheduler.open(), 0);
    let later = w.add(1, &[]);
    w.said();
    w.ended(attempt, Ending::Cancelled);
    assert_eq!(w.started_nodes(), [later.0]);
}

#[test]
fn draining_lets_what_runs_end_and_starts_nothing() {
    let mut w = world(&[1]);
    let a = w.add(1, &[]);
    let b = w.add(1, &[a]);
    let attempt = w.only_start();
    w.tell(Event::Drain);
    assert_eq!(w.said(), [Action::Failed { node: b, cause: FailCause::Cancelled }]);
    w.ended(attempt, Ending::Reduced);
    assert_eq!(w.said(), [Action::Done(a)]);
    let late = w.add(1, &[]);
    assert_eq!(w.said(), [Action::Failed { node: late, cause: FailCause::Cancelled }]);
}

#[test]
fn draining_does_not_retry() {
    let mut w = world(&[1]);
    let a = w.add(1, &[]);
    let attempt = w.only_start();
    w.tell(Event::Drain);
    w.ended(attempt, died());
    assert_eq!(w.said(), [Action::Failed { node: a, cause: FailCause::Cancelled }]);
}

#[test]
fn a_backend_that_shrinks_is_not_filled_again() {
    let mut w = world(&[2]);
    w.add_many(3);
    let started = w.started();
    w.tell(Event::Slots { backend: BackendId(0), slots: 1 });
    w.ended(started[0].2, Ending::Reduced);
    assert_eq!(w.started(), []);
    w.ended(started[1].2, Ending::Reduced);
    assert_eq!(w.started_nodes(), [2]);
}

#[test]
fn a_tally_follows_the_nodes() {
    let mut w = world(&[1]);
    w.add_many(3);
    assert_eq!(w.scheduler.tally(), Tally { ready: 2, doubted: 0 });
    let attempt = w.only_start();
    w.ended(attempt, Ending::ToolFailed);
    assert_eq!(w.scheduler.tally(), Tally { ready: 1, doubted: 1 });
    w.tell(Event::CancelAll);
    assert_eq!(w.scheduler.tally(), Tally::default());
}

/// The worst case for the critical path: each add makes every path in the graph longer.
#[test]
fn a_long_chain_stays_linear() {
    let time = |n: u32| {
        let mut w = world(&[0]);
        let begin = Instant::now();
        let mut last = w.add(1, &[]);
        for _ in 1..n {
            last = w.add(1, &[last]);
        }
        begin.elapsed().as_secs_f64() / f64::from(n)
    };
    let (few, many) = (time(50_000), time(400_000));
    assert!(many < 4.0 * few, "{few:e} s a node for 50,000, {many:e} s for 400,000");
}
