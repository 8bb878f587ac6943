//! What a service has, and what is on its way there: two connections and many jobs send to one service, and no blob is sent twice.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};

use ggr_ir::BlobId;
use tokio::sync::Notify;

use super::lock;
use crate::service::Address;

#[derive(Debug, Default)]
struct Known {
    there: HashSet<BlobId>,
    coming: HashSet<BlobId>,
}

/// As far as is known here. Bound: the blobs of one build.
#[derive(Debug, Default)]
pub(super) struct Has {
    known: Mutex<Known>,
    landed: Notify,
}

/// The right, and the duty, to send these; given back when it is dropped.
pub(super) struct Claim<'a> {
    has: &'a Has,
    pub(super) ids: Vec<BlobId>,
}

impl Has {
    fn lock(&self) -> MutexGuard<'_, Known> {
        lock(&self.known)
    }

    pub(super) fn contains(&self, id: BlobId) -> bool {
        self.lock().there.contains(&id)
    }

    pub(super) fn add<'a>(&self, ids: impl IntoIterator<Item = &'a BlobId>) {
        self.lock().there.extend(ids);
    }

    pub(super) fn forget(&self, ids: &[BlobId]) {
        self.lock().there.retain(|id| !ids.contains(id));
    }

    /// Nothing is known any more, as after a restart.
    pub(super) fn clear(&self) {
        self.lock().there.clear();
    }

    /// Those of the ids that are neither there nor being sent by somebody else.
    pub(super) fn claim(&self, ids: &[BlobId]) -> Claim<'_> {
        let mut known = self.lock();
        let Known { there, coming } = &mut *known;
        let ids = ids.iter().copied().filter(|id| !there.contains(id) && coming.insert(*id)).collect();
        Claim { has: self, ids }
    }

    /// Waits until nobody sends any of these any more; whether all are there then.
    pub(super) async fn settle(&self, ids: &BTreeSet<BlobId>) -> bool {
        loop {
            let mut landed = std::pin::pin!(self.landed.notified());
            // Before the look, or what lands after it would be missed.
            landed.as_mut().enable();
            {
                let known = self.lock();
                if !ids.iter().any(|id| known.coming.contains(id)) {
                    return ids.iter().all(|id| known.there.contains(id));
                }
            }
            landed.await;
        }
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if !self.ids.is_empty() {
            let mut known = self.has.lock();
            known.coming.retain(|id| !self.ids.contains(id));
            drop(known);
            self.has.landed.notify_waiters();
        }
    }
}

/// The services of one build, which fetch from each other.
#[derive(Debug, Default)]
pub struct Peers(Mutex<Vec<(Address, Arc<Has>)>>);

impl Peers {
    pub(super) fn join(&self, address: Address, has: Arc<Has>) {
        lock(&self.0).push((address, has));
    }

    /// Another service that has this blob, and that passes.
    pub(super) fn holder(&self, id: BlobId, pass: impl Fn(&Address) -> bool) -> Option<Address> {
        let peers = lock(&self.0);
        let mut holders = peers.iter().filter(|(address, has)| pass(address) && has.contains(id));
        holders.next().map(|(address, _)| address.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_blob_is_sent_by_one_and_waited_for_by_the_others() {
        let has = Has::default();
        let ids = [BlobId::of(b"a"), BlobId::of(b"b")];
        let all: BTreeSet<_> = ids.into_iter().collect();
        let first = has.claim(&ids);
        assert_eq!(first.ids.len(), 2);
        assert!(has.claim(&ids).ids.is_empty());
        let (arrived, ()) = tokio::join!(has.settle(&all), async {
            tokio::task::yield_now().await;
            has.add(&ids);
            drop(first);
        });
        assert!(arrived && has.claim(&ids).ids.is_empty());
    }

    #[tokio::test]
    async fn what_was_given_up_is_claimed_by_the_next() {
        let has = Has::default();
        let ids = [BlobId::of(b"a")];
        drop(has.claim(&ids));
        assert!(!has.settle(&ids.into_iter().collect()).await);
        assert_eq!(has.claim(&ids).ids, ids);
    }
}
