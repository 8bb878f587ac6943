//! Driving a worker from outside: for tests, benchmarks and `ggr doctor`.

mod client;
pub mod density;
pub mod handoff;
mod kit;
pub mod net;
pub mod start;

use std::io;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use ggr_ir::{Harvest, Kind, Limits, Outcome};

pub use client::Client;
pub use kit::{Kit, command};

/// What [`sleepers`] measured.
#[derive(Debug, Clone, Copy)]
pub struct Slept {
    /// From the first request to the last answer.
    pub all: Duration,
    /// The median over all jobs of what staging, the sandbox and the harvest took.
    pub overhead: Duration,
}

/// User and system time of all children that this process has waited for.
pub fn children_cpu() -> Duration {
    crate::sandbox::children_cpu()
}

/// Runs `n` times `sleep seconds` at once, each in its own sandbox of one worker. `worker` is its command line with `n` slots
/// over the store below `root`.
///
/// # Errors
/// The worker's, and `Other` if a job does not reduce.
pub fn sleepers(worker: &mut Command, root: &Path, n: u64, seconds: &str) -> io::Result<Slept> {
    let mut kit = Kit::new(root);
    kit.program(Path::new("/usr/bin/sleep"))?;
    let mut client = Client::start(worker)?;
    let started = Instant::now();
    for seq in 0..n {
        // A variable that differs: no two of them are one thunk.
        let mut sleep = command(&["/usr/bin/sleep", seconds], "/");
        sleep.env.insert("N".to_owned(), seq.to_string());
        client.run(seq, kit.thunk(sleep, &[], Harvest::Everything), Kind::Other, Limits::default())?;
    }
    let mut overheads = Vec::new();
    for _ in 0..n {
        let (_, attempt) = client.answer()?;
        let Outcome::Reduced(_) = attempt.outcome else {
            return Err(io::Error::other(format!("{:?}", attempt.outcome)));
        };
        overheads.push(attempt.timings.staged + attempt.timings.harvested);
    }
    let all = started.elapsed();
    overheads.sort_unstable();
    Ok(Slept { all, overhead: overheads.get(overheads.len() / 2).copied().unwrap_or_default() })
}

/// The `nth` percentile of sorted times; zero if there are none.
pub(crate) fn percentile(sorted: &[Duration], nth: usize) -> Duration {
    let at = (sorted.len() * nth).div_ceil(100).saturating_sub(1);
    sorted.get(at).copied().unwrap_or_default()
}
