//! System calls of the probes that rustix does not wrap, or wraps as unsafe.
#![allow(
    unsafe_code,
    reason = "seccomp(2) has no safe wrapper; unshare(2) is unsafe in programs with several threads"
)]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use rustix::thread::UnshareFlags;

/// `SECCOMP_IOCTL_NOTIF_SET_FLAGS`, `_IOW('!', 4, u64)` of linux/seccomp.h.
const NOTIF_SET_FLAGS: libc::c_ulong = 0x4008_2104;

/// `SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP` of linux/seccomp.h (Linux 6.6).
const SYNC_WAKE_UP: libc::c_ulong = 1;

/// Leaves namespaces for new ones. Only for a probe's process, which has one thread.
pub(super) fn unshare(flags: UnshareFlags) -> io::Result<()> {
    // SAFETY: the flags name namespaces only, no descriptors, and this process has no other thread.
    unsafe { rustix::thread::unshare_unsafe(flags) }.map_err(Into::into)
}

/// Installs a filter that allows everything, with a listener.
pub(super) fn seccomp_listener() -> io::Result<OwnedFd> {
    rustix::thread::set_no_new_privs(true)?;
    let mut filter = libc::sock_filter {
        code: (libc::BPF_RET | libc::BPF_K) as u16,
        jt: 0,
        jf: 0,
        k: libc::SECCOMP_RET_ALLOW,
    };
    let program = libc::sock_fprog { len: 1, filter: &raw mut filter };
    // SAFETY: the program points to one instruction that lives until the call has copied it.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
            &raw const program,
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Asks for the supervisor to be woken on the caller's processor.
pub(super) fn wake_up_in_step(listener: &OwnedFd) -> io::Result<()> {
    // SAFETY: this request takes its argument by value and touches no memory.
    let answer = unsafe { libc::ioctl(listener.as_raw_fd(), NOTIF_SET_FLAGS, SYNC_WAKE_UP) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
