//! What one run of ggr shares: repository, store, cache, models, scheduler, placeholders, counts.

mod account;
mod ended;
mod files;
mod sizing;
mod standing;
mod thunks;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, RwLock, Weak};

use ggr_backends::drive::{DriverHandle, Finished};
use ggr_backends::memo::StatMemo;
use ggr_backends::store::FsStore;
use ggr_ir::protocol::launcher::Request;
use ggr_ir::repo::{Journal, Thunks};
use ggr_ir::{Limits, ReductionCache, ThunkId};
use ggr_models::{FileView, Invocation, Model, Models};
use rustc_hash::FxBuildHasher;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::callers::{self, Sink};
use super::held_back::HeldBack;
use super::links::Links;
use super::placeholders::Placeholders;
use super::view::View;
use crate::capture::Capture;
use crate::report::Reporter;
use account::Here;
pub(crate) use ended::{Course, Ended};
use sizing::Sizing;

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
    /// Why there is no place for thunks, if there is none.
    pub(crate) nowhere: Box<dyn Fn() -> Option<String> + Send + Sync>,
    pub(crate) lazy: bool,
    /// Whether deferred calls are only traced: their thunks run when somebody reads what they make, and not otherwise.
    pub(crate) trace: bool,
    pub(crate) journal: Journal,
    pub(crate) thunks: Thunks,
    /// Where deferred calls print.
    pub(crate) output: Output,
    /// What captured programs share.
    pub(crate) capture: Capture,
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
    /// The process through whose root the build finds the real tools.
    door: AtomicU32,
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
    capture: Capture,
    /// If calls are caught through `PATH`.
    links: RwLock<Option<Arc<Links>>>,
    /// Tools that were called past the links, and how often.
    uncaught: Mutex<BTreeMap<PathBuf, usize>>,
    sizing: Sizing,
    nowhere: Box<dyn Fn() -> Option<String> + Send + Sync>,
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
            door: AtomicU32::new(std::process::id()),
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
            capture: parts.capture,
            links: RwLock::default(),
            uncaught: Mutex::default(),
            sizing: Sizing::default(),
            nowhere: parts.nowhere,
        })
    }

    /// The user's files as they are now or a moment later.
    pub(crate) fn view(&self) -> &dyn FileView {
        self.view.refresh();
        &self.view
    }

    pub(crate) fn placeholders(&self) -> &Placeholders {
        &self.placeholders
    }

    pub(crate) fn driver(&self) -> &DriverHandle {
        &self.driver
    }

    /// What captured programs share.
    pub(crate) fn capture(&self) -> &Capture {
        &self.capture
    }

    /// Whether a process is the build command itself.
    pub(crate) fn is_root(&self, pid: u32) -> bool {
        self.root.load(Ordering::Acquire) == pid
    }

    /// Whether something is where the build's own output goes.
    pub(crate) fn is_sink(&self, sink: Option<Sink>) -> bool {
        self.sinks.lock().expect("no holder panics").contains(&sink)
    }

    /// If the build is being stopped by ggr itself, to be run again or given up: where its own output goes.
    pub(crate) fn sinks_if_stopped(&self) -> Option<[Option<Sink>; 2]> {
        let stopped = *self.course.borrow() != Course::Going;
        stopped.then(|| *self.sinks.lock().expect("no holder panics"))
    }

    /// Names the build command's process, once it is known, and the one through whose root it finds the real tools.
    pub(crate) fn set_root(&self, pid: u32, door: u32) {
        self.door.store(door, Ordering::Release);
        *self.sinks.lock().expect("no holder panics") = [callers::sink(pid, 1), callers::sink(pid, 2)];
        self.root.store(pid, Ordering::Release);
    }

    /// The process through whose root the build finds the real tools.
    pub(crate) fn door(&self) -> u32 {
        self.door.load(Ordering::Acquire)
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

    /// How this session's build is caught, and whether its system calls are watched. Unwatched, every call waits: nobody
    /// would hold the reader of a placeholder.
    pub(crate) fn stand(&self, links: Option<Arc<Links>>, watched: bool) {
        *self.links.write().expect("no holder panics") = links;
        if !watched {
            self.lazy.store(false, Ordering::Release);
            self.view.distrust_all();
        }
    }

    /// Why there is no place for thunks, if there is none: what is not recorded then runs here, and waits, since a
    /// placeholder would only be made by the real tool in its own stead.
    pub(crate) fn nowhere(&self) -> Option<String> {
        (self.nowhere)().map(|why| format!("there are no sandboxes here: {why}"))
    }

    /// Whether calls are caught through `PATH`.
    pub(crate) fn is_linked(&self) -> bool {
        self.links().is_some()
    }

    fn links(&self) -> Option<Arc<Links>> {
        self.links.read().expect("no holder panics").clone()
    }

    /// The call as it would be without links.
    pub(crate) fn resolve(&self, request: Request) -> Request {
        match self.links() {
            Some(links) => links.resolve(request),
            None => request,
        }
    }

    /// The file to execute for a tool, from inside the build's namespace, where the launcher lies over it.
    pub(crate) fn real_path(&self, tool: &Path) -> Vec<u8> {
        use std::os::unix::ffi::OsStrExt;
        if self.links().is_some() {
            return tool.as_os_str().as_bytes().to_vec();
        }
        let mut path = format!("/proc/{}/root", self.door()).into_bytes();
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

    /// Up to `most` more local slots, as far as nobody else has or wants them.
    pub(crate) fn spare_slots(&self, most: usize) -> Vec<OwnedSemaphorePermit> {
        std::iter::from_fn(|| Arc::clone(&self.slots).try_acquire_owned().ok()).take(most).collect()
    }

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
