//! A place for what every other place refuses or gives up.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::BoxFuture;
use ggr_ir::{Attempt, Job};

use crate::backend::{Backend, Refusal};

/// Another backend, on standby; it counts what comes to it.
pub struct Standby {
    inner: Arc<dyn Backend>,
    taken: Arc<AtomicUsize>,
}

impl Standby {
    /// Puts a backend on standby.
    pub fn new(inner: Arc<dyn Backend>) -> Self {
        Self { inner, taken: Arc::default() }
    }

    /// How many attempts came to it; still to be read when it has gone.
    pub fn taken(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.taken)
    }
}

impl Backend for Standby {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn slots(&self) -> usize {
        self.inner.slots()
    }

    fn duplicates(&self) -> bool {
        self.inner.duplicates()
    }

    fn standby(&self) -> bool {
        true
    }

    fn accepts(&self, job: &Job) -> Result<(), Refusal> {
        self.inner.accepts(job)
    }

    fn run<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Attempt> {
        self.taken.fetch_add(1, Ordering::Relaxed);
        self.inner.run(job)
    }
}
