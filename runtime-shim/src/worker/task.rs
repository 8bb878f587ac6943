//! One job on its way through the worker.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use ggr_ir::{Job, Timings};

use crate::stage::plan::Plan;
use crate::stage::shelf::Lease;

/// A job that has a slot.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) seq: u64,
    pub(crate) job: Job,
    pub(crate) slot: u32,
    pub(crate) received: Instant,
    pub(crate) stop: Arc<Stop>,
}

/// A job whose root is ready.
#[derive(Debug)]
pub(crate) struct Staged {
    pub(crate) task: Task,
    pub(crate) plan: Plan,
    pub(crate) lease: Lease,
    pub(crate) scratch: PathBuf,
    pub(crate) timings: Timings,
    /// When its sandbox was ordered.
    pub(crate) ordered: Instant,
}

/// How a job's program ended.
#[derive(Debug)]
pub(crate) enum End {
    /// It ran to its end.
    Ended { status: i32, ran: Duration, cpu: Duration, max_rss: u64 },
    /// It was not started.
    Refused(String),
    /// It was killed with its sandbox, before it could be said how it ended.
    Killed,
}

/// Why a job was told to stop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cause {
    Cancelled = 1,
    Deadline = 2,
}

/// Whether a job was told to stop. The first cause counts.
#[derive(Debug, Default)]
pub(crate) struct Stop(AtomicU8);

impl Stop {
    pub(crate) fn set(&self, cause: Cause) {
        let _ = self.0.compare_exchange(0, cause as u8, Ordering::AcqRel, Ordering::Acquire);
    }

    pub(crate) fn cause(&self) -> Option<Cause> {
        match self.0.load(Ordering::Acquire) {
            1 => Some(Cause::Cancelled),
            2 => Some(Cause::Deadline),
            _ => None,
        }
    }
}
