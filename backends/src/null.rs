//! A backend that does nothing and is done at once: what is left is the cost of scheduling.

use futures_util::future::{BoxFuture, FutureExt, ready};
use ggr_ir::{Attempt, BlobId, Job, Outcome, OutputEntry, Reduction, RootPath, Timings};
use tokio::sync::watch;

use crate::backend::{Backend, Refusal};

/// Opens the gate of a [`NullBackend::gated`] backend.
#[derive(Debug)]
pub struct Gate(watch::Sender<bool>);

impl Gate {
    /// Lets all jobs pass from now on.
    pub fn open(self) {
        self.0.send_replace(true);
    }
}

/// Answers each job at once with outputs that are named by the job's id and hold nothing. For benchmarks and tests of
/// what stands before backends; no blob is stored.
#[derive(Debug, Clone)]
pub struct NullBackend {
    slots: usize,
    gate: Option<watch::Receiver<bool>>,
}

impl NullBackend {
    /// One with this many slots.
    pub fn new(slots: usize) -> Self {
        Self { slots, gate: None }
    }

    /// One whose jobs wait until the gate is opened: the build is traced before anything has run.
    pub fn gated(slots: usize) -> (Self, Gate) {
        let (gate, open) = watch::channel(false);
        (Self { slots, gate: Some(open) }, Gate(gate))
    }
}

impl Backend for NullBackend {
    fn name(&self) -> &str {
        "null"
    }

    fn slots(&self) -> usize {
        self.slots
    }

    fn duplicates(&self) -> bool {
        false
    }

    fn accepts(&self, _: &Job) -> Result<(), Refusal> {
        Ok(())
    }

    fn run<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Attempt> {
        let attempt = Attempt {
            outcome: Outcome::Reduced(reduce(job)),
            timings: Timings::default(),
            cost_microdollars: 0,
            worker: 0,
        };
        match self.gate.clone() {
            None => ready(attempt).boxed(),
            Some(mut gate) => async move {
                // A gate that was dropped is open.
                let _ = gate.wait_for(|open| *open).await;
                attempt
            }
            .boxed(),
        }
    }
}

fn reduce(job: &Job) -> Reduction {
    let nothing = BlobId::new(job.id.hash(), 0);
    let entry = |path: &RootPath| OutputEntry { path: path.clone(), blob: nothing, permissions: 0o644 };
    let outputs = job.thunk.outputs.iter().map(|(name, path)| (name.clone(), entry(path))).collect();
    Reduction { outputs, stdout: nothing, stderr: nothing, duration_us: 1 }
}
