//! Places where blobs and reductions live.
//!
//! **Invariant:** a blob has the hash that it is named by. **Invariant:** a reduction is put only after its outputs are
//! in the store that its next reader will use.

use std::io;
use std::path::{Path, PathBuf};

use crate::hash::{BlobId, ThunkId};
use crate::reduction::Reduction;

/// What a store could not do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The blob is not there.
    #[error("blob {0} is not in the store")]
    Missing(BlobId),
    /// The bytes under this name have another hash; they have been moved away.
    #[error("blob {id} was corrupt and has been removed from `{}`", path.display())]
    Corrupt {
        /// The name it stood under.
        id: BlobId,
        /// Where it stood.
        path: PathBuf,
    },
    /// The file that was to be stored holds other bytes than its id says, or does not hold still.
    #[error("`{}` changed while it was being stored", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// Reading or writing failed.
    #[error("store: `{}`", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A place where blobs live. Calls may overlap, from any thread and any process. Batched, one answer per blob: a partial
/// failure leaves the others done. The caller retries.
pub trait ObjectStore: Send + Sync {
    /// Those that are not here.
    fn missing(&self, ids: &[BlobId]) -> Result<Vec<BlobId>, StoreError>;

    /// Writes each blob to its file (created, mode 0644, replaced if there); bytes are checked against the id if this store
    /// does not trust its source.
    fn get(&self, wanted: &[(BlobId, PathBuf)]) -> Vec<Result<(), StoreError>>;

    /// Stores the bytes of each file under its id. The file is left alone.
    fn put(&self, files: &[(BlobId, PathBuf)]) -> Vec<Result<(), StoreError>>;

    /// Stores these bytes.
    fn put_bytes(&self, bytes: &[u8]) -> Result<BlobId, StoreError>;

    /// The bytes of a small blob.
    fn get_bytes(&self, id: BlobId) -> Result<Vec<u8>, StoreError>;

    /// The file that holds the blob, where the store is a local one: read-only, to be hard-linked or copied, never
    /// written.
    fn local_path(&self, id: BlobId) -> Option<PathBuf>;

    /// The directory of a local store, whose layout workers share.
    fn local_root(&self) -> Option<&Path>;
}

/// What a look into a cache gives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Lookup {
    /// The recorded reduction.
    Hit(Reduction),
    /// There is one, far away: [`ReductionCache::get`] brings it, and may take as long as a network does.
    Far,
    /// There is none.
    Miss,
}

/// What thunks reduced to before. A miss is not an error; a broken record is a miss.
pub trait ReductionCache: Send + Sync {
    /// The recorded reduction of a ready thunk.
    fn get(&self, id: ThunkId) -> Option<Reduction>;

    /// As [`get`](Self::get), but for threads on which others wait: asks nothing of a network.
    fn look(&self, id: ThunkId) -> Lookup {
        self.get(id).map_or(Lookup::Miss, Lookup::Hit)
    }

    /// Records one; the last writer wins.
    fn put(&self, id: ThunkId, reduction: &Reduction) -> Result<(), StoreError>;
}
