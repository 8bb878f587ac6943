//! Behaviour that any store can be given: checking what comes out, and remembering what is there.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use ggr_ir::{BlobId, ObjectStore, StoreError};

use super::known::KnownSet;

/// A store from which a blob can be taken away. Calls may overlap.
pub trait Remove: ObjectStore {
    /// Removes a blob; that it is not there is no error.
    fn remove(&self, id: BlobId) -> Result<(), StoreError>;
}

/// Checks the hash of every blob that is read, for a store whose disk or network is not trusted. A corrupt one is removed,
/// so that the next `put` heals it. Files of [`local_path`](ObjectStore::local_path) are not checked.
#[derive(Debug)]
pub struct Verified<S>(S);

impl<S: Remove> Verified<S> {
    /// Checks what comes out of `inner`.
    pub fn new(inner: S) -> Self {
        Self(inner)
    }

    fn corrupt(&self, id: BlobId, path: PathBuf) -> StoreError {
        match self.0.remove(id) {
            Ok(()) => StoreError::Corrupt { id, path },
            Err(error) => error,
        }
    }

    fn check(&self, id: BlobId, path: &Path) -> Result<(), StoreError> {
        let failed = |source| StoreError::Io { path: path.to_owned(), source };
        if File::open(path).and_then(BlobId::of_reader).map_err(failed)? == id {
            return Ok(());
        }
        match fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed(e)),
            _ => Err(self.corrupt(id, self.0.local_path(id).unwrap_or_else(|| path.to_owned()))),
        }
    }
}

impl<S: Remove> ObjectStore for Verified<S> {
    fn missing(&self, ids: &[BlobId]) -> Result<Vec<BlobId>, StoreError> {
        self.0.missing(ids)
    }

    fn get(&self, wanted: &[(BlobId, PathBuf)]) -> Vec<Result<(), StoreError>> {
        let got = self.0.get(wanted).into_iter();
        got.zip(wanted).map(|(got, (id, path))| got.and_then(|()| self.check(*id, path))).collect()
    }

    fn put(&self, files: &[(BlobId, PathBuf)]) -> Vec<Result<(), StoreError>> {
        self.0.put(files)
    }

    fn put_bytes(&self, bytes: &[u8]) -> Result<BlobId, StoreError> {
        self.0.put_bytes(bytes)
    }

    fn get_bytes(&self, id: BlobId) -> Result<Vec<u8>, StoreError> {
        let bytes = self.0.get_bytes(id)?;
        if BlobId::of(&bytes) != id {
            return Err(self.corrupt(id, self.0.local_path(id).unwrap_or_default()));
        }
        Ok(bytes)
    }

    fn local_path(&self, id: BlobId) -> Option<PathBuf> {
        self.0.local_path(id)
    }

    fn local_root(&self) -> Option<&Path> {
        self.0.local_root()
    }
}

impl<S: Remove> Remove for Verified<S> {
    fn remove(&self, id: BlobId) -> Result<(), StoreError> {
        self.0.remove(id)
    }
}

/// Remembers which blobs a store has, so that presence is asked once. For stores that are far away; a blob that a read
/// finds gone is forgotten, so the next `put` sends it again.
#[derive(Debug)]
pub struct Known<S> {
    inner: S,
    known: KnownSet,
}

impl<S: ObjectStore> Known<S> {
    /// Remembers what `inner` has.
    pub fn new(inner: S) -> Self {
        Self { inner, known: KnownSet::default() }
    }

    /// Forgets that a blob is there: a worker found it gone.
    pub fn forget(&self, id: BlobId) {
        self.known.remove(id);
    }

    fn note<T>(&self, id: BlobId, result: Result<T, StoreError>) -> Result<T, StoreError> {
        match &result {
            Ok(_) => self.known.insert(id),
            Err(StoreError::Missing(_) | StoreError::Corrupt { .. }) => self.known.remove(id),
            Err(StoreError::Changed { .. } | StoreError::Io { .. }) => {}
        }
        result
    }
}

impl<S: ObjectStore> ObjectStore for Known<S> {
    fn missing(&self, ids: &[BlobId]) -> Result<Vec<BlobId>, StoreError> {
        let unknown: Vec<BlobId> = ids.iter().copied().filter(|id| !self.known.contains(*id)).collect();
        if unknown.is_empty() {
            return Ok(Vec::new());
        }
        let missing = self.inner.missing(&unknown)?;
        let absent: rustc_hash::FxHashSet<BlobId> = missing.iter().copied().collect();
        unknown.into_iter().filter(|id| !absent.contains(id)).for_each(|id| self.known.insert(id));
        Ok(missing)
    }

    fn get(&self, wanted: &[(BlobId, PathBuf)]) -> Vec<Result<(), StoreError>> {
        let got = self.inner.get(wanted).into_iter();
        got.zip(wanted).map(|(got, (id, _))| self.note(*id, got)).collect()
    }

    fn put(&self, files: &[(BlobId, PathBuf)]) -> Vec<Result<(), StoreError>> {
        let seen: Vec<bool> = files.iter().map(|(id, _)| self.known.contains(*id)).collect();
        let unknown: Vec<_> =
            files.iter().zip(&seen).filter(|(_, seen)| !**seen).map(|(file, _)| file.clone()).collect();
        let mut put = self.inner.put(&unknown).into_iter();
        let answer = |((id, _), seen): (&(BlobId, PathBuf), bool)| {
            if seen {
                Ok(())
            } else {
                self.note(*id, put.next().expect("a store answers once for each blob"))
            }
        };
        files.iter().zip(seen).map(answer).collect()
    }

    fn put_bytes(&self, bytes: &[u8]) -> Result<BlobId, StoreError> {
        let id = BlobId::of(bytes);
        if self.known.contains(id) {
            return Ok(id);
        }
        let put = self.inner.put_bytes(bytes);
        self.note(id, put)
    }

    fn get_bytes(&self, id: BlobId) -> Result<Vec<u8>, StoreError> {
        let got = self.inner.get_bytes(id);
        self.note(id, got)
    }

    fn local_path(&self, id: BlobId) -> Option<PathBuf> {
        self.inner.local_path(id)
    }

    fn local_root(&self) -> Option<&Path> {
        self.inner.local_root()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{FsStore, MemoryStore, contract};
    use std::os::unix::fs::PermissionsExt;
    use tempfile::tempdir;

    #[test]
    fn wrapped_stores_keep_the_contract() {
        let check = |store: &dyn ObjectStore| contract::check(store, tempdir().unwrap().path());
        check(&Verified::new(MemoryStore::default()));
        check(&Known::new(MemoryStore::default()));
        check(&Known::new(Verified::new(MemoryStore::default())));
        let dir = tempdir().unwrap();
        check(&Verified::new(FsStore::new(dir.path())));
        let dir = tempdir().unwrap();
        check(&Known::new(Verified::new(FsStore::new(dir.path()))));
    }

    #[test]
    fn a_corrupt_blob_is_removed_by_the_reader_that_finds_it() {
        let dir = tempdir().unwrap();
        let store = Verified::new(FsStore::new(dir.path()));
        let damage = |id| {
            let path = store.local_path(id).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
            fs::write(&path, b"BAD").unwrap();
            // As a failing disk does it: the file's time says nothing.
            crate::store::seal::put(&path).unwrap();
        };
        let id = store.put_bytes(b"abc").unwrap();
        damage(id);
        assert!(matches!(store.get_bytes(id), Err(StoreError::Corrupt { .. })));
        assert!(matches!(store.get_bytes(id), Err(StoreError::Missing(_))));
        store.put_bytes(b"abc").unwrap();
        damage(id);
        let to = dir.path().join("out");
        assert!(matches!(store.get(&[(id, to.clone())])[..], [Err(StoreError::Corrupt { .. })]));
        assert!(!to.exists());
        store.put_bytes(b"abc").unwrap();
        assert_eq!(store.get_bytes(id).unwrap(), b"abc");
    }

    #[test]
    fn presence_is_asked_once_and_again_when_a_read_finds_it_gone() {
        let store = Known::new(MemoryStore::default());
        let id = store.put_bytes(b"x").unwrap();
        let before = store.inner.operations();
        assert!(store.missing(&[id, id]).unwrap().is_empty());
        store.put_bytes(b"x").unwrap();
        assert_eq!(store.inner.operations(), before);
        store.inner.remove(id).unwrap();
        assert!(store.get_bytes(id).is_err());
        assert_eq!(store.missing(&[id]).unwrap(), [id]);
        store.put_bytes(b"x").unwrap();
        assert_eq!(store.get_bytes(id).unwrap(), b"x");
    }
}
