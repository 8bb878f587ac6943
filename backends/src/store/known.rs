//! A set of blob ids for many threads.

use std::sync::{PoisonError, RwLock};

use ggr_ir::BlobId;
use rustc_hash::FxHashSet;

/// So many that the threads of one coordinator seldom meet.
const SHARDS: usize = 16;

/// Blobs that were seen somewhere. Forgetting is what keeps it honest: whoever finds one gone says so.
#[derive(Debug, Default)]
pub struct KnownSet {
    shards: [RwLock<FxHashSet<BlobId>>; SHARDS],
}

impl KnownSet {
    /// Whether the blob was seen and not forgotten.
    pub fn contains(&self, id: BlobId) -> bool {
        self.shard(id).read().unwrap_or_else(PoisonError::into_inner).contains(&id)
    }

    /// Notes that the blob was seen.
    pub fn insert(&self, id: BlobId) {
        self.shard(id).write().unwrap_or_else(PoisonError::into_inner).insert(id);
    }

    /// Forgets it.
    pub fn remove(&self, id: BlobId) {
        self.shard(id).write().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    fn shard(&self, id: BlobId) -> &RwLock<FxHashSet<BlobId>> {
        // The last byte: the hasher of the set feeds on the first ones.
        &self.shards[usize::from(id.hash().as_bytes()[31]) % SHARDS]
    }
}
