//! The system calls of the Lambda worker that no safe wrapper offers.
#![allow(unsafe_code, reason = "wait4, pre_exec and prctl have no safe wrapper")]

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Resource, Rlimit};

/// Bounds and default signals for a program, set between `fork` and `exec`.
pub(super) fn limit(command: &mut Command, memory: u64, file_size: u64) {
    let bounds =
        [(Resource::Core, Some(0)), (Resource::As, bound(memory)), (Resource::Fsize, bound(file_size))];
    let prepare = move || {
        // Whoever started us may ignore some, and a program inherits that.
        crate::sandbox::sys::default_signals();
        for (resource, bound) in bounds.iter().filter(|(_, bound)| bound.is_some()) {
            let limit = Rlimit { current: *bound, maximum: *bound };
            rustix::process::setrlimit(*resource, limit)?;
        }
        Ok(())
    };
    // SAFETY: between `fork` and `exec` the closure makes system calls only; it takes no lock and no memory.
    unsafe { command.pre_exec(prepare) };
}

fn bound(bytes: u64) -> Option<u64> {
    (bytes > 0).then_some(bytes)
}

/// How a child ended.
pub(super) struct Ended {
    pub(super) status: i32,
    pub(super) cpu: Duration,
    pub(super) max_rss: u64,
}

/// Waits for a child.
pub(super) fn wait(pid: i32) -> io::Result<Ended> {
    let mut status = 0;
    loop {
        // SAFETY: `rusage` is plain integers; the kernel fills both.
        let (result, usage) = unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            (libc::wait4(pid, &raw mut status, 0, &raw mut usage), usage)
        };
        if result == pid {
            let time = |t: libc::timeval| Duration::new(t.tv_sec as u64, t.tv_usec as u32 * 1000);
            let cpu = time(usage.ru_utime) + time(usage.ru_stime);
            return Ok(Ended { status, cpu, max_rss: usage.ru_maxrss as u64 * 1024 });
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Makes this process the parent of whatever its descendants leave behind.
pub(super) fn adopt_orphans() -> io::Result<()> {
    // SAFETY: sets a flag of this process; no memory is involved.
    match unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
