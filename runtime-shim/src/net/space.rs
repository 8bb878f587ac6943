//! A network namespace, held by a descriptor.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::Route;
use crate::sandbox::sys;

/// A network namespace. It lives at least as long as this.
#[derive(Debug)]
pub struct NetSpace(OwnedFd);

impl NetSpace {
    /// The one that this thread is in.
    ///
    /// # Errors
    /// `/proc` is not there or not this process's.
    pub fn current() -> io::Result<Self> {
        Ok(Self(File::open("/proc/thread-self/ns/net")?.into()))
    }

    /// Makes an empty one (its `lo` is down), with a socket in it. This thread is where it was afterwards; no other thread
    /// is touched.
    ///
    /// # Errors
    /// The kernel's; if the way back is barred (`EPERM` without `CAP_SYS_ADMIN` over the old one) this thread stays in the
    /// new namespace and should end.
    pub fn make() -> io::Result<(Self, Route)> {
        let home = Self::current()?;
        sys::unshare(libc::CLONE_NEWNET)?;
        let made = Self::current().and_then(|space| Ok((space, Route::open()?)));
        home.enter()?;
        made
    }

    /// Moves this thread into it.
    ///
    /// # Errors
    /// `EPERM` without `CAP_SYS_ADMIN` over it and over oneself.
    pub fn enter(&self) -> io::Result<()> {
        Ok(move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network))?)
    }
}

impl AsFd for NetSpace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
