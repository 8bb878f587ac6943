//! Two levels of results: this machine's, and the bucket's behind it.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use ggr_ir::{Lookup, Reduction, ReductionCache, StoreError, ThunkId};

use super::store::{Access, SharedStore};
use super::uploader::{Left, Order, Uploader};

/// Looks here first, then in the bucket; records here, and has it uploaded.
///
/// A result from the bucket is handed out when its blobs are in the local store, and is recorded there: the next time it is
/// found here. One that is here and that the bucket lacks is offered to it, so a bucket that lost something is filled again.
pub struct TieredCache {
    local: Arc<dyn ReductionCache>,
    shared: Arc<SharedStore>,
    uploader: RwLock<Option<Uploader>>,
}

impl TieredCache {
    /// Puts the bucket behind the local cache.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn new(local: Arc<dyn ReductionCache>, shared: Arc<SharedStore>) -> std::io::Result<Self> {
        let uploader = match shared.access {
            Access::ReadWrite => Some(Uploader::start(Arc::clone(&shared))?),
            Access::ReadOnly => None,
        };
        Ok(Self { local, shared, uploader: RwLock::new(uploader) })
    }

    /// The bucket.
    pub fn shared(&self) -> &Arc<SharedStore> {
        &self.shared
    }

    /// Ends uploading: waits at most so long for what is still on its way, and tells `progress` every second how many
    /// results are left, which may say that it is enough. What the local cache holds and the bucket does not is offered again by the next build that uses it.
    pub fn finish(&self, limit: Duration, progress: impl FnMut(u64) -> bool) -> Left {
        let uploader = self.uploader.write().unwrap_or_else(PoisonError::into_inner).take();
        uploader.map_or_else(Left::default, |uploader| uploader.finish(limit, progress))
    }

    fn here(&self, id: ThunkId) -> Option<Reduction> {
        let reduction = self.local.get(id)?;
        self.offer(id, &reduction);
        Some(reduction)
    }

    /// Has a result uploaded that the bucket lacks.
    fn offer(&self, id: ThunkId, reduction: &Reduction) {
        if !self.shared.holds(id) {
            self.upload(|| Some(Order::Reduction(id, reduction.clone())));
        }
    }

    /// Has uploaded what `order` gives, if anything is uploaded.
    pub(super) fn upload(&self, order: impl FnOnce() -> Option<Order>) {
        let uploader = self.uploader.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(uploader) = &*uploader
            && let Some(order) = order()
        {
            uploader.offer(order);
        }
    }
}

impl ReductionCache for TieredCache {
    fn get(&self, id: ThunkId) -> Option<Reduction> {
        if let Some(reduction) = self.here(id) {
            return Some(reduction);
        }
        let reduction = self.shared.fetch(id)?;
        // What cannot be recorded here is fetched again.
        let _ = self.local.put(id, &reduction);
        Some(reduction)
    }

    fn look(&self, id: ThunkId) -> Lookup {
        match self.here(id) {
            Some(reduction) => Lookup::Hit(reduction),
            None if self.shared.knows(id) => Lookup::Far,
            None => Lookup::Miss,
        }
    }

    fn put(&self, id: ThunkId, reduction: &Reduction) -> Result<(), StoreError> {
        self.local.put(id, reduction)?;
        self.offer(id, reduction);
        Ok(())
    }
}
