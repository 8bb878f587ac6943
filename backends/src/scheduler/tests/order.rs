//! What runs when, and where.

use super::*;

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

/// Adds these, in seconds, to no slots, the second list awaited; which of all start first on two?
fn first_of(eventual: &[u64], awaited: &[u64]) -> Vec<u32> {
    let mut w = world(&[0]);
    for seconds in eventual {
        w.add(*seconds, &[]);
    }
    for seconds in awaited {
        let node = w.add(*seconds, &[]);
        w.tell(Event::Demand(node));
    }
    w.tell(Event::Slots { backend: BackendId(0), slots: 2 });
    w.started_nodes()
}

#[test]
fn what_would_be_left_over_at_the_end_goes_with_the_awaited() {
    assert_eq!(first_of(&[10, 1], &[2; 4]), [0, 2], "it takes longer than all else on both slots");
    assert_eq!(first_of(&[10, 7], &[2; 4]), [2, 3], "it is not the last");
    assert_eq!(first_of(&[2, 1], &[3, 3]), [2, 3], "the awaited take longer");
}

#[test]
fn a_short_call_is_not_kept_waiting_by_what_is_left_over() {
    assert_eq!(first_of(&[10, 1], &[1, 1]), [2, 3]);
}

#[test]
fn what_is_done_or_in_doubt_is_not_left() {
    let mut w = world(&[1]);
    let failed = w.add(20, &[]);
    let attempt = w.only_start();
    w.ended(attempt, Ending::ToolFailed);
    assert!(w.said().contains(&Action::Doubt { node: failed, cause: DoubtCause::Tool }));
    w.add(20, &[]);
    let attempt = w.only_start();
    w.ended(attempt, Ending::Reduced);
    w.tell(Event::Slots { backend: BackendId(0), slots: 0 });
    let long = w.add(10, &[]);
    let awaited = [w.add(2, &[]), w.add(2, &[]), w.add(2, &[]), w.add(2, &[])];
    awaited.iter().for_each(|node| w.tell(Event::Demand(*node)));
    w.tell(Event::Slots { backend: BackendId(0), slots: 2 });
    assert_eq!(w.started_nodes(), [long.0, awaited[0].0]);
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
