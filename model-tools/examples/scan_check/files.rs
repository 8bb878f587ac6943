//! The real file system as a [`FileView`], for measuring and checking the scanner.

use std::fs::Metadata;
use std::hash::{Hash, Hasher};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use ggr_ir::BlobId;
use ggr_models::{Directory, FileView, Found};
use rustc_hash::FxHashMap;

/// Files as they are; nothing is kept and nothing is stored.
#[derive(Clone, Copy, Default)]
pub(crate) struct RealFiles;

impl FileView for RealFiles {
    fn find(&self, path: &Path) -> Found {
        found(std::fs::metadata(path).ok().as_ref())
    }

    fn link_target(&self, path: &Path) -> Option<PathBuf> {
        std::fs::read_link(path).ok()
    }

    fn read(&self, path: &Path) -> io::Result<Arc<[u8]>> {
        Ok(std::fs::read(path)?.into())
    }

    fn blob(&self, _path: &Path) -> io::Result<(BlobId, bool)> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn blob_of_bytes(&self, _bytes: &[u8]) -> io::Result<BlobId> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn stamp(&self, path: &Path) -> Option<u64> {
        std::fs::metadata(path).ok().as_ref().and_then(stamp)
    }
}

fn found(meta: Option<&Metadata>) -> Found {
    match meta {
        Some(found) if found.is_dir() => Found::Directory,
        Some(found) if found.is_file() => {
            Found::File { size: found.len(), executable: found.permissions().mode() & 0o111 != 0 }
        }
        Some(_) => Found::Other,
        None => Found::Missing,
    }
}

fn stamp(found: &Metadata) -> Option<u64> {
    let mut hasher = rustc_hash::FxHasher::default();
    let times = (found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec());
    (found.dev(), found.ino(), found.len(), times).hash(&mut hasher);
    found.is_file().then(|| hasher.finish())
}

/// What was found, by path.
type Seen<T> = Mutex<FxHashMap<Box<[u8]>, T>>;

/// As [`RealFiles`], but what was looked at once is known until [`SeenFiles::forget`]: a build's view is like that, the
/// kernel tells it of changes.
#[derive(Default)]
pub(crate) struct SeenFiles {
    files: Seen<Option<Metadata>>,
    links: Seen<Option<PathBuf>>,
    dirs: Seen<Option<Directory>>,
    /// How many answers of each of these kinds were not known, and how many files were read.
    asked: Mutex<[u64; 4]>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no holder panics")
}

impl SeenFiles {
    /// Forgets what was looked at.
    pub(crate) fn forget(&self) {
        lock(&self.files).clear();
        lock(&self.links).clear();
        lock(&self.dirs).clear();
    }

    /// How often the file system was asked since the last time: for a file, a link, a directory, bytes.
    pub(crate) fn take_asked(&self) -> [u64; 4] {
        std::mem::take(&mut *lock(&self.asked))
    }

    fn metadata(&self, path: &Path) -> Option<Metadata> {
        self.ask(0, &self.files, path, || std::fs::metadata(path).ok())
    }

    fn ask<T: Clone>(&self, kind: usize, seen: &Seen<T>, path: &Path, ask: impl Fn() -> T) -> T {
        let mut seen = lock(seen);
        if let Some(known) = seen.get(path.as_os_str().as_bytes()) {
            return known.clone();
        }
        lock(&self.asked)[kind] += 1;
        let found = ask();
        seen.insert(path.as_os_str().as_bytes().into(), found.clone());
        found
    }
}

impl FileView for SeenFiles {
    fn find(&self, path: &Path) -> Found {
        found(self.metadata(path).as_ref())
    }

    fn stamp(&self, path: &Path) -> Option<u64> {
        self.metadata(path).as_ref().and_then(stamp)
    }

    fn link_target(&self, path: &Path) -> Option<PathBuf> {
        self.ask(1, &self.links, path, || RealFiles.link_target(path))
    }

    fn directory(&self, path: &Path) -> Option<Directory> {
        self.ask(2, &self.dirs, path, || RealFiles.directory(path))
    }

    fn read(&self, path: &Path) -> io::Result<Arc<[u8]>> {
        lock(&self.asked)[3] += 1;
        RealFiles.read(path)
    }

    fn blob(&self, path: &Path) -> io::Result<(BlobId, bool)> {
        RealFiles.blob(path)
    }

    fn blob_of_bytes(&self, bytes: &[u8]) -> io::Result<BlobId> {
        RealFiles.blob_of_bytes(bytes)
    }
}
