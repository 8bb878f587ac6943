//! The local pool: one worker process, given as a command line, that runs jobs side by side in sandboxes.
//!
//! The worker speaks [`ggr_ir::protocol::worker`] over a socket that it finds as descriptor 0. A thread of ours owns the
//! process: starts it, reads its answers, starts it again when it dies (its jobs end as
//! [`InfraFailure::WorkerDied`], and the scheduler tries them again), and gives up when it dies too often in a row.
//!
//! **Invariant:** no more than `slots` jobs are with the worker, cancelled ones that it has not answered yet included.
//! **Invariant:** no worker outlives the backend: it is told to end when the backend is dropped, killed if it does not,
//! and killed by the kernel when this process dies.

mod cgroup;
mod process;
mod shared;

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use futures_util::future::{BoxFuture, FutureExt};
use ggr_ir::protocol::worker::Hello;
use ggr_ir::{Attempt, InfraFailure, Job, Network, Outcome, Timings};
use tokio::sync::Semaphore;

use crate::backend::{Backend, Refusal};
use crate::jobserver::Jobserver;
pub use cgroup::{Bounds, PREFIX as GROUP_PREFIX, processes_group, sweep as sweep_groups};
use shared::Shared;

/// How a local pool is started.
#[derive(Debug)]
pub struct LocalOptions {
    /// The program and the arguments that make it a worker, as `ggr worker`; `--slots N --store DIR` are added.
    pub command: Vec<OsString>,
    /// How many jobs run side by side; at least 1.
    pub slots: usize,
    /// The directory of the blob store, which the worker shares.
    pub store: PathBuf,
    /// The make whose recipe we are, if any: each job beyond the first takes one of its tokens.
    pub jobserver: Option<Jobserver>,
    /// The user and group that the worker runs as, who owns the store; this process's own if none. Needs root.
    pub user: Option<u32>,
    /// Bounds on the worker with all of its sandboxes.
    pub bounds: Option<Bounds>,
}

/// A pool of sandboxes on this machine.
#[derive(Debug)]
pub struct LocalBackend {
    shared: Arc<Shared>,
    slots: usize,
    permits: Arc<Semaphore>,
    jobserver: Option<Jobserver>,
    thread: Option<JoinHandle<()>>,
}

impl LocalBackend {
    /// Starts the pool. The worker process is started with the first job, so that a build in which nothing has to run
    /// pays for none; what goes wrong with it is said by the jobs, or by [`ready`](Self::ready).
    ///
    /// # Errors
    /// If no thread can be started.
    ///
    /// # Panics
    /// If the command is empty.
    pub fn start(options: LocalOptions) -> io::Result<Self> {
        assert!(!options.command.is_empty(), "a worker's command line names a program");
        let slots = options.slots.max(1);
        let mut command = options.command;
        command.extend(["--slots".into(), slots.to_string().into(), "--store".into(), options.store.into()]);
        let shared = Arc::new(Shared::new());
        let thread = std::thread::Builder::new().name("ggr-local".to_owned()).spawn({
            let shared = shared.clone();
            move || process::supervise(&shared, &command, options.user, options.bounds)
        })?;
        Ok(Self {
            shared,
            slots,
            permits: Arc::new(Semaphore::new(slots)),
            jobserver: options.jobserver,
            thread: Some(thread),
        })
    }

    /// Waits until the worker, started now if it was not, has said hello.
    ///
    /// # Errors
    /// Why there is none, in words for the user.
    pub async fn ready(&self) -> Result<Hello, String> {
        self.shared.up().await
    }

    /// Why the worker runs nothing: it has found that this machine allows no sandboxes. Nothing as long as it may run jobs,
    /// or has not been started.
    pub fn runs_nothing(&self) -> Option<String> {
        self.shared.hello()?.isolation.strip_prefix("plain: ").map(str::to_owned)
    }

    async fn attempt(&self, job: &Job) -> Result<Attempt, InfraFailure> {
        let attempt = self.once(job).await?;
        if job.limits.network == Network::Tenant && port_was_taken(&attempt) {
            let mut alone = job.clone();
            alone.limits.network = Network::Own;
            return self.once(&alone).await;
        }
        Ok(attempt)
    }

    async fn once(&self, job: &Job) -> Result<Attempt, InfraFailure> {
        let permit = self.permits.clone().acquire_owned().await.expect("the semaphore is never closed");
        let token = match &self.jobserver {
            Some(jobserver) => Some(jobserver.acquire().await),
            None => None,
        };
        self.shared.run(job, (permit, token)).await
    }
}

impl Backend for LocalBackend {
    fn name(&self) -> &str {
        "local"
    }

    fn slots(&self) -> usize {
        self.slots
    }

    /// All slots share one machine.
    fn duplicates(&self) -> bool {
        false
    }

    fn accepts(&self, _: &Job) -> Result<(), Refusal> {
        Ok(())
    }

    fn run<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Attempt> {
        self.attempt(job)
            .map(|result| {
                result.unwrap_or_else(|failure| Attempt {
                    outcome: Outcome::Infra(failure),
                    timings: Timings::default(),
                    cost_microdollars: 0,
                    worker: 0,
                })
            })
            .boxed()
    }
}

impl Drop for LocalBackend {
    fn drop(&mut self) {
        self.shared.close();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Whether a program failed because somebody else had its port. The kernel tells only the program (`EADDRINUSE`), and what
/// that says is one of these in every runtime that was looked at; without a word of it the failure stands.
fn port_was_taken(attempt: &Attempt) -> bool {
    let Outcome::ToolFailed(failure) = &attempt.outcome else { return false };
    [&failure.stderr, &failure.stdout].iter().any(|stream| {
        let text = String::from_utf8_lossy(stream).to_ascii_lowercase();
        text.contains("address already in use") || text.contains("eaddrinuse")
    })
}
