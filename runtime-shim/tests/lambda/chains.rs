//! Thunks that run behind another one.

use std::sync::Arc;

use ggr_ir::{
    Entry, Follower, Harvest, Kind, Limits, Mode, Object, ObjectStore, Outcome, OutputRef, ReadyThunk,
    RootPath, Thunk, ThunkId,
};
use ggr_shim::bench::command;

use crate::harness::*;

/// A thunk that reads `/work/made` of the thunk before it.
fn behind(thunk: ReadyThunk, before: ThunkId) -> Follower {
    let blob = |(path, entry): (RootPath, Entry<_>)| {
        (path, Entry { object: Object::Blob(entry.object), mode: entry.mode })
    };
    let mut inputs: std::collections::BTreeMap<_, _> = thunk.inputs.into_iter().map(blob).collect();
    let object = Object::Output(OutputRef { thunk: before, name: "/work/made".into() });
    inputs.insert(RootPath::new("/work/made").unwrap(), Entry { object, mode: Mode::Regular });
    let thunk = Thunk {
        command: thunk.command,
        inputs,
        outputs: thunk.outputs,
        harvest: thunk.harvest,
        network: thunk.network,
    };
    Follower {
        thunk: Arc::new(thunk),
        limits: Limits::default(),
        kind: Kind::Other,
        label: "behind".to_owned(),
    }
}

#[test]
fn a_thunk_behind_another_has_what_that_made_without_fetching_it() {
    let Some(function) = Function::start("a_thunk_behind_another_has_what_that_made_without_fetching_it")
    else {
        return;
    };
    let script = |text, outputs: &[&str]| {
        function.kit.thunk(command(&["/usr/bin/dash", "-c", text], "/work"), outputs, Harvest::Declared)
    };
    let first = script("echo made > made", &["/work/made"]);
    let id = first.id();
    let second = behind(script("cat made made > twice", &["/work/twice"]), id);
    let expected = second.behind(reduced(&function.run(first.clone(), Limits::default()))).unwrap().id;
    // All programs are there now.
    let answer = function.answer(first, Limits::default(), vec![second]);
    let [followed] = &answer.chains[0][..] else { panic!("{answer:?}") };
    let made = reduced(&followed.attempt).outputs[&"/work/twice".into()].blob;
    assert_eq!(function.store().get_bytes(made).unwrap(), b"made\nmade\n");
    assert_eq!((followed.id, answer.traffic.fetched), (expected, 0));
}

#[test]
fn nothing_runs_behind_a_thunk_that_fails() {
    let Some(function) = Function::start("nothing_runs_behind_a_thunk_that_fails") else { return };
    let script = |text, outputs: &[&str]| {
        function.kit.thunk(command(&["/usr/bin/dash", "-c", text], "/work"), outputs, Harvest::Declared)
    };
    let (first, failing) = (script("echo made > made", &["/work/made"]), script("exit 3", &["/work/made"]));
    let id = first.id();
    let fails = behind(script("cat made >&2; exit 4", &["/work/twice"]), id);
    let last = behind(script("cat made", &[]), id);
    let answer = function.answer(first, Limits::default(), vec![fails.clone(), last.clone()]);
    let [followed] = &answer.chains[0][..] else { panic!("the last one has nothing to read: {answer:?}") };
    assert_eq!(failed(&followed.attempt).code, Some(4));
    let answer = function.answer(failing, Limits::default(), vec![fails, last]);
    assert!(matches!(answer.attempts[0].outcome, Outcome::ToolFailed(_)), "{answer:?}");
    assert!(answer.chains[0].is_empty(), "{answer:?}");
}
