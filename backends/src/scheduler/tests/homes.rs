//! Nodes go to where their inputs are, unless it is sooner elsewhere.

use super::*;

/// Two places that keep inputs, with one slot each.
fn keepers() -> World {
    let mut w = world(&[1, 1]);
    let spec = BackendSpec { slots: 1, duplicates: false, keeps: true };
    w.scheduler = Scheduler::new(&[spec, spec], 1);
    w
}

fn home(backend: u8, lag: Duration) -> Option<Home> {
    Some(Home { backend: BackendId(backend), lag })
}

impl World {
    /// What was started since the last time, and where.
    fn places(&mut self) -> Vec<(u32, u8)> {
        self.started().into_iter().map(|(node, backend, _)| (node.0, backend.0)).collect()
    }
}

#[test]
fn a_node_goes_home_and_waits_there_while_that_is_sooner() {
    let mut w = keepers();
    w.home = home(1, SECOND * 5);
    w.add(1, &[]);
    w.add(1, &[]);
    let started = w.started();
    assert_eq!(started.len(), 1, "one second of waiting is less than five of moving: {started:?}");
    assert_eq!((started[0].0.0, started[0].1.0), (0, 1));
    w.ended(started[0].2, Ending::Reduced);
    assert_eq!(w.places(), [(1, 1)]);
}

#[test]
fn an_idle_place_takes_from_a_queue_that_is_longer_than_moving_takes() {
    let mut w = keepers();
    w.home = home(1, SECOND * 2);
    w.add_many(2);
    assert_eq!(w.places(), [(0, 1)]);
    w.add(1, &[]);
    assert_eq!(w.places(), [(1, 0)], "two wait for a second each");
}

#[test]
fn a_place_with_something_of_its_own_takes_nothing_from_others() {
    let mut w = keepers();
    w.home = home(1, Duration::ZERO);
    w.add(1, &[]);
    let first = w.only_start();
    w.home = home(0, Duration::ZERO);
    w.add(1, &[]);
    let own = w.only_start();
    w.home = home(1, Duration::ZERO);
    w.add(9, &[]);
    w.home = home(0, Duration::ZERO);
    w.add(1, &[]);
    assert_eq!(w.places(), []);
    w.ended(own, Ending::Reduced);
    assert_eq!(w.places(), [(3, 0)], "though the other has the longer path");
    w.ended(first, Ending::Reduced);
    assert_eq!(w.places(), [(2, 1)]);
}

#[test]
fn a_place_that_cannot_be_reached_gets_nothing_for_a_while() {
    let mut w = keepers();
    w.home = home(1, SECOND * 100);
    w.add(1, &[]);
    let attempt = w.only_start();
    w.ended(attempt, Ending::Infra(InfraFailure::Unreachable("test".to_owned())));
    w.said();
    w.pass(SECOND);
    let started = w.started();
    assert_eq!((started[0].0.0, started[0].1.0), (0, 0), "the retry goes elsewhere");
    w.ended(started[0].2, Ending::Reduced);
    w.pass(SECOND * 5);
    w.add(1, &[]);
    assert_eq!(w.places(), [(1, 1)]);
}

#[test]
fn the_only_place_is_tried_again_though_it_could_not_be_reached() {
    let mut w = keepers();
    w.scheduler = Scheduler::new(&[BackendSpec { slots: 1, duplicates: false, keeps: true }], 1);
    w.add(1, &[]);
    let attempt = w.only_start();
    w.ended(attempt, Ending::Infra(InfraFailure::Unreachable("test".to_owned())));
    w.said();
    w.pass(SECOND);
    assert_eq!(w.places(), [(0, 0)]);
}

#[test]
fn what_waits_only_for_what_runs_is_announced_once() {
    let mut w = keepers();
    let a = w.add(1, &[]);
    let b = w.add(1, &[a]);
    let c = w.add(1, &[b]);
    let soon =
        |said: Vec<Action>| said.into_iter().filter(|s| matches!(s, Action::Soon(_))).collect::<Vec<_>>();
    assert_eq!(soon(w.said()), [Action::Soon(b)], "a runs, b does not");
    let attempt = AttemptId { index: 0, generation: 0 };
    w.ended(attempt, Ending::Reduced);
    assert_eq!(soon(w.said()), [Action::Soon(c)]);
}

#[test]
fn the_next_nodes_of_a_busy_place_are_known() {
    let mut w = keepers();
    w.home = home(1, SECOND * 100);
    w.add(1, &[]);
    assert_eq!(w.scheduler.next_up(BackendId(1), 4), []);
    w.add(1, &[]);
    w.add(5, &[]);
    assert_eq!(w.scheduler.next_up(BackendId(1), 4), [NodeId(2), NodeId(1)]);
    assert_eq!(w.scheduler.next_up(BackendId(1), 1), [NodeId(2)]);
    assert_eq!(w.scheduler.next_up(BackendId(0), 4), []);
}
