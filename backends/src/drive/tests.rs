//! The driver over a backend double that does what a script says, and is stricter than a real one: it takes no job that
//! the script does not know, and no more at once than it has slots.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use ggr_ir::{
    Attempt, BlobId, Command, Entry, Harvest, InfraFailure, Job, Kind, Limits, Mode, Object, Outcome,
    OutputEntry, OutputRef, Reduction, ReductionCache, RootPath, StoreError, Thunk, ThunkId, Timings,
    ToolFailure,
};

use super::*;
use crate::backend::{Backend, Refusal};

/// What happens to the next attempt at a job.
#[derive(Clone, Debug)]
enum Step {
    Reduce,
    Fail,
    Infra(InfraFailure),
    Hang,
    /// Says that it succeeded, without its outputs.
    Lie,
}

#[derive(Default)]
struct Scripted {
    /// What happens, by label; the last step is repeated. Without a script a job is reduced.
    scripts: Mutex<BTreeMap<String, VecDeque<Step>>>,
    ran: Mutex<Vec<String>>,
    running: AtomicUsize,
}

struct Running<'a>(&'a AtomicUsize);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

const SLOTS: usize = 4;

impl Scripted {
    fn script(&self, label: &str, steps: impl IntoIterator<Item = Step>) {
        self.scripts.lock().unwrap().insert(label.to_owned(), steps.into_iter().collect());
    }

    fn ran(&self) -> Vec<String> {
        self.ran.lock().unwrap().clone()
    }

    fn step(&self, label: &str) -> Step {
        let mut scripts = self.scripts.lock().unwrap();
        let Some(steps) = scripts.get_mut(label) else { return Step::Reduce };
        let step = steps.front().cloned().expect("a script has a step");
        if steps.len() > 1 {
            steps.pop_front();
        }
        step
    }
}

impl Backend for Scripted {
    fn name(&self) -> &str {
        "scripted"
    }

    fn slots(&self) -> usize {
        SLOTS
    }

    fn accepts(&self, job: &Job) -> Result<(), Refusal> {
        match job.label.as_str() {
            "refused" => Err(Refusal::Unsupported("the script says so".to_owned())),
            _ => Ok(()),
        }
    }

    fn run<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Attempt> {
        async move {
            assert!(self.running.fetch_add(1, Ordering::SeqCst) < SLOTS, "more jobs than slots");
            let _running = Running(&self.running);
            self.ran.lock().unwrap().push(job.label.clone());
            let outcome = match self.step(&job.label) {
                Step::Reduce => Outcome::Reduced(reduction(&job.thunk.outputs)),
                Step::Lie => Outcome::Reduced(reduction(&BTreeMap::new())),
                Step::Fail => Outcome::ToolFailed(ToolFailure {
                    code: Some(1),
                    signal: None,
                    stdout: vec![],
                    stderr: vec![],
                    unrepresentable: None,
                }),
                Step::Infra(failure) => Outcome::Infra(failure),
                Step::Hang => std::future::pending().await,
            };
            Attempt { outcome, timings: Timings::default(), cost_microdollars: 1, worker: 0 }
        }
        .boxed()
    }
}

/// A cache in memory that also counts.
#[derive(Default)]
struct Memory {
    records: Mutex<BTreeMap<ThunkId, Reduction>>,
    looked: AtomicUsize,
}

impl ReductionCache for Memory {
    fn get(&self, id: ThunkId) -> Option<Reduction> {
        self.looked.fetch_add(1, Ordering::SeqCst);
        self.records.lock().unwrap().get(&id).cloned()
    }

    fn put(&self, id: ThunkId, reduction: &Reduction) -> Result<(), StoreError> {
        self.records.lock().unwrap().insert(id, reduction.clone());
        Ok(())
    }
}

fn path(text: &str) -> RootPath {
    RootPath::new(text).unwrap()
}

/// Each output holds its own path.
fn reduction(outputs: &BTreeMap<ggr_ir::OutputName, RootPath>) -> Reduction {
    let entry = |path: &RootPath| OutputEntry {
        path: path.clone(),
        blob: BlobId::of(path.as_str().as_bytes()),
        permissions: 0o644,
    };
    Reduction {
        outputs: outputs.iter().map(|(name, path)| (name.clone(), entry(path))).collect(),
        stdout: BlobId::of(b""),
        stderr: BlobId::of(b""),
        duration_us: 1000,
    }
}

/// A thunk that is called `label`, reads the outputs of `deps` and writes `/label`.
fn submission(label: &str, deps: &[&Submission]) -> Submission {
    let input = |dep: &&Submission| {
        let name = dep.thunk.outputs.keys().next().unwrap().clone();
        let place = dep.thunk.outputs[&name].clone();
        let object = Object::Output(OutputRef { thunk: dep.id, name });
        (place, Entry { object, mode: Mode::Regular })
    };
    let output = path(&format!("/{label}"));
    let thunk = Thunk {
        command: Command {
            program: path("/p"),
            args: vec![label.to_owned()],
            env: BTreeMap::new(),
            dir: path("/"),
        },
        inputs: deps.iter().map(input).collect(),
        outputs: BTreeMap::from([(output.as_str().into(), output)]),
        harvest: Harvest::Declared,
    };
    Submission {
        id: thunk.id(),
        thunk: Arc::new(thunk),
        kind: Kind::Other,
        label: label.into(),
        limits: Limits::default(),
        estimate: None,
        cacheable: true,
        urgency: Urgency::Eventual,
    }
}

fn start(options: Options) -> (Arc<Scripted>, DriverHandle) {
    let backend = Arc::new(Scripted::default());
    (backend.clone(), Driver::spawn(vec![backend], options))
}

fn asking() -> (Options, mpsc::UnboundedReceiver<Doubt>) {
    let (doubts, answers) = mpsc::unbounded_channel();
    (Options { failures: Failures::Ask(doubts), ..Options::default() }, answers)
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("this takes milliseconds")
}

#[tokio::test]
async fn a_thunk_runs_on_what_its_dependencies_made() {
    let (backend, driver) = start(Options::default());
    let a = submission("a", &[]);
    let b = submission("b", &[&a]);
    driver.submit(a.clone()).await;
    driver.submit(b.clone()).await;
    let made = soon(driver.wait(b.id)).await.unwrap();
    assert_eq!(made.output(&"/b".into()).unwrap().blob, BlobId::of(b"/b"));
    assert_eq!(made.output(&"/a".into()), None);
    assert_eq!(made.origin, Origin::Backend);
    assert_eq!(backend.ran(), ["a", "b"]);
    soon(driver.idle()).await;
    let counts = *driver.counts().borrow();
    assert_eq!((counts.traced, counts.ran, counts.open, counts.cost_microdollars), (2, 2, 0, 2));
}

#[tokio::test]
async fn a_result_is_recorded_under_the_ready_id_and_found_the_next_time() {
    let cache = Arc::new(Memory::default());
    let options = || Options { cache: Some(cache.clone()), ..Options::default() };
    let (a, b) = {
        let a = submission("a", &[]);
        let b = submission("b", &[&a]);
        (a, b)
    };
    for round in 0..2 {
        let (backend, driver) = start(options());
        driver.submit(a.clone()).await;
        driver.submit(b.clone()).await;
        let made = soon(driver.wait(b.id)).await.unwrap();
        soon(driver.shutdown()).await;
        assert_eq!(backend.ran().len(), if round == 0 { 2 } else { 0 });
        assert_eq!(made.origin, if round == 0 { Origin::Backend } else { Origin::Cache });
    }
    let ready = b.thunk.resolve(|_| Some(BlobId::of(b"/a"))).unwrap();
    let recorded: BTreeSet<_> = cache.records.lock().unwrap().keys().copied().collect();
    assert_eq!(recorded, BTreeSet::from([a.id, ready.id()]));
}

#[tokio::test]
async fn what_is_not_cacheable_is_neither_looked_up_nor_recorded() {
    let cache = Arc::new(Memory::default());
    let (_, driver) = start(Options { cache: Some(cache.clone()), ..Options::default() });
    let a = Submission { cacheable: false, ..submission("a", &[]) };
    driver.submit(a.clone()).await;
    soon(driver.wait(a.id)).await.unwrap();
    soon(driver.shutdown()).await;
    assert!(cache.records.lock().unwrap().is_empty());
    assert_eq!(cache.looked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_thunk_in_doubt_holds_its_dependants_until_the_caller_has_run_it() {
    let (options, mut doubts) = asking();
    let (backend, driver) = start(options);
    backend.script("a", [Step::Fail]);
    let a = submission("a", &[]);
    let b = submission("b", &[&a]);
    driver.submit(a.clone()).await;
    driver.submit(b.clone()).await;
    let doubt = soon(doubts.recv()).await.unwrap();
    assert_eq!(doubt.id, a.id);
    assert!(matches!(*doubt.failure, Failure::Tool(_)));
    let verdict = soon(driver.verdict(a.id)).await.unwrap_err();
    assert_eq!(verdict, doubt.failure);
    assert_eq!(driver.counts().borrow().doubted, 1);

    driver.resolve_externally(a.id, reduction(&a.thunk.outputs)).await;
    assert_eq!(soon(driver.wait(a.id)).await.unwrap().origin, Origin::External);
    soon(driver.wait(b.id)).await.unwrap();
    assert_eq!(backend.ran(), ["a", "b"]);
}

#[tokio::test]
async fn a_verdict_comes_with_the_doubt_and_a_wait_with_the_answer() {
    let (options, mut doubts) = asking();
    let (backend, driver) = start(options);
    backend.script("a", [Step::Fail]);
    let a = submission("a", &[]);
    driver.submit(a.clone()).await;
    let (verdict, wait) = (driver.verdict(a.id), driver.wait(a.id));
    let mut wait = Box::pin(wait);
    assert!((&mut wait).now_or_never().is_none());
    soon(verdict).await.unwrap_err();
    soon(doubts.recv()).await.unwrap();
    assert!((&mut wait).now_or_never().is_none());
    driver.confirm_failure(a.id).await;
    assert!(matches!(*soon(wait).await.unwrap_err(), Failure::Tool(_)));
}

#[tokio::test]
async fn a_confirmed_failure_poisons_its_dependants_by_name() {
    let (options, mut doubts) = asking();
    let (backend, driver) = start(options);
    backend.script("a", [Step::Fail]);
    let a = submission("a", &[]);
    let b = submission("b", &[&a]);
    driver.submit(a.clone()).await;
    driver.submit(b.clone()).await;
    soon(doubts.recv()).await.unwrap();
    driver.confirm_failure(a.id).await;
    let why = soon(driver.wait(b.id)).await.unwrap_err();
    assert_eq!(*why, Failure::Poisoned { by: a.id, label: "a".into() });
    soon(driver.idle()).await;
}

#[tokio::test]
async fn a_failure_that_nobody_looks_into_is_believed() {
    let (backend, driver) = start(Options::default());
    backend.script("a", [Step::Fail]);
    let a = submission("a", &[]);
    driver.submit(a.clone()).await;
    assert!(matches!(*soon(driver.wait(a.id)).await.unwrap_err(), Failure::Tool(_)));
}

#[tokio::test]
async fn a_thunk_that_failed_may_be_submitted_again() {
    let (backend, driver) = start(Options::default());
    backend.script("a", [Step::Fail, Step::Reduce]);
    let a = submission("a", &[]);
    driver.submit(a.clone()).await;
    soon(driver.wait(a.id)).await.unwrap_err();
    driver.submit(a.clone()).await;
    soon(driver.wait(a.id)).await.unwrap();
    driver.submit(a.clone()).await;
    soon(driver.idle()).await;
    assert_eq!(backend.ran().len(), 2, "a thunk that is done is not run again");
}

#[tokio::test]
async fn a_dead_worker_s_job_is_run_again_and_that_is_told() {
    let (backend, driver) = start(Options::default());
    backend.script("a", [Step::Infra(InfraFailure::WorkerDied("x".to_owned())), Step::Reduce]);
    let mut events = driver.events();
    let a = submission("a", &[]);
    driver.submit(a.clone()).await;
    soon(driver.wait(a.id)).await.unwrap();
    let mut told = Vec::new();
    while let Ok(event) = events.try_recv() {
        told.push(match event {
            BuildEvent::Traced { .. } => "traced",
            BuildEvent::Ready { .. } => "ready",
            BuildEvent::Started { .. } => "started",
            BuildEvent::Retried { .. } => "retried",
            BuildEvent::Finished { attempt: Some(_), .. } => "finished",
            _ => "?",
        });
    }
    assert_eq!(told, ["traced", "ready", "started", "retried", "started", "finished"]);
}

#[tokio::test]
async fn an_answer_without_the_declared_outputs_is_not_believed() {
    let (backend, driver) = start(Options::default());
    backend.script("a", [Step::Lie, Step::Reduce]);
    let a = submission("a", &[]);
    driver.submit(a.clone()).await;
    soon(driver.wait(a.id)).await.unwrap();
    assert_eq!(backend.ran(), ["a", "a"]);
}

#[tokio::test]
async fn missing_inputs_are_brought_back_by_the_caller() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let heal: Heal = {
        let asked = asked.clone();
        Arc::new(move |blobs| {
            asked.lock().unwrap().extend(blobs);
            std::future::ready(Ok(())).boxed()
        })
    };
    let (backend, driver) = start(Options { heal: Some(heal), ..Options::default() });
    let blob = BlobId::of(b"gone");
    backend.script("a", [Step::Infra(InfraFailure::InputsMissing(vec![blob])), Step::Reduce]);
    let a = submission("a", &[]);
    driver.submit(a.clone()).await;
    soon(driver.wait(a.id)).await.unwrap();
    assert_eq!(*asked.lock().unwrap(), [blob]);
}

#[tokio::test]
async fn inputs_that_nobody_can_bring_back_are_a_failure() {
    let (backend, driver) = start(Options::default());
    backend.script("a", [Step::Infra(InfraFailure::InputsMissing(vec![]))]);
    let a = submission("a", &[]);
    driver.submit(a.clone()).await;
    let why = soon(driver.wait(a.id)).await.unwrap_err();
    assert!(why.to_string().contains("could not be restored"), "{why}");
}

#[tokio::test]
async fn a_job_that_no_backend_takes_says_what_each_said() {
    let (_, driver) = start(Options::default());
    let a = submission("refused", &[]);
    driver.submit(a.clone()).await;
    let why = soon(driver.wait(a.id)).await.unwrap_err();
    assert_eq!(why.to_string(), "no backend takes it; `scripted`: it cannot do this: the script says so");
}

#[tokio::test]
async fn an_input_that_nothing_makes_is_named() {
    let (_, driver) = start(Options::default());
    let never = submission("never", &[]);
    let b = submission("b", &[&never]);
    driver.submit(b.clone()).await;
    let why = soon(driver.wait(b.id)).await.unwrap_err();
    assert!(matches!(&*why, Failure::InputUnknown(output) if output.thunk == never.id), "{why}");
    assert_eq!(*soon(driver.wait(never.id)).await.unwrap_err(), Failure::Unknown(never.id));
}

#[tokio::test]
async fn cancelling_all_stops_what_runs_and_answers_who_waits() {
    let (backend, driver) = start(Options::default());
    backend.script("a", [Step::Hang]);
    let a = submission("a", &[]);
    let b = submission("b", &[&a]);
    driver.submit(a.clone()).await;
    driver.submit(b.clone()).await;
    let waiting = driver.wait(b.id);
    let mut waiting = Box::pin(waiting);
    while backend.running.load(Ordering::SeqCst) == 0 {
        assert!((&mut waiting).now_or_never().is_none());
        tokio::task::yield_now().await;
    }
    driver.cancel_all().await;
    assert_eq!(*soon(waiting).await.unwrap_err(), Failure::Cancelled);
    soon(driver.idle()).await;
    let later = submission("later", &[]);
    driver.submit(later.clone()).await;
    soon(driver.wait(later.id)).await.unwrap();
    assert_eq!(backend.running.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_driver_whose_handles_are_gone_stops_what_runs() {
    let (backend, driver) = start(Options::default());
    backend.script("a", [Step::Hang]);
    driver.submit(submission("a", &[])).await;
    while backend.running.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    drop(driver);
    soon(async {
        while backend.running.load(Ordering::SeqCst) > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn after_a_shutdown_every_wait_is_answered() {
    let (backend, driver) = start(Options::default());
    backend.script("a", [Step::Hang]);
    let a = submission("a", &[]);
    driver.submit(a.clone()).await;
    let other = driver.clone();
    let waiting = tokio::spawn(async move { other.wait(a.id).await });
    soon(driver.shutdown()).await;
    let why = soon(waiting).await.unwrap().unwrap_err();
    assert!(matches!(*why, Failure::Cancelled | Failure::Stopped), "{why}");
    assert_eq!(*soon(driver.wait(ThunkId::synthetic(1))).await.unwrap_err(), Failure::Stopped);
    soon(driver.idle()).await;
}

#[tokio::test]
async fn who_waits_is_served_before_who_only_follows() {
    let (backend, driver) = start(Options::default());
    let block: Vec<_> = (0..SLOTS).map(|i| submission(&format!("block{i}"), &[])).collect();
    for thunk in &block {
        backend.script(&thunk.label, [Step::Hang]);
        driver.submit(thunk.clone()).await;
    }
    soon(driver.counts().wait_for(|counts| counts.running == SLOTS as u64)).await.unwrap();
    let long = Submission { estimate: Some(Duration::from_secs(100)), ..submission("long", &[]) };
    let short = Submission { estimate: Some(Duration::from_secs(1)), ..submission("short", &[]) };
    driver.submit(long.clone()).await;
    driver.submit(short.clone()).await;
    let (follows, waits) = (driver.follow(long.id), driver.wait(short.id));
    let (mut follows, mut waits) = (Box::pin(follows), Box::pin(waits));
    assert!((&mut follows).now_or_never().is_none() && (&mut waits).now_or_never().is_none());
    driver.cancel(block[0].id).await;
    soon(waits).await.unwrap();
    soon(follows).await.unwrap();
    assert_eq!(backend.ran()[SLOTS..], ["short", "long"]);
    soon(driver.shutdown()).await;
}

/// More thunks than are kept unpacked.
#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_is_traced_before_anything_runs_ends_all_the_same() {
    let report = crate::bench::scale_held(3 * PACK_OVER as u64).await;
    assert_eq!(report.thunks, 3 * PACK_OVER as u64);
}

#[tokio::test]
async fn durations_are_learned_from_what_ran() {
    let durations = Arc::new(Mutex::new(crate::durations::Durations::default()));
    let (_, driver) = start(Options { durations: Some(durations.clone()), ..Options::default() });
    let a = submission("a", &[]);
    driver.submit(a.clone()).await;
    soon(driver.wait(a.id)).await.unwrap();
    let estimate = durations.lock().unwrap().estimate("a", Kind::Other);
    assert_eq!(estimate, Some(Duration::from_millis(1)));
}

#[tokio::test]
async fn the_null_backend_keeps_the_contract() {
    let thunk = submission("a", &[]).thunk.resolve(|_| None).unwrap();
    let succeeds = Job {
        id: thunk.id(),
        thunk: Arc::new(thunk),
        limits: Limits::default(),
        kind: Kind::Other,
        label: "a".to_owned(),
    };
    let jobs = crate::contract::Jobs { succeeds, fails: None, lasts: None };
    crate::contract::check(Arc::new(crate::null::NullBackend::new(8)), jobs).await;
}
