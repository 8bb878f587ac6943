//! The real file system as a [`FileView`], for measuring and checking the scanner.

use std::fs::Metadata;
use std::hash::{Hash, Hasher};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use ggr_ir::BlobId;
use ggr_models::{Directory, FileView, Found};
use rustc_hash::FxHashMap;

/// What was found at a path.
type Seen<T> = Mutex<FxHashMap<Box<[u8]>, Option<T>>>;

/// Files as they are; nothing is stored.
#[derive(Default)]
pub(crate) struct RealFiles {
    /// Whether what was looked at once is known until [`RealFiles::forget`]. A build's view is like that: the kernel tells it
    /// of changes.
    pub(crate) remembers: bool,
    files: Seen<Metadata>,
    links: Seen<PathBuf>,
    dirs: Seen<Directory>,
    /// How often the kernel was asked for a file, a link, a directory, and bytes.
    asked: Mutex<[u64; 4]>,
}

impl RealFiles {
    /// A view that looks at each path once.
    pub(crate) fn remembering() -> RealFiles {
        RealFiles { remembers: true, ..RealFiles::default() }
    }

    /// Forgets what was looked at.
    pub(crate) fn forget(&self) {
        lock(&self.files).clear();
        lock(&self.links).clear();
        lock(&self.dirs).clear();
    }

    /// How often the kernel was asked since the last time.
    pub(crate) fn take_asked(&self) -> [u64; 4] {
        std::mem::take(&mut *lock(&self.asked))
    }

    fn ask<T: Clone>(
        &self,
        of: usize,
        seen: &Seen<T>,
        path: &Path,
        ask: impl Fn() -> Option<T>,
    ) -> Option<T> {
        let key = path.as_os_str().as_bytes();
        if self.remembers
            && let Some(known) = lock(seen).get(key)
        {
            return known.clone();
        }
        lock(&self.asked)[of] += 1;
        let found = ask();
        if self.remembers {
            lock(seen).insert(key.into(), found.clone());
        }
        found
    }

    fn metadata(&self, path: &Path) -> Option<Metadata> {
        self.ask(0, &self.files, path, || std::fs::metadata(path).ok())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().expect("no holder panics")
}

/// Only for the trait's own way of looking at directories.
struct Plain;

impl FileView for RealFiles {
    fn find(&self, path: &Path) -> Found {
        match self.metadata(path) {
            Some(found) if found.is_dir() => Found::Directory,
            Some(found) if found.is_file() => {
                Found::File { size: found.len(), executable: found.permissions().mode() & 0o111 != 0 }
            }
            Some(_) => Found::Other,
            None => Found::Missing,
        }
    }

    fn directory(&self, path: &Path) -> Option<Directory> {
        self.ask(2, &self.dirs, path, || Plain.directory(path))
    }

    fn link_target(&self, path: &Path) -> Option<PathBuf> {
        self.ask(1, &self.links, path, || std::fs::read_link(path).ok())
    }

    fn read(&self, path: &Path) -> io::Result<Arc<[u8]>> {
        lock(&self.asked)[3] += 1;
        Ok(std::fs::read(path)?.into())
    }

    fn blob(&self, _path: &Path) -> io::Result<(BlobId, bool)> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn blob_of_bytes(&self, _bytes: &[u8]) -> io::Result<BlobId> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn stamp(&self, path: &Path) -> Option<u64> {
        let found = self.metadata(path).filter(Metadata::is_file)?;
        let mut hasher = rustc_hash::FxHasher::default();
        let times = (found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec());
        (found.dev(), found.ino(), found.len(), times).hash(&mut hasher);
        Some(hasher.finish())
    }
}

impl FileView for Plain {
    fn find(&self, _path: &Path) -> Found {
        Found::Missing
    }

    fn link_target(&self, _path: &Path) -> Option<PathBuf> {
        None
    }

    fn read(&self, _path: &Path) -> io::Result<Arc<[u8]>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn blob(&self, _path: &Path) -> io::Result<(BlobId, bool)> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn blob_of_bytes(&self, _bytes: &[u8]) -> io::Result<BlobId> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
