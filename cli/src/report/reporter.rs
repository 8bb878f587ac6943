//! Passes events to sinks.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::event::Event;

/// Takes events, in the order in which they happened. Calls never overlap.
pub(crate) trait Sink: Send {
    /// One event, and how long after the reporter's start it happened. What cannot be written is kept for `end`.
    fn take(&mut self, at: Duration, event: &Event);

    /// No more events come.
    ///
    /// # Errors
    /// The file that could not be written.
    fn end(&mut self) -> Result<(), SinkError>;
}

/// A sink could not write.
#[derive(Debug, thiserror::Error)]
#[error("cannot write `{}`: {source}", path.display())]
pub(crate) struct SinkError {
    /// Where to.
    pub(crate) path: PathBuf,
    /// Why.
    pub(crate) source: io::Error,
}

/// What the coordinator tells what happens. Cheap to clone; every clone reports to the same sinks.
#[derive(Clone)]
pub(crate) struct Reporter {
    start: Instant,
    sinks: Arc<Mutex<Vec<Box<dyn Sink>>>>,
}

impl Reporter {
    /// A reporter whose clock starts now.
    pub(crate) fn new(sinks: Vec<Box<dyn Sink>>) -> Self {
        Self { start: Instant::now(), sinks: Arc::new(Mutex::new(sinks)) }
    }

    /// Reports to these sinks from now on.
    pub(crate) fn set_sinks(&self, sinks: Vec<Box<dyn Sink>>) {
        *self.lock() = sinks;
    }

    /// Something happened just now.
    pub(crate) fn report(&self, event: &Event) {
        let mut sinks = self.lock();
        // Taken under the lock, so that times never go back within a sink.
        let at = self.start.elapsed();
        sinks.iter_mut().for_each(|sink| sink.take(at, event));
    }

    /// Nothing more will happen; gives the failures of the sinks.
    pub(crate) fn end(&self) -> Vec<SinkError> {
        // Without its sinks a reporter is silent: a late event of a thread that still runs does no harm.
        let mut sinks = std::mem::take(&mut *self.lock());
        sinks.iter_mut().filter_map(|sink| sink.end().err()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Box<dyn Sink>>> {
        self.sinks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
