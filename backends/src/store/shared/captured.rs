//! Captured runs by way of the bucket.

use std::sync::atomic::Ordering;

use ggr_ir::{Hash, ObjectStore};

use super::cache::TieredCache;
use super::store::SharedStore;
use super::uploader::Order;
use crate::store::captures::{MAX_SHARED, Run};

impl SharedStore {
    /// The runs that the bucket remembers of the command with this shared key, the newest first; their records are in the local
    /// store when this returns, what they left need not be. Asks nobody about a command that the bucket does not know.
    pub fn captured(&self, key: Hash) -> Vec<Run> {
        if self.reading.why().is_some() {
            return Vec::new();
        }
        let mut records = self.index().captures(key);
        records.retain(|record| record.size() <= MAX_SHARED);
        let brought = self.bring_all(&records);
        let here = records.iter().zip(brought).filter(|(_, brought)| brought.is_ok());
        here.filter_map(|(record, _)| Run::from_shared(&self.local.get_bytes(*record).ok()?)).collect()
    }

    /// Brings what a run left into the local store. Says whether all of it is there.
    pub fn bring_captured(&self, run: &Run) -> bool {
        self.bring_all(&run.blobs()).iter().all(Result::is_ok)
    }

    /// A run of the bucket was repeated.
    pub fn note_repeated(&self) {
        self.hits.fetch_add(1, Ordering::Relaxed);
        self.repeated.fetch_add(1, Ordering::Relaxed);
    }
}

impl TieredCache {
    /// Has a run uploaded that the bucket lacks, unless it is too long. Never waits for the bucket.
    pub fn offer_captured(&self, key: Hash, run: &Run) {
        self.upload(|| {
            let record = run.to_shared();
            if record.len() as u64 > MAX_SHARED {
                return None;
            }
            let shared = self.shared();
            // Before anything is written: a warm build offers what the bucket has.
            let id = ggr_ir::BlobId::of(&record);
            let has = |index: &super::index::Index| {
                index.captures(key).contains(&id) && run.blobs().into_iter().all(|blob| index.has(blob))
            };
            if has(&shared.index()) {
                return None;
            }
            shared.local.put_bytes(&record).ok()?;
            Some(Order::Capture(key, id, run.blobs()))
        });
    }
}
