//! Inputs on their way to functions: small ones into the message, the others into the store, once.

use std::collections::BTreeSet;
use std::sync::Arc;

use ggr_ir::protocol::lambda::{Inline, MAX_INLINE};
use ggr_ir::{BlobId, InfraFailure, ObjectStore, StoreError};
use tokio::sync::Mutex;

use super::{Remote, SMALL, SMALL_IN_ALL};
use crate::store::{FsStore, KnownSet};

/// What is known to be in the store.
pub(super) struct Uploads {
    local: Arc<FsStore>,
    remote: Option<Remote>,
    known: Arc<KnownSet>,
    /// Functions did not find these where the store had said they were: they are put there without asking it.
    doubted: Arc<KnownSet>,
    /// Held over an upload: whoever needs the same blobs waits for them and does not upload them again.
    uploading: Mutex<()>,
}

impl Uploads {
    pub(super) fn new(local: Arc<FsStore>, remote: Option<Remote>) -> Self {
        Self { local, remote, known: Arc::default(), doubted: Arc::default(), uploading: Mutex::new(()) }
    }

    /// Brings inputs to where a function finds them; those that have to travel in the message.
    pub(super) async fn offer(&self, ids: BTreeSet<BlobId>) -> Result<Vec<Inline>, InfraFailure> {
        let (small, large) = self.divide(ids);
        let Some(remote) = &self.remote else { return self.read(&small) };
        let unknown = |ids: &[BlobId]| ids.iter().copied().filter(|id| !self.known.contains(*id)).collect();
        let wanted: Vec<BlobId> = unknown(&large);
        if !wanted.is_empty() {
            let _turn = self.uploading.lock().await;
            let wanted: Vec<BlobId> = unknown(&wanted);
            let (local, store) = (self.local.clone(), remote.store.clone());
            let (known, doubted) = (self.known.clone(), self.doubted.clone());
            tokio::task::spawn_blocking(move || upload(&local, &*store, &wanted, (&known, &doubted)))
                .await
                .map_err(|e| InfraFailure::Unreachable(format!("uploading: {e}")))??;
        }
        self.read(&small)
    }

    /// Which inputs travel in the message, and which by the store.
    fn divide(&self, ids: BTreeSet<BlobId>) -> (Vec<BlobId>, Vec<BlobId>) {
        let (most, limit) = match self.remote {
            Some(_) => (SMALL, SMALL_IN_ALL),
            None => (u64::MAX, MAX_INLINE),
        };
        let (mut small, mut large, mut bytes) = (Vec::new(), Vec::new(), 0);
        for id in ids {
            // What is there already need not travel again.
            let fits = id.size() <= most && bytes + id.size() <= limit as u64;
            if fits && !self.known.contains(id) {
                bytes += id.size();
                small.push(id);
            } else {
                large.push(id);
            }
        }
        (small, large)
    }

    fn read(&self, ids: &[BlobId]) -> Result<Vec<Inline>, InfraFailure> {
        let one = |id: &BlobId| match self.local.get_bytes(*id) {
            Ok(bytes) => Ok(Inline { id: *id, bytes }),
            Err(StoreError::Missing(id)) => Err(InfraFailure::InputsMissing(vec![id])),
            Err(error) => Err(InfraFailure::Unreachable(error.to_string())),
        };
        ids.iter().map(one).collect()
    }

    /// These were not there.
    pub(super) fn forget(&self, gone: &[BlobId]) {
        for id in gone {
            self.known.remove(*id);
            self.doubted.insert(*id);
        }
    }

    /// A function has put these there.
    pub(super) fn note(&self, stored: &[BlobId]) {
        stored.iter().for_each(|id| self.known.insert(*id));
    }
}

fn upload(
    local: &FsStore,
    remote: &dyn ObjectStore,
    wanted: &[BlobId],
    (known, doubted): (&KnownSet, &KnownSet),
) -> Result<(), InfraFailure> {
    let failed = |error: StoreError| InfraFailure::Unreachable(format!("the store: {}", chain(&error)));
    let (doubtful, others): (Vec<BlobId>, Vec<BlobId>) = wanted.iter().partition(|id| doubted.contains(**id));
    let mut missing = remote.missing(&others).map_err(failed)?;
    missing.extend(doubtful);
    let gone: Vec<BlobId> = missing.iter().copied().filter(|id| local.local_path(*id).is_none()).collect();
    if !gone.is_empty() {
        return Err(InfraFailure::InputsMissing(gone));
    }
    let files: Vec<_> = missing.iter().map(|id| (*id, local.path(*id))).collect();
    for result in remote.put(&files) {
        result.map_err(failed)?;
    }
    for id in wanted {
        known.insert(*id);
        doubted.remove(*id);
    }
    Ok(())
}

/// An error and its causes, in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(error.source(), |cause| cause.source())
        .fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
