//! `ggr bench sleep --service`: sleepers through a `ggr worker serve` of their own, as any client's thunks would go.
//!
//! With `--restarts N` they are those of N tenants, so that N workers run them. Each of the N is killed once, when its sleepers
//! sleep; the service starts others, and what was lost is offered again, as the scheduler does.

use std::collections::{HashMap, HashSet};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use ggr_backends::Backend;
use ggr_backends::remote::{PATIENCE, RemoteBackend, RemoteOptions};
use ggr_backends::service::Address;
use ggr_backends::store::FsStore;
use ggr_ir::repo::unique_name;
use ggr_ir::{Attempt, Harvest, InfraFailure, Job, Kind, Limits, Outcome};
use ggr_shim::bench::{Kit, Slept, command};
use rustix::process::{Pid, Signal, kill_process};

/// A sleeper that was lost more often than this has something else to tell.
const TRIES: u32 = 5;

/// A service of this program, ended with this.
struct Service {
    child: Child,
    dir: PathBuf,
}

impl Service {
    /// With tenants named by number.
    fn start(slots: u64, tenants: u64) -> io::Result<Self> {
        // Short, as a socket's address has 107 bytes at most.
        let dir = std::env::temp_dir().join(format!("ggr-{}", unique_name()));
        std::fs::create_dir_all(&dir)?;
        let tokens = dir.join("tokens");
        let mut file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(&tokens)?;
        (0..tenants.max(1)).try_for_each(|number| writeln!(file, "t{number} {}", token(number)))?;
        let mut command = Command::new("/proc/self/exe");
        command.args(["--quiet", "worker", "serve", "--slots", &slots.to_string(), "--dir"]).arg(&dir);
        command.arg("--token-file").arg(&tokens);
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

    fn options(&self, token: String) -> RemoteOptions {
        let address = Address::Unix(self.dir.join("socket"));
        RemoteOptions { address, token, authority: None, packed: true, patience: PATIENCE }
    }

    /// Kills the first worker of each of so many tenants as soon as `share` sandboxes run in it; how many, until all is over.
    async fn kill_workers(&self, tenants: u64, share: usize, over: &AtomicBool) -> io::Result<u64> {
        let mut killed = HashSet::new();
        while (killed.len() as u64) < tenants && !over.load(Ordering::Relaxed) {
            let family = Family::look()?;
            for worker in family.of(self.child.id()) {
                let sandboxes = family.of(*worker).iter().map(|zygote| family.of(*zygote).len());
                if sandboxes.sum::<usize>() < share {
                    continue;
                }
                // The store in it is the tenant's; a worker that is started again has the same. One that has just been
                // killed is gone already, or a zombie, whose line is empty.
                let line = std::fs::read(format!("/proc/{worker}/cmdline")).unwrap_or_default();
                if !line.is_empty()
                    && killed.insert(line)
                    && let Some(pid) = Pid::from_raw(worker.cast_signed())
                {
                    kill_process(pid, Signal::KILL)?;
                }
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(killed.len() as u64)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// The token of a tenant: nobody else reaches this service's socket.
fn token(number: u64) -> String {
    format!("sleeper-{number:016}")
}

/// The processes of this machine by their parents.
struct Family(HashMap<u32, Vec<u32>>);

impl Family {
    /// Looks at all of them: the fourth field of proc_pid_stat(5) is the parent.
    fn look() -> io::Result<Self> {
        let mut family: HashMap<u32, Vec<u32>> = HashMap::new();
        for entry in std::fs::read_dir("/proc")?.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            // It may have ended since.
            let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            let fields = stat.rsplit(')').next().unwrap_or_default();
            if let Some(parent) = fields.split_whitespace().nth(1).and_then(|field| field.parse().ok()) {
                family.entry(parent).or_default().push(pid);
            }
        }
        Ok(Self(family))
    }

    fn of(&self, parent: u32) -> &[u32] {
        self.0.get(&parent).map_or(&[], Vec::as_slice)
    }
}

/// What [`sleepers`] measured.
pub(super) struct Served {
    pub(super) slept: Slept,
    /// Workers that were killed.
    pub(super) restarts: u64,
    /// Sleepers that were lost and run again.
    pub(super) again: u64,
}

/// Runs `count` times `sleep time` at once, with a store below `root`, and kills `restarts` workers meanwhile.
///
/// # Errors
/// The service's, and `Other` if a job does not reduce.
pub(super) async fn sleepers(root: &Path, count: u64, time: &str, restarts: u64) -> io::Result<Served> {
    let mut kit = Kit::new(root);
    kit.program(Path::new("/usr/bin/sleep"))?;
    let service = Service::start(count, restarts)?;
    let store = Arc::new(FsStore::new(root));
    let mut backends = Vec::new();
    for number in 0..restarts.max(1) {
        let connected = RemoteBackend::connect(service.options(token(number)), Arc::clone(&store)).await;
        backends.push(connected.map_err(io::Error::other)?);
    }
    let jobs: Vec<_> = (0..count).map(|number| job(&kit, number, time)).collect();
    let again = AtomicU64::new(0);
    let began = Instant::now();
    let tenants = backends.iter().cycle();
    let over = AtomicBool::new(false);
    let all = async {
        let attempts =
            join_all(jobs.iter().zip(tenants).map(|(job, backend)| run(backend, job, &again))).await;
        over.store(true, Ordering::Relaxed);
        attempts
    };
    let share = (count / restarts.max(1)).max(1) as usize;
    let (attempts, killed) =
        futures_util::future::join(all, service.kill_workers(restarts, share, &over)).await;
    let all = began.elapsed();
    let mut overheads: Vec<Duration> = Vec::new();
    for attempt in attempts {
        let Outcome::Reduced(_) = attempt.outcome else {
            return Err(io::Error::other(format!("{:?}", attempt.outcome)));
        };
        overheads.push(attempt.timings.staged + attempt.timings.harvested);
    }
    overheads.sort_unstable();
    let slept = Slept { all, overhead: overheads.get(overheads.len() / 2).copied().unwrap_or_default() };
    Ok(Served { slept, restarts: killed?, again: again.into_inner() })
}

fn job(kit: &Kit, number: u64, time: &str) -> Job {
    // A variable that differs: no two of them are one thunk.
    let mut sleep = command(&["/usr/bin/sleep", time], "/");
    sleep.env.insert("N".to_owned(), number.to_string());
    let thunk = kit.thunk(sleep, &[], Harvest::Everything);
    let (limits, label) = (Limits::default(), format!("sleep {number}"));
    Job { id: thunk.id(), thunk: Arc::new(thunk), limits, kind: Kind::Other, label }
}

/// Runs a job until its worker lives to tell.
async fn run(backend: &RemoteBackend, job: &Job, again: &AtomicU64) -> Attempt {
    for _ in 1..TRIES {
        let attempt = backend.run(job).await;
        if !matches!(attempt.outcome, Outcome::Infra(InfraFailure::WorkerDied(_))) {
            return attempt;
        }
        again.fetch_add(1, Ordering::Relaxed);
    }
    backend.run(job).await
}
