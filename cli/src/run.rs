//! One run of ggr: opens what a session needs, runs a build or a single call in it, and puts everything away.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use ggr_backends::drive::{Driver, DriverHandle, Failures, Options as DriverOptions};
use ggr_backends::durations::Durations;
use ggr_backends::jobserver::Jobserver;
use ggr_backends::lambda::LambdaBackend;
use ggr_backends::local::LocalBackend;
use ggr_backends::memo::StatMemo;
use ggr_backends::microvm::MicrovmBackend;
use ggr_backends::store::captures::Captures;
use ggr_backends::store::shared::TieredCache;
use ggr_backends::store::{FsStore, verify};
use ggr_ir::StoreError;
use ggr_ir::protocol::launcher::SOCKET_MAX;
use ggr_ir::repo::{Journal, Repo, unique_name};
use ggr_models::Models;

use crate::capture::{Capture, Diversion};
use crate::commands::Context;
use crate::config::{Intercept, Mode, Staging};
use crate::coordinator::{self, Catch, Interception, Output, Parts, Session, heal};
use crate::error::Error;
use crate::microvm;
use crate::places;
use crate::report::{self, Reporter};
use crate::shared::{self, Caches};

/// An opened session with what has to be put away after it.
pub(crate) struct Workshop {
    /// The repository.
    pub(crate) repo: Repo,
    /// What the calls share.
    pub(crate) session: Arc<Session>,
    /// The session's lock: the collector keeps what a live session has seen.
    _live: ggr_ir::repo::Session,
    /// How many placeholders of killed sessions were removed.
    pub(crate) healed: usize,
    /// How many blobs did not survive a crash of the machine.
    pub(crate) lost: usize,
    /// How many blobs were found damaged or gone since, and read again.
    pub(crate) restored: Arc<AtomicUsize>,
    jobserver: Option<Jobserver>,
    local: Weak<LocalBackend>,
    guests: Option<Arc<MicrovmBackend>>,
    functions: Option<Arc<LambdaBackend>>,
    standby: Option<Arc<AtomicUsize>>,
    models: Arc<Models>,
    driver: DriverHandle,
    memo: Arc<StatMemo>,
    durations: Arc<Mutex<Durations>>,
    /// The bucket behind the local cache.
    tiered: Option<Arc<TieredCache>>,
    /// How long to wait for uploads when all else has ended.
    pub(crate) upload_wait: Duration,
    reporter: Reporter,
    /// Removed at the end.
    scratch: Vec<PathBuf>,
}

/// What a session is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Purpose {
    /// Everything that was asked for is made.
    Build,
    /// What nobody reads stays a placeholder.
    Trace,
}

/// The tokio runtime of a run: modelling may keep a thread busy for milliseconds while others answer launchers.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Error> {
    let threads = std::thread::available_parallelism().map_or(2, usize::from).max(4);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .map_err(|source| Error::Host { doing: "start threads".into(), source })
}

impl Workshop {
    /// Opens the repository, heals what a killed session left, and starts scheduler and workers.
    pub(crate) async fn open(
        context: &Context,
        purpose: Purpose,
        reporter: Reporter,
        output: Output,
    ) -> Result<Self, Error> {
        let config = &context.config;
        let repo = Repo::find_or_create(config.dir.value.as_deref(), &context.dir)?;
        let live = ggr_ir::repo::Session::start(&repo)?;
        let journal = Journal::start(&repo)?;
        let healed = heal::sweep(&journal).map_err(Error::io("sweep", repo.placeholders_dir()))?;
        let lost = after_reboot(&repo).map_or(0, |checked| checked.findings.len());
        let store_root = context.blobs(&repo).to_owned();
        check_readable(&store_root.join("blobs"))?;
        let store = Arc::new(FsStore::new(&store_root));
        let Caches { cache, tiered } = shared::open(context, &repo, &store_root, &store, &reporter)?;
        let models = Arc::new(open_models(context, &repo)?);
        let captures = Captures::new(&store_root, store.clone());
        let home = context.env.value("HOME").map(Path::new);
        let capture = Capture::new(captures, diversion(context, &repo), tiered.clone(), home)
            .map_err(|source| Error::Host { doing: "make a pipe".into(), source })?;
        let memo = Arc::new(StatMemo::new(repo.memo_file("blobs")));
        let durations = Arc::new(Mutex::new(Durations::load(&repo.memo_file("durations"))));
        let slots = config.slots.value.get();
        let opened = places::open(context, &store, &reporter, &durations).await?;
        let restored = Arc::new(AtomicUsize::new(0));
        let bucket = tiered.as_ref().map(|tiered| Arc::clone(tiered.shared()));
        let options = DriverOptions {
            heal: Some(coordinator::restore::healer(Arc::clone(&store), bucket, Arc::clone(&restored))),
            cache: Some(Arc::clone(&cache)),
            durations: Some(Arc::clone(&durations)),
            failures: Failures::Ask(ignored()),
            placement: config.worker_placement.value.placement(),
            ..DriverOptions::default()
        };
        let driver = Driver::spawn(opened.backends, options);
        tokio::spawn(report::forward(driver.events(), reporter.clone()));
        let session = Session::new(Parts {
            store,
            cache,
            memo: Arc::clone(&memo),
            models: Arc::clone(&models),
            driver: driver.clone(),
            reporter: reporter.clone(),
            slots,
            limits: config.limits(),
            nowhere: opened.nowhere,
            lazy: config.mode.value == Mode::Lazy || purpose == Purpose::Trace,
            trace: purpose == Purpose::Trace,
            journal,
            thunks: repo.thunks(),
            output,
            capture,
        });
        let scratch = Vec::new();
        Ok(Self {
            repo,
            session,
            _live: live,
            healed,
            lost,
            restored,
            jobserver: opened.jobserver,
            local: opened.local,
            guests: opened.guests,
            functions: opened.functions,
            standby: opened.standby,
            models,
            driver,
            memo,
            durations,
            tiered,
            upload_wait: config.store_wait.value,
            reporter,
            scratch,
        })
    }

    /// Makes the session's directory and finds the tools to stand in for.
    pub(crate) fn interception(&mut self, context: &Context) -> Result<Interception, Error> {
        let dir = self.repo.run_dir().join(unique_name());
        fs::create_dir(&dir).map_err(Error::io("create", &dir))?;
        self.scratch.push(dir.clone());
        let mut socket = dir.join("socket");
        if socket.as_os_str().as_bytes().len() > SOCKET_MAX {
            // A deep tree: the address of a socket holds 107 bytes.
            let short = std::env::temp_dir().join(format!("ggr-{}", unique_name()));
            fs::create_dir(&short).map_err(Error::io("create", &short))?;
            restrict(&short).map_err(Error::io("restrict", &short))?;
            socket = short.join("socket");
            self.scratch.push(short);
        }
        let path = context.env.value("PATH").unwrap_or_default();
        let tools = self.models.tool_files(&std::env::split_paths(path).collect::<Vec<_>>());
        let programs = captured_programs(context, &tools);
        self.session.capture().set_programs(programs.clone());
        let intercept = context.config.intercept.value;
        let mut interception = Interception {
            launcher: dir.join("launcher"),
            socket,
            tools,
            programs: programs.into_iter().collect(),
            path: path.to_owned(),
            catch: if intercept == Intercept::Off { Catch::Nothing } else { Catch::Mounts },
            watch: intercept != Intercept::Off,
            repo: self.repo.root().to_owned(),
            stdio: (None, None),
        };
        if intercept == Intercept::Path {
            interception.use_links();
        }
        Ok(interception)
    }

    /// Waits until the worker has said what it can do here. A worker that does not start is told by its jobs.
    pub(crate) async fn meet_worker(&self) {
        if let Some(local) = self.local.upgrade() {
            let _ = local.ready().await;
        }
    }

    /// Ends scheduler and workers, and writes what is to be remembered. Failing to remember costs time, not results, so it
    /// is told and not an error.
    pub(crate) async fn close(self, context: &Context) {
        self.driver.shutdown().await;
        if let Some(tiered) = &self.tiered {
            shared::close(context, tiered, self.upload_wait, &self.reporter).await;
        }
        if let Some(warning) = self.jobserver.as_ref().and_then(Jobserver::warning) {
            context.note(warning);
        }
        if let Some(text) = self.guests.as_ref().and_then(|guests| microvm::summary(guests.counts())) {
            context.note(&text);
        }
        let here = self.standby.as_ref().map_or(0, |taken| taken.load(Ordering::Relaxed));
        let functions = self.functions.as_ref();
        if let Some(text) = functions.and_then(|functions| places::spent(functions.spending(), here)) {
            context.note(&text);
        }
        let mut forgotten = Vec::new();
        forgotten.extend(self.memo.save().err().map(|e| e.to_string()));
        forgotten.extend(self.models.save(&self.repo.memo_file("models")).err().map(|e| e.to_string()));
        let durations = self.durations.lock().expect("no holder panics");
        forgotten.extend(durations.save(&self.repo.memo_file("durations")).err().map(|e| e.to_string()));
        for dir in &self.scratch {
            // What is left is swept with the next session.
            let _ = fs::remove_dir_all(dir);
        }
        for what in forgotten {
            context.note(&format!("could not remember for the next build: {what}"));
        }
    }
}

/// The real files of the programs whose runs are recorded; one that has a model is left to it.
fn captured_programs(context: &Context, tools: &[PathBuf]) -> BTreeSet<PathBuf> {
    let path = context.env.value("PATH").unwrap_or_default();
    let dirs: Vec<PathBuf> = std::env::split_paths(path).collect();
    let mut programs = context.config.capture.value.files(&dirs);
    programs.retain(|program| tools.binary_search(program).is_err());
    programs
}

/// The programs that are captured though no launcher is mounted over them: of this project's directories, or all.
fn diversion(context: &Context, repo: &Repo) -> Diversion {
    let selection = &context.config.capture.value;
    let project = repo.root().parent().filter(|_| repo.root().file_name().is_some_and(|name| name == ".ggr"));
    let trees = project.map(Path::to_owned).into_iter().chain([context.dir.clone()]).collect();
    Diversion::new(trees, selection.usual, selection.all)
}

/// A store that cannot be read would have every call run here, for a reason that one file's permissions could undo.
fn check_readable(blobs: &Path) -> Result<(), Error> {
    match fs::read_dir(blobs) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(Error::Store(StoreError::Io { path: blobs.to_owned(), source }))
        }
        _ => Ok(()),
    }
}

fn restrict(dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700))
}

/// Looks for blobs that a crash of the machine has taken. A repository that cannot be listed is found out soon enough.
fn after_reboot(repo: &Repo) -> Option<verify::Checked> {
    verify::after_reboot(repo).ok().flatten()
}

fn open_models(context: &Context, repo: &Repo) -> Result<Models, Error> {
    let described = context.config.tools.iter().flat_map(|tables| tables.tools.iter().cloned());
    let memo = repo.memo_file("models");
    let models = match context.config.stages.value {
        Staging::Fused => Models::standard(&memo),
        Staging::Staged => Models::staged(&memo),
    };
    Ok(models.with_tools(described))
}

/// The calls look after their own doubts: each waits for its verdict.
fn ignored() -> tokio::sync::mpsc::UnboundedSender<ggr_backends::drive::Doubt> {
    let (doubts, mut inbox) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move { while inbox.recv().await.is_some() {} });
    doubts
}
