//! The real file system as a [`FileView`], for measuring and checking the scanner.

use std::hash::{Hash, Hasher};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ggr_ir::BlobId;
use ggr_models::{FileView, Found};

/// Files as they are; nothing is kept and nothing is stored. Counts what it is asked.
#[derive(Default)]
pub(crate) struct RealFiles {
    /// Calls of `find`, `stamp`, `directory`, `link_target` and `read`.
    pub(crate) calls: [AtomicU64; 5],
}

impl RealFiles {
    fn count(&self, call: usize) {
        self.calls[call].fetch_add(1, Ordering::Relaxed);
    }

    /// How many calls there were of each kind since the last time.
    pub(crate) fn take_calls(&self) -> [u64; 5] {
        self.calls.each_ref().map(|calls| calls.swap(0, Ordering::Relaxed))
    }
}

impl FileView for RealFiles {
    fn find(&self, path: &Path) -> Found {
        self.count(0);
        match std::fs::metadata(path) {
            Ok(found) if found.is_dir() => Found::Directory,
            Ok(found) if found.is_file() => {
                Found::File { size: found.len(), executable: found.permissions().mode() & 0o111 != 0 }
            }
            Ok(_) => Found::Other,
            Err(_) => Found::Missing,
        }
    }

    fn link_target(&self, path: &Path) -> Option<PathBuf> {
        self.count(3);
        std::fs::read_link(path).ok()
    }

    fn read(&self, path: &Path) -> io::Result<Arc<[u8]>> {
        self.count(4);
        Ok(std::fs::read(path)?.into())
    }

    fn blob(&self, _path: &Path) -> io::Result<(BlobId, bool)> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn blob_of_bytes(&self, _bytes: &[u8]) -> io::Result<BlobId> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn stamp(&self, path: &Path) -> Option<u64> {
        self.count(1);
        let found = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file)?;
        let mut hasher = rustc_hash::FxHasher::default();
        let times = (found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec());
        (found.dev(), found.ino(), found.len(), times).hash(&mut hasher);
        Some(hasher.finish())
    }
}
