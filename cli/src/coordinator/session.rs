//! What one run of ggr shares: repository, store, cache, models, scheduler, placeholders, counts.

mod account;
mod ended;
mod files;
mod standing;
mod thunks;

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, RwLock, Weak};

use ggr_backends::drive::{DriverHandle, Finished};
use ggr_backends::memo::StatMemo;
<<<<<<< HEAD
use ggr_backends::scheduler::Urgency;
use ggr_backends::store::{FsStore, Remove};
use ggr_ir::repo::{Journal, JournalError, Repo, Thunks};
use ggr_ir::{
    BlobId, Limits, ObjectStore, OutputRef, Reduction, ReductionCache, Thunk, ThunkId, ToolFailure,
};
use ggr_models::gcc::PREPROCESSOR_FAILS;
use ggr_models::{FileView, Invocation, Model, Models, Plan, Reason, Stages};
=======
use ggr_backends::store::FsStore;
use ggr_ir::repo::{Journal, Thunks};
use ggr_ir::{Limits, ReductionCache, ThunkId};
use ggr_models::{FileView, Invocation, Model, Models};
>>>>>>> main
use rustc_hash::FxBuildHasher;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::callers::{self, Sink};
use super::held_back::HeldBack;
use super::placeholders::Placeholders;
use super::view::View;
use crate::report::Reporter;
use account::Here;
pub(crate) use ended::{Course, Ended};

/// What a session is made of.
pub(crate) struct Parts {
    pub(crate) store: Arc<FsStore>,
    pub(crate) cache: Arc<dyn ReductionCache>,
    pub(crate) memo: Arc<StatMemo>,
    pub(crate) models: Arc<Models>,
    pub(crate) driver: DriverHandle,
    pub(crate) reporter: Reporter,
    pub(crate) slots: usize,
    pub(crate) limits: Limits,
    pub(crate) lazy: bool,
    /// Whether deferred calls are only traced: their thunks run when somebody reads what they make, and not otherwise.
    pub(crate) trace: bool,
    pub(crate) journal: Journal,
    pub(crate) thunks: Thunks,
    /// Where deferred calls print.
    pub(crate) output: Output,
}

/// The build's standard output and error.
pub(crate) struct Output {
    /// Nothing: our own standard output.
    pub(crate) stdout: Option<File>,
    /// Nothing: our own standard error.
    pub(crate) stderr: Option<File>,
}

/// See the module's documentation.
pub(crate) struct Session {
    /// For tasks that outlive a borrow.
    me: Weak<Self>,
    store: Arc<FsStore>,
    cache: Arc<dyn ReductionCache>,
    models: Arc<Models>,
    driver: DriverHandle,
    reporter: Reporter,
    limits: Limits,
    placeholders: Arc<Placeholders>,
    view: View,
    /// Local slots for real tools.
    slots: Arc<Semaphore>,
    /// Whether calls may be answered before they ran.
    lazy: AtomicBool,
    /// The build command's process.
    root: AtomicU32,
    /// Where the build's output goes.
    sinks: Mutex<[Option<Sink>; 2]>,
    /// Launchers whose real tool is running: what it calls in turn is left alone.
    run_here: Mutex<HashSet<u32>>,
    failed: Mutex<HashSet<ThunkId>>,
    /// What thunks of this session came to.
    finished: RwLock<HashMap<ThunkId, Arc<Finished>, FxBuildHasher>>,
    /// Launchers whose real tool runs, for the report.
    here: Mutex<HashMap<u32, Here>>,
    course: watch::Sender<Course>,
    /// For the supervisor's thread, which is none of the runtime's.
    runtime: tokio::runtime::Handle,
    tasks: Mutex<tokio::task::JoinSet<()>>,
    journal: Journal,
    thunks: Thunks,
    trace: bool,
    held_back: HeldBack,
    output: Mutex<Output>,
}

impl Session {
    pub(crate) fn new(parts: Parts) -> Arc<Self> {
        let placeholders = Arc::new(Placeholders::default());
        let view = View::new(Arc::clone(&placeholders), Arc::clone(&parts.store), parts.memo);
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            store: parts.store,
            cache: parts.cache,
            models: parts.models,
            driver: parts.driver,
            reporter: parts.reporter,
            limits: parts.limits,
            placeholders,
            view,
            slots: Arc::new(Semaphore::new(parts.slots.max(1))),
            lazy: AtomicBool::new(parts.lazy),
            root: AtomicU32::new(0),
            sinks: Mutex::default(),
            run_here: Mutex::default(),
            failed: Mutex::default(),
            finished: RwLock::default(),
            here: Mutex::default(),
            course: watch::Sender::new(Course::Going),
            runtime: tokio::runtime::Handle::current(),
            tasks: Mutex::default(),
            journal: parts.journal,
            thunks: parts.thunks,
            trace: parts.trace,
            held_back: HeldBack::default(),
            output: Mutex::new(parts.output),
        })
    }

    pub(crate) fn view(&self) -> &dyn FileView {
        &self.view
    }

    pub(crate) fn placeholders(&self) -> &Placeholders {
        &self.placeholders
    }

    pub(crate) fn driver(&self) -> &DriverHandle {
        &self.driver
    }

    /// Names the build command's process, once it is known.
    pub(crate) fn set_root(&self, pid: u32) {
        *self.sinks.lock().expect("no holder panics") = [callers::sink(pid, 1), callers::sink(pid, 2)];
        self.root.store(pid, Ordering::Release);
    }

    /// From now on every call waits.
    pub(crate) fn set_waiting(&self) {
        self.lazy.store(false, Ordering::Release);
        self.course.send_replace(Course::Going);
    }

    /// Changes when a pass over the build cannot be finished as it is.
    pub(crate) fn course(&self) -> watch::Receiver<Course> {
        self.course.subscribe()
    }

    pub(crate) fn model_for(&self, invocation: &Invocation) -> Option<&dyn Model> {
        self.models.model_for(&invocation.program, invocation.args.first().map_or("", String::as_str))
    }

    /// The file to execute for a tool, from inside the build's namespace, where the launcher lies over it.
    pub(crate) fn real_path(&self, tool: &Path) -> Vec<u8> {
        use std::os::unix::ffi::OsStrExt;
        let mut path = format!("/proc/{}/root", std::process::id()).into_bytes();
        path.extend_from_slice(tool.as_os_str().as_bytes());
        path
    }

    pub(crate) fn is_run_here(&self, pid: u32) -> bool {
        callers::is_below(pid, &self.run_here.lock().expect("no holder panics"))
    }

    /// Marks a launcher whose real tool runs, until the mark is dropped.
    pub(crate) fn mark_run_here(&self, pid: u32) -> RunHereMark<'_> {
        self.run_here.lock().expect("no holder panics").insert(pid);
        RunHereMark { session: self, pid }
    }

    pub(crate) fn may_defer(&self, pid: u32) -> bool {
        self.lazy.load(Ordering::Acquire)
            && [callers::sink(pid, 1), callers::sink(pid, 2)] == *self.sinks.lock().expect("no holder panics")
            && callers::may_defer(pid, self.root.load(Ordering::Acquire))
    }

    pub(crate) async fn local_slot(&self) -> OwnedSemaphorePermit {
        Arc::clone(&self.slots).acquire_owned().await.expect("the semaphore is never closed")
    }

<<<<<<< HEAD
    // --- thunks ---

    /// The results of a plan's thunks, if all are known already.
    pub(crate) fn look_up(&self, plan: &Plan, ids: &[ThunkId]) -> Option<Vec<Arc<Finished>>> {
        if !plan.cacheable {
            return None;
        }
        let mut found: Vec<Arc<Finished>> = Vec::with_capacity(ids.len());
        for ((thunk, _), _) in plan.thunks.iter().zip(ids) {
            let known = |output: &OutputRef| {
                let of_plan = ids.iter().position(|id| *id == output.thunk).and_then(|at| found.get(at));
                let finished = of_plan.cloned().or_else(|| self.finished_thunk(output.thunk))?;
                finished.output(&output.name).map(|entry| entry.blob)
            };
            let ready = thunk.resolve(known).ok()?;
            found.push(Arc::new(Finished::new(self.cache.get(ready.id())?, Origin::Cache)));
        }
        Some(found)
    }

    fn finished_thunk(&self, id: ThunkId) -> Option<Arc<Finished>> {
        self.finished.read().expect("no holder panics").get(&id).cloned()
    }

    pub(crate) async fn submit(&self, plan: &Plan, ids: &[ThunkId], urgency: Urgency) {
        for ((thunk, kind), id) in plan.thunks.iter().zip(ids) {
            let submission = Submission {
                id: *id,
                thunk: Arc::new(thunk.clone()),
                kind: *kind,
                label: plan.label.as_str().into(),
                limits: self.limits,
                estimate: None,
                cacheable: plan.cacheable,
                urgency,
            };
            // Only `ggr show` misses what cannot be written here.
            let _ = self.thunks.put(thunk);
            self.driver.submit(submission).await;
        }
    }

    /// Waits for results.
    pub(crate) async fn results(
        &self,
        ids: &[ThunkId],
        urgency: Urgency,
    ) -> Result<Vec<Arc<Finished>>, Ended> {
        let mut results = Vec::with_capacity(ids.len());
        for id in ids {
            let verdict = match urgency {
                Urgency::Awaited => self.driver.verdict(*id).await,
                Urgency::Eventual => self.driver.follow(*id).await,
            };
            let finished = verdict.map_err(|failure| Ended::from(&*failure))?;
            self.finished.write().expect("no holder panics").insert(*id, Arc::clone(&finished));
            results.push(finished);
        }
        Ok(results)
    }

    /// Gives the scheduler a result that was made outside of it. The last of a plan's thunks first: then none of it starts
    /// with what is no input of its own.
    pub(crate) async fn resolve(&self, ids: &[ThunkId], reduction: &Reduction) {
        for id in ids.iter().rev() {
            self.driver.resolve_externally(*id, reduction.clone()).await;
        }
    }

    /// A deferred call has failed for real: this pass over the build is over.
    pub(crate) async fn believe_failure(&self, plan: &Plan, ids: &[ThunkId]) {
        let whole = super::stages::whole(plan).map(|whole| whole.1);
        for id in ids.iter().rev().chain(whole.iter().flatten()) {
            self.failed.lock().expect("no holder panics").insert(*id);
            self.driver.confirm_failure(*id).await;
        }
        self.change_course(Course::Again);
    }

    pub(crate) fn is_known_to_fail(&self, id: ThunkId) -> bool {
        self.failed.lock().expect("no holder panics").contains(&id)
    }

=======
>>>>>>> main
    pub(crate) fn fail_build(&self, why: String) {
        self.change_course(Course::Broken(why));
    }

    fn change_course(&self, to: Course) {
        self.course.send_if_modified(|course| {
            let first = *course == Course::Going;
            if first {
                *course = to;
            }
            first
        });
    }

    /// Whether deferred calls are only traced.
    pub(crate) fn is_trace(&self) -> bool {
        self.trace
    }

    /// What is held back; in a build that is not only traced: nothing.
    pub(crate) fn held_back(&self) -> &HeldBack {
        &self.held_back
    }

    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock().expect("no holder panics");
        // Finished ones are taken out as new ones come, so the set holds what is under way.
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }
<<<<<<< HEAD

    /// Waits until every placeholder is real, or the course changes.
    pub(crate) async fn settle(&self) {
        let mut course = self.course();
        loop {
            let all = self.placeholders.all();
            let wanted = |placeholder: &Arc<Placeholder>| !self.held_back.holds(placeholder.output.thunk);
            let Some(next) = all.into_iter().find(wanted) else { return };
            tokio::select! {
                () = next.settled() => {}
                changed = course.wait_for(|course| *course != Course::Going) => {
                    drop(changed);
                    return;
                }
            }
        }
    }

    /// Gives up on all that is not real yet: stops the work and removes the placeholders.
    pub(crate) async fn abandon(&self) {
        self.driver.cancel_all().await;
        let tasks = std::mem::take(&mut *self.tasks.lock().expect("no holder panics"));
        { tasks }.shutdown().await;
        for placeholder in self.placeholders.close() {
            self.placeholders.remove(&placeholder);
            self.journal_done(&placeholder.path);
        }
    }

    /// Whether a call that runs here is expected to fail, while deferred calls are still open: those are waited for first,
    /// so that a failure of theirs, which has the build run again, does not print this one's message twice.
    pub(crate) async fn settle_before_failure(&self, call: &Call, ended: &Ended) {
        if call.may_defer && ended.foretells_failure() && self.placeholders.len() > 0 {
            self.settle().await;
            if *self.course.borrow() != Course::Going {
                // The build is about to be stopped; this launcher with it.
                std::future::pending::<()>().await;
            }
        }
    }

    // --- blobs and files ---

    /// The bytes of a blob that is to become one of the user's files: checked, since nobody would look at them again. A
    /// damaged one is removed from the store.
    ///
    /// # Errors
    /// `InvalidData` if it is gone or damaged: the caller makes it anew.
    pub(crate) fn checked_bytes(&self, id: BlobId) -> io::Result<Vec<u8>> {
        let bytes = std::fs::read(self.store.path(id)).unwrap_or_default();
        if BlobId::of(&bytes) == id {
            return Ok(bytes);
        }
        // What cannot be removed is found damaged again.
        let _ = self.store.remove(id);
        Err(io::Error::new(io::ErrorKind::InvalidData, format!("blob {id} is damaged")))
    }

    pub(crate) fn ingest(&self, path: &Path) -> io::Result<BlobId> {
        self.store.ingest(path).map(|ingested| ingested.id).map_err(io::Error::other)
    }

    pub(crate) fn put_bytes(&self, bytes: &[u8]) -> io::Result<BlobId> {
        self.store.put_bytes(bytes).map_err(io::Error::other)
    }

    /// Notes what a file of the user's holds, which was just written.
    pub(crate) fn remember(&self, path: &Path, blob: BlobId) {
        self.view.remember(path, blob);
    }

    /// Writes a plan's files where the tool would have written them.
    pub(crate) fn materialize(
        &self,
        call: &Call,
        plan: &Plan,
        reductions: &[Arc<Finished>],
    ) -> io::Result<()> {
        let planned: HashMap<_, _> = plan.outputs.iter().map(|o| (&o.output.name, o)).collect();
        let Some(last) = reductions.last() else { return Ok(()) };
        for (path, bytes) in &plan.written {
            std::fs::write(path, bytes)?;
        }
        for (name, entry) in &last.outputs {
            let (path, permissions) = match planned.get(name) {
                Some(output) => (output.path.as_path(), output.mode(call.umask)),
                None => {
                    (entry.path.as_path(), rewritten(&entry.path).unwrap_or(entry.permissions & !call.umask))
                }
            };
            super::materialize::write(&self.checked_bytes(entry.blob)?, path, permissions)?;
            self.view.remember(path, entry.blob);
            self.report(&Event::Materialized { path: path.to_owned(), bytes: entry.blob.size() });
        }
        Ok(())
    }

    /// What the tools printed, in their order.
    pub(crate) fn printed(&self, reductions: &[Arc<Finished>]) -> io::Result<(Vec<u8>, Vec<u8>)> {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        for reduction in reductions {
            for (blob, to) in [(reduction.stdout, &mut stdout), (reduction.stderr, &mut stderr)] {
                if blob.size() > 0 {
                    to.extend(self.store.get_bytes(blob).map_err(io::Error::other)?);
                }
            }
        }
        Ok((stdout, stderr))
    }

    /// Prints what deferred calls printed, each call's output in one piece.
    pub(crate) fn print_for_build(&self, reductions: &[Arc<Finished>]) {
        match self.printed(reductions) {
            Ok((stdout, stderr)) => self.print_bytes(&stdout, &stderr),
            Err(error) => self.fail_build(format!("reading what a tool printed: {error}")),
        }
    }

    pub(crate) fn print_bytes(&self, stdout: &[u8], stderr: &[u8]) {
        let mut output = self.output.lock().expect("no holder panics");
        // A closed pipe is the reader's wish, as it would be to the tool.
        if !stdout.is_empty() {
            let _ = match &mut output.stdout {
                Some(file) => file.write_all(stdout),
                None => io::stdout().write_all(stdout).and_then(|()| io::stdout().flush()),
            };
        }
        if !stderr.is_empty() {
            let _ = match &mut output.stderr {
                Some(file) => file.write_all(stderr),
                None => io::stderr().write_all(stderr),
            };
        }
    }

    // --- what is counted and kept ---

    /// Notes that a placeholder is about to stand at the path, so that the next session knows if this one is killed.
    pub(crate) fn journal(&self, path: &Path, output: &OutputRef) -> io::Result<()> {
        self.journal.add(path, output).map_err(io::Error::other)
    }

    /// Notes that no placeholder stands at the path any more. A record too many does no harm: the file is looked at.
    pub(crate) fn journal_done(&self, path: &Path) {
        let _ = self.journal.done(path);
    }

    /// Reports a call that became thunks.
    pub(crate) fn note_traced(&self, plan: &Plan, ids: &[ThunkId]) {
        let label: Arc<str> = plan.label.as_str().into();
        for ((thunk, _), id) in plan.thunks.iter().zip(ids) {
            let of_thunk = plan.outputs.iter().filter(|output| output.output.thunk == *id);
            self.reporter.report(&Event::Traced {
                thunk: *id,
                label: Arc::clone(&label),
                waits_for: thunk.waits_for().into_iter().map(|output| output.thunk).collect(),
                outputs: of_thunk.map(|output| output.path.clone()).collect(),
                fused: match &plan.stages {
                    Stages::Fused(why) => Some(why.clone()),
                    Stages::None | Stages::Staged(_) => None,
                },
            });
        }
    }

    /// Writes a plan's thunks to the repository. Not asked for those whose result is recorded: whoever recorded it did.
    pub(crate) fn keep_thunks(&self, plan: &Plan) {
        plan.thunks.iter().for_each(|(thunk, _)| self.keep_thunk(thunk));
    }

    /// Writes a thunk to the repository, for `ggr show`, `why`, `graph` and `force`. A build whose thunks cannot be written
    /// is as right as any: those commands will say that the thunk is gone.
    fn keep_thunk(&self, thunk: &Thunk) {
        if self.trace {
            drop(tokio::task::block_in_place(|| self.thunks.put(thunk)));
            return;
        }
        let (thunks, thunk) = (self.thunks.clone(), thunk.clone());
        self.runtime.spawn_blocking(move || drop(thunks.put(&thunk)));
    }

    pub(crate) fn note_hit(&self, plan: &Plan, ids: &[ThunkId]) {
        for id in ids {
            self.reporter.report(&Event::CacheHit { thunk: *id, label: plan.label.as_str().into() });
        }
    }

    /// A call is about to run here.
    pub(crate) fn note_here(&self, pid: u32, tool: &Path, ended: &Ended, call: Option<&Call>) {
        let tool = tool.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let here = Here {
            tool,
            why: ended.why(),
            doubted: matches!(ended, Ended::ToolFailed(_)),
            in_recipe: call.is_some_and(|call| call.may_defer),
            since: Instant::now(),
            outputs: call.map(|call| named_outputs(&call.invocation)).unwrap_or_default(),
        };
        self.here.lock().expect("no holder panics").insert(pid, here);
    }

    /// The real tool of a call has ended, with this wait status.
    pub(crate) fn note_exit(&self, pid: u32, status: i32) {
        let Some(here) = self.here.lock().expect("no holder panics").remove(&pid) else { return };
        if status != 0 && here.in_recipe {
            // The build is failing: from here on nothing is deferred, so that it need not be run again.
            self.lazy.store(false, Ordering::Release);
        }
        // A tool that fails here too was rightly doubted: that is the build's own business.
        let why = match here.doubted {
            true if status == 0 => format!("{} in the sandbox, but not here", here.why),
            true => "it fails".to_owned(),
            false => here.why,
        };
        self.reporter.report(&Event::RanHere {
            label: here.tool.as_str().into(),
            reason: format!("{}: {why}", here.tool),
            took: here.since.elapsed(),
            outputs: here.outputs,
        });
    }

    /// A deferred thunk failed in the sandbox and passed here.
    pub(crate) fn note_doubt(&self, label: &str, ended: &Ended, took: Duration) {
        self.reporter.report(&Event::RanHere {
            label: label.into(),
            reason: format!("{label}: {} in the sandbox, but not here", ended.why()),
            took,
            outputs: Vec::new(),
        });
    }

    pub(crate) fn report(&self, event: &Event) {
        self.reporter.report(event);
    }
=======
>>>>>>> main
}

/// See [`Session::mark_run_here`].
pub(crate) struct RunHereMark<'a> {
    session: &'a Session,
    pid: u32,
}

impl Drop for RunHereMark<'_> {
    fn drop(&mut self) {
        self.session.run_here.lock().expect("no holder panics").remove(&self.pid);
    }
}
