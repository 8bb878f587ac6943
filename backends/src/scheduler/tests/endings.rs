//! Results from elsewhere, cancelling, draining.

use super::*;

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
