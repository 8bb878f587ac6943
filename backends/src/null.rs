//! A backend that does nothing and is done at once: what is left is the cost of scheduling.

use std::collections::BTreeMap;

use futures_util::future::{BoxFuture, FutureExt, ready};
use ggr_ir::{Attempt, BlobId, Job, Outcome, OutputEntry, Reduction, Timings};

use crate::backend::{Backend, Refusal};

/// Answers each job at once with outputs that are named by the job's id and hold nothing. For benchmarks and tests of
/// what stands before backends; no blob is stored.
#[derive(Debug, Clone)]
pub struct NullBackend {
    slots: usize,
}

impl NullBackend {
    /// One with this many slots.
    pub fn new(slots: usize) -> Self {
        Self { slots }
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
        let nothing = BlobId::new(job.id.hash(), 0);
        let entry =
            |path: &ggr_ir::RootPath| OutputEntry { path: path.clone(), blob: nothing, permissions: 0o644 };
        let outputs: BTreeMap<_, _> =
            job.thunk.outputs.iter().map(|(name, path)| (name.clone(), entry(path))).collect();
        let reduction = Reduction { outputs, stdout: nothing, stderr: nothing, duration_us: 1 };
        ready(Attempt {
            outcome: Outcome::Reduced(reduction),
            timings: Timings::default(),
            cost_microdollars: 0,
            worker: 0,
        })
        .boxed()
    }
}
