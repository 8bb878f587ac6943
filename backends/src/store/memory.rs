//! A store in memory, for tests and benchmarks. Stricter than a real one: it checks every hash on the way in and out, and
//! it can be told to fail.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ggr_ir::repo::write_atomic;
use ggr_ir::{BlobId, ObjectStore, StoreError};

use super::Remove;

/// Blobs in memory.
#[derive(Debug, Default)]
pub struct MemoryStore {
    blobs: Mutex<BTreeMap<BlobId, Vec<u8>>>,
    /// Counts down with each operation on a blob; the one that finds 1 fails. 0 never fails.
    fuse: AtomicU64,
    operations: AtomicU64,
}

impl MemoryStore {
    /// Makes the `n`th operation from now fail (1 is the next one), as a full disk or a broken connection would. An
    /// operation is one blob asked for, read or written.
    pub fn fail_on(&self, n: u64) {
        self.fuse.store(n, Ordering::SeqCst);
    }

    /// How many operations there were.
    pub fn operations(&self) -> u64 {
        self.operations.load(Ordering::SeqCst)
    }

    /// Replaces a blob's bytes by others, as a bad disk would.
    pub fn corrupt(&self, id: BlobId, bytes: &[u8]) {
        self.blobs().insert(id, bytes.to_vec());
    }

    /// How many blobs there are.
    pub fn len(&self) -> usize {
        self.blobs().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn blobs(&self) -> MutexGuard<'_, BTreeMap<BlobId, Vec<u8>>> {
        self.blobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn operate(&self) -> Result<(), StoreError> {
        self.operations.fetch_add(1, Ordering::SeqCst);
        let before = self.fuse.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        if before == Ok(1) {
            return Err(StoreError::Io { path: "(memory)".into(), source: io::Error::other("told to fail") });
        }
        Ok(())
    }

    fn read(&self, id: BlobId) -> Result<Vec<u8>, StoreError> {
        self.operate()?;
        let bytes = self.blobs().get(&id).cloned().ok_or(StoreError::Missing(id))?;
        if BlobId::of(&bytes) != id {
            self.blobs().remove(&id);
            return Err(StoreError::Corrupt { id, path: "(memory)".into() });
        }
        Ok(bytes)
    }

    fn get_one(&self, id: BlobId, to: &Path) -> Result<(), StoreError> {
        let bytes = self.read(id)?;
        write_atomic(to.parent().unwrap_or(Path::new(".")), to, &bytes, 0o644)
            .map_err(|source| StoreError::Io { path: to.to_owned(), source })
    }

    fn put_one(&self, id: BlobId, path: &Path) -> Result<(), StoreError> {
        self.operate()?;
        let bytes = fs::read(path).map_err(|source| StoreError::Io { path: path.to_owned(), source })?;
        if BlobId::of(&bytes) != id {
            return Err(StoreError::Changed { path: path.to_owned() });
        }
        self.blobs().insert(id, bytes);
        Ok(())
    }
}

impl ObjectStore for MemoryStore {
    fn missing(&self, ids: &[BlobId]) -> Result<Vec<BlobId>, StoreError> {
        ids.iter().try_for_each(|_| self.operate())?;
        let blobs = self.blobs();
        Ok(ids.iter().copied().filter(|id| !blobs.contains_key(id)).collect())
    }

    fn get(&self, wanted: &[(BlobId, PathBuf)]) -> Vec<Result<(), StoreError>> {
        wanted.iter().map(|(id, to)| self.get_one(*id, to)).collect()
    }

    fn put(&self, files: &[(BlobId, PathBuf)]) -> Vec<Result<(), StoreError>> {
        files.iter().map(|(id, path)| self.put_one(*id, path)).collect()
    }

    fn put_bytes(&self, bytes: &[u8]) -> Result<BlobId, StoreError> {
        self.operate()?;
        let id = BlobId::of(bytes);
        self.blobs().insert(id, bytes.to_vec());
        Ok(id)
    }

    fn get_bytes(&self, id: BlobId) -> Result<Vec<u8>, StoreError> {
        self.read(id)
    }

    fn local_path(&self, _: BlobId) -> Option<PathBuf> {
        None
    }

    fn local_root(&self) -> Option<&Path> {
        None
    }
}

impl Remove for MemoryStore {
    fn remove(&self, id: BlobId) -> Result<(), StoreError> {
        self.operate()?;
        self.blobs().remove(&id);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_keeps_the_contract() {
        let dir = tempfile::tempdir().unwrap();
        super::super::contract::check(&MemoryStore::default(), dir.path());
    }

    #[test]
    fn the_operation_that_was_named_fails_and_no_other() {
        let store = MemoryStore::default();
        store.fail_on(2);
        let id = store.put_bytes(b"x").unwrap();
        assert!(store.get_bytes(id).is_err());
        assert!(store.get_bytes(id).is_ok());
        assert_eq!(store.operations(), 3);
    }
}
