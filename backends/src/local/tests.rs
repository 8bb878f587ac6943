//! Against a worker double: this test program itself, started over as [`double`]. The real worker is put to the same
//! contract in `runtime-shim`.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::{FutureExt, join_all};
use ggr_ir::protocol::worker::{self, Hello, Request, Response};
use ggr_ir::{
    Attempt, BlobId, Command, Harvest, InfraFailure, Job, Kind, Limits, Network, Outcome, OutputEntry,
    Reduction, RootPath, Thunk, ThunkId, Timings, ToolFailure,
};

use super::{LocalBackend, LocalOptions};
use crate::backend::Backend;
use crate::contract;

fn job(label: &str) -> Job {
    let path = |text: &str| RootPath::new(text).unwrap();
    let thunk = Thunk {
        command: Command { program: path("/p"), args: vec![], env: BTreeMap::new(), dir: path("/") },
        inputs: BTreeMap::new(),
        outputs: BTreeMap::from([("/o".into(), path("/o"))]),
        harvest: Harvest::Declared,
        network: Network::None,
    };
    Job {
        id: ThunkId::synthetic(1),
        thunk: Arc::new(thunk),
        limits: Limits::default(),
        kind: Kind::Other,
        label: label.to_owned(),
    }
}

/// Starts the double in a mode: `good`, `old` (another protocol version), `mute` (dies before it says hello).
fn start(mode: &str, slots: usize) -> LocalBackend {
    let exe = std::env::current_exe().unwrap();
    let script = format!(
        "DOUBLE={mode} exec {} --exact local::tests::double --ignored --nocapture --test-threads 1",
        exe.display()
    );
    let command = ["/bin/sh", "-c", &script, "sh"].map(Into::into).to_vec();
    LocalBackend::start(LocalOptions {
        command,
        slots,
        store: "/nonexistent".into(),
        jobserver: None,
        user: None,
        bounds: None,
    })
    .unwrap()
}

fn attempt(outcome: Outcome) -> Attempt {
    Attempt { outcome, timings: Timings::default(), cost_microdollars: 0, worker: 0 }
}

/// What the double does with a job is its label.
#[test]
#[ignore = "run by the other tests, as a process with a socket for its standard input"]
fn double() {
    let mode = std::env::var("DOUBLE").expect("this is no test of its own");
    let mut socket = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned().unwrap());
    if mode == "mute" {
        eprintln!("no sandbox today");
        std::process::exit(3);
    }
    let version = if mode == "old" { 999 } else { worker::VERSION };
    worker::write(&socket, &Hello { version, slots: 2, isolation: "double".to_owned() }).unwrap();
    let mut reader = socket.try_clone().unwrap();
    while let Some(request) = worker::read(&mut reader).unwrap() {
        let answer = match request {
            Request::Run { seq, job } => answer(&job).map(|outcome| (seq, outcome)),
            Request::Cancel { seq } => Some((seq, Outcome::Cancelled)),
        };
        if let Some((seq, outcome)) = answer {
            let frame = worker::to_frame(&Response { seq, attempt: attempt(outcome) });
            socket.write_all(&frame).unwrap();
        }
    }
    std::process::exit(0);
}

fn answer(job: &Job) -> Option<Outcome> {
    match job.label.as_str() {
        "ok" => {
            let blob = BlobId::of(b"");
            let entry = |path: &RootPath| OutputEntry { path: path.clone(), blob, permissions: 0o644 };
            let outputs = job.thunk.outputs.iter().map(|(name, path)| (name.clone(), entry(path))).collect();
            Some(Outcome::Reduced(Reduction { outputs, stdout: blob, stderr: blob, duration_us: 1 }))
        }
        "fail" => Some(Outcome::ToolFailed(ToolFailure {
            code: Some(1),
            signal: None,
            stdout: vec![],
            stderr: b"bad".to_vec(),
            unrepresentable: None,
        })),
        "pid" => Some(Outcome::Infra(InfraFailure::Sandbox(std::process::id().to_string()))),
        "die" => {
            eprintln!("about to die");
            std::process::exit(7)
        }
        "hang" => None,
        other => panic!("{other}"),
    }
}

async fn pid(backend: &LocalBackend) -> String {
    match backend.run(&job("pid")).await.outcome {
        Outcome::Infra(InfraFailure::Sandbox(pid)) => pid,
        other => panic!("{other:?}"),
    }
}

async fn gone(pid: &str) {
    let limit = Instant::now() + Duration::from_secs(10);
    while Path::new(&format!("/proc/{pid}")).exists() {
        assert!(Instant::now() < limit, "process {pid} is still there");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn the_local_pool_keeps_the_contract() {
    let jobs = contract::Jobs { succeeds: job("ok"), fails: Some(job("fail")), lasts: Some(job("hang")) };
    contract::check(Arc::new(start("good", 2)), jobs).await;
}

#[tokio::test]
async fn a_dead_worker_fails_its_jobs_and_is_replaced() {
    let backend = start("good", 4);
    let old = pid(&backend).await;
    let (hang, die) = (job("hang"), job("die"));
    let ends = join_all([backend.run(&hang), backend.run(&hang), backend.run(&die)]).await;
    for end in ends {
        let Outcome::Infra(InfraFailure::WorkerDied(why)) = end.outcome else { panic!("{end:?}") };
        assert!(why.contains("exit status: 7") && why.contains("about to die"), "{why}");
    }
    let new = pid(&backend).await;
    assert_ne!(old, new);
    drop(backend);
    gone(&new).await;
}

#[tokio::test]
async fn a_worker_that_never_comes_up_is_given_up_with_its_own_words() {
    let backend = start("mute", 1);
    let why = backend.ready().await.unwrap_err();
    assert!(why.contains("in a row") && why.contains("no sandbox today"), "{why}");
    let end = backend.run(&job("ok")).await.outcome;
    assert!(matches!(end, Outcome::Infra(InfraFailure::Unreachable(_))), "{end:?}");
}

#[tokio::test]
async fn a_worker_of_another_version_is_refused() {
    let why = start("old", 1).ready().await.unwrap_err();
    assert!(why.contains("version 999"), "{why}");
}

#[tokio::test]
async fn a_program_that_is_not_there_is_named() {
    let options = LocalOptions {
        command: vec!["/nonexistent/ggr".into(), "worker".into()],
        slots: 1,
        store: "/".into(),
        jobserver: None,
        user: None,
        bounds: None,
    };
    let why = LocalBackend::start(options).unwrap().ready().await.unwrap_err();
    assert!(why.contains("/nonexistent/ggr"), "{why}");
}

#[tokio::test]
async fn no_more_jobs_than_slots_are_with_the_worker() {
    let backend = start("good", 2);
    let (hang, ok) = (job("hang"), job("ok"));
    backend.ready().await.unwrap();
    let mut first = backend.run(&hang);
    let mut second = backend.run(&hang);
    assert!((&mut first).now_or_never().is_none());
    assert!((&mut second).now_or_never().is_none());
    let mut third = backend.run(&ok);
    let early = tokio::time::timeout(Duration::from_millis(100), &mut third).await;
    assert!(early.is_err(), "both slots are taken: {early:?}");
    drop(first);
    assert!(matches!(third.await.outcome, Outcome::Reduced(_)));
}

#[test]
fn a_pool_that_nobody_uses_starts_no_worker() {
    let dir = tempfile::tempdir().unwrap();
    let mark = dir.path().join("started");
    let command = ["/bin/sh", "-c", &format!("touch {}", mark.display())].map(Into::into).to_vec();
    let options =
        LocalOptions { command, slots: 1, store: "/".into(), jobserver: None, user: None, bounds: None };
    drop(LocalBackend::start(options).unwrap());
    assert!(!mark.exists());
}

#[tokio::test]
async fn dropping_the_pool_ends_its_worker_also_while_jobs_run() {
    let backend = start("good", 2);
    let pid = pid(&backend).await;
    let hang = job("hang");
    assert!(backend.run(&hang).now_or_never().is_none());
    drop(backend);
    gone(&pid).await;
}
