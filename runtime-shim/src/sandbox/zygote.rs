//! The process that forks sandboxes: one thread, small, PID 1 of a pid namespace around them all.

use std::collections::HashMap;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use ggr_ir::protocol::worker as wire;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, Signal};

use super::groups::Groups;
use super::message::{MAX_REPORT, Order, Report, Start};
use super::networks::{Joined, Networks};
use super::sys::{self, Cloned};
use super::{init, view};

/// The worker's end: orders go in here. Dropping it ends the zygote and every sandbox.
pub(crate) struct Zygote {
    orders: Mutex<UnixStream>,
    marks: Marks,
}

/// The worker's other end: reports come out here.
pub(crate) struct Reports(OwnedFd);

/// Which extended attributes overlay marks files with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Marks {
    /// `trusted.`: outside user namespaces.
    Trusted,
    /// `user.`: inside one.
    User,
}

impl Marks {
    /// An attribute of the same kind that means nothing.
    pub(crate) fn probe(self) -> &'static str {
        match self {
            Marks::Trusted => "trusted.ggr.probe",
            Marks::User => "user.ggr.probe",
        }
    }
}

/// Why there is no zygote.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ZygoteError {
    #[error("namespaces cannot be made")]
    Clone(#[source] io::Error),
    #[error("{0}")]
    SetUp(String),
}

impl Zygote {
    /// Forks it, from a process that has entered [its own namespace](super::own::enter) and has one thread. `dir` is the
    /// worker's directory; `marks` says how overlay keeps its marks.
    pub(crate) fn start(dir: &Path, marks: Marks) -> Result<(Self, Reports), ZygoteError> {
        let (orders, zygote_orders) = UnixStream::pair().map_err(ZygoteError::Clone)?;
        let (reports, zygote_reports) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .map_err(|errno| ZygoteError::Clone(errno.into()))?;
        let spaces = libc::CLONE_NEWPID
            | libc::CLONE_NEWNS
            | libc::CLONE_NEWNET
            | libc::CLONE_NEWUTS
            | libc::CLONE_NEWIPC;
        match sys::clone_process(spaces).map_err(ZygoteError::Clone)? {
            Cloned::Child => live(dir, marks, zygote_orders, zygote_reports),
            Cloned::Parent(_) => drop((zygote_orders, zygote_reports)),
        }
        let reports = Reports(reports);
        match reports.next() {
            Ok(Some(Report::Ready)) => Ok((Self { orders: Mutex::new(orders), marks }, reports)),
            Ok(Some(Report::Broken(why))) => Err(ZygoteError::SetUp(why)),
            other => Err(ZygoteError::SetUp(format!("the zygote did not start: {other:?}"))),
        }
    }

    /// How its overlays keep their marks.
    pub(crate) fn marks(&self) -> Marks {
        self.marks
    }

    /// Sends an order if `wanted` still holds, asked under the lock that orders are sent under: a kill that comes later
    /// comes after it on the wire, too.
    pub(crate) fn order(&self, order: &Order, wanted: impl FnOnce() -> bool) -> io::Result<bool> {
        let frame = wire::to_frame(order);
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        if !wanted() {
            return Ok(false);
        }
        orders.write_all(&frame)?;
        Ok(true)
    }
}

impl Reports {
    /// Waits for the next report; nothing when the zygote is gone.
    pub(crate) fn next(&self) -> io::Result<Option<Report>> {
        let mut buffer = [0u8; MAX_REPORT];
        loop {
            match rustix::io::read(&self.0, &mut buffer) {
                Ok(0) => return Ok(None),
                Ok(n) => return wire::from_frame(&buffer[..n]).map(Some),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::CONNRESET) => return Ok(None),
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

/// Sends a report. Nobody is left to tell when that fails: the worker is gone, and so are we in a moment.
pub(super) fn send(to: BorrowedFd<'_>, report: &Report) {
    let frame = wire::to_frame(report);
    let _ = rustix::net::send(to, &frame[4..], SendFlags::NOSIGNAL);
}

/// The zygote's life; never returns into the worker's code, not by a panic either.
fn live(dir: &Path, marks: Marks, orders: UnixStream, reports: OwnedFd) -> ! {
    let lived = std::panic::catch_unwind(|| match set_up(dir, &orders, &reports) {
        Ok((signals, groups)) => {
            send(reports.as_fd(), &Report::Ready);
            serve(&orders, &reports, &signals, marks, groups)
        }
        Err((what, error)) => send(reports.as_fd(), &Report::Broken(format!("{what}: {error}"))),
    });
    sys::exit_now(i32::from(lived.is_err()))
}

fn set_up(
    dir: &Path,
    orders: &UnixStream,
    reports: &OwnedFd,
) -> Result<(OwnedFd, Groups), (&'static str, io::Error)> {
    sys::close_all_but(&mut [orders.as_raw_fd(), reports.as_raw_fd()]);
    let step = |what| move |errno: rustix::io::Errno| (what, io::Error::from(errno));
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).map_err(step("prctl"))?;
    let null =
        std::fs::File::options().read(true).write(true).open("/dev/null").map_err(|e| ("/dev/null", e))?;
    rustix::stdio::dup2_stdin(&null).map_err(step("standard input"))?;
    rustix::stdio::dup2_stdout(&null).map_err(step("standard output"))?;
    drop(null);
    // One session for all sandboxes: no terminal in any, and one share of the processor beside the user's session where the
    // kernel schedules by session (autogroup).
    rustix::process::setsid().map_err(step("setsid"))?;
    rustix::system::sethostname(b"ggr").map_err(step("sethostname"))?;
    rustix::process::umask(rustix::fs::Mode::empty());
    let name = dir.file_name().unwrap_or_default();
    let groups = Groups::find(&name.to_string_lossy());
    view::enter(dir).map_err(|(what, errno)| (what, errno.into()))?;
    // Once here and not in each sandbox, which inherits both.
    init::bound_capabilities().map_err(step("dropping capabilities"))?;
    sys::default_signals();
    sys::child_signals().map(|signals| (signals, groups)).map_err(|e| ("signalfd", e))
}

/// Forks sandboxes until the orders end.
fn serve(orders: &UnixStream, reports: &OwnedFd, signals: &OwnedFd, marks: Marks, groups: Groups) {
    let mut running = HashMap::new();
    let mut means = Means { networks: Networks::default(), groups };
    loop {
        let mut ready = [PollFd::new(orders, PollFlags::IN), PollFd::new(signals, PollFlags::IN)];
        match poll(&mut ready, None) {
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) => return,
            Ok(_) => {}
        }
        let (ordered, ended) = (!ready[0].revents().is_empty(), !ready[1].revents().is_empty());
        if ended {
            reap(reports, signals, &mut running, &mut means);
        }
        if ordered {
            match wire::read::<Order>(orders) {
                Ok(Some(Order::Start(start))) => fork(&start, reports, marks, &mut running, &mut means),
                Ok(Some(Order::Kill(seq))) => kill(seq, &running),
                Ok(None) | Err(_) => return,
            }
        }
    }
}

/// What sandboxes are given of the zygote's.
struct Means {
    networks: Networks,
    groups: Groups,
}

/// A sandbox that runs.
struct Sandbox {
    seq: u64,
    joined: Joined,
    /// Whether it has a control group of its own.
    grouped: bool,
}

/// The sandboxes that run, by the pid of their first process.
type Running = HashMap<i32, Sandbox>;

fn fork(start: &Start, reports: &OwnedFd, marks: Marks, running: &mut Running, means: &mut Means) {
    let Means { networks, groups } = means;
    let refuse = |why: String| {
        send(reports.as_fd(), &Report::refused(start.seq, why));
        send(reports.as_fd(), &Report::Gone { seq: start.seq });
    };
    let joined = match networks.join(start.network) {
        Ok(joined) => joined,
        Err(error) => return refuse(format!("making its network: {error}")),
    };
    match sys::clone_process(libc::CLONE_NEWPID) {
        Ok(Cloned::Child) => {
            if let Err(error) = networks.enter(&joined) {
                let why = format!("entering its network: {error}");
                send(reports.as_fd(), &Report::refused(start.seq, why));
                sys::exit_now(1);
            }
            if let Err(error) = groups.enter(start) {
                send(
                    reports.as_fd(),
                    &Report::refused(start.seq, format!("bounding its processes: {error}")),
                );
                sys::exit_now(1);
            }
            init::run(start, reports.as_fd(), marks)
        }
        Ok(Cloned::Parent(pid)) => {
            let grouped = start.processes > 0;
            running.insert(pid, Sandbox { seq: start.seq, joined, grouped });
            networks.refill();
        }
        Err(error) => {
            networks.leave(&joined);
            refuse(format!("forking the sandbox: {error}"));
        }
    }
}

fn reap(reports: &OwnedFd, signals: &OwnedFd, running: &mut Running, means: &mut Means) {
    // Emptied first: a child that ends during the loop below makes it readable again.
    let _ = rustix::io::read(signals, &mut [0u8; 1024]);
    while let Ok(Some((pid, _))) = sys::wait_any(false) {
        if let Some(Sandbox { seq, joined, grouped }) = running.remove(&pid) {
            means.networks.leave(&joined);
            if grouped {
                means.groups.leave(seq);
            }
            send(reports.as_fd(), &Report::Gone { seq });
        }
    }
}

fn kill(seq: u64, running: &Running) {
    let Some((&pid, _)) = running.iter().find(|(_, sandbox)| sandbox.seq == seq) else { return };
    if let Some(pid) = Pid::from_raw(pid) {
        // It is our child and not yet waited for: the number cannot be another process's.
        let _ = rustix::process::kill_process(pid, Signal::KILL);
    }
}
