//! The user's files as models see them: placeholders known, hashes remembered by stat, blobs in the store.

use std::collections::HashSet;
use std::fs;
use std::hash::Hasher;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};

use ggr_backends::memo::{Stamp, StatMemo};
use ggr_backends::store::FsStore;
use ggr_ir::{BlobId, ObjectStore};
use ggr_models::{FileView, Found};
use rustc_hash::{FxBuildHasher, FxHasher};
use rustix::fs::{FileType, Stat};

use super::placeholders::Placeholders;

/// See the module's documentation.
pub(crate) struct View {
    placeholders: Arc<Placeholders>,
    store: Arc<FsStore>,
    memo: Arc<StatMemo>,
    /// Blobs that are known to be in the store.
    present: RwLock<HashSet<BlobId, FxBuildHasher>>,
}

impl View {
    pub(crate) fn new(placeholders: Arc<Placeholders>, store: Arc<FsStore>, memo: Arc<StatMemo>) -> Self {
        Self { placeholders, store, memo, present: RwLock::default() }
    }

    /// Notes that the regular file at `path` holds this blob, which is in the store: it was just written there by us.
    pub(crate) fn remember(&self, path: &Path, blob: BlobId) {
        self.present.write().expect("no holder panics").insert(blob);
        if let Ok(stat) = rustix::fs::stat(path) {
            self.memo.insert(StatKey::from(&stat), blob);
        }
    }

    fn regular(&self, path: &Path) -> io::Result<Stat> {
        let stat = rustix::fs::stat(path)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        if self.placeholders.find((stat.st_dev, stat.st_ino)).is_some() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(stat)
    }

    fn is_present(&self, blob: BlobId) -> bool {
        if self.present.read().expect("no holder panics").contains(&blob) {
            return true;
        }
        let there = self.store.missing(&[blob]).is_ok_and(|missing| missing.is_empty());
        if there {
            self.present.write().expect("no holder panics").insert(blob);
        }
        there
    }
}

impl FileView for View {
    fn find(&self, path: &Path) -> Found {
        let Ok(stat) = rustix::fs::stat(path) else { return Found::Missing };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Found::Directory,
            FileType::RegularFile => match self.placeholders.find((stat.st_dev, stat.st_ino)) {
                Some(placeholder) => Found::Placeholder(placeholder.output.clone()),
                None => Found::File { size: stat.st_size as u64, executable: stat.st_mode & 0o111 != 0 },
            },
            _ => Found::Other,
        }
    }

    fn link_target(&self, path: &Path) -> Option<PathBuf> {
        fs::read_link(path).ok()
    }

    fn read(&self, path: &Path) -> io::Result<Arc<[u8]>> {
        self.regular(path)?;
        Ok(fs::read(path)?.into())
    }

    fn blob(&self, path: &Path) -> io::Result<(BlobId, bool)> {
        let stat = self.regular(path)?;
        let executable = stat.st_mode & 0o111 != 0;
        let key = StatKey::from(&stat);
        if let Some(blob) = self.memo.get(&key)
            && self.is_present(blob)
        {
            return Ok((blob, executable));
        }
        let blob = self.store.ingest(path).map_err(io::Error::other)?;
        self.present.write().expect("no holder panics").insert(blob);
        self.memo.insert(key, blob);
        Ok((blob, executable))
    }

    fn blob_of_bytes(&self, bytes: &[u8]) -> io::Result<BlobId> {
        let blob = BlobId::of(bytes);
        if self.is_present(blob) {
            return Ok(blob);
        }
        let blob = self.store.put_bytes(bytes).map_err(io::Error::other)?;
        self.present.write().expect("no holder panics").insert(blob);
        Ok(blob)
    }

    fn stamp(&self, path: &Path) -> Option<u64> {
        let stat = self.regular(path).ok()?;
        let mut hasher = FxHasher::default();
        for part in [stat.st_dev, stat.st_ino, stat.st_size as u64, stat.st_mtime as u64, stat.st_ctime as u64] {
            hasher.write_u64(part);
        }
        hasher.write_u64(stat.st_mtime_nsec as u64);
        hasher.write_u64(stat.st_ctime_nsec as u64);
        Some(hasher.finish())
    }
}
