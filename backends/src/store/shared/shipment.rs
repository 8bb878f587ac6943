//! Blobs and results on their way into the bucket: first the objects, then the index segment that speaks of them.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ggr_ir::{BlobId, Hash, StoreError, ThunkId};
use rustc_hash::FxHashSet;
use tokio::task::JoinHandle;

use super::index::Segment;
use super::pack::{Filling, LEVEL, Packed, SMALL, compress};
use super::store::{Access, SharedStore};
use crate::store::s3::{PART, PartsError, S3Error};

/// Packs on their way at a time: with their size (4 MiB) the bound on memory.
const SENDING: usize = 3;

/// What is said when all that it speaks of is in the bucket.
#[derive(Default)]
pub(super) struct Results {
    /// As in [`Segment`].
    pub(super) thunks: Vec<(ThunkId, Vec<u8>)>,
    /// As in [`Segment`].
    pub(super) captures: Vec<(Hash, BlobId)>,
}

impl Results {
    pub(super) fn len(&self) -> usize {
        self.thunks.len() + self.captures.len()
    }
}

/// See the module's documentation. Dropping it leaves objects that nothing speaks of.
pub(super) struct Shipment {
    store: Arc<SharedStore>,
    filling: Filling,
    sending: VecDeque<JoinHandle<Result<Packed, S3Error>>>,
    segment: Segment,
    /// What is on its way.
    ids: FxHashSet<BlobId>,
}

impl Shipment {
    pub(super) fn new(store: Arc<SharedStore>) -> Self {
        Self {
            store,
            filling: Filling::default(),
            sending: VecDeque::new(),
            segment: Segment::default(),
            ids: FxHashSet::default(),
        }
    }

    /// Adds a blob by its file, if the bucket lacks it. Waits while more is on its way than memory should hold.
    ///
    /// # Errors
    /// If the file holds something else, or the bucket refuses.
    pub(super) fn add(&mut self, id: BlobId, path: &Path) -> Result<(), StoreError> {
        let failed = |source| StoreError::Io { path: path.to_owned(), source };
        self.writable()?;
        if self.has(id) {
            return Ok(());
        }
        let file = fs::File::open(path).map_err(failed)?;
        if file.metadata().map_err(failed)?.len() != id.size() {
            return Err(StoreError::Changed { path: path.to_owned() });
        }
        if id.size() > SMALL {
            return self.add_large(id, file, path);
        }
        let mut bytes = Vec::with_capacity(id.size() as usize);
        file.take(SMALL + 1).read_to_end(&mut bytes).map_err(failed)?;
        self.add_bytes(id, &bytes, path)
    }

    /// Adds a small blob, which comes from `path`.
    pub(super) fn add_bytes(&mut self, id: BlobId, bytes: &[u8], path: &Path) -> Result<(), StoreError> {
        self.writable()?;
        if self.has(id) {
            return Ok(());
        }
        if BlobId::of(bytes) != id {
            return Err(StoreError::Changed { path: path.to_owned() });
        }
        let frame = compress(bytes).map_err(|error| self.store.failed(error))?;
        self.filling.add(id, &frame);
        self.ids.insert(id);
        if self.filling.is_full() {
            self.send().map_err(|error| self.store.failed(error))?;
        }
        Ok(())
    }

    /// Says what was added, after all of it has arrived, and these results and captured runs with it.
    ///
    /// # Errors
    /// What the bucket refuses; then nothing is said.
    pub(super) fn deliver(mut self, results: Results) -> Result<(), S3Error> {
        self.send()?;
        while let Some(sent) = self.sending.pop_front() {
            self.arrived(sent)?;
        }
        if let Some(why) = self.store.writing.why() {
            return Err(why.clone());
        }
        let count = results.len() as u64;
        let gone = self.store.take_unsaid();
        let Results { thunks, captures } = results;
        let segment = Segment { thunks, captures, gone, ..self.segment };
        if segment.is_empty() {
            return Ok(());
        }
        self.store.publish(segment)?;
        self.store.stored.fetch_add(count, Ordering::Relaxed);
        Ok(())
    }

    /// Whether the bucket has the blob, or it is on its way.
    pub(super) fn has(&self, id: BlobId) -> bool {
        self.ids.contains(&id) || self.store.index().has(id)
    }

    fn writable(&self) -> Result<(), StoreError> {
        if self.store.access == Access::ReadOnly {
            let why = io::Error::new(io::ErrorKind::ReadOnlyFilesystem, "the shared store is read-only");
            return Err(StoreError::Io { path: PathBuf::from(self.store.address.to_string()), source: why });
        }
        self.store.writing.why().map_or(Ok(()), |why| Err(self.store.failed(why.clone())))
    }

    /// Sends the pack that is being filled on its way.
    fn send(&mut self) -> Result<(), S3Error> {
        let Some((packed, bytes)) = self.filling.take() else { return Ok(()) };
        if self.sending.len() >= SENDING
            && let Some(oldest) = self.sending.pop_front()
        {
            self.arrived(oldest)?;
        }
        let (bucket, key) = (Arc::clone(&self.store.bucket), self.store.address.pack(packed.name));
        let sent = self.store.spawn(async move { bucket.put(&key, bytes).await.map(|()| packed) });
        self.sending.push_back(sent);
        Ok(())
    }

    fn arrived(&mut self, sent: JoinHandle<Result<Packed, S3Error>>) -> Result<(), S3Error> {
        let sent = self.store.wait(sent).expect("a task that stores a pack does not panic");
        self.segment.packs.push(self.store.written(sent)?);
        Ok(())
    }

    fn add_large(&mut self, id: BlobId, file: fs::File, path: &Path) -> Result<(), StoreError> {
        let failed = |source| StoreError::Io { path: path.to_owned(), source };
        let hashed = Hashed { file, hasher: blake3::Hasher::new(), size: 0 };
        let mut frame = zstd::stream::read::Encoder::new(hashed, LEVEL).map_err(failed)?;
        let mut ended = false;
        let next = || {
            if ended {
                return Ok(None);
            }
            let mut piece = Vec::with_capacity(PART);
            (&mut frame).take(PART as u64).read_to_end(&mut piece)?;
            if piece.len() < PART {
                ended = true;
                if frame.get_ref().get_ref().id() != id {
                    return Err(io::ErrorKind::InvalidData.into());
                }
            }
            Ok(Some(piece))
        };
        let key = self.store.address.blob(id);
        match self.store.wait(self.store.bucket.put_pieces(&key, next)) {
            Ok(()) => {
                self.store.writing.passed();
                self.segment.own.push(id);
                self.ids.insert(id);
                Ok(())
            }
            Err(PartsError::Source(error)) if error.kind() == io::ErrorKind::InvalidData => {
                Err(StoreError::Changed { path: path.to_owned() })
            }
            Err(PartsError::Source(error)) => Err(failed(error)),
            Err(PartsError::Bucket(error)) => {
                self.store.write_failed(&error);
                Err(self.store.failed(error))
            }
        }
    }
}

/// A file that is hashed while it is read.
struct Hashed {
    file: fs::File,
    hasher: blake3::Hasher,
    size: u64,
}

impl Hashed {
    /// The blob that was read so far.
    fn id(&self) -> BlobId {
        BlobId::new(Hash::from_bytes(*self.hasher.finalize().as_bytes()), self.size)
    }
}

impl Read for Hashed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        self.size += read as u64;
        Ok(read)
    }
}
