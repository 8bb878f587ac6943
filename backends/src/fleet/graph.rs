//! Thunks with their durations.

use std::io::Read as _;
use std::time::Duration;

use ggr_ir::Kind;
use serde::{Deserialize, Serialize};

use super::cloud::Cloud;
use crate::scheduler::CHAINED;

/// The version of the file's format.
const VERSION: u32 = 1;

/// The longest file that is read, unpacked, in bytes: a million thunks fit.
const MAX_LEN: u64 = 256 << 20;

/// What a file that zstd wrote begins with (RFC 8878).
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// One thunk.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Task {
    /// As `gcc foo.o`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub label: String,
    /// The kind of work.
    pub kind: Kind,
    /// How long its program ran, in microseconds.
    pub us: u64,
    /// What it waits for: places in the list, all before its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deps: Vec<u32>,
}

impl Task {
    /// How long its program ran.
    pub fn duration(&self) -> Duration {
        Duration::from_micros(self.us)
    }
}

/// A file that holds no graph.
#[derive(Debug, thiserror::Error)]
pub enum BadGraph {
    /// It cannot be unpacked.
    #[error("it cannot be unpacked")]
    Packed(#[source] std::io::Error),
    /// It is not JSON of this form.
    #[error("it is not the JSON of `ggr graph --json`")]
    Json(#[source] serde_json::Error),
    /// Another version wrote it.
    #[error("it has version {0} of the format, and this ggr reads {VERSION}")]
    Version(u32),
    /// It is too long.
    #[error("it is longer than {MAX_LEN} bytes")]
    TooLong,
    /// A thunk waits for itself or for one after it.
    #[error("thunk {task} waits for thunk {dep}, which does not come before it")]
    Order {
        /// Which, counted from 0.
        task: usize,
        /// For which.
        dep: u32,
    },
}

#[derive(Serialize, Deserialize)]
struct Written {
    ggr_graph: u32,
    tasks: Vec<Task>,
}

/// Thunks, each after what it waits for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Graph {
    tasks: Vec<Task>,
}

impl Graph {
    /// A graph of these thunks.
    ///
    /// # Errors
    /// One that waits for itself or for one after it.
    pub fn new(tasks: Vec<Task>) -> Result<Self, BadGraph> {
        for (at, task) in tasks.iter().enumerate() {
            if let Some(dep) = task.deps.iter().find(|dep| **dep as usize >= at) {
                return Err(BadGraph::Order { task: at, dep: *dep });
            }
        }
        Ok(Self { tasks })
    }

    /// Reads what [`to_json`](Self::to_json) gave, as it is or packed with zstd.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(bytes: &[u8]) -> Result<Self, BadGraph> {
        let mut unpacked = Vec::new();
        let json = if bytes.starts_with(&ZSTD) {
            let decoder = zstd::Decoder::new(bytes).map_err(BadGraph::Packed)?;
            decoder.take(MAX_LEN + 1).read_to_end(&mut unpacked).map_err(BadGraph::Packed)?;
            &unpacked
        } else {
            bytes
        };
        if json.len() as u64 > MAX_LEN {
            return Err(BadGraph::TooLong);
        }
        let written: Written = serde_json::from_slice(json).map_err(BadGraph::Json)?;
        if written.ggr_graph != VERSION {
            return Err(BadGraph::Version(written.ggr_graph));
        }
        Self::new(written.tasks)
    }

    /// The graph as JSON.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(Written { ggr_graph: VERSION, tasks: self.tasks.clone() })
            .expect("numbers and text can be written")
    }

    /// Git's own build, as recorded (`graphs/README.md`).
    pub fn git() -> Self {
        Self::read(include_bytes!("graphs/git.json.zst")).expect("it was written by ggr")
    }

    /// Redis' build, as recorded (`graphs/README.md`).
    pub fn redis() -> Self {
        Self::read(include_bytes!("graphs/redis.json.zst")).expect("it was written by ggr")
    }

    /// In order.
    pub fn tasks(&self) -> &[Task] {
        &self.tasks
    }

    /// All durations together.
    pub fn work(&self) -> Duration {
        self.tasks.iter().map(Task::duration).sum()
    }

    /// The longest chain of durations.
    pub fn critical_path(&self) -> Duration {
        let mut ends = Vec::with_capacity(self.tasks.len());
        for task in &self.tasks {
            let start: Duration = task.deps.iter().map(|dep| ends[*dep as usize]).max().unwrap_or_default();
            ends.push(start + task.duration());
        }
        ends.into_iter().max().unwrap_or_default()
    }

    /// What no schedule on so many workers can beat, if nothing but the programs took time.
    pub fn bound(&self, workers: u32) -> Duration {
        (self.work() / workers.max(1)).max(self.critical_path())
    }

    /// The same, and stricter (Fernández and Bussell, 1973): all that has a chain of some length behind it must be done so long
    /// before the end. And each thunk's own transfers, which take so long at its place in the list, count as its work.
    pub fn strict_bound(&self, workers: u32, transfers: impl Fn(usize) -> Duration) -> Duration {
        let took: Vec<Duration> =
            self.tasks.iter().enumerate().map(|(at, task)| task.duration() + transfers(at)).collect();
        let mut tails = vec![Duration::ZERO; self.tasks.len()];
        for (at, task) in self.tasks.iter().enumerate().rev() {
            let tail = tails[at] + took[at];
            for dep in &task.deps {
                let known = &mut tails[*dep as usize];
                *known = tail.max(*known);
            }
        }
        let mut order: Vec<usize> = (0..self.tasks.len()).collect();
        order.sort_unstable_by_key(|at| std::cmp::Reverse(tails[*at]));
        let (mut bound, mut before) = (Duration::ZERO, Duration::ZERO);
        for at in order {
            before += took[at];
            bound = bound.max(tails[at] + took[at].max(before / workers.max(1)));
        }
        bound
    }

    /// What a cloud leaves of the bound to any schedule, in the mean: the first attempt starts cold, each thunk has its
    /// transfers, but for the fetch of those that might run behind one that they wait for.
    pub fn floor(&self, cloud: &Cloud, workers: u32) -> Duration {
        let mut followers = vec![0u32; self.tasks.len()];
        self.tasks.iter().flat_map(|task| &task.deps).for_each(|dep| followers[*dep as usize] += 1);
        let follows = |task: &Task| {
            let behind = task.deps.iter().any(|dep| followers[*dep as usize] == 1);
            cloud.together && behind && task.duration() <= CHAINED
        };
        let (fetch, store) = (cloud.fetch.mean(), cloud.store.mean());
        let transfers = |at: usize| if follows(&self.tasks[at]) { store } else { fetch + store };
        cloud.cold.mean() + self.strict_bound(workers, transfers)
    }

    /// The share of the work that is in thunks of at least this duration.
    pub fn share_above(&self, duration: Duration) -> f64 {
        let above: Duration = self.tasks.iter().map(Task::duration).filter(|took| *took >= duration).sum();
        above.as_secs_f64() / self.work().as_secs_f64().max(f64::MIN_POSITIVE)
    }
}
