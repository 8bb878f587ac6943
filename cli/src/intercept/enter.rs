//! `ggr __enter`: the step between the coordinator and the build command.
//!
//! A process of its own, with one thread, so that it may change its namespaces: it makes the private mount namespace,
//! mounts the launcher over the tools, installs the filter, hands the listener to the coordinator over a socket that it
//! inherited, waits for its word, and becomes the build command. Its environment and descriptors 0 to 2 are the build's.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};

use rustix::mount::{MountPropagationFlags, mount_bind, mount_change};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::thread::UnshareFlags;
use serde::{Deserialize, Serialize};

use super::{door, filter, sys};

/// What the coordinator asks for, as JSON in the first argument.
#[derive(Serialize, Deserialize, Debug, Clone)]
pub(crate) struct Plan {
    /// The session's copy of the launcher.
    pub(crate) launcher: PathBuf,
    /// The real files of the tools to stand in for; empty when nothing is to be mounted.
    pub(crate) tools: Vec<PathBuf>,
    /// Whether to install the filter.
    pub(crate) watch: bool,
    /// The inherited descriptor over which the coordinator is reached.
    pub(crate) control: i32,
}

/// The first byte of the answer: ready, with the listener attached if one was asked for. The process through whose root the
/// build finds the real tools follows, if it is not the coordinator.
pub(crate) const READY: u8 = b'R';

/// The first byte of the answer: the launcher cannot be mounted over the tools; a message follows.
pub(crate) const NO_MOUNTS: u8 = b'M';

/// The first byte of the answer: system calls cannot be watched; a message follows.
pub(crate) const NO_WATCH: u8 = b'W';

/// Runs the step. Returns only on failure, which has then been told to the coordinator.
pub(crate) fn run(plan: &Plan, command: &[OsString]) -> io::Error {
    let control = control_stream(plan.control);
    match prepare(plan, control.as_fd()) {
        Ok(()) => {}
        Err((part, error)) => {
            let message = [&[part][..], error.to_string().as_bytes()].concat();
            let _ = (&control).write_all(&message);
            return error;
        }
    }
    let mut go = [0u8; 1];
    if let Err(error) = (&control).read_exact(&mut go) {
        return error;
    }
    let error = std::process::Command::new(&command[0]).args(&command[1..]).exec();
    let _ = (&control).write_all(&error.raw_os_error().unwrap_or(0).to_le_bytes());
    error
}

#[allow(unsafe_code, reason = "takes over a descriptor that the parent put at a known number")]
fn control_stream(number: i32) -> UnixStream {
    // SAFETY: the coordinator starts this process with its socket at this number, and nothing else owns it. It is
    // close-on-exec from here on, so that the build does not inherit it.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    let _ = rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC);
    fd.into()
}

/// Does what the plan says; an error comes with the answer's first byte.
fn prepare(plan: &Plan, control: BorrowedFd<'_>) -> Result<(), (u8, io::Error)> {
    let door = match plan.tools.is_empty() {
        false => mount_launchers(plan).map_err(|error| (NO_MOUNTS, error))?,
        true => None,
    };
    let listener = plan.watch.then(watch).transpose().map_err(|error| (NO_WATCH, error))?;
    send(control, listener, door).map_err(|error| (NO_WATCH, error))
}

fn mount_launchers(plan: &Plan) -> io::Result<Option<u32>> {
    let door = enter_namespaces(rustix::process::geteuid().is_root())?;
    for tool in &plan.tools {
        mount_bind(&plan.launcher, tool).map_err(|e| context(e.into(), "bind mount over", tool))?;
    }
    Ok(door)
}

fn watch() -> io::Result<OwnedFd> {
    let program = filter::program();
    sys::install_filter(&program).or_else(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => {
            // Without a user namespace there is no CAP_SYS_ADMIN, and the kernel wants this in its place.
            rustix::thread::set_no_new_privs(true)?;
            sys::install_filter(&program)
        }
        _ => Err(error),
    })
}

/// Gives the process through whose root the real tools are found, where the coordinator's cannot be used.
fn enter_namespaces(root: bool) -> io::Result<Option<u32>> {
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    let mut door = None;
    if !root {
        unshare(UnshareFlags::NEWUSER)?;
        fs::write("/proc/self/setgroups", "deny")?;
        fs::write("/proc/self/uid_map", format!("{0} {0} 1", uid.as_raw()))?;
        fs::write("/proc/self/gid_map", format!("{0} {0} 1", gid.as_raw()))?;
        door = Some(door::open()?);
    }
    unshare(UnshareFlags::NEWNS)?;
    let private = MountPropagationFlags::REC | MountPropagationFlags::PRIVATE;
    mount_change("/", private).map_err(|e| context(e.into(), "make private", Path::new("/")))?;
    Ok(door)
}

#[allow(unsafe_code, reason = "rustix marks unshare unsafe, for threads that share descriptors")]
fn unshare(flags: UnshareFlags) -> io::Result<()> {
    // SAFETY: this process has one thread, so none can be surprised by what is no longer shared.
    unsafe { rustix::thread::unshare_unsafe(flags) }.map_err(Into::into)
}

pub(crate) fn send(control: BorrowedFd<'_>, listener: Option<OwnedFd>, door: Option<u32>) -> io::Result<()> {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let fds: Vec<BorrowedFd<'_>> = listener.iter().map(AsFd::as_fd).collect();
    if !fds.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(&fds));
    }
    let mut data = vec![READY];
    data.extend(door.map_or_else(String::new, |pid| pid.to_string()).bytes());
    sendmsg(control, &[io::IoSlice::new(&data)], &mut ancillary, SendFlags::empty())?;
    Ok(())
}

fn context(error: io::Error, what: &str, path: &Path) -> io::Error {
    io::Error::new(error.kind(), format!("{what} `{}`: {error}", path.display()))
}
