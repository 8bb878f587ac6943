//! Thunks in virtual machines: a guest kernel of its own around every sandbox.
//!
//! ```text
//! job ─► MicrovmBackend ─► Session ═ console ═► agent (PID 1 of the guest) ─► worker ─► sandbox ─► program
//!              │              └ Keeper (a thread: the guest's process lives as long as it)
//!              └ Template: a guest that was booted, given the toolchain and written down; guests are restored from it
//! ```
//!
//! A guest runs one job at a time, and is replaced after [`JOBS`] of them or [`BYTES`] taken in. One that hangs, ends or
//! lies is killed, its job fails as the scheduler's table knows it, and the next job gets another guest. A job that is
//! dropped takes its guest along.
//!
//! **What is in a template**: the files below [`SYSTEM`] that the first compile job reads. A job that lacks more than
//! [`LACKING`] of those has a template made that holds them too; what else a guest lacks is sent to it with the job.

mod frames;
mod image;
mod initramfs;
mod keeper;
mod qemu;
mod qmp;
mod session;
mod sparse;
mod template;
mod vmm;
mod warm;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::{BoxFuture, FutureExt};
use ggr_ir::{Attempt, BlobId, InfraFailure, Job, Mode, Outcome, Timings};
use tokio::sync::{Mutex as AsyncMutex, Semaphore};

use crate::backend::{Backend, Refusal};
use crate::store::FsStore;
pub use image::Kernel;
use keeper::Keeper;
pub use qemu::Qemu;
use session::Session;
pub use template::Image;
use template::Template;
pub use vmm::{Accelerator, Guest, Machine, Snapshot, Vmm, VmmError};
pub use warm::static_program;

/// Where a toolchain's files are.
const SYSTEM: [&str; 5] = ["/usr/", "/lib/", "/lib64/", "/bin/", "/opt/"];

/// Bytes of a toolchain that are sent with the job rather than put into a new template: `ar` and `ld` with their
/// libraries are 5 MB, a compiler is 30 and more.
const LACKING: u64 = 12 << 20;

/// Jobs that a guest runs before it is replaced.
const JOBS: u32 = 200;

/// Bytes that a guest takes in before it is replaced, as a part of its memory: it holds them beside the programs that run.
const BYTES: u64 = 4;

/// An agent answers at once, whatever else its guest does; under TCG on a machine with ten times the load that it can bear
/// it was late by seconds.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How a [`MicrovmBackend`] is started.
pub struct MicrovmOptions {
    /// What runs guests.
    pub vmm: Arc<dyn Vmm>,
    /// What they are.
    pub image: Image,
    /// How many run side by side; at least 1.
    pub slots: usize,
    /// A guest that answers nothing for so long hangs; [`PATIENCE`] but in tests.
    pub patience: Duration,
    /// Where blobs are, and outputs go.
    pub store: Arc<FsStore>,
}

impl fmt::Debug for MicrovmOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MicrovmOptions").field("image", &self.image).field("slots", &self.slots).finish()
    }
}

/// What a backend did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Templates that were made: from a cold boot, or from another template.
    pub made: u64,
    /// Guests that were restored.
    pub restored: u64,
    /// Guests that were given up: hung, ended, lied, or their job was dropped.
    pub lost: u64,
    /// From the start of a template to its snapshot, the last one.
    pub make: Duration,
    /// From the start of a restore to the agent's first answer, the last one; without a [warm-up](warm).
    pub restore: Duration,
}

/// A pool of guests on this machine.
#[derive(Debug)]
pub struct MicrovmBackend {
    options: MicrovmOptions,
    permits: Semaphore,
    template: AsyncMutex<Option<Arc<Template>>>,
    idle: Mutex<Vec<Session>>,
    counts: Mutex<Counts>,
}

impl MicrovmBackend {
    /// A pool; its first guest is started with the first job.
    pub fn new(options: MicrovmOptions) -> Self {
        let permits = Semaphore::new(options.slots.max(1));
        Self {
            options,
            permits,
            template: AsyncMutex::default(),
            idle: Mutex::default(),
            counts: Mutex::default(),
        }
    }

    /// What it did so far.
    pub fn counts(&self) -> Counts {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.counts.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Boots a guest of this image and writes it down, as the first job does; tells whether guests can be had here.
    ///
    /// # Errors
    /// Why not, in words for the user. `limit` bounds the boot.
    pub async fn prepare(&self, limit: Duration) -> Result<(), String> {
        let mut current = self.template.lock().await;
        if current.is_none() {
            let best = self.options.image.best(&BTreeSet::new());
            *current = Some(Arc::new(match best {
                Some(template) => template,
                None => self.make(None, BTreeSet::new(), limit).await?,
            }));
        }
        Ok(())
    }

    /// Restores a guest of the [prepared](Self::prepare) image, has it run [jobs that do nothing](warm), and keeps it for
    /// the next one.
    ///
    /// # Errors
    /// Why it cannot.
    pub async fn restore_one(&self) -> Result<(), String> {
        let template = self.template.lock().await.clone().ok_or("nothing was prepared")?;
        let mut session = self.restore(&template).await?;
        session.warm_up(&self.options.store, self.options.patience).await.map_err(|e| e.to_string())?;
        self.idle().push(session);
        Ok(())
    }

    /// Boots a guest without any template and keeps it for the next job: what every start would take without snapshots.
    ///
    /// # Errors
    /// Why it cannot.
    pub async fn boot_one(&self) -> Result<(), String> {
        let session = self.options.image.boot_alone(&self.options.vmm).await?;
        self.idle().push(session);
        Ok(())
    }

    async fn make(
        &self,
        base: Option<Template>,
        blobs: BTreeSet<BlobId>,
        limit: Duration,
    ) -> Result<Template, String> {
        let began = Instant::now();
        let MicrovmOptions { vmm, image, store, .. } = &self.options;
        let template = image.make(vmm, store, base, blobs, limit).await?;
        self.count(|counts| {
            counts.made += 1;
            counts.make = began.elapsed();
        });
        Ok(template)
    }

    /// A template that has most of what the job reads of its toolchain.
    async fn template(&self, job: &Job) -> Result<Arc<Template>, String> {
        let system = |path: &str| SYSTEM.iter().any(|dir| path.starts_with(dir));
        let wanted: BTreeSet<BlobId> = (job.thunk.inputs.iter())
            .filter(|(path, entry)| entry.mode != Mode::Directory && system(path.as_str()))
            .map(|(_, entry)| entry.object)
            .collect();
        let lacks =
            |template: &Template| wanted.difference(&template.blobs).map(BlobId::size).sum::<u64>() > LACKING;
        let mut current = self.template.lock().await;
        if let Some(template) = current.as_ref().filter(|template| !lacks(template)) {
            return Ok(Arc::clone(template));
        }
        let best = self.options.image.best(&wanted);
        let template = match best {
            Some(template) if !lacks(&template) => template,
            _ => {
                let mut blobs = current.as_ref().map(|template| template.blobs.clone()).unwrap_or_default();
                blobs.extend(&wanted);
                let size = |blobs: &BTreeSet<BlobId>| blobs.iter().map(BlobId::size).sum::<u64>();
                if size(&blobs) > self.options.image.machine.memory / BYTES {
                    return current.clone().ok_or_else(|| "the toolchain is too big for a guest".to_owned());
                }
                let base = current.as_deref().cloned().or_else(|| self.options.image.best(&wanted));
                self.make(base, blobs, Duration::MAX).await?
            }
        };
        let template = Arc::new(template);
        *current = Some(Arc::clone(&template));
        self.idle().clear();
        Ok(template)
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Session>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn guest(&self, job: &Job) -> Result<Session, InfraFailure> {
        let broken = |why: String| InfraFailure::Unreachable(format!("no guest: {why}"));
        let template = self.template(job).await.map_err(broken)?;
        let idle = self.idle().pop();
        if let Some(session) = idle {
            return Ok(session);
        }
        let restored = self.restore(&template).await;
        if restored.is_err() {
            // Another ggr may have removed it: the next try looks again, or makes one.
            *self.template.lock().await = None;
        }
        restored.map_err(broken)
    }

    async fn restore(&self, template: &Template) -> Result<Session, String> {
        let began = Instant::now();
        let (vmm, machine) = (Arc::clone(&self.options.vmm), self.options.image.machine.clone());
        let snapshot = template.snapshot.clone();
        let (keeper, console) =
            Keeper::start(move || vmm.restore(&machine, &snapshot)).await.map_err(|e| chain(&e))?;
        let has = template.blobs.iter().copied().collect();
        let session =
            Session::restored(keeper, console, has).await.map_err(|(e, words)| format!("{e}{words}"))?;
        self.count(|counts| {
            counts.restored += 1;
            counts.restore = began.elapsed();
        });
        Ok(session)
    }

    async fn attempt(&self, job: &Job, received: Instant) -> Result<Attempt, InfraFailure> {
        let _permit = self.permits.acquire().await.expect("the semaphore is never closed");
        let began = Instant::now();
        let mut lent = Lent { backend: self, session: Some(self.guest(job).await?) };
        let session = lent.session.as_mut().expect("it was just lent");
        let inputs = job.thunk.inputs.values().filter(|entry| entry.mode != Mode::Directory);
        let inputs: Vec<_> = inputs.map(|entry| entry.object).collect();
        session.push(&self.options.store, &inputs).await?;
        let pushed = began.elapsed();
        let mut attempt = session.run(&self.options.store, job, self.options.patience).await?;
        attempt.timings.queued = began - received;
        attempt.timings.staged += pushed;
        lent.give_back(&attempt);
        Ok(attempt)
    }
}

/// A guest with a job; lost if it is not given back.
struct Lent<'a> {
    backend: &'a MicrovmBackend,
    session: Option<Session>,
}

impl Lent<'_> {
    fn give_back(mut self, attempt: &Attempt) {
        let sound = matches!(attempt.outcome, Outcome::Reduced(_) | Outcome::ToolFailed(_));
        let most = self.backend.options.image.machine.memory / BYTES;
        let Some(session) = self.session.take_if(|_| sound) else { return };
        if session.jobs < JOBS && session.bytes < most {
            self.backend.idle().push(session);
        }
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        if self.session.is_some() {
            self.backend.count(|counts| counts.lost += 1);
        }
    }
}

impl Backend for MicrovmBackend {
    fn name(&self) -> &str {
        "microvm"
    }

    fn slots(&self) -> usize {
        self.options.slots.max(1)
    }

    /// All guests share one machine.
    fn duplicates(&self) -> bool {
        false
    }

    fn accepts(&self, job: &Job) -> Result<(), Refusal> {
        Refusal::unless_plain(&job.limits)?;
        let size = job.thunk.inputs.values().map(|entry| entry.object.size()).sum();
        let bound = self.options.image.machine.memory / 2;
        if size > bound { Err(Refusal::TooBig { what: "inputs", size, bound }) } else { Ok(()) }
    }

    fn run<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Attempt> {
        let received = Instant::now();
        self.attempt(job, received)
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

/// An error and its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(error.source(), |cause| cause.source())
        .fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
