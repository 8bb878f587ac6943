//! The real file system as a [`FileView`], for measuring and checking the scanner.

use std::hash::{Hash, Hasher};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ggr_ir::BlobId;
use ggr_models::{FileView, Found};

/// Files as they are; nothing is kept and nothing is stored.
pub struct RealFiles;

impl FileView for RealFiles {
    fn find(&self, path: &Path) -> Found {
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
        let found = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file)?;
        let mut hasher = rustc_hash::FxHasher::default();
        let times = (found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec());
        (found.dev(), found.ino(), found.len(), times).hash(&mut hasher);
        Some(hasher.finish())
    }
}
