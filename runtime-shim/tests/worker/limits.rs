//! Bounds, stops and crowds.

use std::time::{Duration, Instant};

use ggr_ir::{Harvest, InfraFailure, Limits, Outcome};

use crate::harness::*;

#[test]
fn a_cancelled_job_ends_at_once_and_is_answered() {
    let mut place = Place::new();
    place.start(7, "echo > started; sleep 4444", &[], Harvest::Everything, Limits::default());
    std::thread::sleep(Duration::from_millis(200));
    let asked = Instant::now();
    place.client.cancel(7).unwrap();
    let (seq, attempt) = place.client.answer().unwrap();
    assert_eq!((seq, attempt.outcome), (7, Outcome::Cancelled));
    // Far less than the job would take, however busy the machine is.
    assert!(asked.elapsed() < Duration::from_secs(60), "{:?}", asked.elapsed());
}

#[test]
fn a_job_cancelled_before_it_runs_is_answered_too() {
    let mut place = Place::with_slots(1);
    place.start(1, "sleep 4445", &[], Harvest::Everything, Limits::default());
    place.start(2, "sleep 4446", &[], Harvest::Everything, Limits::default());
    place.client.cancel(2).unwrap();
    assert_eq!(place.client.answer().unwrap().0, 2);
    place.client.cancel(1).unwrap();
    assert_eq!(place.client.answer().unwrap().1.outcome, Outcome::Cancelled);
    // A number that nobody knows is nobody's concern.
    place.client.cancel(99).unwrap();
    reduced(&place.sh("true"));
}

#[test]
fn a_cancel_that_races_with_the_start_is_not_lost() {
    let mut place = Place::with_slots(4);
    for seq in 0..40 {
        place.start(seq, "sleep 4447", &[], Harvest::Everything, Limits::default());
        place.client.cancel(seq).unwrap();
    }
    for _ in 0..40 {
        assert_eq!(place.client.answer().unwrap().1.outcome, Outcome::Cancelled);
    }
}

#[test]
fn big_output_is_cut_off() {
    let mut place = Place::new();
    let limits = Limits { output: 100_000, ..Limits::default() };
    let too_big = |attempt: &Outcome| matches!(attempt, Outcome::Infra(InfraFailure::TooBig(_)));
    for script in [
        "exec head -c 1000000 /dev/zero > a",
        "exec cat /dev/zero",
        "head -c 60000 /dev/zero > a; head -c 60000 /dev/zero > b",
    ] {
        let attempt = place.run(script, &[], Harvest::Everything, limits);
        assert!(too_big(&attempt.outcome), "{script}: {:?}", attempt.outcome);
    }
    reduced(&place.run("head -c 60000 /dev/zero > a", &[], Harvest::Everything, limits));
}

#[test]
fn memory_is_bounded_when_so_told() {
    let mut place = Place::new();
    let limits = Limits { memory: 64 << 20, ..Limits::default() };
    let attempt = place.run("ulimit -v", &[], Harvest::Everything, limits);
    assert_eq!(place.stdout(&attempt), "65536\n");
}

#[test]
fn jobs_run_side_by_side_up_to_the_slots() {
    let mut place = Place::with_slots(8);
    let started = Instant::now();
    for seq in 0..16 {
        place.start(seq, "sleep 0.5", &[], Harvest::Everything, Limits::default());
    }
    let mut slots = std::collections::BTreeSet::new();
    for _ in 0..16 {
        let (_, attempt) = place.client.answer().unwrap();
        reduced(&attempt);
        slots.insert(attempt.worker);
    }
    let took = started.elapsed();
    assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(4), "{took:?}");
    assert_eq!(slots.len(), 8);
}
