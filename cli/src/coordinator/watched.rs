//! What stands at paths that were looked at, for as long as the kernel reports no change (`inotify(7)`).
//!
//! A header is an input of most calls of a build. A `stat` for each of them in each call was a third of the time of a build
//! whose results are all recorded; here the second call finds out by one read of the inotify descriptor that nothing has
//! changed.
//!
//! Watched are each file's inode (changes of its bytes by whatever name), and each directory on the way to it (names that
//! come, go or are replaced, symlinks that are turned elsewhere).
//!
//! **Invariant:** after [`Watched::refresh`] nothing is answered that a change made before it has outdated: the kernel queues
//! an event before the call that caused it returns. Watches are set before the file is looked at, so a change meanwhile has
//! the answer thrown away.
//!
//! Left out, and looked at each time: what the first calls of a build look at, as most builds have little to do, and the
//! kernel goes through all names that it remembers of a directory when it is first watched (30 ms were seen); files on other
//! than local file systems (a change by another machine is not reported), and all that is beyond the kernel's bounds on
//! watches. Not noticed: a file system mounted over a directory in our own
//! namespace during the build, and bytes stored through a shared mapping before it is unmapped, by a process that is not of
//! the build (one of the build is seen when it opens the file).

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockWriteGuard};

use ggr_ir::BlobId;
use rustc_hash::FxHashMap;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader};
use rustix::io::Errno;

use self::directories::Directories;
use self::watches::{Followed, Watches};
use crate::intercept::supervisor::FileId;

mod directories;
mod watches;

/// A build with fewer calls than this is not worth a watch.
const FEW_CALLS: u64 = 3;

/// What stands at a path, symlinks followed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Standing {
    /// Nothing.
    Nothing,
    /// A regular file that is no placeholder.
    File {
        /// Its bytes.
        blob: BlobId,
        /// Whether anybody may execute it.
        executable: bool,
    },
}

/// An answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Known {
    /// What stands there.
    pub(crate) standing: Standing,
    /// Whether the path itself is a symlink.
    pub(crate) is_link: bool,
}

/// The right to say what stands at a path that is being looked at.
#[derive(Debug)]
pub(crate) struct Look {
    path: Name,
    number: u64,
    followed: Followed,
}

/// A path, or one name of it.
type Name = Box<[u8]>;

#[derive(Clone, Copy, Debug)]
enum Entry {
    Looking(u64),
    Known(Known),
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Watched {
    inotify: Option<OwnedFd>,
    entries: RwLock<FxHashMap<Name, Entry>>,
    /// Where paths lead that are symlinks themselves; nothing for those that are none.
    links: RwLock<FxHashMap<Name, Option<PathBuf>>>,
    directories: Directories,
    watches: Mutex<Watches>,
    number: AtomicU64,
    /// How many calls have asked for a fresh view.
    calls: AtomicU64,
}

impl Watched {
    /// Knows nothing yet; and never will where there is no inotify.
    pub(crate) fn new() -> Self {
        Self {
            inotify: inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).ok(),
            entries: RwLock::default(),
            links: RwLock::default(),
            directories: Directories::default(),
            watches: Mutex::default(),
            number: AtomicU64::new(0),
            calls: AtomicU64::new(0),
        }
    }

    /// What stands at the path, if it is known.
    pub(crate) fn known(&self, path: &Path) -> Option<Known> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        match entries.get(path.as_os_str().as_bytes())? {
            Entry::Known(known) => Some(*known),
            Entry::Looking(_) => None,
        }
    }

    /// The kernel's reports, once they are worth their price.
    fn inotify(&self) -> Option<&OwnedFd> {
        self.inotify.as_ref().filter(|_| self.calls.load(Ordering::Relaxed) >= FEW_CALLS)
    }

    /// Forgets what has changed since the last time. To be called once for each call of the build.
    pub(crate) fn refresh(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let Some(inotify) = self.inotify() else { return };
        let mut watches = self.watches();
        let mut buffer = [MaybeUninit::uninit(); 8192];
        let mut reader = Reader::new(inotify, &mut buffer);
        loop {
            match reader.next() {
                Ok(event) => {
                    let name = event.file_name().map_or(&b""[..], CStr::to_bytes);
                    self.changed(&mut watches, (event.wd(), name.into()), event.events());
                }
                Err(Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }

    fn changed(&self, watches: &mut Watches, what: (i32, Name), how: ReadFlags) {
        let everything = ReadFlags::MOVE_SELF | ReadFlags::UNMOUNT | ReadFlags::QUEUE_OVERFLOW;
        let gone = ReadFlags::DELETE_SELF | ReadFlags::IGNORED;
        if how.intersects(everything)
            || watches.ways.contains(&what)
            || (how.intersects(gone) && watches.is_dir(what.0))
        {
            *watches = Watches::default();
            self.entries_mut().clear();
            self.links.write().unwrap_or_else(PoisonError::into_inner).clear();
            self.directories.clear();
        } else {
            if let Some(paths) = watches.listed.remove(&what.0) {
                self.directories.forget(&paths);
            }
            self.forget_all(watches.names.remove(&what));
        }
    }

    /// The target if the path itself is a symlink.
    pub(crate) fn link_target(&self, path: &Path) -> Option<PathBuf> {
        if self.known(path).is_some_and(|known| !known.is_link) {
            return None;
        }
        let text = path.as_os_str().as_bytes();
        let links = self.links.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(target) = links.get(text) {
            return target.clone();
        }
        drop(links);
        let mut watches = self.watches();
        let watched = self.inotify().is_some_and(|inotify| watches.watch_name(inotify, &text.into()));
        // Read after the watch was set, and kept before anybody can hear of a change: the lock is held.
        let target = std::fs::read_link(path).ok();
        if watched {
            let mut links = self.links.write().unwrap_or_else(PoisonError::into_inner);
            links.insert(text.into(), target.clone());
        }
        target
    }

    /// Announces that somebody looks at the path now, and will [`learn`](Self::learn) what stands there; nothing if a change
    /// would not be noticed.
    pub(crate) fn look(&self, path: &Path) -> Option<Look> {
        let inotify = self.inotify()?;
        let path: Name = path.as_os_str().as_bytes().into();
        let mut watches = self.watches();
        let followed = watches.follow(inotify, &path)?;
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        self.entries_mut().insert(path.clone(), Entry::Looking(number));
        Some(Look { path, number, followed })
    }

    /// What was seen after [`look`](Self::look), and which file it is, if one is there.
    pub(crate) fn learn(&self, look: Look, standing: Standing, file: Option<FileId>) {
        let mut watches = self.watches();
        match (file, look.followed.watch) {
            (Some(file), Some(watch)) => drop(watches.files.insert(file, watch)),
            (None, None) => {}
            // It came or went meanwhile.
            _ => return,
        }
        if let Some(entry) = self.entries_mut().get_mut(&look.path)
            && matches!(entry, Entry::Looking(number) if *number == look.number)
        {
            *entry = Entry::Known(Known { standing, is_link: look.followed.is_link });
        }
    }

    /// Forgets a file, by all its paths.
    pub(crate) fn forget(&self, file: FileId) {
        let mut watches = self.watches();
        if let Some(watch) = watches.files.remove(&file) {
            self.forget_all(watches.names.remove(&(watch, Name::default())));
        }
    }

    fn forget_all(&self, paths: Option<Vec<Name>>) {
        let Some(paths) = paths else { return };
        self.directories.forget(&paths);
        let mut entries = self.entries_mut();
        let mut links = self.links.write().unwrap_or_else(PoisonError::into_inner);
        for path in paths {
            entries.remove(&path);
            links.remove(&path);
        }
    }

    fn watches(&self) -> MutexGuard<'_, Watches> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn entries_mut(&self) -> RwLockWriteGuard<'_, FxHashMap<Name, Entry>> {
        self.entries.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
