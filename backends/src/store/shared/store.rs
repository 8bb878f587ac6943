//! A bucket that is open: what is known of it, what was asked of it, and whether it still answers.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use ggr_ir::{StoreError, ThunkId};
use rustc_hash::FxHashMap;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;

use super::address::Address;
use super::fetch::Door;
use super::index::{Index, Segment};
use super::pack::PackName;
use super::segments::Segments;
use super::trip::Trip;
use crate::store::FsStore;
use crate::store::s3::{Bucket, S3Error, Trouble};

/// Reads at a time: enough to fill a line at S3's 20 to 100 ms each, and with [`FULL`](super::pack::FULL) the bound on memory.
pub(super) const PARALLEL: usize = 16;

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
    /// Results that came from the bucket, captured runs included.
    pub hits: u64,
    /// Of these, captured runs.
    pub repeated: u64,
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
    pub(super) reading: Trip,
    pub(super) writing: Trip,
    /// For each object that is being read: held while it is, with how much the last read brought. Bound: the objects that
    /// this build needs.
    pub(super) doors: Mutex<FxHashMap<Door, Arc<tokio::sync::Mutex<u64>>>>,
    pub(super) lanes: Semaphore,
    pub(super) hits: AtomicU64,
    pub(super) repeated: AtomicU64,
    pub(super) stored: AtomicU64,
    notice: Notice,
    /// Always there; taken by `drop`.
    runtime: Option<Runtime>,
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
            repeated: AtomicU64::new(0),
            stored: AtomicU64::new(0),
            notice,
            runtime: Some(runtime),
        }))
    }

    pub(super) fn shared(&self) -> Arc<Self> {
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
            repeated: of(&self.repeated),
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

    pub(super) fn read_failed(&self, error: S3Error) -> StoreError {
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
