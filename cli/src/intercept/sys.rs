//! System calls that no crate wraps: seccomp listeners and reads of another process's memory.
#![allow(unsafe_code, reason = "raw ioctls and process_vm_readv; each block says why it is sound")]

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use libc::{c_int, c_ulong};

/// Wake the supervisor on the notifier's processor: 52 µs a call without it, 7.5 µs with it (measured on two
/// processors, Linux 6.18). Linux 6.6; `include/uapi/linux/seccomp.h`.
const SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP: u64 = 1;
const SECCOMP_IOCTL_NOTIF_RECV: c_ulong = 0xc050_2100;
const SECCOMP_IOCTL_NOTIF_SEND: c_ulong = 0xc018_2101;
const SECCOMP_IOCTL_NOTIF_SET_FLAGS: c_ulong = 0x4008_2104;

/// A system call that waits for an answer.
pub(crate) type Notification = libc::seccomp_notif;

/// Installs the filter on this thread and what comes of it; gives the listener.
///
/// # Errors
/// `EACCES` without `CAP_SYS_ADMIN` and no-new-privileges; `EBUSY` if a filter with a listener is there already.
pub(crate) fn install_filter(program: &[libc::sock_filter]) -> io::Result<OwnedFd> {
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
    let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    // SAFETY: `program` points to `len` filter instructions that live across the call; the kernel copies them.
    let fd =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given this descriptor to us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as c_int) })
}

/// Asks for wake-ups on the notifier's processor; an older kernel refuses, which only costs time.
pub(crate) fn set_sync_wake_up(listener: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: this ioctl takes its argument by value.
    check(unsafe {
        libc::ioctl(listener.as_raw_fd(), SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP)
    })
}

/// Waits for the next call. `ENOENT` if its process died meanwhile.
pub(crate) fn receive(listener: BorrowedFd<'_>) -> io::Result<Notification> {
    // SAFETY: all zeros is a valid value, and the one that the kernel demands.
    let mut notification: Notification = unsafe { std::mem::zeroed() };
    debug_assert_eq!(size_of::<Notification>(), 80);
    // SAFETY: `notification` is a writable struct of the size that the ioctl number names.
    check(unsafe { libc::ioctl(listener.as_raw_fd(), SECCOMP_IOCTL_NOTIF_RECV, &raw mut notification) })?;
    Ok(notification)
}

/// Lets the kernel carry out the call. `ENOENT` if its process died meanwhile.
pub(crate) fn let_go(listener: BorrowedFd<'_>, id: u64) -> io::Result<()> {
    let response = libc::seccomp_notif_resp {
        id,
        val: 0,
        error: 0,
        flags: libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32,
    };
    // SAFETY: `response` is a readable struct of the size that the ioctl number names.
    check(unsafe { libc::ioctl(listener.as_raw_fd(), SECCOMP_IOCTL_NOTIF_SEND, &raw const response) })
}

fn check(result: c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Reads the NUL-ended string at `address` of another process, up to `PATH_MAX`.
pub(crate) fn read_path(pid: u32, address: u64) -> io::Result<Vec<u8>> {
    let mut path = Vec::new();
    let mut at = address;
    while path.len() < libc::PATH_MAX as usize {
        let mut chunk = [0u8; 256];
        // A page may be the last that is mapped: never cross into the next.
        let want = chunk.len().min(4096 - (at as usize & 4095));
        let local = libc::iovec { iov_base: chunk.as_mut_ptr().cast(), iov_len: want };
        let remote = libc::iovec { iov_base: at as usize as *mut libc::c_void, iov_len: want };
        // SAFETY: `local` describes our own buffer; the kernel checks `remote` against the other process.
        let n = unsafe { libc::process_vm_readv(pid as c_int, &raw const local, 1, &raw const remote, 1, 0) };
        if n <= 0 {
            return Err(io::Error::last_os_error());
        }
        let got = &chunk[..n as usize];
        if let Some(end) = got.iter().position(|&b| b == 0) {
            path.extend_from_slice(&got[..end]);
            return Ok(path);
        }
        path.extend_from_slice(got);
        at += n as u64;
    }
    Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG))
}

/// Reads `len` bytes at `address` of another process; an error if not all can be read.
pub(crate) fn read_memory(pid: u32, address: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0u8; len];
    let mut done = 0;
    while done < len {
        let local = libc::iovec { iov_base: bytes[done..].as_mut_ptr().cast(), iov_len: len - done };
        let from = (address as usize).wrapping_add(done);
        let remote = libc::iovec { iov_base: from as *mut libc::c_void, iov_len: len - done };
        // SAFETY: `local` describes the rest of our own buffer; the kernel checks `remote` against the other process.
        let n = unsafe { libc::process_vm_readv(pid as c_int, &raw const local, 1, &raw const remote, 1, 0) };
        if n <= 0 {
            return Err(io::Error::last_os_error());
        }
        done += n as usize;
    }
    Ok(bytes)
}

/// Reads the arguments of an `execve` of another process: pointers to strings, ended by NULL. At most `most` of them, an error if
/// there are more.
pub(crate) fn read_args(pid: u32, address: u64, most: usize) -> io::Result<Vec<Vec<u8>>> {
    let mut args = Vec::new();
    for at in (address..).step_by(size_of::<u64>()).take(most + 1) {
        let pointer = read_memory(pid, at, size_of::<u64>())?;
        let pointer = u64::from_ne_bytes(pointer.try_into().expect("eight bytes were asked for"));
        if pointer == 0 {
            return Ok(args);
        }
        args.push(read_path(pid, pointer)?);
    }
    Err(io::Error::from_raw_os_error(libc::E2BIG))
}

/// Lets the command's process, and no other that starts at the same time, inherit a descriptor under its own number.
pub(crate) fn inherit(command: &mut std::process::Command, fd: BorrowedFd<'_>) {
    use std::os::unix::process::CommandExt;
    let number = fd.as_raw_fd();
    // SAFETY: between fork and exec the closure makes one system call and touches no memory but its own integer.
    unsafe {
        command.pre_exec(move || check(libc::fcntl(number, libc::F_SETFD, 0)));
    }
}

/// Has a command start with this file mode creation mask.
pub(crate) fn with_umask(command: &mut std::process::Command, mask: u32) {
    use std::os::unix::process::CommandExt;
    // SAFETY: between fork and exec the closure makes one system call, which cannot fail, and touches no memory.
    unsafe {
        command.pre_exec(move || {
            libc::umask(mask);
            Ok(())
        });
    }
}

/// Sends a signal; a process that is gone is no error.
pub(crate) fn kill(pid: i32, signal: i32) {
    // SAFETY: kill touches no memory of ours.
    unsafe {
        libc::kill(pid, signal);
    }
}
