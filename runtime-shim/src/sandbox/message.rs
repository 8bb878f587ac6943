//! What the worker tells its zygote, and what comes back.
//!
//! Orders are frames on a stream (an argument list may be megabytes); reports are datagrams that keep their borders, so
//! that the zygote and every PID 1 may write to one socket. These never leave the machine or the process tree.

use std::collections::BTreeMap;
use std::time::Duration;

use ggr_ir::Network;
use serde::{Deserialize, Serialize};

/// To the zygote.
#[derive(Serialize, Deserialize, Debug)]
pub(crate) enum Order {
    /// Build a sandbox and run a program in it.
    Start(Box<Start>),
    /// Kill everything in the sandbox with this number; no answer if there is none.
    Kill(u64),
}

/// One sandbox.
#[derive(Serialize, Deserialize, Debug, Default)]
pub(crate) struct Start {
    /// Comes back in each report.
    pub seq: u64,
    /// The lower layer, relative to the worker's directory.
    pub lower: String,
    /// Directories of the lower layer, absolute, that the program may read only.
    pub read_only: Vec<String>,
    /// The directory with `u` and `w`, relative to the worker's directory; `out` and `err` are made in it.
    pub scratch: String,
    /// What to run; empty to build the sandbox and end at once (a probe).
    pub program: String,
    /// `argv`.
    pub args: Vec<String>,
    /// The whole environment.
    pub env: BTreeMap<String, String>,
    /// The working directory.
    pub dir: String,
    /// Bytes of address space for a process; 0 for no bound.
    pub memory: u64,
    /// Bytes that one file may have; 0 for no bound.
    pub file_size: u64,
    /// Processes and threads that the sandbox may have beside its first one; 0 for no bound.
    pub processes: u64,
    /// The network that the program sees.
    pub network: Network,
}

/// From the zygote and from the PID 1 of each sandbox.
#[derive(Serialize, Deserialize, Debug)]
pub(crate) enum Report {
    /// The zygote is ready for orders.
    Ready,
    /// The zygote could not set itself up; it ends.
    Broken(String),
    /// The sandbox could not be built, or the program could not be executed.
    Refused {
        /// The number of the order.
        seq: u64,
        /// What failed, with the cause.
        why: String,
    },
    /// The program ended.
    Ended {
        /// The number of the order.
        seq: u64,
        /// How, as `wait` tells it.
        status: i32,
        /// From its start to its end.
        ran: Duration,
        /// User and system time of it and of those children that it waited for.
        cpu: Duration,
        /// Largest resident set of one process, in bytes.
        max_rss: u64,
    },
    /// Nothing of the sandbox is left: no process, no mount. Always the last report of an order.
    Gone {
        /// The number of the order.
        seq: u64,
    },
}

/// The longest report; longer reasons are cut when they are made.
pub(crate) const MAX_REPORT: usize = 4096;

impl Report {
    /// A refusal whose reason is short enough for one datagram.
    pub(crate) fn refused(seq: u64, mut why: String) -> Self {
        let mut end = why.len().min(MAX_REPORT / 2);
        while !why.is_char_boundary(end) {
            end -= 1;
        }
        why.truncate(end);
        Self::Refused { seq, why }
    }
}
