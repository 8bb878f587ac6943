//! The placeholders of this session: files that stand where outputs will be.
//!
//! Each is pinned by an open descriptor and filled through it, in place: a placeholder that was moved, linked or deleted
//! meanwhile is still the same inode, and its number cannot go to another file.
//! **Invariant:** a file is in the table from before it can be opened until its real bytes are in it or it is removed.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use ggr_ir::{OutputRef, placeholder};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;
use tokio::sync::watch;

use crate::intercept::supervisor::{FileId, Held};

/// How much of a file is written last: a page, which the kernel copies in one go.
const HEAD: usize = 4096;

/// One placeholder.
pub(crate) struct Placeholder {
    /// Open as long as it is a placeholder: a program that is open for writing cannot be executed (`ETXTBSY`).
    file: Mutex<Option<File>>,
    id: FileId,
    /// Where it was made.
    pub(crate) path: PathBuf,
    /// What it stands for.
    pub(crate) output: OutputRef,
    held: Mutex<Vec<Held>>,
    /// Becomes true when the file is real or gone.
    settled: watch::Sender<bool>,
}

/// All of them.
#[derive(Default)]
pub(crate) struct Placeholders {
    files: Mutex<HashMap<FileId, Arc<Placeholder>>>,
    /// Set while a build is being stopped: no new ones then.
    closed: AtomicBool,
    /// What was put down in this pass over the build: files that plain make would perhaps not have made yet.
    made: Mutex<Vec<(PathBuf, FileId)>>,
    count: AtomicUsize,
}

impl Placeholders {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// Makes a placeholder at `path`, replacing the file that is there as the tool itself would.
    ///
    /// # Errors
    /// Those of unlinking and creating: the caller then runs the tool here, which says it best.
    pub(crate) fn create(
        &self,
        path: &Path,
        output: OutputRef,
        permissions: u32,
    ) -> io::Result<Arc<Placeholder>> {
        remove_if_there(path)?;
        let (mut file, named) = new_file(path)?;
        file.write_all(&placeholder::bytes(&output))?;
        file.set_permissions(fs::Permissions::from_mode(permissions))?;
        let meta = file.metadata()?;
        let id = (meta.dev(), meta.ino());
        let made = Arc::new(Placeholder {
            file: Mutex::new(Some(file)),
            id,
            path: path.to_owned(),
            output,
            held: Mutex::default(),
            settled: watch::Sender::new(false),
        });
        let mut files = self.files.lock().expect("no holder panics");
        if self.closed.load(Ordering::Acquire) {
            remove_if_there(path)?;
            return Err(io::Error::other("the build is being stopped"));
        }
        files.insert(id, Arc::clone(&made));
        self.count.fetch_add(1, Ordering::AcqRel);
        // Only with its name can anybody open it: it is whole then, and on the table.
        if !named && let Err(error) = made.give_name() {
            files.remove(&id);
            self.count.fetch_sub(1, Ordering::AcqRel);
            return Err(error);
        }
        self.made.lock().expect("no holder panics").push((path.to_owned(), id));
        Ok(made)
    }

    /// From now on none are made; gives those that are left.
    pub(crate) fn close(&self) -> Vec<Arc<Placeholder>> {
        let files = self.files.lock().expect("no holder panics");
        self.closed.store(true, Ordering::Release);
        files.values().cloned().collect()
    }

    /// Removes every file that was put down in this pass and still stands where it was put, and allows new ones. The next
    /// pass makes again, from the cache, those that plain make would have made.
    pub(crate) fn roll_back(&self) {
        for (path, id) in self.made.lock().expect("no holder panics").drain(..) {
            if fs::symlink_metadata(&path).is_ok_and(|meta| (meta.dev(), meta.ino()) == id) {
                let _ = fs::remove_file(&path);
            }
        }
        self.closed.store(false, Ordering::Release);
    }

    /// Notes a file that was written beside placeholders (a depfile).
    pub(crate) fn note_written(&self, path: &Path) {
        if let Ok(meta) = fs::symlink_metadata(path) {
            let id = (meta.dev(), meta.ino());
            self.made.lock().expect("no holder panics").push((path.to_owned(), id));
        }
    }

    /// The placeholder that this file is.
    pub(crate) fn find(&self, id: FileId) -> Option<Arc<Placeholder>> {
        if self.len() == 0 {
            return None;
        }
        self.files.lock().expect("no holder panics").get(&id).cloned()
    }

    /// All that are left.
    pub(crate) fn all(&self) -> Vec<Arc<Placeholder>> {
        self.files.lock().expect("no holder panics").values().cloned().collect()
    }

    /// Puts the real bytes into the placeholder and lets go whoever waits for it. Gives where the file is now; nothing if it
    /// was deleted.
    ///
    /// # Errors
    /// The placeholder stays what it is if its bytes cannot be written (a full disk).
    pub(crate) fn fill(&self, placeholder: &Placeholder, bytes: &[u8]) -> io::Result<Option<PathBuf>> {
        let path = placeholder.current_path();
        let file = placeholder.file.lock().expect("no holder panics").take();
        if let Some(file) = file
            && let Err(error) = fill_in_place(&file, bytes)
        {
            *placeholder.file.lock().expect("no holder panics") = Some(file);
            return Err(error);
        }
        self.forget(placeholder);
        Ok(path)
    }

    /// Takes the placeholder off the table (its file has become real, or is gone) and lets go whoever waits.
    pub(crate) fn forget(&self, placeholder: &Placeholder) {
        if self.files.lock().expect("no holder panics").remove(&placeholder.id).is_some() {
            self.count.fetch_sub(1, Ordering::AcqRel);
        }
        placeholder.file.lock().expect("no holder panics").take();
        placeholder.settled.send_replace(true);
        placeholder.held.lock().expect("no holder panics").clear();
    }

    /// Removes a placeholder that will never become real, wherever it was moved to.
    pub(crate) fn remove(&self, placeholder: &Placeholder) {
        if let Some(path) = placeholder.current_path() {
            // It may have gone meanwhile, which is what we want.
            let _ = fs::remove_file(path);
        }
        self.forget(placeholder);
    }

    /// Holds a call until the placeholder is real. If it has become real meanwhile, the call goes on at once.
    pub(crate) fn hold(&self, placeholder: &Placeholder, call: Held) {
        let files = self.files.lock().expect("no holder panics");
        if files.contains_key(&placeholder.id) {
            placeholder.held.lock().expect("no holder panics").push(call);
        }
    }

    /// The processes that wait for a placeholder.
    pub(crate) fn waiting(&self) -> Vec<u32> {
        let files = self.files.lock().expect("no holder panics");
        files
            .values()
            .flat_map(|p| p.held.lock().expect("no holder panics").iter().map(|h| h.pid).collect::<Vec<_>>())
            .collect()
    }
}

impl Placeholder {
    /// Waits until the file is real or gone.
    pub(crate) async fn settled(&self) {
        // The sender lives as long as `self`, so this cannot fail.
        let _ = self.settled.subscribe().wait_for(|settled| *settled).await;
    }

    /// Where the file is now; nothing if it was deleted.
    pub(crate) fn current_path(&self) -> Option<PathBuf> {
        if self.stands_at(&self.path) {
            return Some(self.path.clone());
        }
        let file = self.file.lock().expect("no holder panics");
        let path = fs::read_link(format!("/proc/self/fd/{}", file.as_ref()?.as_raw_fd())).ok()?;
        let meta = fs::symlink_metadata(&path).ok()?;
        ((meta.dev(), meta.ino()) == self.id).then_some(path)
    }

    /// How many names it has: none if it was deleted, or is about to get its first.
    pub(crate) fn names(&self) -> u64 {
        let file = self.file.lock().expect("no holder panics");
        file.as_ref().and_then(|file| file.metadata().ok()).map_or(0, |meta| meta.nlink())
    }

    /// Gives a file without a name its name, and opens it again under it: the kernel then knows where it is, also after it
    /// was moved.
    fn give_name(&self) -> io::Result<()> {
        let mut file = self.file.lock().expect("no holder panics");
        let Some(nameless) = file.as_ref() else { return Ok(()) };
        let from = format!("/proc/self/fd/{}", nameless.as_raw_fd());
        rustix::fs::linkat(CWD, from, CWD, &self.path, AtFlags::SYMLINK_FOLLOW)?;
        let named = OpenOptions::new().read(true).write(true).open(&self.path);
        let same = |file: &File| file.metadata().is_ok_and(|meta| (meta.dev(), meta.ino()) == self.id);
        // Somebody may have moved it already: then the first descriptor has to do.
        if let Some(named) = named.ok().filter(same) {
            *file = Some(named);
        }
        Ok(())
    }

    /// The file as it is now; nothing once it is real.
    pub(crate) fn metadata(&self) -> Option<fs::Metadata> {
        self.file.lock().expect("no holder panics").as_ref()?.metadata().ok()
    }

    /// Whether this is the file at the path.
    pub(crate) fn stands_at(&self, path: &Path) -> bool {
        fs::symlink_metadata(path).is_ok_and(|meta| (meta.dev(), meta.ino()) == self.id)
    }
}

/// Replaces a placeholder's bytes by the real ones: same inode, so that hard links see them too; same times, so that make's
/// order stays. The first page is written last and at once: a file that was killed half way still starts as a placeholder.
pub(crate) fn fill_in_place(file: &File, bytes: &[u8]) -> io::Result<()> {
    let before = file.metadata()?;
    let (head, tail) = bytes.split_at(bytes.len().min(HEAD));
    file.write_all_at(tail, head.len() as u64)?;
    file.write_all_at(head, 0)?;
    file.set_len(bytes.len() as u64)?;
    keep_times(file, &before)
}

/// A new file, without a name yet where the file system has such files (`O_TMPFILE`), and whether it has one.
fn new_file(path: &Path) -> io::Result<(File, bool)> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let dir = path.parent().unwrap_or(Path::new("/"));
    match rustix::fs::open(dir, flags, Mode::from_raw_mode(0o600)) {
        Ok(file) => Ok((file.into(), false)),
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {
            let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
            Ok((file, true))
        }
        Err(e) => Err(e.into()),
    }
}

/// Sets a file's times back to what they were: make compares them.
pub(crate) fn keep_times(file: &File, before: &fs::Metadata) -> io::Result<()> {
    let times = Timestamps {
        last_access: Timespec { tv_sec: before.atime(), tv_nsec: before.atime_nsec() as _ },
        last_modification: Timespec { tv_sec: before.mtime(), tv_nsec: before.mtime_nsec() as _ },
    };
    rustix::fs::futimens(file, &times).map_err(Into::into)
}

pub(crate) fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}
