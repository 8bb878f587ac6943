//! `ggr __capture`: the step between the coordinator and a captured program.
//!
//! A process of its own, with one thread: it goes where the caller is (namespaces, directory, process group, limits),
//! installs the filter, hands the listener to the coordinator, waits for its word, runs the program as its child, and says
//! how it ended and whether it left processes behind. Its descriptors 0 to 2 are the caller's.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;

use ggr_ir::protocol::launcher::{Request, read_frame};
use rustix::process::Pid;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::{calls, sys};
use crate::intercept::filter;
use crate::intercept::sys::install_filter;

/// What is said when the program has ended: its wait status, and whether processes of it are left.
pub(super) type Ended = [u8; 5];

/// Runs the step. `caller` is the launcher that waits; reads of `inherited` descriptors are told.
pub(crate) fn run(control: i32, caller: i32, inherited: &[u32]) -> io::Result<()> {
    let mut control = control_stream(control);
    let request = Request::from_frame(&read_frame(&control)?)?;
    follow(caller, &request)?;
    sys::adopt_orphans()?;
    let filter = filter::watching(&calls::watched(), calls::watched_on_inherited(), inherited);
    let listener = install_filter(&filter)?;
    crate::intercept::enter::send(control.as_fd(), Some(listener), None)?;
    let mut go = [0u8; 1];
    control.read_exact(&mut go)?;
    let child = sys::start(&request.program, &request.args, &request.env)?;
    let status = sys::wait(child).unwrap_or(126 << 8);
    let left = sys::has_children();
    let mut ended: Ended = [0; 5];
    ended[..4].copy_from_slice(&status.to_le_bytes());
    ended[4] = u8::from(left);
    control.write_all(&ended)?;
    while left && sys::wait(-1).is_some() {}
    Ok(())
}

#[allow(unsafe_code, reason = "takes over a descriptor that the parent put at a known number")]
fn control_stream(number: i32) -> UnixStream {
    // SAFETY: the coordinator starts this process with its socket at this number, and nothing else owns it.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    let _ = rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC);
    fd.into()
}

/// Goes where the caller is.
fn follow(caller: i32, request: &Request) -> io::Result<()> {
    let pid = Pid::from_raw(caller).ok_or(io::ErrorKind::InvalidInput)?;
    // The process group may be gone, or of another session: then signals reach the program through its launcher alone.
    if let Ok(group) = rustix::process::getpgid(Some(pid)) {
        let _ = rustix::process::setpgid(None, Some(group));
    }
    sys::take_limits(caller);
    sys::ignore_signals(ignored_signals(caller)?);
    for (name, kind) in [("user", LinkNameSpaceType::User), ("mnt", LinkNameSpaceType::Mount)] {
        let (ours, theirs) = (format!("/proc/self/ns/{name}"), format!("/proc/{caller}/ns/{name}"));
        if std::fs::read_link(&ours)? != std::fs::read_link(&theirs)? {
            move_into_link_name_space(std::fs::File::open(theirs)?.as_fd(), Some(kind))?;
        }
    }
    std::env::set_current_dir(std::ffi::OsStr::from_bytes(&request.dir))?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(request.umask));
    Ok(())
}

/// The signals that a process ignores, as bits.
fn ignored_signals(pid: i32) -> io::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let bits = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    bits.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).ok_or(io::ErrorKind::InvalidData.into())
}
