//! The user's files as models see them: placeholders known, hashes remembered by stat, blobs in the store.

use std::fs::{self, Metadata};
use std::hash::{Hash, Hasher};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};
use std::time::SystemTime;

use ggr_backends::memo::{Stamp, StatMemo};
use ggr_backends::store::FsStore;
use ggr_ir::{BlobId, ObjectStore};
use ggr_models::model::Directory;
use ggr_models::{FileView, Found};

use rustc_hash::{FxHashMap, FxHashSet, FxHasher};

use super::placeholders::Placeholders;
use super::watched::{Look, Standing, Watched};
use crate::intercept::supervisor::FileId;

fn number(path: &Path) -> u64 {
    let mut hasher = FxHasher::default();
    path.as_os_str().hash(&mut hasher);
    hasher.finish()
}

/// See the module's documentation.
pub(crate) struct View {
    placeholders: Arc<Placeholders>,
    store: Arc<FsStore>,
    memo: Arc<StatMemo>,
    /// What we wrote ourselves, which nobody has opened for writing since. (A memo by stat does not trust a file for some
    /// milliseconds after it was written, and a link follows its compiles at once.)
    own: RwLock<FxHashMap<FileId, (Stamp, BlobId)>>,
    /// What was looked at in this session, by path (its hash) and stamp.
    stamped: RwLock<FxHashMap<(u64, u64), (BlobId, bool)>>,
    /// What was looked at and has not changed since.
    watched: Watched,
    /// Files that somebody of the build has opened for writing.
    distrusted: RwLock<FxHashSet<FileId>>,
    /// Whether nobody tells of such.
    unwatched: AtomicBool,
}

impl View {
    pub(crate) fn new(placeholders: Arc<Placeholders>, store: Arc<FsStore>, memo: Arc<StatMemo>) -> Self {
        Self {
            placeholders,
            store,
            memo,
            own: RwLock::default(),
            stamped: RwLock::default(),
            watched: Watched::new(),
            distrusted: RwLock::default(),
            unwatched: AtomicBool::new(false),
        }
    }

    /// To be called before files are looked at for a call: what changed before is seen from then on.
    pub(crate) fn refresh(&self) {
        self.watched.refresh();
    }

    /// Notes that the regular file at `path` holds this blob, which is in the store: it was just written there by us.
    pub(crate) fn remember(&self, path: &Path, blob: BlobId) {
        if let Ok(meta) = fs::metadata(path) {
            self.remember_stat(&meta, blob);
        }
    }

    /// As [`remember`](Self::remember), of a file of which this is the `stat`.
    pub(crate) fn remember_stat(&self, meta: &Metadata, blob: BlobId) {
        let file = (meta.dev(), meta.ino());
        if !self.unwatched.load(Ordering::Acquire)
            && !self.distrusted.read().expect("no holder panics").contains(&file)
        {
            self.own.write().expect("no holder panics").insert(file, (Stamp::of(meta), blob));
        }
    }

    /// Notes that nobody tells who opens files for writing: a stamp alone has to do.
    pub(crate) fn distrust_all(&self) {
        self.unwatched.store(true, Ordering::Release);
        self.own.write().expect("no holder panics").clear();
    }

    /// Notes that somebody opens a file for writing.
    pub(crate) fn distrust(&self, file: FileId) {
        self.distrusted.write().expect("no holder panics").insert(file);
        self.own.write().expect("no holder panics").remove(&file);
        self.watched.forget(file);
    }

    /// What is found at the path may be remembered. Not where nobody tells who opens files: bytes that are stored through a
    /// mapping come without an event.
    fn begin_look(&self, path: &Path) -> Option<Look> {
        if self.unwatched.load(Ordering::Acquire) { None } else { self.watched.look(path) }
    }

    /// Hashes a file, and remembers it until it changes.
    fn look(&self, path: &Path) -> io::Result<(BlobId, bool)> {
        let look = self.begin_look(path);
        let meta = self.regular(path)?;
        let (blob, executable) = match self.of_our_own(&meta) {
            Some(blob) => (blob, meta.mode() & 0o111 != 0),
            None => self.memo.blob(&self.store, path).map_err(io::Error::other)?,
        };
        if let Some(look) = look {
            let file = (meta.dev(), meta.ino());
            self.watched.learn(look, Standing::File { blob, executable }, Some(file));
            if self.distrusted.read().expect("no holder panics").contains(&file) {
                self.watched.forget(file);
            }
        }
        Ok((blob, executable))
    }

    /// The blob of a file that we wrote and nobody has touched since.
    fn of_our_own(&self, meta: &Metadata) -> Option<BlobId> {
        let own = self.own.read().expect("no holder panics");
        let (stamp, blob) = own.get(&(meta.dev(), meta.ino()))?;
        (*stamp == Stamp::of(meta) && self.store.contains(*blob).ok()?).then_some(*blob)
    }

    /// The stamp and the hash of a regular file, which need not be in the store.
    ///
    /// # Errors
    /// Those of reading; also a file that changed meanwhile.
    pub(crate) fn digest(&self, path: &Path) -> io::Result<(Stamp, BlobId)> {
        let meta = self.regular(path)?;
        let stamp = Stamp::of(&meta);
        if let Some(blob) = self.of_our_own(&meta).or_else(|| self.memo.get(&stamp)) {
            return Ok((stamp, blob));
        }
        let began = SystemTime::now();
        let file = fs::File::open(path)?;
        let blob = BlobId::of_reader(&file)?;
        if Stamp::of(&file.metadata()?) != stamp {
            return Err(io::Error::other("it changed while it was read"));
        }
        self.memo.insert(stamp, blob, began);
        Ok((stamp, blob))
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
        match self.watched.known(path).map(|known| known.standing) {
            Some(Standing::Nothing) => return Found::Missing,
            Some(Standing::File { blob, executable }) => {
                return Found::File { size: blob.size(), executable };
            }
            None if self.watched.is_directory(path) => return Found::Directory,
            None => {}
        }
        let Ok(meta) = fs::metadata(path) else {
            if let Some(look) = self.begin_look(path)
                && fs::metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
            {
                self.watched.learn(look, Standing::Nothing, None);
            }
            return Found::Missing;
        };
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

    fn directory(&self, path: &Path) -> Option<Directory> {
        self.watched.directory(path, || Directory::at(path))
    }

    fn link_target(&self, path: &Path) -> Option<PathBuf> {
        self.watched.link_target(path)
    }

    fn read(&self, path: &Path) -> io::Result<Arc<[u8]>> {
        self.regular(path)?;
        Ok(fs::read(path)?.into())
    }

    fn blob(&self, path: &Path) -> io::Result<(BlobId, bool)> {
        match self.watched.known(path).map(|known| known.standing) {
            Some(Standing::Nothing) => Err(io::ErrorKind::NotFound.into()),
            Some(Standing::File { blob, executable }) => Ok((blob, executable)),
            None => self.look(path),
        }
    }

    fn blob_stamped(&self, path: &Path, stamp: u64) -> io::Result<(BlobId, bool)> {
        if let Some(Standing::File { blob, executable }) =
            self.watched.known(path).map(|known| known.standing)
            && start_of(blob) == stamp
        {
            return Ok((blob, executable));
        }
        let known = self.stamped.read().expect("no holder panics").get(&(number(path), stamp)).copied();
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
        // Of the bytes, not of the inode: what was remembered of a tree then holds for a fresh copy of it too. Who asks
        // needs the blob anyway, so hashing it is work done early, and a file is hashed once.
        match self.watched.known(path).map(|known| known.standing) {
            Some(Standing::File { blob, .. }) => return Some(start_of(blob)),
            Some(Standing::Nothing) => return None,
            None => {}
        }
        let (blob, executable) = self.look(path).ok()?;
        let stamp = start_of(blob);
        self.stamped.write().expect("no holder panics").insert((number(path), stamp), (blob, executable));
        Some(stamp)
    }
}

/// The first bytes of its hash.
fn start_of(blob: BlobId) -> u64 {
    u64::from_le_bytes(*blob.hash().as_bytes().first_chunk().expect("a hash has 32 bytes"))
}
