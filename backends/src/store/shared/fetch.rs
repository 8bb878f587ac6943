//! From the bucket into the local store.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use futures_util::StreamExt;
use futures_util::stream;
use ggr_ir::{BlobId, Hash, ObjectStore, Reduction, StoreError, ThunkId};

use super::index::Place;
use super::pack::{FIRST_READ, FULL, PackName, Packed, Slot, extent, unpack, window};
use super::store::{PARALLEL, SharedStore};
use super::unpacking::Unpacking;
use crate::store::reductions::blobs;
use crate::store::s3::Trouble;

/// What is being read.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Door {
    /// A pack.
    Pack(PackName),
    /// A blob that is an object by itself.
    Own(Hash),
}

impl SharedStore {
    /// A recorded result, whose blobs are in the local store when this returns.
    pub fn fetch(&self, id: ThunkId) -> Option<Reduction> {
        if self.reading.why().is_some() {
            return None;
        }
        let reduction = self.index().reduction(id)?;
        let brought = self.bring_all(&blobs(&reduction));
        brought.into_iter().all(|brought| brought.is_ok()).then(|| {
            self.hits.fetch_add(1, Ordering::Relaxed);
            reduction
        })
    }

    /// Brings blobs into the local store.
    pub fn bring_all(&self, ids: &[BlobId]) -> Vec<Result<(), StoreError>> {
        if ids.iter().all(|id| self.local.contains(*id).is_ok_and(|here| here)) {
            return ids.iter().map(|_| Ok(())).collect();
        }
        let reads: Vec<_> = ids.iter().map(|id| self.bring(*id)).collect();
        self.wait(stream::iter(reads).buffered(PARALLEL).collect())
    }

    fn door(&self, door: Door) -> Arc<tokio::sync::Mutex<u64>> {
        Arc::clone(self.doors.lock().unwrap_or_else(PoisonError::into_inner).entry(door).or_default())
    }

    async fn bring(&self, id: BlobId) -> Result<(), StoreError> {
        if self.local.contains(id)? {
            return Ok(());
        }
        if id.size() == 0 {
            return self.local.put_bytes(b"").map(drop);
        }
        let place = self.index().place(id);
        match place {
            None => Err(StoreError::Missing(id)),
            Some(Place::Pack(packed, slot)) => self.bring_packed(id, &packed, slot).await,
            Some(Place::Own) => self.bring_own(id).await,
        }
    }

    async fn bring_packed(&self, id: BlobId, packed: &Packed, slot: usize) -> Result<(), StoreError> {
        let door = self.door(Door::Pack(packed.name));
        let mut most = door.lock().await;
        if self.local.contains(id)? {
            // It came with a neighbour.
            return Ok(());
        }
        *most = if *most == 0 { FIRST_READ } else { most.saturating_mul(2) };
        let here = |id| self.local.contains(id).is_ok_and(|here| here);
        let first = window(&packed.slots, slot, *most, here);
        // What is damaged is asked for once more by itself: it may have been the line.
        for range in [first, slot..slot + 1] {
            let slots = &packed.slots[range];
            let Some(bytes) = self.read_slots(packed.name, slots).await? else {
                self.change(|index| index.lose_pack(packed.name));
                return Err(StoreError::Missing(id));
            };
            if self.take(slots, &bytes, id)? {
                return Ok(());
            }
        }
        self.change(|index| index.lose_pack(packed.name));
        Err(StoreError::Corrupt { id, path: PathBuf::from(self.address.pack(packed.name)) })
    }

    /// The bytes of neighbours in a pack; nothing if it has gone.
    async fn read_slots(&self, pack: PackName, slots: &[Slot]) -> Result<Option<Vec<u8>>, StoreError> {
        let range = extent(slots);
        let size = usize::try_from(range.end - range.start).map_err(|e| self.failed(e))?;
        let key = self.address.pack(pack);
        let read = self.read(&key, Some(range), || Ok(Vec::with_capacity(size.min(FULL)))).await?;
        Ok(read.map(|bytes| bytes.expect("memory takes every byte")))
    }

    /// One read, in its lane; nothing if the object has gone.
    async fn read<W: Write>(
        &self,
        key: &str,
        range: Option<std::ops::Range<u64>>,
        open: impl FnMut() -> io::Result<W>,
    ) -> Result<Option<io::Result<W>>, StoreError> {
        let _lane = self.lanes.acquire().await.expect("the semaphore is never closed");
        if let Some(why) = self.reading.why() {
            return Err(self.failed(why.clone()));
        }
        match self.bucket.get(key, range, open).await {
            Ok(read) => {
                self.reading.passed();
                Ok(Some(read))
            }
            Err(error) if error.trouble == Trouble::Gone => Ok(None),
            Err(error) => Err(self.read_failed(error)),
        }
    }

    /// Takes what a read brought into the local store. Says whether the wanted one was among it.
    fn take(&self, slots: &[Slot], bytes: &[u8], wanted: BlobId) -> Result<bool, StoreError> {
        let start = slots.first().map_or(0, |slot| slot.offset);
        let mut found = false;
        for slot in slots {
            let from = slot.offset.saturating_sub(start) as usize;
            let frame = bytes.get(from..from.saturating_add(slot.len as usize));
            // A neighbour that is damaged is found out when it is wanted itself.
            let Some(blob) = frame.and_then(|frame| unpack(frame, slot.id)) else { continue };
            if !self.local.contains(slot.id)? {
                self.local.write(slot.id, &blob)?;
            }
            found |= slot.id == wanted;
        }
        Ok(found)
    }

    async fn bring_own(&self, id: BlobId) -> Result<(), StoreError> {
        let door = self.door(Door::Own(id.hash()));
        let _turn = door.lock().await;
        if self.local.contains(id)? {
            return Ok(());
        }
        let key = self.address.blob(id);
        // Twice: it may have been the line.
        for _ in 0..2 {
            let open = || Unpacking::new(&self.local, id);
            let Some(read) = self.read(&key, None, open).await? else {
                self.change(|index| index.lose_own(id));
                return Err(StoreError::Missing(id));
            };
            match read.and_then(Unpacking::finish) {
                Ok(temp) => return self.local.adopt(temp.path(), id),
                Err(error) if error.kind() == io::ErrorKind::StorageFull => return Err(self.failed(error)),
                Err(_) => {}
            }
        }
        self.change(|index| index.lose_own(id));
        Err(StoreError::Corrupt { id, path: PathBuf::from(key) })
    }
}
