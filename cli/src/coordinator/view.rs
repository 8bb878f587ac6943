//! The user's files as models see them: placeholders known, hashes remembered by stat, blobs in the store.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};
<<<<<<< HEAD
=======
use std::time::SystemTime;
>>>>>>> models

use ggr_backends::memo::{Stamp, StatMemo};
use ggr_backends::store::FsStore;
use ggr_ir::{BlobId, ObjectStore};
use ggr_models::{FileView, Found};
<<<<<<< HEAD

use rustc_hash::{FxHashMap, FxHashSet};
=======
use rustc_hash::{FxHashMap, FxHasher};
>>>>>>> models

use super::placeholders::Placeholders;
use crate::intercept::supervisor::FileId;

/// See the module's documentation.
pub(crate) struct View {
    placeholders: Arc<Placeholders>,
    store: Arc<FsStore>,
    memo: Arc<StatMemo>,
<<<<<<< HEAD
    /// What we wrote ourselves, which nobody has opened for writing since. (A memo by stat does not trust a file for some
    /// milliseconds after it was written, and a link follows its compiles at once.)
    own: RwLock<FxHashMap<FileId, (Stamp, BlobId)>>,
    /// Files that somebody of the build has opened for writing.
    distrusted: RwLock<FxHashSet<FileId>>,
=======
    /// Blobs that were in the store in this session, and whether anybody may execute the file, by its stamp.
    stamped: RwLock<FxHashMap<u64, (BlobId, bool)>>,
>>>>>>> models
}

impl View {
    pub(crate) fn new(placeholders: Arc<Placeholders>, store: Arc<FsStore>, memo: Arc<StatMemo>) -> Self {
<<<<<<< HEAD
        Self { placeholders, store, memo, own: RwLock::default(), distrusted: RwLock::default() }
=======
        Self { placeholders, store, memo, stamped: RwLock::default() }
>>>>>>> models
    }

    /// Notes that the regular file at `path` holds this blob, which is in the store: it was just written there by us.
    pub(crate) fn remember(&self, path: &Path, blob: BlobId) {
        let Ok(meta) = fs::metadata(path) else { return };
        let file = (meta.dev(), meta.ino());
        if !self.distrusted.read().expect("no holder panics").contains(&file) {
            self.own.write().expect("no holder panics").insert(file, (Stamp::of(&meta), blob));
        }
    }

    /// Notes that somebody opens a file for writing.
    pub(crate) fn distrust(&self, file: FileId) {
        self.distrusted.write().expect("no holder panics").insert(file);
        self.own.write().expect("no holder panics").remove(&file);
    }

    /// The blob of a file that we wrote and nobody has touched since.
    fn of_our_own(&self, meta: &Metadata) -> Option<BlobId> {
        let own = self.own.read().expect("no holder panics");
        let (stamp, blob) = own.get(&(meta.dev(), meta.ino()))?;
        (*stamp == Stamp::of(meta) && self.store.contains(*blob).ok()?).then_some(*blob)
    }

    fn regular(&self, path: &Path) -> io::Result<Metadata> {
        let meta = fs::metadata(path)?;
        if !meta.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        if self.placeholders.find((meta.dev(), meta.ino())).is_some() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(meta)
    }
}

impl FileView for View {
    fn find(&self, path: &Path) -> Found {
        let Ok(meta) = fs::metadata(path) else { return Found::Missing };
        if meta.is_dir() {
            return Found::Directory;
        }
        if !meta.is_file() {
            return Found::Other;
        }
        match self.placeholders.find((meta.dev(), meta.ino())) {
            Some(placeholder) => Found::Placeholder(placeholder.output.clone()),
            None => Found::File { size: meta.len(), executable: meta.mode() & 0o111 != 0 },
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
<<<<<<< HEAD
        let meta = self.regular(path)?;
        if let Some(blob) = self.of_our_own(&meta) {
            return Ok((blob, meta.mode() & 0o111 != 0));
=======
        let stamp = Stamp::of(&self.regular(path)?);
        let (blob, executable) = self.memo.blob(&self.store, path).map_err(io::Error::other)?;
        // The memo does not remember a file that was changed just now: its bytes may change again under the same stamp.
        if self.memo.get(&stamp) == Some(blob) {
            self.stamped.write().expect("no writer panics").insert(number(&stamp), (blob, executable));
>>>>>>> models
        }
        Ok((blob, executable))
    }

    fn blob_stamped(&self, path: &Path, stamp: u64) -> io::Result<(BlobId, bool)> {
        let known = self.stamped.read().expect("no writer panics").get(&stamp).copied();
        known.map_or_else(|| self.blob(path), Ok)
    }

    fn blob_of_bytes(&self, bytes: &[u8]) -> io::Result<BlobId> {
        let blob = BlobId::of(bytes);
        if self.store.contains(blob).map_err(io::Error::other)? {
            return Ok(blob);
        }
        self.store.put_bytes(bytes).map_err(io::Error::other)
    }

    fn stamp(&self, path: &Path) -> Option<u64> {
<<<<<<< HEAD
        // Of the bytes, not of the inode: what was remembered of a tree then holds for a fresh copy of it too. Who asks
        // needs the blob anyway, so hashing it is work done early, and a file is hashed once.
        let (blob, _) = self.blob(path).ok()?;
        blob.hash().as_bytes().first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
=======
        self.regular(path).ok().map(|meta| number(&Stamp::of(&meta)))
>>>>>>> models
    }
}

fn number(stamp: &Stamp) -> u64 {
    let mut hasher = FxHasher::default();
    stamp.hash(&mut hasher);
    hasher.finish()
}
