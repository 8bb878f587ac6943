//! The bucket as a store: what is in it, and how it gets here.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use futures_util::StreamExt;
use futures_util::stream;
use ggr_ir::repo::TempFile;
use ggr_ir::{BlobId, Hash, ObjectStore, Reduction, ReductionCache, StoreError, ThunkId};
use rustc_hash::FxHashMap;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;

use super::address::Address;
use super::index::{Index, Place, Segment};
use super::pack::{FIRST_READ, PackName, Packed, Slot, extent, unpack, window};
use super::segments::Segments;
use super::shipment::Shipment;
use super::trip::Trip;
use crate::store::FsStore;
use crate::store::reductions::blobs;
use crate::store::s3::{Bucket, S3Error, Trouble};

/// Reads at a time: enough to fill a line at S3's 20 to 100 ms each, and with [`FULL`](super::pack::FULL) the bound on memory.
const PARALLEL: usize = 16;

/// Whether anything is ever written to the bucket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// What is made here is uploaded.
    ReadWrite,
    /// Nothing is written, removed or put together.
    ReadOnly,
}

/// Tells the user one thing.
pub type Notice = Box<dyn Fn(String) + Send + Sync>;

/// How a shared store is opened.
pub struct SharedOptions {
    /// Which bucket.
    pub address: Address,
    /// The service, if the environment does not say it.
    pub endpoint: Option<String>,
    /// Whether it is written to.
    pub access: Access,
    /// The most bytes a second in each direction; 0 for no cap.
    pub rate: u64,
    /// A directory for copies of the index.
    pub memo: PathBuf,
    /// The blobs of this machine: what is fetched goes there, and what is uploaded comes from there.
    pub local: Arc<FsStore>,
    /// Called when the bucket is given up, at most once for reading and once for writing.
    pub notice: Notice,
}

/// Why a shared store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The bucket refused.
    #[error(transparent)]
    Bucket(Box<S3Error>),
    /// No threads.
    #[error("cannot start threads")]
    Threads(#[source] io::Error),
}

/// What a shared store was asked and did.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct SharedCounts {
    /// Results that came from the bucket.
    pub hits: u64,
    /// Results that were put into it.
    pub stored: u64,
    /// Bytes that came, as they were on the line.
    pub down: u64,
    /// Bytes that went.
    pub up: u64,
    /// Requests, without the SDK's own retries.
    pub requests: u64,
}

/// A bucket that several machines share: blobs and reductions. Calls may come from any thread that may wait.
pub struct SharedStore {
    /// For threads that outlive a borrow.
    me: Weak<Self>,
    pub(super) address: Address,
    pub(super) access: Access,
    pub(super) bucket: Arc<Bucket>,
    pub(super) index: RwLock<Index>,
    pub(super) segments: Segments,
    pub(super) local: Arc<FsStore>,
    reading: Trip,
    pub(super) writing: Trip,
    /// For each object that is being read: held while it is, with how much the last read brought. Bound: the objects that
    /// this build needs.
    doors: Mutex<FxHashMap<Door, Arc<tokio::sync::Mutex<u64>>>>,
    lanes: Semaphore,
    hits: AtomicU64,
    pub(super) stored: AtomicU64,
    notice: Notice,
    /// Always there; taken by `drop`.
    runtime: Option<Runtime>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Door {
    Pack(PackName),
    Own(Hash),
}

impl SharedStore {
    /// Opens a bucket: finds credentials, lists its index, and reads what is new of it.
    ///
    /// # Errors
    /// What the bucket refuses.
    pub fn open(options: SharedOptions) -> Result<Arc<Self>, OpenError> {
        let runtime =
            Builder::new_multi_thread().worker_threads(4).thread_name("ggr-s3").enable_all().build();
        let runtime = runtime.map_err(OpenError::Threads)?;
        let SharedOptions { address, endpoint, access, rate, memo, local, notice } = options;
        let opened = runtime.block_on(async {
            let bucket = Bucket::open(address.bucket(), endpoint.as_deref(), rate).await?;
            let mut segments = Segments::new(&memo, &address, bucket.endpoint());
            let index = segments.load(&bucket).await?;
            Ok((bucket, segments, index))
        });
        let (bucket, segments, index) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                runtime.shutdown_background();
                return Err(OpenError::Bucket(Box::new(error)));
            }
        };
        Ok(Arc::new_cyclic(|me| Self {
            me: me.clone(),
            address,
            access,
            bucket: Arc::new(bucket),
            index: RwLock::new(index),
            segments,
            local,
            reading: Trip::default(),
            writing: Trip::default(),
            doors: Mutex::default(),
            lanes: Semaphore::new(PARALLEL),
            hits: AtomicU64::new(0),
            stored: AtomicU64::new(0),
            notice,
            runtime: Some(runtime),
        }))
    }

    fn shared(&self) -> Arc<Self> {
        self.me.upgrade().expect("whoever calls holds it")
    }

    /// Which bucket.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Whether anything would be written to it still.
    pub fn is_writable(&self) -> bool {
        self.access == Access::ReadWrite && self.writing.why().is_none()
    }

    /// How many blobs and thunks the bucket is known to hold.
    pub fn len(&self) -> (usize, usize) {
        self.index().len()
    }

    /// What was asked and done so far.
    pub fn counts(&self) -> SharedCounts {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let traffic = &self.bucket.traffic;
        SharedCounts {
            hits: of(&self.hits),
            stored: of(&self.stored),
            down: of(&traffic.down),
            up: of(&traffic.up),
            requests: of(&traffic.requests),
        }
    }

    /// Whether the bucket has a result for the thunk that can be fetched, as far as this machine knows: asks nobody.
    pub fn knows(&self, id: ThunkId) -> bool {
        self.reading.why().is_none() && self.holds(id)
    }

    /// As [`knows`](Self::knows), also of a bucket that cannot be read any more.
    pub(super) fn holds(&self, id: ThunkId) -> bool {
        self.index().reduction(id).is_some()
    }

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

    pub(super) fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.as_ref().expect("it is taken by drop").block_on(future)
    }

    pub(super) fn spawn<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        self.runtime.as_ref().expect("it is taken by drop").spawn(future)
    }

    pub(super) fn index(&self) -> std::sync::RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Index)) {
        change(&mut self.index.write().unwrap_or_else(PoisonError::into_inner));
    }

    pub(super) fn failed(&self, why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> StoreError {
        StoreError::Io { path: PathBuf::from(self.address.to_string()), source: io::Error::other(why) }
    }

    /// A request to write failed: the user is told if it was the last.
    pub(super) fn write_failed(&self, error: &S3Error) {
        if self.writing.failed(error) {
            let text =
                format!("{error}; nothing more is uploaded in this build. {}", sentence(&error.hint()));
            (self.notice)(text);
        }
    }

    fn read_failed(&self, error: S3Error) -> StoreError {
        if self.reading.failed(&error) {
            let text =
                format!("{error}; the build goes on without the shared store. {}", sentence(&error.hint()));
            (self.notice)(text);
        }
        // Whoever may not read may still write; who is nobody may neither.
        if self.reading.why().is_some_and(|why| why.trouble != Trouble::Denied) {
            self.writing.failed(&error);
        }
        self.failed(error)
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
        let read =
            self.read(&key, Some(range), || Ok(Vec::with_capacity(size.min(super::pack::FULL)))).await?;
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

    /// What was found gone and no segment says yet.
    pub(super) fn take_unsaid(&self) -> Vec<PackName> {
        let mut unsaid = Vec::new();
        self.change(|index| unsaid = index.take_unsaid());
        unsaid
    }

    /// Adds a segment to the index, there and here.
    pub(super) fn publish(&self, segment: Segment) -> Result<(), S3Error> {
        self.written(self.wait(self.segments.write(&self.bucket, &segment)))?;
        self.change(|index| index.add(segment));
        Ok(())
    }

    /// Puts small segments together, if there are many.
    pub(super) fn tidy(&self) -> Result<(), S3Error> {
        self.wait(self.segments.tidy(&self.bucket))
    }

    /// Takes notice of how a request to write ended.
    pub(super) fn written<T>(&self, result: Result<T, S3Error>) -> Result<T, S3Error> {
        match &result {
            Ok(_) => self.writing.passed(),
            Err(error) => self.write_failed(error),
        }
        result
    }
}

/// A hint as a sentence of its own.
fn sentence(hint: &str) -> String {
    let mut chars = hint.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

impl Drop for SharedStore {
    /// Does not wait: what must be finished was waited for.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A large blob on its way into the local store: unpacked and hashed as it comes.
struct Unpacking {
    decoder: zstd::stream::write::Decoder<'static, Checked>,
}

struct Checked {
    temp: TempFile,
    hasher: blake3::Hasher,
    id: BlobId,
    left: u64,
}

impl Unpacking {
    fn new(local: &FsStore, id: BlobId) -> io::Result<Self> {
        let temp = local.temporary().map_err(io::Error::other)?;
        let checked = Checked { temp, hasher: blake3::Hasher::new(), id, left: id.size() };
        Ok(Self { decoder: zstd::stream::write::Decoder::new(checked)? })
    }

    /// The finished file.
    ///
    /// # Errors
    /// If it holds another blob.
    fn finish(mut self) -> io::Result<TempFile> {
        self.decoder.flush()?;
        let Checked { temp, hasher, id, left } = self.decoder.into_inner();
        let found = BlobId::new(Hash::from_bytes(*hasher.finalize().as_bytes()), id.size());
        if left == 0 && found == id { Ok(temp) } else { Err(io::ErrorKind::InvalidData.into()) }
    }
}

impl Write for Unpacking {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.decoder.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.decoder.flush()
    }
}

impl Write for Checked {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // More than its id says.
        let left = self.left.checked_sub(bytes.len() as u64).ok_or(io::ErrorKind::InvalidData)?;
        self.temp.file().write_all(bytes)?;
        self.hasher.update(bytes);
        self.left = left;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A bucket as an [`ObjectStore`] and a [`ReductionCache`] by itself: each call is there for others when it returns.
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
        if let Err(error) = shipment.deliver(Vec::new()) {
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
        shipment.deliver(vec![(id, reduction.to_bytes())]).map_err(|error| self.failed(error))
    }
}
