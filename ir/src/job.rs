//! What a backend is given, and what it answers.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::hash::{BlobId, ThunkId};
use crate::reduction::Reduction;
use crate::thunk::ReadyThunk;

/// The kind of work: thunks of one kind have like durations and like chances to straggle.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Debug)]
pub enum Kind {
    /// Preprocess only.
    Preprocess,
    /// Source to object (or to assembler text).
    Compile,
    /// Assembler text to object.
    Assemble,
    /// Archive maintenance (`ar`, `ranlib`).
    Archive,
    /// Objects to a program or shared library.
    Link,
    /// Object rewriting (`strip`, `objcopy`).
    Binutils,
    /// Anything else.
    Other,
}

/// What network a program sees. Nothing leads out of any of them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Debug, Default)]
pub enum Network {
    /// None: not even a loopback that is up.
    #[default]
    None,
    /// One that the worker's programs of this class share: they may meet each other, and each other's ports.
    Tenant,
    /// One of its own, for programs that bind fixed ports.
    Own,
}

impl Network {
    /// The class of this name.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "none" => Some(Self::None),
            "tenant" => Some(Self::Tenant),
            "own" => Some(Self::Own),
            _ => None,
        }
    }

    /// This one, or the other where this is none.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        if self == Self::None { other } else { self }
    }
}

/// Bounds on one attempt.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Limits {
    /// Wall clock.
    pub wall: Duration,
    /// Bytes of address space a process may map; 0 for no bound.
    pub memory: u64,
    /// Bytes that it may leave behind in all; 0 for no bound.
    pub output: u64,
    /// Processes and threads that it may have side by side; 0 for no bound.
    pub processes: u64,
    /// The network that the program sees: its [thunk's](crate::thunk::Thunk::network), or what the user gives to all.
    pub network: Network,
}

impl Default for Limits {
    /// 15 minutes as on Lambda; no bound on memory or processes; 8 GiB of output.
    fn default() -> Self {
        let wall = Duration::from_secs(900);
        Self { wall, memory: 0, output: 8 << 30, processes: 0, network: Network::None }
    }
}

/// Bounds that a tool's description sets for its thunks, in place of the user's.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct ToolLimits {
    /// As [`Limits::wall`].
    pub wall: Option<Duration>,
    /// As [`Limits::memory`].
    pub memory: Option<u64>,
    /// As [`Limits::output`].
    pub output: Option<u64>,
    /// As [`Limits::processes`].
    pub processes: Option<u64>,
}

impl ToolLimits {
    /// These bounds, and the others where nothing is set.
    #[must_use]
    pub fn over(self, others: Limits) -> Limits {
        Limits {
            wall: self.wall.unwrap_or(others.wall),
            memory: self.memory.unwrap_or(others.memory),
            output: self.output.unwrap_or(others.output),
            processes: self.processes.unwrap_or(others.processes),
            network: others.network,
        }
    }
}

/// One thunk, ready to run.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub struct Job {
    /// The id of the ready thunk.
    pub id: ThunkId,
    /// What to run.
    pub thunk: Arc<ReadyThunk>,
    /// Bounds; not part of the id.
    pub limits: Limits,
    /// The kind of work.
    pub kind: Kind,
    /// What to call it in front of the user, as `gcc foo.o`.
    pub label: String,
}

/// Where an attempt's time went.
#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Timings {
    /// From hand-over to the start of staging.
    pub queued: Duration,
    /// Fetching blobs and building the root.
    pub staged: Duration,
    /// Of that, bringing to a service what it lacked; the rest is the service's own work. The client of the service
    /// measures it, so it is not part of any message.
    #[serde(skip)]
    pub moved: Duration,
    /// The program itself, from its start to its end.
    pub ran: Duration,
    /// Hashing and storing the outputs.
    pub harvested: Duration,
    /// User and system time of the program and its children.
    pub cpu: Duration,
    /// Largest resident set of any one process, in bytes.
    pub max_rss: u64,
}

/// The program ran and did not succeed, or succeeded in a way that a reduction cannot hold.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct ToolFailure {
    /// Exit status; none when a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// What it wrote to its standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to its standard error.
    pub stderr: Vec<u8>,
    /// Set when the program exited 0 but left something that a reduction cannot hold, or lacked a declared output: says
    /// what.
    pub unrepresentable: Option<String>,
}

/// The attempt failed for a reason that lies outside the program.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug, thiserror::Error)]
pub enum InfraFailure {
    /// The service asks to come back later.
    #[error("throttled; retry after {after:?}")]
    Throttled {
        /// How long to wait before the next try.
        after: Duration,
    },
    /// The place cannot be reached.
    #[error("unreachable: {0}")]
    Unreachable(String),
    /// Blobs that should have been in the store were not.
    #[error("{} input blobs are missing from the store", .0.len())]
    InputsMissing(Vec<BlobId>),
    /// The program succeeded, but its outputs could not be stored.
    #[error("outputs could not be stored: {0}")]
    OutputsNotStored(String),
    /// The worker died or broke off.
    #[error("the worker died: {0}")]
    WorkerDied(String),
    /// The wall-clock bound passed.
    #[error("the time limit passed")]
    DeadlinePassed,
    /// A bound on memory, disk or payload was met.
    #[error("too big for this place: {0}")]
    TooBig(String),
    /// The sandbox could not be built.
    #[error("the sandbox could not be built: {0}")]
    Sandbox(String),
    /// The place takes nothing more.
    #[error("the place is closed: {0}")]
    Closed(String),
}

/// How an attempt ended.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub enum Outcome {
    /// The thunk was replaced by its outputs, which are in the store.
    Reduced(Reduction),
    /// The program failed.
    ToolFailed(ToolFailure),
    /// Something else failed.
    Infra(InfraFailure),
    /// It was told to stop.
    Cancelled,
}

/// One try at one thunk. Not a `Result`: a failed try cost time and money too.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Attempt {
    /// How it ended.
    pub outcome: Outcome,
    /// Where the time went.
    pub timings: Timings,
    /// What it cost, in millionths of a US dollar.
    pub cost_microdollars: u64,
    /// The worker that ran it, for traces (slot number on the local pool).
    pub worker: u32,
}

/// A blob to fetch or store, with the file that will hold or holds its bytes.
pub type BlobFile = (BlobId, PathBuf);
