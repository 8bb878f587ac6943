//! What thunks reduced to before: one small file per ready thunk.
//!
//! A file is the first 16 bytes of the hash of (the thunk's id, the record), then the record as
//! [`Reduction::to_bytes`] writes it, which starts with a version. So a file that was cut short, damaged, moved to another
//! name or written by another version is a miss. Last use is the file's mtime, renewed at most every [`TOUCH_AFTER`].

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use ggr_ir::repo::write_atomic;
use ggr_ir::{BlobId, ObjectStore, Reduction, ReductionCache, StoreError, ThunkId};

use super::fs::TOUCH_AFTER;
use super::layout::sharded;

/// Length of the checksum in front of a record, in bytes.
const CHECK: usize = 16;

/// The longest file that a reader takes, in bytes: about 100,000 outputs.
const MAX_LEN: u64 = 16 << 20;

/// The reductions of a repository. A reduction whose outputs are not all in `store` is a miss.
pub struct FsReductionCache {
    dir: PathBuf,
    tmp: PathBuf,
    store: Arc<dyn ObjectStore>,
}

impl FsReductionCache {
    /// The cache below `root` (a repository's root), whose reductions speak of blobs in `store`.
    pub fn new(root: &Path, store: Arc<dyn ObjectStore>) -> Self {
        Self { dir: root.join("reductions"), tmp: root.join("tmp"), store }
    }

    /// The file of a thunk's reduction, there or not.
    pub fn path(&self, id: ThunkId) -> PathBuf {
        sharded(&self.dir, id.hash())
    }
}

impl ReductionCache for FsReductionCache {
    fn get(&self, id: ThunkId) -> Option<Reduction> {
        let (reduction, used) = read(&self.path(id), id)?;
        if !self.store.missing(&blobs(&reduction)).is_ok_and(|missing| missing.is_empty()) {
            return None;
        }
        if used.elapsed().is_ok_and(|age| age > TOUCH_AFTER) {
            let times = fs::FileTimes::new().set_modified(SystemTime::now());
            // In a read-only repository the owner's uses count.
            let _ = File::options().write(true).open(self.path(id)).and_then(|file| file.set_times(times));
        }
        Some(reduction)
    }

    fn put(&self, id: ThunkId, reduction: &Reduction) -> Result<(), StoreError> {
        let record = reduction.to_bytes();
        let path = self.path(id);
        let bytes = [check(id, &record).as_slice(), &record].concat();
        write_atomic(&self.tmp, &path, &bytes, 0o644).map_err(|source| StoreError::Io { path, source })
    }
}

/// The reduction in this file if it is whole and `id`'s, and when it was last used.
pub(super) fn read(path: &Path, id: ThunkId) -> Option<(Reduction, SystemTime)> {
    let load = || -> io::Result<(Vec<u8>, SystemTime)> {
        let file = File::open(path)?;
        let meta = file.metadata()?;
        let mut bytes = Vec::with_capacity(meta.len().min(MAX_LEN) as usize + 1);
        file.take(MAX_LEN).read_to_end(&mut bytes)?;
        Ok((bytes, meta.modified()?))
    };
    let (bytes, used) = load().ok()?;
    let (sum, record) = bytes.split_first_chunk::<CHECK>()?;
    if *sum != check(id, record) {
        return None;
    }
    Some((Reduction::from_bytes(record)?, used))
}

/// Every blob that a reduction speaks of.
pub(super) fn blobs(reduction: &Reduction) -> Vec<BlobId> {
    let outputs = reduction.outputs.values().map(|output| output.blob);
    outputs.chain([reduction.stdout, reduction.stderr]).collect()
}

fn check(id: ThunkId, record: &[u8]) -> [u8; CHECK] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(id.hash().as_bytes());
    hasher.update(record);
    *hasher.finalize().as_bytes().first_chunk().expect("a digest has 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::contract::{self, reduction};
    use crate::store::{FsStore, Remove};
    use tempfile::{TempDir, tempdir};

    fn cache() -> (TempDir, Arc<FsStore>, FsReductionCache) {
        let dir = tempdir().unwrap();
        let store = Arc::new(FsStore::new(dir.path()));
        let cache = FsReductionCache::new(dir.path(), store.clone());
        (dir, store, cache)
    }

    #[test]
    fn it_keeps_the_contract() {
        let (_dir, store, cache) = cache();
        contract::check_cache(&cache, &*store);
    }

    #[test]
    fn damage_at_any_byte_or_length_is_a_miss() {
        let (_dir, store, cache) = cache();
        let id = ThunkId::synthetic(1);
        cache.put(id, &reduction(&*store, "x")).unwrap();
        let good = fs::read(cache.path(id)).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            fs::write(cache.path(id), &bad).unwrap();
            assert_eq!(cache.get(id), None, "byte {at}");
            fs::write(cache.path(id), &good[..at]).unwrap();
            assert_eq!(cache.get(id), None, "length {at}");
        }
        fs::write(cache.path(id), &good).unwrap();
        assert!(cache.get(id).is_some());
    }

    #[test]
    fn another_version_is_a_miss() {
        let (_dir, store, cache) = cache();
        let id = ThunkId::synthetic(1);
        let mut record = reduction(&*store, "x").to_bytes();
        record[0] += 1;
        cache.put(id, &reduction(&*store, "x")).unwrap();
        fs::write(cache.path(id), [check(id, &record).as_slice(), &record].concat()).unwrap();
        assert_eq!(cache.get(id), None);
    }

    #[test]
    fn a_record_under_another_id_is_a_miss() {
        let (_dir, store, cache) = cache();
        let (id, other) = (ThunkId::synthetic(1), ThunkId::synthetic(2));
        cache.put(id, &reduction(&*store, "x")).unwrap();
        cache.put(other, &reduction(&*store, "y")).unwrap();
        fs::rename(cache.path(id), cache.path(other)).unwrap();
        assert_eq!(cache.get(other), None);
    }

    #[test]
    fn a_reduction_whose_outputs_are_gone_is_a_miss() {
        let (_dir, store, cache) = cache();
        let id = ThunkId::synthetic(1);
        let reduction = reduction(&*store, "x");
        cache.put(id, &reduction).unwrap();
        store.remove(BlobId::of(b"x")).unwrap();
        assert_eq!(cache.get(id), None);
        store.put_bytes(b"x").unwrap();
        assert_eq!(cache.get(id), Some(reduction));
    }

    #[test]
    fn using_an_old_one_renews_it() {
        let (_dir, store, cache) = cache();
        let id = ThunkId::synthetic(1);
        cache.put(id, &reduction(&*store, "x")).unwrap();
        let old = SystemTime::now() - 3 * TOUCH_AFTER;
        let file = File::options().write(true).open(cache.path(id)).unwrap();
        file.set_modified(old).unwrap();
        assert!(cache.get(id).is_some());
        assert!(file.metadata().unwrap().modified().unwrap() > old + TOUCH_AFTER);
    }
}
