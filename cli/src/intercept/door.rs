//! The way from inside a build to the real tools, which lie below the launcher there.
//!
//! `/proc/PID/root` of a process outside of the build's mount namespace leads to them. Root takes the coordinator's. An
//! ordinary user's build stands in a user namespace of its own, from which the kernel refuses to look into the one above
//! (`PTRACE_MODE_READ`, `ptrace(2)`); so a process is left standing in between: in the build's user namespace, but with the
//! mounts of before.

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, getppid, pidfd_open};

/// Leaves a process here that lives as long as our parent, the coordinator; gives its id.
///
/// It is no child of ours: a build command that waits for all its children would wait for it.
///
/// # Errors
/// No process could be started, or the coordinator is gone.
pub(super) fn open() -> io::Result<u32> {
    let coordinator = getppid().ok_or(io::ErrorKind::NotFound)?.as_raw_pid().to_string();
    let output = command(&coordinator).arg("behind").stderr(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    said.trim()
        .parse()
        .map_err(|_| io::Error::other("no process could be left outside of the build's mounts"))
}

/// `ggr __door COORDINATOR [behind]`.
///
/// # Errors
/// As [`open`].
pub(crate) fn run(args: &[OsString]) -> io::Result<()> {
    let coordinator = args.first().and_then(|text| text.to_str()).ok_or(io::ErrorKind::InvalidInput)?;
    if args.len() > 1 {
        let left = command(coordinator).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        return writeln!(io::stdout(), "{}", left.id());
    }
    let pid = coordinator.parse().ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
    let coordinator = pidfd_open(pid, PidfdFlags::empty())?;
    loop {
        // The limit is for a signal that interrupts; none is awaited.
        let limit = Duration::from_secs(3600).try_into().ok();
        match poll(&mut [PollFd::new(&coordinator, PollFlags::IN)], limit.as_ref()) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            _ => return Ok(()),
        }
    }
}

fn command(coordinator: &str) -> Command {
    use std::os::unix::process::CommandExt;
    let mut command = Command::new("/proc/self/exe");
    command.arg("__door").arg(coordinator).stdin(Stdio::null()).current_dir("/").process_group(0).env_clear();
    command
}
