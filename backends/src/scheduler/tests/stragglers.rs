//! When a second attempt is started, and which result counts.

use super::*;

#[test]
fn a_straggler_gets_a_duplicate_and_the_first_result_wins() {
    let mut w = world(&[2]);
    w.learn(Kind::Compile);
    let slow = w.add(1, &[]);
    let first = w.only_start();
    w.pass(Duration::from_millis(1249));
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
fn in_idle_slots_only_what_the_end_hangs_on_by_now_gets_a_duplicate() {
    let mut w = world(&[9]);
    w.learn(Kind::Compile);
    let short = w.add(8, &[]);
    w.add_of(Kind::Link, 100, &[]);
    w.said();
    // Late after ten seconds, overdue after sixteen; a new attempt would end before the link until its own time and an
    // eighth are all that is left.
    w.pass(SECOND * 90);
    assert_eq!(w.started(), []);
    assert_eq!(w.scheduler.next_deadline(), Some(w.now + SECOND));
    w.pass(SECOND);
    assert_eq!(w.started_nodes(), [short.0]);
}

#[test]
fn there_are_no_duplicates_where_they_cannot_help() {
    let mut w = world(&[2]);
    w.scheduler = Scheduler::new(&[BackendSpec { slots: 2, duplicates: false, keeps: false }], 1);
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
    w.pass(SECOND / 2);
    assert_eq!(w.started_nodes(), [slow.0]);
}

#[test]
fn an_overdue_straggler_goes_before_what_waits_for_the_slots() {
    let mut w = world(&[2]);
    w.learn(Kind::Compile);
    let slow = w.add(1, &[]);
    w.said();
    w.add_of(Kind::Link, 9, &[]);
    let link = w.started()[0].2;
    w.add_many(3);
    w.pass(Duration::from_millis(1900));
    w.ended(link, Ending::Reduced);
    let [(_, _, other)] = w.started()[..] else { panic!("the slot goes to what waits: it is only late") };
    w.pass(SECOND);
    assert_eq!(w.started(), [], "there is no slot");
    w.ended(other, Ending::Reduced);
    assert_eq!(w.started_nodes(), [slow.0]);
}

#[test]
fn what_the_end_hangs_on_is_cloned_into_idle_slots_and_within_its_share_of_the_work() {
    let mut w = world(&[9]);
    for _ in 0..66 {
        w.add(1, &[]);
        let attempt = w.only_start();
        w.now += SECOND;
        w.ended(attempt, Ending::Reduced);
        w.said();
    }
    // Sixty-seven seconds of work pay for a clone of one second, and one more for no more.
    let first = w.add(1, &[]);
    assert_eq!(w.started_nodes(), [first.0, first.0]);
    w.add(1, &[]);
    assert_eq!(w.started().len(), 1);
}

#[test]
fn past_three_hundredths_of_the_work_only_what_is_overdue_gets_a_duplicate() {
    let mut w = world(&[99]);
    w.learn(Kind::Compile);
    // Ten stragglers of a second each, after ten seconds of work.
    w.add_many(10);
    w.said();
    w.pass(Duration::from_millis(1600));
    assert_eq!(w.started().len(), 1, "the first is free");
    w.pass(Duration::from_millis(400));
    assert_eq!(w.started().len(), 9, "they are overdue, slots are idle, and the end hangs on them");
}

#[test]
fn what_the_end_does_not_hang_on_is_not_cloned() {
    let mut w = world(&[9]);
    let long = w.add(1000, &[]);
    assert_eq!(w.started_nodes(), [long.0]);
    w.add(1, &[]);
    assert_eq!(w.started().len(), 1);
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
