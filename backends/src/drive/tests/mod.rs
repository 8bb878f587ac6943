//! The driver over a backend double that does what a script says, and is stricter than a real one: it takes no job that
//! the script does not know, and no more at once than it has slots.

mod chain;
mod ending;
mod failures;
mod results;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use ggr_ir::{
    Attempt, BlobId, Command, Entry, Followed, Follower, Harvest, InfraFailure, Job, Kind, Limits, Lookup,
    Mode, Object, Outcome, OutputEntry, OutputRef, Reduction, ReductionCache, RootPath, StoreError, Thunk,
    ThunkId, Timings, ToolFailure,
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
    /// Behind another one: succeeds as another thunk.
    Forge,
}

#[derive(Default)]
struct Scripted {
    /// What happens, by label; the last step is repeated. Without a script a job is reduced.
    scripts: Mutex<BTreeMap<String, VecDeque<Step>>>,
    ran: Mutex<Vec<String>>,
    /// Whether it runs chains.
    chains: bool,
    /// What it was given, a chain as `a+b`.
    given: Mutex<Vec<String>>,
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

    /// What it was given, a chain as `a+b`.
    fn given(&self) -> Vec<String> {
        self.given.lock().unwrap().clone()
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

    /// What is to happen next to this one.
    fn front(&self, label: &str) -> Option<Step> {
        self.scripts.lock().unwrap().get(label)?.front().cloned()
    }

    async fn one(&self, job: &Job) -> Attempt {
        assert!(self.running.fetch_add(1, Ordering::SeqCst) < SLOTS, "more jobs than slots");
        let _running = Running(&self.running);
        self.ran.lock().unwrap().push(job.label.clone());
        let outcome = match self.step(&job.label) {
            Step::Reduce | Step::Forge => Outcome::Reduced(reduction(&job.thunk.outputs)),
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
        self.given.lock().unwrap().push(job.label.clone());
        self.one(job).boxed()
    }

    fn chains(&self) -> bool {
        self.chains
    }

    fn run_chain<'a>(
        &'a self,
        job: &'a Job,
        next: &'a [Follower],
    ) -> BoxFuture<'a, (Attempt, Vec<Followed>)> {
        let behind: String = next.iter().map(|follower| format!("+{}", follower.label)).collect();
        self.given.lock().unwrap().push(format!("{}{behind}", job.label));
        async move {
            let attempt = self.one(job).await;
            let (mut before, mut chain) = (attempt.outcome.clone(), Vec::new());
            for follower in next {
                let Outcome::Reduced(reduction) = &before else { break };
                let job = follower.behind(reduction).expect("it waits for this one alone");
                let forges = matches!(self.front(&job.label), Some(Step::Forge));
                let attempt = self.one(&job).await;
                before = attempt.outcome.clone();
                chain.push(Followed { id: if forges { job.id.of_failure(false) } else { job.id }, attempt });
            }
            (attempt, chain)
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
        network: ggr_ir::Network::None,
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
