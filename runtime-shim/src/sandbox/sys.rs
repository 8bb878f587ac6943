//! The system calls of the sandbox that no safe wrapper offers.
#![allow(unsafe_code, reason = "clone3, execve, signalfd, unshare and wait4 have no safe wrapper")]

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// Which side of a clone this is.
pub(crate) enum Cloned {
    /// The new process.
    Child,
    /// The old one, with the new one's pid.
    Parent(i32),
}

/// Clones this process (no memory shared, `SIGCHLD` at its end) into new namespaces (`CLONE_NEW…`).
///
/// # Errors
/// The kernel's; `InvalidInput` if this process has more than one thread: its child could then find a lock (that of the
/// allocator) held by a thread that it does not have.
pub(crate) fn clone_process(namespaces: libc::c_int) -> io::Result<Cloned> {
    // SAFETY: `clone_args` is plain integers, for which zero is the documented default.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = namespaces as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    // SAFETY: without CLONE_VM this is a fork: the child has its own copy of memory and stack. The caller has one thread
    // (checked where it is not evident), so no lock is held by a thread that the child lacks.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<libc::clone_args>()) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Cloned::Child),
        pid => Ok(Cloned::Parent(pid as i32)),
    }
}

/// Runs `life` in a new process that shares this one's memory, and waits until it has executed a program or ended
/// (`vfork`): 60 to 100 µs less than copying page tables that `execve` throws away. If `life` returns, it is with the
/// process's exit status. Returns the pid.
pub(crate) fn spawn_sharing_memory(life: &mut dyn FnMut() -> i32) -> io::Result<i32> {
    type Life<'a> = &'a mut dyn FnMut() -> i32;
    extern "C" fn enter(life: *mut libc::c_void) -> libc::c_int {
        // SAFETY: the pointer is to the `life` below, whose owner waits until this process is done with it.
        let life = unsafe { &mut *life.cast::<Life<'_>>() };
        life()
    }
    // Not zeroed by hand: fresh pages, of which the child touches a few.
    let mut stack = vec![0u128; 16 * 1024];
    let top = stack.as_mut_ptr_range().end;
    let mut life: Life<'_> = life;
    // SAFETY: the stack is ours, aligned, 256 KiB, and outlives the child's use of it, as CLONE_VFORK suspends this process
    // until then. This process has one thread, so nobody else sees what the child does to the shared memory; where
    // `enter` returns, libc ends the process.
    let pid = unsafe {
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
        libc::clone(enter, top.cast(), flags, (&raw mut life).cast())
    };
    check(pid).map(|()| pid)
}

/// Kills every process that this one may kill but itself; for PID 1: everything else in its namespace.
///
/// # Errors
/// `ESRCH` if there is none.
pub(crate) fn kill_all_others() -> io::Result<()> {
    // SAFETY: sends a signal; no memory is involved. Called by PID 1 of a sandbox only.
    check(unsafe { libc::kill(-1, libc::SIGKILL) })
}

/// Whether this process has one thread only.
pub(crate) fn is_single_threaded() -> bool {
    std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() == 1)
}

/// Leaves namespaces for new ones (`CLONE_NEW…`).
pub(crate) fn unshare(namespaces: libc::c_int) -> io::Result<()> {
    // SAFETY: only namespace flags are passed, and the caller has one thread: nothing that Rust relies on is unshared.
    check(unsafe { libc::unshare(namespaces) })
}

/// Executes a program; returns only if that failed.
pub(crate) fn execute(program: &CStr, args: &[CString], env: &[CString]) -> io::Error {
    let pointers = |list: &[CString]| -> Vec<*const libc::c_char> {
        list.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (args, env) = (pointers(args), pointers(env));
    // SAFETY: both arrays end with a null pointer and point to strings that outlive the call.
    unsafe { libc::execve(program.as_ptr(), args.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

/// Ends this process without running anything more of it.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` takes any status and does not return.
    unsafe { libc::_exit(code) }
}

/// Puts a seccomp filter on this process and its children, for good. No new privileges must have been asked for.
///
/// # Errors
/// The kernel's: `EINVAL` or `ENOSYS` if it was built without.
pub(crate) fn install_filter(program: &[libc::sock_filter]) -> io::Result<()> {
    let length = libc::c_ushort::try_from(program.len()).map_err(io::Error::other)?;
    let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    // SAFETY: `program` points to `len` filter instructions that live across the call; the kernel copies them.
    let done =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Gives every signal its default action and unblocks all: what a program expects at its start. (Rust ignores SIGPIPE.)
pub(crate) fn default_signals() {
    for signal in 1..=64 {
        // SAFETY: SIG_DFL needs no handler. Signals that may not be changed are refused by the kernel, which is fine.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    unblock_signals();
}

/// Unblocks all signals.
pub(crate) fn unblock_signals() {
    // SAFETY: the set is initialised by `sigemptyset` before it is read.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
    }
}

/// Blocks `SIGCHLD` and returns a descriptor that is readable while one is pending.
pub(crate) fn child_signals() -> io::Result<OwnedFd> {
    // SAFETY: the set is initialised by `sigemptyset` before it is read; the descriptor is new and ours.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        check(libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()))?;
        let fd = libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        check(fd)?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Waits for any child (`blocking`), or looks whether one has ended: its pid and its status.
///
/// # Errors
/// `ECHILD` when there is none left.
pub(crate) fn wait_any(blocking: bool) -> io::Result<Option<(i32, i32)>> {
    let mut status = 0;
    let options = if blocking { 0 } else { libc::WNOHANG };
    loop {
        // SAFETY: `status` is a valid place for the answer.
        match unsafe { libc::waitpid(-1, &raw mut status, options) } {
            0 => return Ok(None),
            -1 => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
            pid => return Ok(Some((pid, status))),
        }
    }
}

/// Processor time, and the largest resident set (bytes), of the children that this process waited for.
pub(crate) fn children_usage() -> (Duration, u64) {
    // SAFETY: `rusage` is plain integers; the kernel fills it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage);
        usage
    };
    let time = |t: libc::timeval| Duration::new(t.tv_sec as u64, t.tv_usec as u32 * 1000);
    (time(usage.ru_utime) + time(usage.ru_stime), usage.ru_maxrss as u64 * 1024)
}

/// Closes every descriptor from 3 up but these.
pub(crate) fn close_all_but(keep: &mut [RawFd]) {
    keep.sort_unstable();
    let mut first = 3;
    for &fd in keep.iter() {
        close_range(first, fd - 1);
        first = fd + 1;
    }
    close_range(first, i32::MAX);
}

fn close_range(first: RawFd, last: RawFd) {
    if first <= last {
        // SAFETY: called in a fresh child that uses none of these descriptors and leaves without dropping their owners.
        unsafe { libc::syscall(libc::SYS_close_range, first as libc::c_uint, last as libc::c_uint, 0) };
    }
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
