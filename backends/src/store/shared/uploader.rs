//! Uploads while the build runs: results wait in a bounded queue for a thread of low priority, and whoever offers one never
//! waits for it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ggr_ir::{BlobId, Hash, Reduction, StoreError, ThunkId};
use rustc_hash::FxHashSet;

use super::shipment::{Results, Shipment};
use super::store::SharedStore;
use crate::store::reductions::blobs;

/// Results that may wait; about a kilobyte each. The bytes of their outputs are in the local store.
const QUEUE: usize = 16_384;

/// A shipment is delivered when it holds so many results …
const DELIVER_AT: usize = 512;

/// … or when its first one has waited for so long: others see results of a build that is still running.
const DELIVER_AFTER: Duration = Duration::from_secs(10);

/// How much a processor is left to others: half-way to the least.
const NICE: i32 = 10;

/// A result that is to be uploaded.
pub(super) enum Order {
    /// What a thunk reduced to.
    Reduction(ThunkId, Reduction),
    /// A captured run: the command's shared key, the blob that holds the run, and those that it speaks of. All are in the local
    /// store.
    Capture(Hash, BlobId, Vec<BlobId>),
}

impl Order {
    /// A name under which no other result is offered.
    fn name(&self) -> Hash {
        match self {
            Self::Reduction(id, _) => id.hash(),
            Self::Capture(key, run, _) => Hash::of(&[*key.as_bytes(), *run.hash().as_bytes()].concat()),
        }
    }

    /// What has to be in the bucket before it.
    fn blobs(&self) -> Vec<BlobId> {
        match self {
            Self::Reduction(_, reduction) => blobs(reduction),
            Self::Capture(_, run, blobs) => std::iter::once(run).chain(blobs).copied().collect(),
        }
    }
}

/// What became of what was offered.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Left {
    /// Results that did not fit into the queue.
    pub overflowed: u64,
    /// Results that were not uploaded: the bucket refused, an output was gone, or there was no time.
    pub not_stored: u64,
}

#[derive(Default)]
struct Shared {
    /// Offered and neither delivered nor given up.
    open: AtomicU64,
    overflowed: AtomicU64,
    not_stored: AtomicU64,
}

/// The thread and its queue.
pub(super) struct Uploader {
    queue: Option<SyncSender<Order>>,
    shared: Arc<Shared>,
    /// What was offered before.
    offered: Mutex<FxHashSet<Hash>>,
    ended: Mutex<Receiver<()>>,
}

impl Uploader {
    /// Starts the thread.
    pub(super) fn start(store: Arc<SharedStore>) -> std::io::Result<Self> {
        let (queue, orders) = sync_channel(QUEUE);
        let (end, ended) = sync_channel(1);
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        std::thread::Builder::new().name("ggr-upload".to_owned()).spawn(move || {
            // What cannot be had is a build that is a little slower.
            let _ = rustix::process::nice(NICE);
            Loading::new(store, theirs).run(&orders);
            let _ = end.send(());
        })?;
        Ok(Self { queue: Some(queue), shared, offered: Mutex::default(), ended: Mutex::new(ended) })
    }

    /// Has a result uploaded, unless it was offered before. Never waits; what does not fit is counted.
    pub(super) fn offer(&self, order: Order) {
        if !self.offered.lock().unwrap_or_else(PoisonError::into_inner).insert(order.name()) {
            return;
        }
        self.shared.open.fetch_add(1, Ordering::Relaxed);
        if self.queue.as_ref().is_none_or(|queue| queue.try_send(order).is_err()) {
            self.shared.open.fetch_sub(1, Ordering::Relaxed);
            self.shared.overflowed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until all is uploaded, at most so long; `progress` is told every second how many results are left, and may say
    /// that it is enough. What is not uploaded by then is given up.
    pub(super) fn finish(mut self, limit: Duration, mut progress: impl FnMut(u64) -> bool) -> Left {
        drop(self.queue.take());
        let ended = self.ended.into_inner().unwrap_or_else(PoisonError::into_inner);
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let waited = ended.recv_timeout(left.min(Duration::from_secs(1)));
            if !matches!(waited, Err(RecvTimeoutError::Timeout)) || left.is_zero() {
                break;
            }
            if !progress(self.shared.open.load(Ordering::Relaxed)) {
                break;
            }
        }
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let shared = &self.shared;
        Left { overflowed: of(&shared.overflowed), not_stored: of(&shared.not_stored) + of(&shared.open) }
    }
}

/// The thread's side.
struct Loading {
    store: Arc<SharedStore>,
    shared: Arc<Shared>,
    shipment: Shipment,
    results: Results,
    since: Option<Instant>,
}

impl Loading {
    fn new(store: Arc<SharedStore>, shared: Arc<Shared>) -> Self {
        let shipment = Shipment::new(Arc::clone(&store));
        Self { store, shared, shipment, results: Results::default(), since: None }
    }

    fn run(mut self, orders: &Receiver<Order>) {
        loop {
            let wait =
                self.since.map_or(DELIVER_AFTER, |since| DELIVER_AFTER.saturating_sub(since.elapsed()));
            match orders.recv_timeout(wait) {
                Ok(order) => self.take(order),
                Err(RecvTimeoutError::Timeout) => self.deliver(),
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if self.results.len() >= DELIVER_AT {
                self.deliver();
            }
        }
        self.deliver();
        if self.store.writing.why().is_none() {
            // Whoever may do it does it: a bucket that is not tidied answers as rightly.
            let _ = self.store.tidy();
        }
    }

    fn take(&mut self, order: Order) {
        if self.load(&order.blobs()).is_err() {
            return self.settle(1, &self.shared.not_stored);
        }
        match order {
            Order::Reduction(id, reduction) => self.results.thunks.push((id, reduction.to_bytes())),
            Order::Capture(key, run, _) => self.results.captures.push((key, run)),
        }
        self.since.get_or_insert_with(Instant::now);
    }

    /// Sends the blobs that the bucket lacks.
    fn load(&mut self, ids: &[BlobId]) -> Result<(), StoreError> {
        for &id in ids {
            if !self.shipment.has(id) {
                let path = self.store.local.sound_path(id)?;
                self.shipment.add(id, &path)?;
            }
        }
        Ok(())
    }

    fn deliver(&mut self) {
        self.since = None;
        let next = Shipment::new(Arc::clone(&self.store));
        let shipment = std::mem::replace(&mut self.shipment, next);
        let results = std::mem::take(&mut self.results);
        let count = results.len() as u64;
        match shipment.deliver(results) {
            Ok(()) => drop(self.shared.open.fetch_sub(count, Ordering::Relaxed)),
            Err(_) => self.settle(count, &self.shared.not_stored),
        }
    }

    fn settle(&self, count: u64, as_what: &AtomicU64) {
        as_what.fetch_add(count, Ordering::Relaxed);
        self.shared.open.fetch_sub(count, Ordering::Relaxed);
    }
}
