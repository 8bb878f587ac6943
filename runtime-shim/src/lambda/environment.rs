//! One environment: it stays between invocations, with the objects it has fetched.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ggr_ir::protocol::lambda::{Answer, Inline, Invocation, MAX_INLINE, MAX_JOBS, StoreAddress, Traffic};
use ggr_ir::{
    Attempt, BlobId, Followed, InfraFailure, Job, Mode, ObjectStore, Outcome, Reduction, Timings, ToolFailure,
};

use rustix::process::{DumpableBehavior, set_dumpable_behavior};

use super::cache::{self, Cache};
use super::outbox::Outbox;
use super::process::{self, End, Place};
use super::survey::{self, Staged};
use super::sys;
use crate::blobs::Blobs;
use crate::harvest;
use crate::harvest::survey::SurveyError;
use crate::stage::plan::Plan;
use crate::stage::root::{Root, StageError};
use crate::worker::chain;

/// The relocation layer, which `build.rs` has compiled.
const RELOCATE: &[u8] = include_bytes!(env!("GGR_RELOCATE"));

/// What its messages begin with (`relocate/main.rs`).
const RELOCATE_SAYS: &[u8] = b"relocate: ";

/// How much of a failed program's streams is sent: the message has 6 MB in all, and the command then runs at home.
const STREAM_MAX: u64 = 64 << 10;

/// Opens a store; what the program at hand can reach is its own business.
pub type OpenStore = dyn Fn(&StoreAddress) -> Result<Arc<dyn ObjectStore>, String>;

/// Why there is no environment.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A directory or file below `/tmp` could not be made.
    #[error("`{}`", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A place below `/tmp` where thunks run one after the other.
pub struct Environment {
    dir: PathBuf,
    relocate: PathBuf,
    blobs: Blobs,
    cache: Cache,
    open_store: Box<OpenStore>,
    store: Option<(StoreAddress, Arc<dyn ObjectStore>)>,
    served: u64,
    roots: u64,
}

/// A thunk whose root stands ready.
struct Ready {
    plan: Plan,
    root: PathBuf,
    staged: Staged,
    streams: PathBuf,
}

impl Environment {
    /// One that keeps its files in `dir`, which it empties first. Kept objects fill at most `budget` bytes.
    ///
    /// Short names do: a path of the program gets the root's in front of it, and both together have to fit into 4,096 bytes.
    ///
    /// # Errors
    /// If `dir` cannot be written.
    pub fn start(dir: &Path, budget: u64, open_store: Box<OpenStore>) -> Result<Self, StartError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| StartError::Io { path, source }
        };
        if dir.exists() {
            fs::remove_dir_all(dir).map_err(at(dir))?;
        }
        let store = dir.join("s");
        fs::create_dir_all(&store).map_err(at(&store))?;
        let dir = dir.canonicalize().map_err(at(dir))?;
        let relocate = dir.join("relocate");
        fs::write(&relocate, RELOCATE).map_err(at(&relocate))?;
        fs::set_permissions(&relocate, fs::Permissions::from_mode(0o555)).map_err(at(&relocate))?;
        sys::adopt_orphans().map_err(at(Path::new("/proc/self")))?;
        // Thunks run as the same user: they may not look into a process that has the function's credentials.
        let hidden = set_dumpable_behavior(DumpableBehavior::NotDumpable);
        hidden.map_err(|errno| at(Path::new("/proc/self"))(errno.into()))?;
        rustix::process::umask(rustix::fs::Mode::empty());
        let (store, blobs) = (dir.join("s"), Blobs::at(&dir.join("s")));
        let cache = Cache::new(&store, budget).map_err(at(&store))?;
        Ok(Self { dir, relocate, blobs, cache, open_store, store: None, served: 0, roots: 0 })
    }

    /// Runs the jobs of an invocation, each with those behind it.
    pub fn answer(&mut self, invocation: &Invocation) -> Answer {
        let mut answer = Answer {
            attempts: Vec::new(),
            chains: Vec::new(),
            inline: Vec::new(),
            traffic: Traffic::default(),
            served: self.served,
        };
        self.served += 1;
        let store = self.store(&invocation.store);
        let inline = invocation.inline.iter().map(|inline| (inline.id, inline)).collect();
        let mut room = MAX_INLINE;
        let mut outbox = Outbox::new(store.as_ref().ok().cloned().flatten());
        if let (Ok(remote), true) = (&store, thunks(invocation) > 1) {
            self.cache.fetch_ahead(
                &cache::all_sizes(invocation),
                &inline,
                remote.as_deref(),
                &mut answer.traffic,
            );
        }
        let chains = invocation.chains.iter().map(Vec::as_slice).chain(std::iter::repeat(&[][..]));
        for (job, next) in invocation.jobs.iter().zip(chains).take(MAX_JOBS) {
            let attempt = self.one(job, &inline, &store, (&mut room, &mut outbox), &mut answer);
            let mut chain = Vec::new();
            let mut before = attempt.outcome.clone();
            for follower in next.iter().take(MAX_JOBS) {
                let Outcome::Reduced(reduction) = &before else { break };
                let Some(job) = follower.behind(reduction) else { break };
                let attempt = self.one(&job, &inline, &store, (&mut room, &mut outbox), &mut answer);
                before = attempt.outcome.clone();
                chain.push(Followed { id: job.id, attempt });
            }
            answer.attempts.push(attempt);
            answer.chains.push(chain);
        }
        arrived(&mut answer, outbox);
        answer
    }

    /// Runs a job, and sends its outputs where the coordinator finds them.
    fn one(
        &mut self,
        job: &Job,
        inline: &BTreeMap<BlobId, &Inline>,
        store: &Result<Option<Arc<dyn ObjectStore>>, InfraFailure>,
        (room, outbox): (&mut usize, &mut Outbox),
        answer: &mut Answer,
    ) -> Attempt {
        let remote = store.as_ref().map_err(Clone::clone);
        let mut attempt = self.attempt(job, inline, remote, outbox, &mut answer.traffic);
        if let (Outcome::Reduced(reduction), Ok(remote)) = (&attempt.outcome, store) {
            match self.send(reduction, remote.is_some(), room, answer) {
                Ok(files) => outbox.send(files),
                Err(failure) => attempt.outcome = Outcome::Infra(failure),
            }
        }
        attempt
    }

    /// The store of an address; the same one as long as the address is the same.
    fn store(&mut self, address: &StoreAddress) -> Result<Option<Arc<dyn ObjectStore>>, InfraFailure> {
        if *address == StoreAddress::None {
            return Ok(None);
        }
        if let Some((known, store)) = &self.store
            && known == address
        {
            return Ok(Some(Arc::clone(store)));
        }
        let store = (self.open_store)(address).map_err(InfraFailure::Unreachable)?;
        self.store = Some((address.clone(), Arc::clone(&store)));
        Ok(Some(store))
    }

    fn attempt(
        &mut self,
        job: &Job,
        inline: &BTreeMap<BlobId, &Inline>,
        remote: Result<&Option<Arc<dyn ObjectStore>>, InfraFailure>,
        outbox: &Outbox,
        traffic: &mut Traffic,
    ) -> Attempt {
        let started = Instant::now();
        let mut timings = Timings::default();
        let ready = remote.and_then(|remote| {
            let mut unsent = outbox.unsent();
            if self.cache.lacks_room(&job.thunk, &unsent) {
                outbox.wait();
                unsent = outbox.unsent();
            }
            self.cache.fetch(&job.thunk, &unsent, inline, remote.as_deref(), traffic)?;
            self.stage(job)
        });
        timings.staged = started.elapsed();
        let outcome = match ready {
            Ok(ready) => {
                let outcome = self.run(job, &ready, &mut timings);
                remove(&ready.root);
                remove(&ready.streams);
                outcome
            }
            Err(failure) => Outcome::Infra(failure),
        };
        Attempt { outcome, timings, cost_microdollars: 0, worker: 0 }
    }

    fn stage(&mut self, job: &Job) -> Result<Ready, InfraFailure> {
        let plan =
            Plan::new(job.thunk.clone(), job.kind).map_err(|e| InfraFailure::Sandbox(e.to_string()))?;
        self.roots += 1;
        let failed = |error: io::Error| InfraFailure::Sandbox(format!("staging: {error}"));
        let mut root = Root::new(&self.dir, self.roots).map_err(|e| InfraFailure::Sandbox(chain(&e)))?;
        let path = root.path().to_owned();
        root.become_for(plan.clone(), &self.blobs).map_err(|error| match error {
            StageError::Missing(blobs) => InfraFailure::InputsMissing(blobs),
            other => InfraFailure::Sandbox(chain(&other)),
        })?;
        aim_symlinks(&plan, &path).map_err(failed)?;
        let staged = survey::note(&plan, &path).map_err(failed)?;
        let streams = self.dir.join(format!("{}.streams", self.roots));
        fs::create_dir(&streams).map_err(failed)?;
        Ok(Ready { plan, root: path, staged, streams })
    }

    fn run(&mut self, job: &Job, ready: &Ready, timings: &mut Timings) -> Outcome {
        let place = Place { relocate: &self.relocate, root: &ready.root, streams: &ready.streams };
        let end = match process::run(job, &place) {
            Ok(end) => end,
            Err(error) => return Outcome::Infra(InfraFailure::Sandbox(format!("starting: {error}"))),
        };
        (timings.ran, timings.cpu, timings.max_rss) = (end.ran, end.ended.cpu, end.ended.max_rss);
        let started = Instant::now();
        let outcome = self.outcome(job, ready, &end);
        timings.harvested = started.elapsed();
        outcome
    }

    fn outcome(&mut self, job: &Job, ready: &Ready, end: &End) -> Outcome {
        let status = end.ended.status;
        if end.late {
            return Outcome::Infra(InfraFailure::DeadlinePassed);
        }
        if libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0 {
            return self.reduce(job, ready, end.ran);
        }
        match libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status)) {
            // Nobody here sends it to a program that is not late; the kernel does when memory has run out.
            Some(libc::SIGKILL) => Outcome::Infra(InfraFailure::TooBig("memory ran out".to_owned())),
            Some(libc::SIGXFSZ) if job.limits.output > 0 => Outcome::Infra(too_big(job.limits.output)),
            signal => {
                let code = libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status));
                match failed(ready, code, signal, None) {
                    // The relocation layer has not come to the program at all.
                    Outcome::ToolFailed(failure) if failure.stderr.starts_with(RELOCATE_SAYS) => {
                        let said = String::from_utf8_lossy(&failure.stderr).trim().to_owned();
                        Outcome::Infra(InfraFailure::Sandbox(said))
                    }
                    outcome => outcome,
                }
            }
        }
    }

    /// Takes the outputs of a program that exited 0.
    fn reduce(&mut self, job: &Job, ready: &Ready, ran: Duration) -> Outcome {
        let (found, bytes) = match survey::survey(&ready.plan, &ready.staged, &ready.root) {
            Ok(surveyed) => surveyed,
            Err(SurveyError::Unrepresentable(why)) => return failed(ready, Some(0), None, Some(why)),
            Err(error) => return Outcome::Infra(InfraFailure::OutputsNotStored(chain(&error))),
        };
        if job.limits.output > 0 && bytes > job.limits.output {
            return Outcome::Infra(too_big(job.limits.output));
        }
        let [stdout, stderr] = ["out", "err"].map(|name| ready.streams.join(name));
        let store = || {
            Ok(Reduction {
                outputs: harvest::store_outputs(found, &ready.plan, &self.blobs)?,
                stdout: harvest::store_stream(&stdout, &self.blobs)?,
                stderr: harvest::store_stream(&stderr, &self.blobs)?,
                duration_us: u64::try_from(ran.as_micros()).unwrap_or(u64::MAX),
            })
        };
        match store() {
            Ok(reduction) => {
                results(&reduction).for_each(|id| self.cache.keep(id));
                Outcome::Reduced(reduction)
            }
            Err::<_, ggr_ir::StoreError>(error) => {
                Outcome::Infra(InfraFailure::OutputsNotStored(chain(&error)))
            }
        }
    }

    /// Puts outputs into the answer as long as there is room; those that are to go into the store, so that other functions find
    /// them there.
    fn send(
        &self,
        reduction: &Reduction,
        has_store: bool,
        room: &mut usize,
        answer: &mut Answer,
    ) -> Result<Vec<(BlobId, PathBuf)>, InfraFailure> {
        let failed = |error: &ggr_ir::StoreError| InfraFailure::OutputsNotStored(chain(error));
        let mut files = Vec::new();
        for id in results(reduction) {
            let size = usize::try_from(id.size()).unwrap_or(usize::MAX);
            if size <= *room {
                *room -= size;
                let bytes = self.cache.bytes(id).map_err(|error| failed(&error))?;
                answer.inline.push(Inline { id, bytes });
            } else if !has_store {
                return Err(InfraFailure::TooBig(format!("an output of {size} bytes, and no store")));
            }
            if size > 0 {
                files.push((id, self.cache.file(id)));
            }
        }
        Ok(files)
    }
}

/// How many thunks an invocation has at most.
fn thunks(invocation: &Invocation) -> usize {
    invocation.jobs.len() + invocation.chains.iter().map(Vec::len).sum::<usize>()
}

/// Waits for what is on its way into the store. A thunk whose outputs did not arrive has failed; whoever reads the answer goes no
/// further along its chain.
fn arrived(answer: &mut Answer, outbox: Outbox) {
    let mut sent = outbox.end().into_iter();
    let Answer { attempts, chains, traffic, .. } = answer;
    for (attempt, chain) in attempts.iter_mut().zip(chains) {
        let behind = chain.iter_mut().map(|followed| &mut followed.attempt);
        let made = std::iter::once(attempt).chain(behind);
        for attempt in made.filter(|attempt| matches!(attempt.outcome, Outcome::Reduced(_))) {
            let sent = sent.next().expect("each thunk that was reduced has sent a parcel");
            traffic.stored += sent.stored;
            traffic.stored_bytes += sent.bytes;
            if let Some(failure) = sent.failure {
                attempt.outcome = Outcome::Infra(InfraFailure::OutputsNotStored(failure));
            }
        }
    }
}

/// Every blob that a reduction names.
fn results(reduction: &Reduction) -> impl Iterator<Item = BlobId> {
    reduction.outputs.values().map(|entry| entry.blob).chain([reduction.stdout, reduction.stderr])
}

/// Makes staged symlinks lead into the root where the kernel would follow them out of it. The relocation layer shows them
/// as they were.
fn aim_symlinks(plan: &Plan, root: &Path) -> io::Result<()> {
    let links = plan.thunk.inputs.iter().filter(|(_, entry)| entry.mode == Mode::Symlink);
    for (path, _) in links {
        let at = path.under(root);
        let target = fs::read_link(&at)?;
        let depth = path.as_str().matches('/').count() - 1;
        let aimed = match target.strip_prefix("/") {
            Ok(rest) => root.join(rest),
            Err(_) if climbs(&target) > depth => {
                let whole = ggr_ir::RootPath::lexical(
                    path.parent().map_or(Path::new("/").to_owned(), |dir| dir.as_path().to_owned()).as_path(),
                    &target,
                );
                whole.map_err(io::Error::other)?.under(root)
            }
            Err(_) => continue,
        };
        fs::remove_file(&at)?;
        symlink(aimed, &at)?;
    }
    Ok(())
}

/// How many `..` of a relative path climb above where it starts, by text.
fn climbs(path: &Path) -> usize {
    let (mut depth, mut lowest) = (0i64, 0i64);
    for part in path.components() {
        depth += if part == std::path::Component::ParentDir { -1 } else { 1 };
        lowest = lowest.min(depth);
    }
    usize::try_from(-lowest).unwrap_or(0)
}

/// Also directories that the program has made unreadable.
fn remove(dir: &Path) {
    if fs::remove_dir_all(dir).is_ok() {
        return;
    }
    let mut pending = vec![dir.to_owned()];
    while let Some(dir) = pending.pop() {
        let _ = fs::set_permissions(&dir, fs::Permissions::from_mode(0o700));
        let entries = fs::read_dir(&dir).into_iter().flatten().flatten();
        pending.extend(
            entries
                .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                .map(|entry| entry.path()),
        );
    }
    // What stays takes room, and harms nothing: each root has its own number.
    let _ = fs::remove_dir_all(dir);
}

fn failed(ready: &Ready, code: Option<i32>, signal: Option<i32>, unrepresentable: Option<String>) -> Outcome {
    let stream = |name: &str| harvest::read_stream(&ready.streams.join(name), STREAM_MAX).unwrap_or_default();
    Outcome::ToolFailed(ToolFailure {
        code,
        signal,
        stdout: stream("out"),
        stderr: stream("err"),
        unrepresentable,
    })
}

fn too_big(limit: u64) -> InfraFailure {
    InfraFailure::TooBig(format!("the program wrote more than {limit} bytes"))
}
