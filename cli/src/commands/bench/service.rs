//! `ggr bench sleep --service`: sleepers through a `ggr worker serve` of their own, as any client's thunks would go.

use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use ggr_backends::Backend;
use ggr_backends::remote::{PATIENCE, RemoteBackend, RemoteOptions};
use ggr_backends::service::Address;
use ggr_backends::store::FsStore;
use ggr_ir::repo::unique_name;
use ggr_ir::{Harvest, Job, Kind, Limits, Outcome};
use ggr_shim::bench::{Kit, Slept, command};

/// A service of this program, ended with this.
struct Service {
    child: Child,
    dir: PathBuf,
}

impl Service {
    fn start(slots: u64) -> io::Result<Self> {
        // Short, as a socket's address has 107 bytes at most.
        let dir = std::env::temp_dir().join(format!("ggr-{}", unique_name()));
        let mut command = Command::new("/proc/self/exe");
        command.args(["--quiet", "worker", "serve", "--slots", &slots.to_string(), "--dir"]).arg(&dir);
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let said = child.stdout.take().map(BufReader::new);
        let service = Self { child, dir };
        let mut line = String::new();
        said.ok_or(io::ErrorKind::BrokenPipe)?.read_line(&mut line)?;
        match line.starts_with("listening") {
            true => Ok(service),
            false => Err(io::Error::other("the service does not start")),
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Runs `count` times `sleep time` at once, with a store below `root`.
///
/// # Errors
/// The service's, and `Other` if a job does not reduce.
pub(super) async fn sleepers(root: &Path, count: u64, time: &str) -> io::Result<Slept> {
    let mut kit = Kit::new(root);
    kit.program(Path::new("/usr/bin/sleep"))?;
    let service = Service::start(count)?;
    let options = RemoteOptions {
        address: Address::Unix(service.dir.join("socket")),
        token: String::new(),
        authority: None,
        patience: PATIENCE,
    };
    let backend = RemoteBackend::connect(options, Arc::new(FsStore::new(root))).await;
    let backend = backend.map_err(io::Error::other)?;
    let jobs = (0..count).map(|number| {
        // A variable that differs: no two of them are one thunk.
        let mut sleep = command(&["/usr/bin/sleep", time], "/");
        sleep.env.insert("N".to_owned(), number.to_string());
        let thunk = kit.thunk(sleep, &[], Harvest::Everything);
        let (limits, label) = (Limits::default(), format!("sleep {number}"));
        Job { id: thunk.id(), thunk: Arc::new(thunk), limits, kind: Kind::Other, label }
    });
    let jobs: Vec<_> = jobs.collect();
    let began = Instant::now();
    let attempts = join_all(jobs.iter().map(|job| backend.run(job))).await;
    let all = began.elapsed();
    let mut overheads: Vec<Duration> = Vec::new();
    for attempt in attempts {
        let Outcome::Reduced(_) = attempt.outcome else {
            return Err(io::Error::other(format!("{:?}", attempt.outcome)));
        };
        overheads.push(attempt.timings.staged + attempt.timings.harvested);
    }
    overheads.sort_unstable();
    Ok(Slept { all, overhead: overheads.get(overheads.len() / 2).copied().unwrap_or_default() })
}
