//! What ends a thunk, and what is left after it: nothing.

use std::time::Duration;

use ggr_ir::protocol::lambda::{Invocation, StoreAddress, encode};
use ggr_ir::{Harvest, InfraFailure, Limits, Mode, Outcome};
use ggr_shim::bench::command;

use crate::harness::*;

#[test]
fn the_jail_is_one() {
    let Some(function) = Function::start("the_jail_is_one") else { return };
    assert_eq!(function.said("id -u; ulimit -n"), "993\n1024\n");
}

#[test]
fn a_thunk_that_takes_too_long_is_ended_with_all_its_processes() {
    let Some(function) = Function::start("a_thunk_that_takes_too_long_is_ended") else { return };
    let call = command(&["/usr/bin/dash", "-c", "sleep 300 & sleep 300"], "/work");
    let limits = Limits { wall: Duration::from_millis(300), ..Limits::default() };
    let attempt = function.run(function.kit.thunk(call, &[], Harvest::Declared), limits);
    assert_eq!(attempt.outcome, Outcome::Infra(InfraFailure::DeadlinePassed));
    // bubblewrap, the bootstrap, and the shell that looks.
    assert_eq!(
        function.said("cd /proc; for pid in [0-9]*; do cat $pid/comm; done"),
        "bwrap\nbootstrap\ndash\n"
    );
}

#[test]
fn what_runs_on_after_a_thunk_is_ended() {
    let Some(function) = Function::start("what_runs_on_after_a_thunk_is_ended") else { return };
    assert_eq!(function.said("sleep 300 & echo started"), "started\n");
    assert!(!function.said("cat /proc/[0-9]*/comm").contains("sleep"));
}

#[test]
fn a_failure_keeps_its_code_signal_and_text() {
    let Some(function) = Function::start("a_failure_keeps_its_code_signal_and_text") else { return };
    let attempt = function.sh("echo out; echo err >&2; exit 3", &[], Harvest::Declared);
    let failure = failed(&attempt);
    assert_eq!((failure.code, &*failure.stdout, &*failure.stderr), (Some(3), &b"out\n"[..], &b"err\n"[..]));
    assert_eq!(failed(&function.sh("kill -SEGV $$", &[], Harvest::Declared)).signal, Some(11));
    let limits = Limits { output: 1 << 20, ..Limits::default() };
    let call = command(&["/usr/bin/dash", "-c", "exec cat /dev/zero > big"], "/work");
    let attempt = function.run(function.kit.thunk(call, &[], Harvest::Declared), limits);
    assert!(matches!(attempt.outcome, Outcome::Infra(InfraFailure::TooBig(_))), "{attempt:?}");
}

#[test]
fn a_program_that_cannot_be_loaded_is_no_failure_of_the_program() {
    let Some(mut function) = Function::start("a_program_that_cannot_be_loaded") else { return };
    function
        .kit
        .bytes(
            "/work/odd",
            b"\x7fELF\x01 and so on, to 64 bytes and more: a 32-bit program perhaps?",
            Mode::Executable,
        )
        .unwrap();
    let attempt = function
        .run(function.kit.thunk(command(&["/work/odd"], "/work"), &[], Harvest::Declared), Limits::default());
    let Outcome::Infra(InfraFailure::Sandbox(why)) = &attempt.outcome else { panic!("{attempt:?}") };
    assert!(why.contains("no x86-64 program"), "{why}");
}

#[test]
fn missing_inputs_and_foreign_messages_are_told() {
    let Some(mut function) = Function::start("missing_inputs_and_foreign_messages_are_told") else { return };
    function.kit.bytes("/work/file", b"here today", Mode::Regular).unwrap();
    let id = function.kit.inputs[&ggr_ir::RootPath::new("/work/file").unwrap()].object;
    std::fs::remove_file(function.store().path(id)).unwrap();
    let attempt = function.sh("cat file", &[], Harvest::Declared);
    assert_eq!(attempt.outcome, Outcome::Infra(InfraFailure::InputsMissing(vec![id])));

    let (kind, text) = function.send(r#"{"ggr": 99, "body": ""}"#.to_owned());
    assert_eq!(kind, "error");
    assert!(String::from_utf8_lossy(&text).contains("the message has version 99"));
    let (kind, _) = function.send("[]".to_owned());
    assert_eq!(kind, "error");
    let nothing =
        Invocation { store: StoreAddress::None, jobs: Vec::new(), chains: Vec::new(), inline: Vec::new() };
    assert_eq!(function.send(encode(&nothing)).0, "response", "it serves on");
}
