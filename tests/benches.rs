//! `ggr bench`: each table is made, small, and leaves nothing behind.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::twin::{Field, skipped};

/// The longest that a state is waited for.
const LIMIT: Duration = Duration::from_secs(60);

/// Runs it; nothing, and said so, where namespaces are not allowed.
fn json(test: &str, field: &Field, words: &str) -> Option<Value> {
    let output = field.ggr(words).arg("--json").output().expect("ggr can be run");
    let errors = String::from_utf8_lossy(&output.stderr);
    if errors.contains("os error 1)") {
        skipped(test, "namespaces are not allowed here");
        return None;
    }
    assert!(output.status.success(), "ggr {words}: {errors}");
    Some(serde_json::from_slice(&output.stdout).expect("it is JSON"))
}

fn rows(value: &Value) -> &[Value] {
    value.as_array().expect("it is a table")
}

fn number(row: &Value, field: &str) -> f64 {
    row[field].as_f64().unwrap_or_else(|| panic!("no `{field}` in {row}"))
}

/// Every row was measured: no way is faster than nothing. Which is fastest depends on what else the machine does.
fn all_measured(rows: &[Value], field: &str) {
    for row in rows {
        assert!(number(row, field) > 0.0, "{row}");
    }
}

#[test]
fn bench_net_has_all_ways_side_by_side() {
    let field = Field::new();
    let test = "bench_net_has_all_ways_side_by_side";
    let Some(table) = json(test, &field, "bench net -n 20 --managers 1,2") else { return };
    let rows = rows(&table);
    assert_eq!(rows.len(), 12);
    let ways: BTreeSet<_> = rows.iter().filter_map(|row| row["way"].as_str()).collect();
    assert_eq!(ways.len(), 6, "{ways:?}");
    all_measured(rows, "seconds");
}

/// The processes below this one.
fn below(pid: u32) -> BTreeSet<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let children: Vec<u32> = text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
    children.iter().copied().chain(children.iter().flat_map(|child| below(*child))).collect()
}

/// A process that is there, and not only waits for its parent.
fn alive(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let limit = Instant::now() + LIMIT;
    while !done() {
        assert!(Instant::now() < limit, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn end_in_the_middle(field: &Field, signal: Signal) {
    let mut command = field.ggr("bench net -n 3000 --only own");
    let mut bench: Child =
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("ggr can be run");
    let pid = Pid::from_child(&bench);
    let mut seen = BTreeSet::new();
    until("sandboxes run", || {
        seen = below(bench.id());
        seen.len() > 20
    });
    kill_process(pid, signal).expect("it runs");
    bench.wait().expect("it is ours");
    until("no process is left", || !seen.iter().any(|pid| alive(*pid)));
    let links = fs::read_to_string("/proc/net/dev").expect("the kernel has it");
    assert!(!links.contains("gb0"), "{links}");
}

#[test]
fn bench_net_leaves_nothing_behind_when_it_is_interrupted_or_killed() {
    let field = Field::new();
    let test = "bench_net_leaves_nothing_behind_when_it_is_interrupted_or_killed";
    if json(test, &field, "bench net -n 1 --only fork").is_none() {
        return;
    }
    end_in_the_middle(&field, Signal::INT);
    end_in_the_middle(&field, Signal::KILL);
}

#[test]
fn bench_keepalive_replays_made_up_traces_files_and_logs() {
    let field = Field::new();
    let test = "bench_keepalive_replays_made_up_traces_files_and_logs";
    let periodic = json(test, &field, "bench keepalive --generate periodic").expect("it needs no namespaces");
    let (hybrid, equal) = (&periodic["hybrid"], &periodic["equal"]);
    assert!(number(hybrid, "cold_rate") >= number(equal, "cold_rate"));
    assert!(number(hybrid, "idle_seconds") < number(equal, "idle_seconds"), "{periodic}");

    let trace = "gcc 0 1\ngcc 30 1\ngcc 100 1\ngcc 110 1\n";
    let log = r#"{"ggr":1,"at_us":2000000,"event":"finished","label":"gcc a.o","ran_us":1000000}"#;
    let files = [("trace".to_owned(), trace.to_owned()), ("log".to_owned(), format!("{log}\n{{\"half"))];
    field.lay(&files);
    for (file, calls) in [("trace", 4), ("log", 1)] {
        let report = json(test, &field, &format!("bench keepalive {file}")).expect("it needs no namespaces");
        assert_eq!(report["calls"], calls, "{file}");
    }
}

#[test]
fn bench_fleet_simulates_recorded_builds_and_logs_alike_for_the_same_seed() {
    let field = Field::new();
    let test = "bench_fleet_simulates_recorded_builds_and_logs_alike_for_the_same_seed";
    let words = "bench fleet --graph git,redis --workers 8,64 --seed 1";
    let table = json(test, &field, words).expect("it needs no namespaces");
    let graphs = rows(&table);
    assert_eq!(graphs.len(), 2);
    for graph in graphs {
        assert!(number(graph, "thunks") > 100.0, "{graph}");
        for row in rows(&graph["rows"]) {
            assert!(number(row, "ratio") >= 1.0, "no schedule beats the bound: {row}");
        }
    }
    assert_eq!(json(test, &field, words), Some(table));

    let event = |name: &str, rest: &str| format!("{{\"ggr\":1,\"at_us\":1,\"event\":\"{name}\",{rest}}}\n");
    let log = event("traced", r#""thunk":"Ta","label":"gcc a.o","outputs":["/a.o"]"#)
        + &event("finished", r#""thunk":"Ta","cpu_us":2000000"#);
    field.lay(&[("log".to_owned(), log), ("none".to_owned(), "{}".to_owned())]);
    let one = json(test, &field, "bench fleet --graph log --workers 8 --seed 1").expect("it is a log");
    assert!((number(&one[0], "work_seconds") - 2.0).abs() < 1e-9, "{one}");
    let refused = field.ggr("bench fleet --graph none").output().expect("ggr can be run");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("`none` is no graph"), "{refused:?}");
}

#[test]
fn bench_start_handoff_and_density_make_their_tables() {
    let field = Field::new();
    let test = "bench_start_handoff_and_density_make_their_tables";
    let Some(starts) = json(test, &field, "bench start -n 10") else { return };
    // `bwrap` and `crun` may be absent or refuse this machine; ours may not.
    let ours: Vec<Value> = rows(&starts)[..3].to_vec();
    assert_eq!(ours[1]["way"], "prewarmed sandbox");
    all_measured(&ours, "p50_us");

    let handed = json(test, &field, "bench handoff -n 5").expect("it needs no namespaces");
    assert_eq!(rows(&handed).len(), 12);

    let weighed = json(test, &field, "bench density -n 4").expect("it needs no namespaces");
    let idle = |from: &str| {
        let row = rows(&weighed).iter().find(|row| row["at"] == "idle" && row["from"] == from);
        number(row.expect("it was weighed"), "bytes")
    };
    assert!(idle("one toolchain") < idle("a copy each"), "{weighed}");
}

#[test]
fn bench_launcher_has_every_way_side_by_side() {
    let field = Field::new();
    let table = json("bench_launcher_has_every_way_side_by_side", &field, "bench launcher -n 5").unwrap();
    let rows = rows(&table);
    assert_eq!(rows.len(), 4);
    // ccache is installed by tests/setup.
    all_measured(rows, "p50_us");
}

#[test]
fn bench_model_makes_the_thunks_of_a_log_again() {
    let field = Field::new();
    fs::write(field.tree().join("a.c"), "#include <stdio.h>\nint main(void) { return 0; }\n").unwrap();
    let built =
        field.ggr("-q --json=log sh -c").arg("gcc -c a.c && gcc a.o -o a && gcc --version").output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let passes = json("bench_model_makes_the_thunks_of_a_log_again", &field, "bench model log").unwrap();
    let passes = rows(&passes);
    assert_eq!(passes.len(), 3);
    for pass in passes {
        assert_eq!((number(pass, "calls"), number(pass, "thunks")), (3.0, 2.0), "{pass}");
        assert_eq!(number(pass, "run_here"), 1.0, "{pass}");
    }
    let empty = field.ggr("bench model /dev/null").output().unwrap();
    assert_eq!(empty.status.code(), Some(116), "{}", String::from_utf8_lossy(&empty.stderr));
}
