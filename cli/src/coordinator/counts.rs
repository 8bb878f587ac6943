//! What happened in a session, for the summary.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use ggr_ir::ToolFailure;

/// Counters; each only grows.
#[derive(Default)]
pub(crate) struct Counts {
    modelled: AtomicU64,
    hits: AtomicU64,
    wrong_doubts: AtomicU64,
    doubted: Mutex<Vec<String>>,
    here: Mutex<BTreeMap<String, u64>>,
}

/// A copy of the counters at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    /// Calls that became thunks.
    pub(crate) modelled: u64,
    /// Those answered from the cache.
    pub(crate) hits: u64,
    /// Thunks that failed in the sandbox and passed here.
    pub(crate) wrong_doubts: u64,
    /// Labels of deferred thunks that failed in the sandbox, with the first line that they wrote.
    pub(crate) doubted: Vec<String>,
    /// Calls that ran here, by reason.
    pub(crate) here: BTreeMap<String, u64>,
}

impl Counts {
    pub(crate) fn modelled(&self) {
        self.modelled.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn hit(&self) {
        self.hits.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn doubt_was_wrong(&self) {
        self.wrong_doubts.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn doubted(&self, label: &str, failure: &ToolFailure) {
        let stderr = String::from_utf8_lossy(&failure.stderr);
        let first = failure.unrepresentable.as_deref().or(stderr.lines().next()).unwrap_or("no message");
        self.doubted.lock().expect("no holder panics").push(format!("{label}: {first}"));
    }

    pub(crate) fn here(&self, tool: &Path, reason: &str) {
        let tool = tool.file_name().unwrap_or_default().to_string_lossy();
        *self.here.lock().expect("no holder panics").entry(format!("{tool}: {reason}")).or_default() += 1;
    }

    /// The counters now.
    pub(crate) fn tally(&self) -> Tally {
        Tally {
            modelled: self.modelled.load(Ordering::Relaxed),
            hits: self.hits.load(Ordering::Relaxed),
            wrong_doubts: self.wrong_doubts.load(Ordering::Relaxed),
            doubted: self.doubted.lock().expect("no holder panics").clone(),
            here: self.here.lock().expect("no holder panics").clone(),
        }
    }
}
