//! The worker: many jobs side by side, each in a sandbox of its own, over one stream socket.
//!
//! ```text
//! socket ─► reader ─► Desk (one thread: who runs, who is told to stop, deadlines)
//!                      │  ▲ reports                    ┌─► PID 1 of a sandbox ─► program
//!                      ▼  └──────────────── zygote ◄───┘
//!                     Crew (a thread per core: stage, order the sandbox, harvest, answer)
//! ```
//!
//! A waiting job costs no thread. Answers go out in the order in which jobs end.
//!
//! **Plain mode** (no namespaces to be had): a worker can then neither hide files from a program nor keep its writes
//! apart, and what it would return might depend on anything. So it answers each job with
//! [`InfraFailure::Sandbox`], and the coordinator runs the command itself, on the real tree, which is always right.

mod crew;
pub(crate) use crew::chain;
mod desk;
mod dir;
mod task;

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use ggr_ir::protocol::worker::{self as wire, Hello, Request, Response};
use ggr_ir::{Attempt, InfraFailure, Outcome, Timings};

use crate::sandbox::message::{Order, Report, Start};
use crate::sandbox::own::{self, Ids};
use crate::sandbox::zygote::{Marks, Reports, Zygote, ZygoteError};
use dir::{Area, WorkerDir};

/// How a worker keeps programs apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Isolation {
    /// Namespaces if they can be had, plain if not.
    #[default]
    Auto,
    /// Namespaces, or an error.
    Namespaces,
    /// None: every job is refused (see the module).
    Plain,
}

/// How to serve.
#[derive(Clone, Debug)]
pub struct WorkerOptions {
    /// How many jobs run side by side.
    pub slots: u32,
    /// The store's root: blobs are in `blobs/`, sandboxes are made in `sandboxes/`.
    pub root: PathBuf,
    /// How to keep programs apart.
    pub isolation: Isolation,
}

/// Why a worker could not start or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The scratch directory.
    #[error("the worker's directory `{}`", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Namespaces were asked for and cannot be had.
    #[error("namespaces cannot be used: {0}")]
    Isolation(String),
    /// The connection broke.
    #[error("the connection to the coordinator")]
    Stream(#[source] io::Error),
    /// The zygote ended by itself.
    #[error("the process that forks sandboxes has died")]
    ZygoteDied,
}

/// Serves the coordinator on descriptor 0 until it hangs up.
///
/// Call it before this process starts a thread: it forks.
pub fn serve(options: &WorkerOptions) -> Result<(), WorkerError> {
    let fd = io::stdin().as_fd().try_clone_to_owned().map_err(WorkerError::Stream)?;
    serve_on(UnixStream::from(fd), options)
}

/// Serves the coordinator at the other end of this socket until it hangs up. As [`serve`].
pub fn serve_on(stream: UnixStream, options: &WorkerOptions) -> Result<(), WorkerError> {
    let mut dir = WorkerDir::claim(&options.root.join("sandboxes"))
        .map_err(|(path, source)| WorkerError::Directory { path, source })?;
    let isolated = match options.isolation {
        Isolation::Plain => Err("asked for".to_owned()),
        Isolation::Auto | Isolation::Namespaces => isolate(&mut dir),
    };
    let slots = options.slots.max(1);
    let hello = |isolation: String| Hello { version: wire::VERSION, slots, isolation };
    match isolated {
        Ok((zygote, reports)) => {
            wire::write(&stream, &hello("namespaces".to_owned())).map_err(WorkerError::Stream)?;
            desk::serve(stream, options, &dir, zygote, reports)
        }
        Err(why) if options.isolation == Isolation::Namespaces => Err(WorkerError::Isolation(why)),
        Err(why) => {
            wire::write(&stream, &hello(format!("plain: {why}"))).map_err(WorkerError::Stream)?;
            refuse_all(&stream, &why)
        }
    }
}

/// What `ggr doctor` asks: whether sandboxes can be made here, and if not, why. `root` is a store's root. Forks.
pub fn probe(root: &std::path::Path) -> Result<(), WorkerError> {
    let mut dir = WorkerDir::claim(&root.join("sandboxes"))
        .map_err(|(path, source)| WorkerError::Directory { path, source })?;
    isolate(&mut dir).map(drop).map_err(WorkerError::Isolation)
}

/// Starts a zygote and builds one sandbox in each area to see that it can: first as we are, then in a user namespace.
fn isolate(dir: &mut WorkerDir) -> Result<(Zygote, Reports), String> {
    if rustix::process::geteuid().is_root()
        && let Ok(done) = isolate_as(dir, None)
    {
        return Ok(done);
    }
    isolate_as(dir, Some(Ids::own())).map_err(|error| crew::chain(&error))
}

fn isolate_as(dir: &mut WorkerDir, mapped: Option<Ids>) -> Result<(Zygote, Reports), ZygoteError> {
    own::enter(&dir.area(Area::Memory), mapped).map_err(ZygoteError::Clone)?;
    let marks = if mapped.is_some() { Marks::User } else { Marks::Trusted };
    let (zygote, reports) = Zygote::start(dir.path(), marks)?;
    let mut failure = String::new();
    for area in [Area::Memory, Area::Disk] {
        match try_sandbox(dir, area, &zygote, &reports) {
            Ok(()) => dir.usable.push(area),
            // One is enough: an upper layer cannot lie on an overlay (a container's disk), nor on an old kernel's tmpfs in a
            // user namespace.
            Err(why) => failure = why,
        }
    }
    if dir.usable.is_empty() { Err(ZygoteError::SetUp(failure)) } else { Ok((zygote, reports)) }
}

fn try_sandbox(dir: &WorkerDir, area: Area, zygote: &Zygote, reports: &Reports) -> Result<(), String> {
    let told = |error: io::Error| error.to_string();
    let scratch = dir.new_scratch(area, "probe").map_err(told)?;
    // Overlay mounts without such attributes, and then fails when a program replaces a directory.
    rustix::fs::setxattr(scratch.join("u"), zygote.marks().probe(), b"y", rustix::fs::XattrFlags::empty())
        .map_err(|errno| format!("extended attributes: {errno}"))?;
    for name in ["u/dev", "u/proc", "l"] {
        std::fs::create_dir(scratch.join(name)).map_err(told)?;
    }
    let at = format!("{}/probe", area.name());
    let start = Start { lower: format!("{at}/l"), scratch: at, dir: "/".into(), ..Start::default() };
    zygote.order(&Order::Start(Box::new(start)), || true).map_err(told)?;
    let mut outcome = Err("the sandbox died".to_owned());
    loop {
        match reports.next().map_err(told)? {
            Some(Report::Ended { status: 0, .. }) => outcome = Ok(()),
            Some(Report::Refused { why, .. }) => outcome = Err(why),
            Some(Report::Gone { .. }) | None => break,
            Some(other) => outcome = Err(format!("unexpected {other:?}")),
        }
    }
    dir::remove_tree(&scratch);
    outcome
}

fn refuse_all(stream: &UnixStream, why: &str) -> Result<(), WorkerError> {
    while let Some(request) = wire::read::<Request>(stream).map_err(WorkerError::Stream)? {
        if let Request::Run { seq, .. } = request {
            let failure = InfraFailure::Sandbox(format!("plain mode runs nothing out of sight ({why})"));
            let timings = Timings { queued: Duration::ZERO, ..Timings::default() };
            let attempt =
                Attempt { outcome: Outcome::Infra(failure), timings, cost_microdollars: 0, worker: 0 };
            wire::write(stream, &Response { seq, attempt }).map_err(WorkerError::Stream)?;
        }
    }
    Ok(())
}
