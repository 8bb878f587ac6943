//! The slot that is kept for a command between its calls.

use super::*;

const SHORT: Duration = Duration::from_millis(30);

/// One machine with two slots, which the command shares.
fn here() -> World {
    let mut w = world(&[2]);
    w.scheduler = Scheduler::new(&[BackendSpec { slots: 2, duplicates: false, keeps: false }], 1);
    w
}

/// A call that is waited for, told of alone.
fn call(w: &mut World) -> NodeId {
    let node = NodeId(w.scheduler.len() as u32);
    let (kind, urgency) = (Kind::Compile, Urgency::Awaited);
    w.tell(Event::Add(NewNode { node, deps: Vec::new(), kind, estimate: SHORT, urgency }));
    node
}

/// Calls one after the other, each as soon as the slot is free; with the pause that `configure` takes.
fn calls(w: &mut World, count: u32) {
    for _ in 0..count {
        let node = call(w);
        let (started, _, attempt) = w.started().pop().expect("a slot is free");
        assert_eq!(started, node);
        w.pass(SHORT);
        w.ended(attempt, Ending::Reduced);
        w.pass(SHORT);
    }
}

#[test]
fn a_command_that_calls_again_and_again_keeps_a_slot() {
    let mut w = here();
    calls(&mut w, 3);
    let first = w.add(1, &[]);
    w.add(1, &[]);
    assert_eq!(w.started_nodes(), [first.0], "the other slot is the command's");
    calls(&mut w, 2);
}

#[test]
fn a_command_that_calls_no_more_gives_its_slot_away() {
    let mut w = here();
    calls(&mut w, 3);
    w.add_many(2);
    assert_eq!(w.started_nodes().len(), 1);
    let due = w.scheduler.next_deadline().expect("an alarm is set");
    w.now = due;
    w.tell(Event::Tick);
    assert_eq!(w.started_nodes().len(), 1);
}

#[test]
fn a_call_that_failed_keeps_nothing_for_ever() {
    let mut w = here();
    calls(&mut w, 3);
    let node = call(&mut w);
    let attempt = w.only_start();
    let (kind, urgency) = (Kind::Link, Urgency::Awaited);
    let link = NewNode { node: NodeId(node.0 + 1), deps: vec![node], kind, estimate: SHORT, urgency };
    w.tell(Event::Add(link));
    w.ended(attempt, Ending::ToolFailed);
    assert!(w.said().contains(&Action::Doubt { node, cause: DoubtCause::Tool }));
    w.pass(SECOND);
    w.add_many(2);
    assert_eq!(w.started_nodes().len(), 2, "nobody answers the doubt");
}

#[test]
fn now_and_then_a_call_keeps_nothing() {
    let mut w = here();
    for _ in 0..5 {
        calls(&mut w, 1);
        w.pass(SECOND);
    }
    w.add_many(2);
    assert_eq!(w.started_nodes().len(), 2);
}

#[test]
fn what_is_awaited_takes_every_slot() {
    let mut w = here();
    calls(&mut w, 3);
    let (a, b) = (call(&mut w), call(&mut w));
    assert_eq!(w.started_nodes(), [a.0, b.0]);
}

#[test]
fn elsewhere_and_in_the_only_slot_nothing_is_kept() {
    for (slots, duplicates) in [(2, true), (1, false)] {
        let mut w = here();
        w.scheduler = Scheduler::new(&[BackendSpec { slots, duplicates, keeps: false }], 1);
        calls(&mut w, 3);
        w.add_many(2);
        assert_eq!(w.started_nodes().len(), slots as usize);
    }
}
