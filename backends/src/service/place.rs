//! What a service runs jobs in: a pool of sandboxes, or of guests, for one program of one tenant.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::sync::Arc;

use ggr_ir::{Attempt, InfraFailure, Job, Outcome};
use tokio::time::Duration;

use super::tenants::Tenant;
use super::visit::attempt;
use crate::backend::Backend;
use crate::local::{Bounds, LocalBackend, LocalOptions};
use crate::microvm::MicrovmBackend;

/// Processes and threads of a thunk on average: `make -j` inside of one, with compilers, has some dozens.
const PROCESSES: u64 = 256;

/// Makes a pool of guests over a tenant's store.
pub type Guests = Box<dyn Fn(&Tenant) -> Result<MicrovmBackend, String> + Send + Sync>;

/// How jobs are kept apart.
pub enum Isolation {
    /// In sandboxes of workers that are started by this command line, as [`LocalOptions::command`].
    Sandbox(Vec<OsString>),
    /// In guests.
    Microvm(Guests),
}

impl fmt::Debug for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Isolation {
    /// `sandbox` or `microvm`.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Sandbox(_) => "sandbox",
            Self::Microvm(_) => "microvm",
        }
    }

    /// Opens a place; what it takes to be ready is done by [`Place::warm`], or with its first job.
    pub(super) fn open(&self, tenant: &Tenant, slots: usize) -> Result<Place, String> {
        match self {
            Self::Sandbox(command) => {
                let options = LocalOptions {
                    command: command.clone(),
                    slots,
                    store: tenant.root.clone(),
                    jobserver: None,
                    user: tenant.user,
                    bounds: Some(bounds(slots)),
                };
                let started = LocalBackend::start(options);
                started.map(Place::Sandbox).map_err(|e: io::Error| format!("starting a worker: {e}"))
            }
            Self::Microvm(make) => make(tenant).map(Box::new).map(Place::Guests),
        }
    }
}

/// What a worker and its sandboxes may take together: a bomb meets it, and the machine keeps an eighth of its memory.
fn bounds(slots: usize) -> Bounds {
    let info = rustix::system::sysinfo();
    let memory = info.totalram.saturating_mul(u64::from(info.mem_unit));
    Bounds { processes: 1024 + PROCESSES * slots as u64, memory: memory / 8 * 7 }
}

/// A place for one program of one tenant.
#[derive(Debug)]
pub(super) enum Place {
    Sandbox(LocalBackend),
    Guests(Box<MicrovmBackend>),
}

impl Place {
    /// Does beforehand what the first job would have to wait for.
    pub(super) async fn warm(&self) -> Result<(), String> {
        match self {
            Self::Sandbox(local) => {
                local.ready().await?;
                local.runs_nothing().map_or(Ok(()), Err)
            }
            Self::Guests(guests) => {
                guests.prepare(Duration::MAX).await?;
                guests.restore_one().await
            }
        }
    }

    pub(super) async fn run(&self, job: &Job) -> Attempt {
        match self {
            Self::Sandbox(local) => local.run(job).await,
            Self::Guests(guests) => match guests.accepts(job) {
                Ok(()) => guests.run(job).await,
                // Its client asks first; this one has not.
                Err(refusal) => attempt(Outcome::Infra(InfraFailure::Sandbox(refusal.to_string()))),
            },
        }
    }

    /// Lets go of it. If that was the last hold it ends, which may take a moment, on a thread of its own.
    pub(super) fn close(place: Arc<Self>) {
        // If no thread can be had it is done here.
        let closing = std::thread::Builder::new().name("ggr-close".into());
        let _ = closing.spawn(move || drop(place));
    }
}
