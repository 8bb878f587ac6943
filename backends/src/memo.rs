//! What was hashed before, by stat: so that an unchanged file costs a `stat`, in this build and in the next.
//!
//! **Invariant:** an answer is given only for a file whose bytes cannot have changed since they were hashed without its
//! stamp changing. File times move in ticks of the kernel's clock, so a stamp from within [`TICK`] of the time of hashing
//! proves nothing (git calls such an index entry "racily clean") and is not remembered: the file is hashed again the next
//! time. A network file system whose server's clock is behind this machine's by more than the tick is not covered.
//!
//! On disk: [`MAGIC`], a checksum, then postcard. A file that is damaged or of another version is an empty memo.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{OnceLock, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ggr_ir::repo::write_atomic;
use ggr_ir::{BlobId, Hash, StoreError};
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use crate::store::{FsStore, Ingested};

/// How far a file's times must lie before the time of hashing. Linux moves them by up to 10 ms (`CONFIG_HZ=100`).
pub const TICK: Duration = Duration::from_millis(20);

/// How many entries a saved memo holds; the ones not used for longest are dropped. 200,000 take 14 MB on disk.
pub const MAX_ENTRIES: usize = 200_000;

/// Starts a memo file; the number is the version.
const MAGIC: &[u8] = b"ggr blob memo 1\n";

/// The longest file that a reader takes, in bytes.
const MAX_LEN: u64 = 64 << 20;

/// Length of the checksum behind [`MAGIC`], in bytes.
const CHECK: usize = 16;

/// So many that the threads of one coordinator seldom meet.
const SHARDS: usize = 16;

/// What `stat` says about a regular file: as long as it stays the same, so do the bytes, with the exception of a change
/// within the clock's tick.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Debug)]
pub struct Stamp {
    /// Device.
    pub dev: u64,
    /// Inode.
    pub ino: u64,
    /// Size in bytes.
    pub size: u64,
    /// Last change of the bytes, in nanoseconds since 1970.
    pub mtime: i64,
    /// Last change of the inode, in nanoseconds since 1970; no program can set it.
    pub ctime: i64,
}

impl Stamp {
    /// The stamp of a file.
    pub fn of(meta: &Metadata) -> Self {
        Self {
            dev: meta.dev(),
            ino: meta.ino(),
            size: meta.len(),
            mtime: nanoseconds(meta.mtime(), meta.mtime_nsec()),
            ctime: nanoseconds(meta.ctime(), meta.ctime_nsec()),
        }
    }

    /// Whether bytes that were read from `began` on can have been changed afterwards without a change of the stamp.
    pub fn is_racy(&self, began: SystemTime) -> bool {
        let began = began.duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(TICK);
        i128::from(self.mtime.max(self.ctime)) >= began.as_nanos() as i128
    }
}

/// Wraps past the year 2262; it only has to differ.
fn nanoseconds(seconds: i64, rest: i64) -> i64 {
    seconds.wrapping_mul(1_000_000_000).wrapping_add(rest)
}

/// One remembered file. The generation is that of the save after which it was last used.
#[derive(Debug)]
struct Entry {
    id: BlobId,
    generation: AtomicU32,
}

/// A row of the file on disk.
type Row = (Stamp, BlobId, u32);

/// A memo of blob ids by stamp. Calls may overlap. Loaded on the first use, saved by [`save`](Self::save) or when dropped.
///
/// Several processes may use one file: the last to save wins, which costs the others' new entries and nothing else.
#[derive(Debug)]
pub struct StatMemo {
    path: PathBuf,
    loaded: OnceLock<Loaded>,
    changed: AtomicBool,
}

#[derive(Debug)]
struct Loaded {
    generation: u32,
    shards: [RwLock<FxHashMap<Stamp, Entry>>; SHARDS],
}

impl StatMemo {
    /// The memo in this file (`memo/blobs` of a repository), which need not exist. Reads nothing yet.
    pub fn new(path: PathBuf) -> Self {
        Self { path, loaded: OnceLock::new(), changed: AtomicBool::new(false) }
    }

    /// The id of the bytes of the file with this stamp, if it is known for sure.
    pub fn get(&self, stamp: &Stamp) -> Option<BlobId> {
        let loaded = self.loaded();
        let shard = loaded.shard(stamp).read().unwrap_or_else(PoisonError::into_inner);
        let entry = shard.get(stamp)?;
        entry.generation.store(loaded.generation, Ordering::Relaxed);
        Some(entry.id)
    }

    /// Remembers a file whose bytes were read from `began` on and had this stamp before and after. Says whether it does:
    /// a racy one is not remembered.
    pub fn insert(&self, stamp: Stamp, id: BlobId, began: SystemTime) -> bool {
        if stamp.is_racy(began) {
            return false;
        }
        let loaded = self.loaded();
        let entry = Entry { id, generation: AtomicU32::new(loaded.generation) };
        loaded.shard(&stamp).write().unwrap_or_else(PoisonError::into_inner).insert(stamp, entry);
        self.changed.store(true, Ordering::Relaxed);
        true
    }

    /// The id of a regular file's bytes (symlinks followed), which are in `store` when this returns, and whether anybody
    /// may execute it. Costs a `stat` if the file is remembered, else a reading.
    pub fn blob(&self, store: &FsStore, path: &Path) -> Result<(BlobId, bool), StoreError> {
        let meta = fs::metadata(path).map_err(|source| StoreError::Io { path: path.to_owned(), source })?;
        if meta.is_file()
            && let Some(id) = self.get(&Stamp::of(&meta))
            && store.contains(id)?
        {
            return Ok((id, meta.mode() & 0o111 != 0));
        }
        let Ingested { id, executable, stamp, began } = store.ingest(path)?;
        self.insert(stamp, id, began);
        Ok((id, executable))
    }

    /// How many files are remembered.
    pub fn len(&self) -> usize {
        let shards = self.loaded().shards.iter();
        shards.map(|shard| shard.read().unwrap_or_else(PoisonError::into_inner).len()).sum()
    }

    /// Whether no file is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes the memo if it changed, all or nothing. At most [`MAX_ENTRIES`] are kept, the most recently used ones.
    pub fn save(&self) -> io::Result<()> {
        if !self.changed.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        let saved = self.write();
        if saved.is_err() {
            self.changed.store(true, Ordering::Relaxed);
        }
        saved
    }

    fn write(&self) -> io::Result<()> {
        let mut rows: Vec<Row> = Vec::with_capacity(self.len());
        for shard in &self.loaded().shards {
            let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
            rows.extend(
                shard
                    .iter()
                    .map(|(stamp, entry)| (*stamp, entry.id, entry.generation.load(Ordering::Relaxed))),
            );
        }
        if rows.len() > MAX_ENTRIES {
            rows.select_nth_unstable_by_key(MAX_ENTRIES, |row| std::cmp::Reverse(row.2));
            rows.truncate(MAX_ENTRIES);
        }
        let next = self.loaded().generation.wrapping_add(1);
        let body = postcard::to_stdvec(&(next, rows)).map_err(io::Error::other)?;
        let bytes = [MAGIC, &check(&body), &body].concat();
        let dir = self.path.parent().unwrap_or(Path::new("."));
        write_atomic(dir, &self.path, &bytes, 0o644)
    }

    fn loaded(&self) -> &Loaded {
        self.loaded.get_or_init(|| {
            let (generation, rows) = read(&self.path).unwrap_or_default();
            let loaded = Loaded { generation, shards: Default::default() };
            for shard in &loaded.shards {
                let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
                shard.reserve(rows.len() / SHARDS + rows.len() / 64);
            }
            for (stamp, id, generation) in rows {
                let entry = Entry { id, generation: AtomicU32::new(generation) };
                loaded.shard(&stamp).write().unwrap_or_else(PoisonError::into_inner).insert(stamp, entry);
            }
            loaded
        })
    }
}

impl Loaded {
    fn shard(&self, stamp: &Stamp) -> &RwLock<FxHashMap<Stamp, Entry>> {
        &self.shards[(stamp.ino % SHARDS as u64) as usize]
    }
}

impl Drop for StatMemo {
    fn drop(&mut self) {
        // A memo that is lost costs time, never a wrong answer.
        let _ = self.save();
    }
}

/// The saved rows and the generation of the next save; nothing if the file is missing, damaged or of another version.
fn read(path: &Path) -> Option<(u32, Vec<Row>)> {
    if fs::metadata(path).ok()?.len() > MAX_LEN {
        return None;
    }
    let bytes = fs::read(path).ok()?;
    let (sum, body) = bytes.strip_prefix(MAGIC)?.split_first_chunk::<CHECK>()?;
    if *sum != check(body) {
        return None;
    }
    postcard::from_bytes(body).ok()
}

fn check(body: &[u8]) -> [u8; CHECK] {
    *Hash::of(body).as_bytes().first_chunk().expect("a digest has 32 bytes")
}

#[cfg(test)]
mod tests;
