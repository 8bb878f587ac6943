//! System calls that no crate wraps: starting a program with exactly these arguments and this environment, and giving a
//! process what another one has.
#![allow(unsafe_code, reason = "fork, execve, prlimit and signal; each block says why it is sound")]

use std::ffi::{CString, c_char};
use std::io;

/// Starts a program: environment and arguments byte for byte, in this order.
///
/// # Errors
/// If a string holds a NUL or no process can be made. What hinders execution shows as exit status 126.
pub(super) fn start(path: &[u8], args: &[Vec<u8>], env: &[Vec<u8>]) -> io::Result<i32> {
    let path = CString::new(path)?;
    let text = |list: &[Vec<u8>]| {
        list.iter().map(|item| CString::new(item.as_slice())).collect::<Result<Vec<_>, _>>()
    };
    let (args, env) = (text(args)?, text(env)?);
    let pointers = |list: &[CString]| -> Vec<*const c_char> {
        list.iter().map(|item| item.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (argv, envp) = (pointers(&args), pointers(&env));
    // SAFETY: this process has one thread, so the child may go on as any process does.
    let child = unsafe { libc::fork() };
    if child < 0 {
        return Err(io::Error::last_os_error());
    }
    if child == 0 {
        // SAFETY: the arrays end with a null pointer and point to strings that live until here; `_exit` runs nothing of ours.
        unsafe {
            libc::execve(path.as_ptr(), argv.as_ptr(), envp.as_ptr());
            libc::_exit(126);
        }
    }
    Ok(child)
}

/// How many kinds of resource limits there are (`RLIM_NLIMITS`, `asm-generic/resource.h`).
const LIMITS: u32 = 16;

/// Gives this process the resource limits and the priority of another.
pub(super) fn take_limits(from: i32) {
    for resource in 0..LIMITS {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: `limit` is a writable and then a readable struct of the kind that the call takes.
        unsafe {
            if libc::prlimit(from, resource, std::ptr::null(), &raw mut limit) == 0 {
                libc::setrlimit(resource, &raw const limit);
            }
        }
    }
    // SAFETY: these calls touch no memory.
    unsafe {
        let nice = libc::getpriority(libc::PRIO_PROCESS, from as u32);
        libc::setpriority(libc::PRIO_PROCESS, 0, nice);
    }
}

/// Ignores the signals whose bits are set, the lowest being signal 1. `SIGPIPE`, which Rust ignores from the start, is
/// ignored only if its bit is set.
pub(super) fn ignore_signals(bits: u64) {
    // SAFETY: as below.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
    }
    for signal in (1..=64).filter(|signal| bits >> (signal - 1) & 1 == 1) {
        // SAFETY: no handler of ours is replaced: this process has none.
        unsafe {
            libc::signal(signal, libc::SIG_IGN);
        }
    }
}

/// Makes orphans below this process its children.
pub(super) fn adopt_orphans() -> io::Result<()> {
    // SAFETY: this call takes numbers only.
    match unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Waits for a child, or with -1 for any: its wait status. Nothing if there is none (left, or of that number).
pub(super) fn wait(child: i32) -> Option<i32> {
    let mut status = 0;
    loop {
        // SAFETY: `status` is a valid place for the result.
        let ended = unsafe { libc::waitpid(child, &raw mut status, 0) };
        if ended >= 0 {
            return Some(status);
        }
        if io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            return None;
        }
    }
}

/// Whether children are left that have not ended; those that have are put away.
pub(super) fn has_children() -> bool {
    loop {
        let mut status = 0;
        // SAFETY: `status` is a valid place for the result.
        match unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) } {
            0 => return true,
            ended if ended < 0 => return false,
            _ => {}
        }
    }
}
