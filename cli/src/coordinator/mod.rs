//! The coordinator: the process behind one `ggr CMD`. It starts the build under interception, models its tool calls,
//! schedules thunks, answers forced reads, and brings everything back.

mod apart;
mod build;
mod call;
mod callers;
mod deferred;
mod failing;
pub(crate) mod heal;
mod held_back;
pub(crate) mod keeper;
mod launcher;
mod links;
mod materialize;
mod placeholders;
pub(crate) mod restore;
mod session;
mod stages;
mod view;
mod watched;

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

pub(crate) use build::{descendants, open_for_writing, receive};
pub(crate) use call::{Answer, Call, decide};
pub(crate) use callers::ancestor;
pub(crate) use placeholders::{Placeholders, fill_in_place};
pub(crate) use session::{Output, Parts, Session};
pub(crate) use view::View;

pub(crate) use build::StartError;
use build::{Build, Start};
use keeper::Keeper;
use launcher::Standing;
use links::Links;
use session::Course;

use crate::config::Intercept;
use crate::exit::Kind;
use crate::intercept::enter;
use crate::intercept::kill;

/// How long recipes that are under way may go on after a failure, before they are killed: make would wait for them too.
const GRACE: Duration = Duration::from_secs(10);

/// How long a build may take to end after it was interrupted.
const INTERRUPT_GRACE: Duration = Duration::from_secs(10);

/// How long captured programs have to end when their launchers have been interrupted; one that ignores it goes on.
const CAPTURES_END: Duration = Duration::from_secs(1);

/// How long after a build that did not start a signal to us is waited for.
const NOTICED: Duration = Duration::from_millis(50);

/// What stands between the build and its tools.
pub(crate) struct Interception {
    /// Where the session's launcher is written.
    pub(crate) launcher: PathBuf,
    /// Where the coordinator listens.
    pub(crate) socket: PathBuf,
    /// The real files of the tools to stand in for.
    pub(crate) tools: Vec<PathBuf>,
    /// The real files of the programs to capture: only where the launcher is mounted over them.
    pub(crate) programs: Vec<PathBuf>,
    /// The user's `PATH`.
    pub(crate) path: OsString,
    /// How calls are caught.
    pub(crate) catch: Catch,
    /// Whether reads of placeholders are held.
    pub(crate) watch: bool,
    /// The repository, for the keeper.
    pub(crate) repo: PathBuf,
    /// The build's standard output and error, if they are not ours.
    pub(crate) stdio: (Option<OwnedFd>, Option<OwnedFd>),
}

/// How tool calls are caught.
pub(crate) enum Catch {
    /// The launcher is mounted over the tools.
    Mounts,
    /// Launchers come first in `PATH`.
    Links(Arc<Links>),
    /// They are not.
    Nothing,
}

impl Interception {
    /// Catches calls through `PATH` from now on.
    pub(crate) fn use_links(&mut self) {
        let dir = self.launcher.with_file_name("tools");
        self.catch = Catch::Links(Arc::new(Links::plan(dir, self.path.clone(), &self.tools)));
    }

    /// Whether calls are caught through `PATH`.
    pub(crate) fn is_linked(&self) -> bool {
        self.links().is_some()
    }

    fn links(&self) -> Option<&Arc<Links>> {
        match &self.catch {
            Catch::Links(links) => Some(links),
            Catch::Mounts | Catch::Nothing => None,
        }
    }

    /// After a start that failed: does with less, and says what that means. Nothing if the user wants no less (`mount` must
    /// be what he asked for), or if there is no less.
    pub(crate) fn do_with_less(&mut self, error: &RunError, wanted: Intercept) -> Option<String> {
        match error {
            RunError::Start(StartError::Mounts(why)) if wanted == Intercept::Auto => {
                self.use_links();
                Some(format!(
                    "tools are caught through `PATH` only, a call by absolute path is not, for this machine allows no \
                     mounts: {why} (`ggr doctor` says what to do)"
                ))
            }
            RunError::Start(StartError::Watch(why)) if self.watch => {
                self.watch = false;
                Some(format!("every call waits for its result, for system calls cannot be watched: {why}"))
            }
            _ => None,
        }
    }
}

/// Why a run did not come to an exit status.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    /// The build command did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The socket or the launcher could not be put in place.
    #[error("`{}`", path.display())]
    Io {
        /// What could not be written.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Something of ggr's own broke.
    #[error("{0}")]
    Broken(String),
}

impl RunError {
    /// The kind, which decides the exit code.
    pub(crate) fn kind(&self) -> Kind {
        match self {
            RunError::Start(StartError::Command { source, .. })
                if source.kind() == io::ErrorKind::NotFound =>
            {
                Kind::NotFound
            }
            RunError::Start(StartError::Command { .. }) => Kind::CannotRun,
            RunError::Start(StartError::Mounts(_) | StartError::Watch(_)) => Kind::Host,
            RunError::Start(StartError::Io(_)) | RunError::Io { .. } => Kind::Other,
            RunError::Broken(_) => Kind::Infrastructure,
        }
    }

    /// What to do next.
    pub(crate) fn hint(&self) -> Option<String> {
        let hint = match self {
            RunError::Start(StartError::Command { .. }) => {
                "check the spelling and `PATH`; ggr's own commands are in `ggr --help`"
            }
            RunError::Start(StartError::Mounts(_) | StartError::Watch(_)) => {
                "`ggr doctor` shows what this machine allows; `--intercept auto` does with less"
            }
            RunError::Broken(_) => "what was made so far is kept: run the build again",
            RunError::Start(StartError::Io(_)) | RunError::Io { .. } => return None,
        };
        Some(hint.to_owned())
    }
}

/// How a build ended.
pub(crate) enum BuildEnd {
    /// By itself.
    Exited(u8),
    /// By a signal to ggr.
    Interrupted(i32),
}

/// Runs a build command to its end: every output is real when this returns.
///
/// If a deferred call fails, the command is run once more with every call waiting, so that it is make that says so.
pub(crate) async fn run(
    session: &Arc<Session>,
    command: &[OsString],
    interception: &Interception,
) -> Result<BuildEnd, RunError> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| RunError::Io { path, source }
    };
    let socket = &interception.socket;
    // A try before this one may have bound it.
    let _ = std::fs::remove_file(socket);
    let listener = tokio::net::UnixListener::bind(socket).map_err(at(socket))?;
    let plan = enter::Plan {
        launcher: interception.launcher.clone(),
        tools: match interception.catch {
            Catch::Mounts => [&interception.tools[..], &interception.programs].concat(),
            Catch::Links(_) | Catch::Nothing => Vec::new(),
        },
        watch: interception.watch,
        control: -1,
    };
    session.capture().set_socket(socket);
    let standing = if interception.links().is_some() { Standing::Linked } else { Standing::Mounted };
    launcher::write(&plan.launcher, socket, standing).map_err(at(&plan.launcher))?;
    if let Some(links) = interception.links() {
        links.put(&plan.launcher).map_err(at(&plan.launcher))?;
    }
    session.stand(interception.links().cloned(), interception.watch);
    let diverts = interception.watch && matches!(interception.catch, Catch::Mounts);
    session.capture().divert_to(diverts.then_some(plan.launcher.as_path()), &interception.tools);
    let server = tokio::spawn(accept(Arc::clone(session), listener));
    let mut keeper = Keeper::start(&interception.repo).map_err(at(&interception.repo))?;
    let start = Start { command, plan: &plan, interception };
    let mut end = pass(session, &start, &mut keeper).await;
    if matches!(end, Ok(None)) {
        // Their launchers have been killed.
        session.capture().settled().await;
        session.set_waiting();
        end = pass(session, &start, &mut keeper).await;
    }
    session.capture().end().await.map_err(at(socket))?;
    server.abort();
    end?.ok_or_else(|| RunError::Broken("a call failed that nobody had deferred".into()))
}

async fn accept(session: Arc<Session>, listener: tokio::net::UnixListener) {
    while let Ok((stream, _)) = listener.accept().await {
        let session = Arc::clone(&session);
        // A launcher that was killed breaks its connection; there is nobody to tell.
        tokio::spawn(async move { drop(call::serve(session, stream).await) });
    }
}

/// One pass over the build. Nothing if it has to be run again.
async fn pass(
    session: &Arc<Session>,
    start: &Start<'_>,
    keeper: &mut Keeper,
) -> Result<Option<BuildEnd>, RunError> {
    let mut course = session.course();
    let mut interrupt = Interrupts::new()?;
    let started = Build::start(start, Arc::clone(session), |root, door| {
        session.set_root(root, door);
        keeper.watch(root);
    });
    let build = match started {
        Ok(build) => build,
        Err(error) => {
            // A signal to the whole group ends that process as well, perhaps before ours is noticed.
            let signal = tokio::time::timeout(NOTICED, interrupt.next()).await;
            return signal.map(|signal| Some(BuildEnd::Interrupted(signal))).map_err(|_| error.into());
        }
    };
    let root = build.pid();
    let mut waiting = tokio::task::spawn_blocking(move || build.wait());
    let status = tokio::select! {
        status = &mut waiting => joined(status)?,
        signal = interrupt.next() => {
            return interrupted(session, root, signal, waiting).await.map(Some);
        }
        changed = course.wait_for(|course| *course != Course::Going) => {
            drop(changed);
            let stopper = Arc::clone(session);
            let stop = move || build::stop(root, || stopper.stuck(), GRACE);
            tokio::task::spawn_blocking(stop).await.map_err(|e| RunError::Broken(e.to_string()))?;
            joined(waiting.await)?;
            return changed_course(session).await;
        }
    };
    session.report(&crate::report::Event::CommandEnded);
    tokio::select! {
        () = session.settle() => {}
        signal = interrupt.next() => {
            session.abandon().await;
            return Ok(Some(BuildEnd::Interrupted(signal)));
        }
    }
    if *course.borrow() != Course::Going {
        return changed_course(session).await;
    }
    Ok(Some(BuildEnd::Exited(build::exit_code(status))))
}

fn joined(status: Result<io::Result<ExitStatus>, tokio::task::JoinError>) -> Result<ExitStatus, RunError> {
    let broken = |e: &dyn std::error::Error| RunError::Broken(format!("waiting for the build command: {e}"));
    status.map_err(|e| broken(&e))?.map_err(|e| broken(&e))
}

async fn changed_course(session: &Arc<Session>) -> Result<Option<BuildEnd>, RunError> {
    let course = session.course().borrow().clone();
    session.abandon().await;
    match course {
        Course::Broken(why) => Err(RunError::Broken(why)),
        Course::Going | Course::Again => {
            session.placeholders().roll_back();
            Ok(None)
        }
    }
}

/// Lets the build end as it would have by itself, kills it if it does not, and leaves no placeholder.
async fn interrupted(
    session: &Arc<Session>,
    root: u32,
    signal: i32,
    waiting: tokio::task::JoinHandle<io::Result<ExitStatus>>,
) -> Result<BuildEnd, RunError> {
    // Work first: whoever waits for a placeholder would never see the signal's effect.
    session.abandon().await;
    for pid in build::descendants(root) {
        kill(pid as i32, signal);
    }
    let stopper = Arc::clone(session);
    match tokio::time::timeout(INTERRUPT_GRACE, waiting).await {
        Ok(status) => drop(joined(status)?),
        Err(_) => {
            let stop = move || build::stop(root, || stopper.stuck(), Duration::ZERO);
            tokio::task::spawn_blocking(stop).await.map_err(|e| RunError::Broken(e.to_string()))?;
        }
    }
    // Captured programs end with their launchers, as soon as it is noticed that those are gone; after that they would be
    // taken for what the build leaves in the background.
    let _ = tokio::time::timeout(CAPTURES_END, session.capture().settled()).await;
    session.abandon().await;
    Ok(BuildEnd::Interrupted(signal))
}

/// The signals by which a user stops a build.
struct Interrupts {
    int: tokio::signal::unix::Signal,
    term: tokio::signal::unix::Signal,
    hup: tokio::signal::unix::Signal,
}

impl Interrupts {
    fn new() -> Result<Self, RunError> {
        use tokio::signal::unix::{SignalKind, signal};
        let on = |kind| signal(kind).map_err(|e| RunError::Broken(format!("signal handler: {e}")));
        Ok(Self {
            int: on(SignalKind::interrupt())?,
            term: on(SignalKind::terminate())?,
            hup: on(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> i32 {
        tokio::select! {
            _ = self.int.recv() => libc::SIGINT,
            _ = self.term.recv() => libc::SIGTERM,
            _ = self.hup.recv() => libc::SIGHUP,
        }
    }
}
