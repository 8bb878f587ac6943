//! What is done about failures.

use super::*;

#[test]
fn a_job_that_no_backend_takes_is_in_doubt() {
    let mut w = world(&[1, 1]);
    w.refused = BackendSet::EMPTY.with(BackendId(0)).with(BackendId(1));
    let a = w.add(1, &[]);
    assert_eq!(w.said().last(), Some(&Action::Doubt { node: a, cause: DoubtCause::Refused }));
}

#[test]
fn a_backend_on_standby_gets_only_what_the_others_refuse_or_give_up() {
    let mut w = world(&[1, 4]);
    w.scheduler.stand_by(BackendId(1));
    w.add_many(2);
    let started = w.started();
    assert_eq!(started.len(), 1, "the second waits for the first backend: {started:?}");
    w.ended(started[0].2, Ending::Infra(InfraFailure::Closed("test".to_owned())));
    let starts: Vec<_> = w.started().into_iter().map(|(node, backend, _)| (node.0, backend.0)).collect();
    assert_eq!(starts.len(), 2, "{starts:?}");
    assert!(starts.contains(&(0, 1)) && starts.contains(&(1, 0)), "{starts:?}");
    w.refused = BackendSet::EMPTY.with(BackendId(0));
    let refused = w.add(1, &[]);
    let starts = w.started();
    assert_eq!((starts[0].0, starts[0].1), (refused, BackendId(1)));
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
