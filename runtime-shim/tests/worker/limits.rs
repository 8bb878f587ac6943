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

/// Groups that belong to a worker's sandboxes.
fn groups(worker: u32) -> usize {
    let prefix = format!("ggr-worker-{worker}-");
    let places = ["/sys/fs/cgroup", "/sys/fs/cgroup/pids"].map(std::fs::read_dir);
    let entries = places.into_iter().flatten().flatten().flatten();
    entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix)).count()
}

#[test]
fn processes_are_bounded_for_the_thunk_that_is_so_told_and_for_no_other() {
    let mut place = Place::new();
    // The shell, and five more.
    let limits = Limits { processes: 6, ..Limits::default() };
    let children = |count: u32| format!("for n in $(seq {count}); do sleep 0.2 & done; wait");
    place.kit.program(std::path::Path::new("/usr/bin/seq")).unwrap();
    let attempt = place.run(&children(5), &[], Harvest::Everything, limits);
    if let Outcome::Infra(InfraFailure::Sandbox(why)) = &attempt.outcome
        && why.contains("control groups of processes cannot be made here")
    {
        use std::io::Write;
        let name = "processes_are_bounded_for_the_thunk_that_is_so_told_and_for_no_other";
        let _ = writeln!(std::io::stderr(), "SKIPPED {name}: {why}");
        return;
    }
    reduced(&attempt);
    let attempt = place.run(&children(6), &[], Harvest::Everything, limits);
    let said = String::from_utf8_lossy(&tool_failed(&attempt).stderr).into_owned();
    assert!(said.contains("fork"), "{said}");
    reduced(&place.sh(&children(30)));
    // The last group may be busy for a moment, and is removed with the next.
    reduced(&place.run("true", &[], Harvest::Everything, limits));
    assert!(groups(place.client.pid()) <= 1, "{}", groups(place.client.pid()));
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
