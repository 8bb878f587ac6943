//! The files of one call, each looked at once.
//!
//! The scanner stamps every header, and the inputs need its hash a moment later. Half of a warm call's time would be the
//! second look.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use ggr_ir::BlobId;
use rustc_hash::FxHashMap;

use crate::model::{Directory, FileView, Found};

/// A view that remembers the stamps it gave. Lives as long as one call is modelled.
pub(super) struct Seen<'a> {
    files: &'a dyn FileView,
    /// Keyed by the text: hashing it as a path takes it apart.
    stamps: Mutex<FxHashMap<OsString, u64>>,
}

impl<'a> Seen<'a> {
    /// Has seen nothing yet.
    pub(super) fn new(files: &'a dyn FileView) -> Self {
        Self { files, stamps: Mutex::default() }
    }

    fn known(&self, path: &Path) -> Option<u64> {
        self.stamps.lock().expect("no holder panics").get(path.as_os_str()).copied()
    }
}

impl FileView for Seen<'_> {
    fn find(&self, path: &Path) -> Found {
        self.files.find(path)
    }

    fn directory(&self, path: &Path) -> Option<Directory> {
        self.files.directory(path)
    }

    fn link_target(&self, path: &Path) -> Option<PathBuf> {
        self.files.link_target(path)
    }

    fn read(&self, path: &Path) -> io::Result<Arc<[u8]>> {
        self.files.read(path)
    }

    fn blob(&self, path: &Path) -> io::Result<(BlobId, bool)> {
        match self.known(path) {
            Some(stamp) => self.files.blob_stamped(path, stamp),
            None => self.files.blob(path),
        }
    }

    fn blob_of_bytes(&self, bytes: &[u8]) -> io::Result<BlobId> {
        self.files.blob_of_bytes(bytes)
    }

    fn stamp(&self, path: &Path) -> Option<u64> {
        if let Some(stamp) = self.known(path) {
            return Some(stamp);
        }
        let stamp = self.files.stamp(path)?;
        self.stamps.lock().expect("no holder panics").insert(path.into(), stamp);
        Some(stamp)
    }
}
