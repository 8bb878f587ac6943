//! The bucket by itself as an [`ObjectStore`] and a [`ReductionCache`]: what one call has stored is there for others when it
//! returns. A build goes through [`TieredCache`](super::TieredCache), which waits for nothing.

use std::path::{Path, PathBuf};

use ggr_ir::{BlobId, ObjectStore, Reduction, ReductionCache, StoreError, ThunkId};

use super::shipment::{Results, Shipment};
use super::store::SharedStore;
use crate::store::reductions::blobs;

impl ObjectStore for SharedStore {
    fn missing(&self, ids: &[BlobId]) -> Result<Vec<BlobId>, StoreError> {
        let index = self.index();
        Ok(ids.iter().copied().filter(|id| !index.has(*id)).collect())
    }

    fn get(&self, wanted: &[(BlobId, PathBuf)]) -> Vec<Result<(), StoreError>> {
        let ids: Vec<BlobId> = wanted.iter().map(|(id, _)| *id).collect();
        let brought = self.bring_all(&ids).into_iter().zip(wanted);
        let copy = |wanted: &(BlobId, PathBuf)| self.local.get(std::slice::from_ref(wanted)).remove(0);
        brought.map(|(brought, wanted)| brought.and_then(|()| copy(wanted))).collect()
    }

    fn put(&self, files: &[(BlobId, PathBuf)]) -> Vec<Result<(), StoreError>> {
        let mut shipment = Shipment::new(self.shared());
        let mut added: Vec<_> = files.iter().map(|(id, path)| shipment.add(*id, path)).collect();
        if let Err(error) = shipment.deliver(Results::default()) {
            let lost = added.iter_mut().filter(|added| added.is_ok());
            lost.for_each(|added| *added = Err(self.failed(error.clone())));
        }
        added
    }

    fn put_bytes(&self, bytes: &[u8]) -> Result<BlobId, StoreError> {
        // By way of the local store: a large one is read from a file.
        let id = self.local.put_bytes(bytes)?;
        ObjectStore::put(self, &[(id, self.local.path(id))]).remove(0).map(|()| id)
    }

    fn get_bytes(&self, id: BlobId) -> Result<Vec<u8>, StoreError> {
        self.bring_all(&[id]).remove(0)?;
        self.local.get_bytes(id)
    }

    fn local_path(&self, _: BlobId) -> Option<PathBuf> {
        None
    }

    fn local_root(&self) -> Option<&Path> {
        None
    }
}

impl ReductionCache for SharedStore {
    fn get(&self, id: ThunkId) -> Option<Reduction> {
        self.fetch(id)
    }

    /// # Errors
    /// If an output is not in the bucket: a result is never there before what it speaks of.
    fn put(&self, id: ThunkId, reduction: &Reduction) -> Result<(), StoreError> {
        if let Some(missing) = self.missing(&blobs(reduction))?.first() {
            return Err(StoreError::Missing(*missing));
        }
        let shipment = Shipment::new(self.shared());
        let results = Results { thunks: vec![(id, reduction.to_bytes())], ..Results::default() };
        shipment.deliver(results).map_err(|error| self.failed(error))
    }
}
