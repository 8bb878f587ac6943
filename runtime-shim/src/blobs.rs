//! The worker's way to the store: link a blob into a root, move a finished file in.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use ggr_backends::store::FsStore;
use ggr_ir::{BlobId, ObjectStore, StoreError};

/// A local store as a worker uses it.
pub(crate) struct Blobs {
    store: FsStore,
    /// Of the store's file system; none if it cannot be told.
    device: Option<u64>,
}

/// Up to this size a file on another file system is read once, into memory, and not twice (hashed, then copied).
const COPIED_MAX: u64 = 8 << 20;

/// How often a file that was replaced while it was linked is linked again. Each try needs another writer of the same blob.
const LINK_TRIES: u32 = 100;

/// Why a blob could not be put at a path.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    #[error("blob {0} is not in the store")]
    Missing(BlobId),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("`{path}`")]
    Io { path: String, source: io::Error },
}

/// Whether a blob is to be executed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum As {
    /// Mode 0444.
    File,
    /// Mode 0555.
    Program,
}

impl Blobs {
    /// The store below this root.
    pub(crate) fn at(root: &Path) -> Self {
        Self { store: FsStore::new(root), device: fs::metadata(root).ok().map(|meta| meta.dev()) }
    }

    /// Puts the blob at `to`, which must not exist: a hard link, or a copy where that cannot be (another file system, too
    /// many links). Nobody may write to it.
    pub(crate) fn link(&self, id: BlobId, kind: As, to: &Path) -> Result<(), LinkError> {
        let from = match kind {
            As::File => self.store.sound_path(id),
            As::Program => self.store.executable_path(id),
        };
        let from = from.map_err(|error| match error {
            StoreError::Missing(id) => LinkError::Missing(id),
            other => other.into(),
        })?;
        let mut tries = 0;
        let linked = loop {
            let linked = fs::hard_link(&from, to).or_else(|error| match error.kind() {
                io::ErrorKind::CrossesDevices | io::ErrorKind::TooManyLinks => fs::copy(&from, to).map(drop),
                _ => Err(error),
            });
            tries += 1;
            // Somebody else stored the same bytes and put his file in place of the one that the kernel had just looked up:
            // a file without a name cannot be linked (`vfs_link`), but there is another under the name now.
            let replaced =
                linked.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::NotFound) && from.exists();
            if !replaced || tries == LINK_TRIES {
                break linked;
            }
        };
        linked.map_err(|source| {
            if !from.exists() {
                // Collected since we looked.
                self.store.forget(id);
                return LinkError::Missing(id);
            }
            LinkError::Io { path: to.display().to_string(), source }
        })
    }

    /// The bytes of a small blob: a symlink's target.
    pub(crate) fn bytes(&self, id: BlobId) -> Result<Vec<u8>, LinkError> {
        self.store.get_bytes(id).map_err(|error| match error {
            StoreError::Missing(id) => LinkError::Missing(id),
            other => other.into(),
        })
    }

    /// Hashes a finished file and moves it into the store. Of a file with several names the others keep its bytes.
    pub(crate) fn adopt(&self, path: &Path) -> Result<BlobId, StoreError> {
        let failed = |source| StoreError::Io { path: path.to_owned(), source };
        let meta = fs::symlink_metadata(path).map_err(failed)?;
        if meta.mode() & 0o400 == 0 {
            // A program may make its output unreadable; only user 0 would read it all the same.
            fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(failed)?;
        }
        if Some(meta.dev()) != self.device && meta.len() <= COPIED_MAX {
            return self.store.put_bytes(&fs::read(path).map_err(failed)?);
        }
        let id = BlobId::of_reader(fs::File::open(path).map_err(failed)?).map_err(failed)?;
        self.store.adopt(path, id)?;
        Ok(id)
    }

    /// Where a blob's file is, if the store has it.
    pub(crate) fn path(&self, id: BlobId) -> std::path::PathBuf {
        self.store.path(id)
    }

    /// Stores bytes that are at hand.
    pub(crate) fn put(&self, bytes: &[u8]) -> Result<BlobId, StoreError> {
        self.store.put_bytes(bytes)
    }
}
