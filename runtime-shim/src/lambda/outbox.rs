//! What thunks left, on its way into the store while the next thunk of the invocation runs.
//!
//! **Invariant:** whoever has asked for the [`end`](Outbox::end) knows of each thunk whether all that it left is in the store.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

use ggr_ir::{BlobId, ObjectStore};

use crate::worker::chain;

/// What one thunk left.
type Parcel = Vec<(BlobId, PathBuf)>;

/// What became of a parcel.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Sent {
    /// Blobs that were stored.
    pub(super) stored: u64,
    /// Their bytes.
    pub(super) bytes: u64,
    /// Why one was not.
    pub(super) failure: Option<String>,
}

/// Blobs that are waiting or on their way, and in how many parcels.
#[derive(Default)]
struct Unsent {
    ids: Mutex<BTreeMap<BlobId, usize>>,
    gone: Condvar,
}

/// See the module's documentation. Bound: the thunks of one invocation.
pub(super) struct Outbox {
    queue: Option<Sender<Parcel>>,
    thread: Option<JoinHandle<Vec<Sent>>>,
    unsent: Arc<Unsent>,
    /// Parcels for which there is no store.
    kept: usize,
}

impl Outbox {
    /// Sends into this store, if there is one.
    pub(super) fn new(store: Option<Arc<dyn ObjectStore>>) -> Self {
        let unsent = Arc::new(Unsent::default());
        let (queue, parcels) = channel();
        let theirs = Arc::clone(&unsent);
        let thread = store.map(|store| std::thread::spawn(move || deliver(&*store, &parcels, &theirs)));
        Self { queue: thread.is_some().then_some(queue), thread, unsent, kept: 0 }
    }

    /// Sends what a thunk left: its files must stay until [`unsent`](Self::unsent) no longer names them. Does not wait.
    pub(super) fn send(&mut self, parcel: Parcel) {
        let Some(queue) = &self.queue else { return self.kept += 1 };
        let mut ids = self.unsent.ids.lock().expect("no holder panics");
        parcel.iter().for_each(|(id, _)| *ids.entry(*id).or_default() += 1);
        drop(ids);
        queue.send(parcel).expect("the thread takes parcels until the queue is closed");
    }

    /// What is waiting or on its way.
    pub(super) fn unsent(&self) -> BTreeSet<BlobId> {
        self.unsent.ids.lock().expect("no holder panics").keys().copied().collect()
    }

    /// Waits until nothing is.
    pub(super) fn wait(&self) {
        let ids = self.unsent.ids.lock().expect("no holder panics");
        drop(self.unsent.gone.wait_while(ids, |ids| !ids.is_empty()).expect("no holder panics"));
    }

    /// What became of each parcel, in the order in which they were sent, when all have arrived.
    pub(super) fn end(mut self) -> Vec<Sent> {
        drop(self.queue.take());
        match self.thread.take() {
            Some(thread) => thread.join().expect("a store does not panic"),
            None => std::iter::repeat_with(Sent::default).take(self.kept).collect(),
        }
    }
}

/// Puts what has come together into the store in one go: each request to it waits for a network.
fn deliver(store: &dyn ObjectStore, parcels: &Receiver<Parcel>, unsent: &Unsent) -> Vec<Sent> {
    let mut sent = Vec::new();
    while let Ok(first) = parcels.recv() {
        let together: Vec<Parcel> = std::iter::once(first).chain(parcels.try_iter()).collect();
        let files = together.concat();
        let mut results = store.put(&files).into_iter();
        for parcel in &together {
            let mut became = Sent::default();
            for ((id, _), result) in parcel.iter().zip(&mut results) {
                match result {
                    Ok(()) => (became.stored, became.bytes) = (became.stored + 1, became.bytes + id.size()),
                    Err(error) => became.failure = Some(chain(&error)),
                }
            }
            sent.push(became);
        }
        let mut ids = unsent.ids.lock().expect("no holder panics");
        for (id, _) in &files {
            if let Some(parcels) = ids.get_mut(id) {
                *parcels -= 1;
            }
        }
        ids.retain(|_, parcels| *parcels > 0);
        if ids.is_empty() {
            unsent.gone.notify_all();
        }
    }
    sent
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use ggr_backends::store::FsStore;
    use ggr_ir::StoreError;

    use super::*;

    /// A store that takes nothing until it is told to, and then all but one blob.
    struct Slow {
        inner: FsStore,
        refused: BlobId,
        told: Mutex<Receiver<()>>,
        calls: Mutex<Vec<usize>>,
    }

    impl ObjectStore for Slow {
        fn missing(&self, ids: &[BlobId]) -> Result<Vec<BlobId>, StoreError> {
            self.inner.missing(ids)
        }

        fn get(&self, wanted: &[(BlobId, PathBuf)]) -> Vec<Result<(), StoreError>> {
            self.inner.get(wanted)
        }

        fn put(&self, files: &[(BlobId, PathBuf)]) -> Vec<Result<(), StoreError>> {
            self.told.lock().unwrap().recv().unwrap();
            self.calls.lock().unwrap().push(files.len());
            let put = |file: &(BlobId, PathBuf)| match file.0 == self.refused {
                true => Err(StoreError::Missing(file.0)),
                false => self.inner.put(std::slice::from_ref(file)).remove(0),
            };
            files.iter().map(put).collect()
        }

        fn put_bytes(&self, bytes: &[u8]) -> Result<BlobId, StoreError> {
            self.inner.put_bytes(bytes)
        }

        fn get_bytes(&self, id: BlobId) -> Result<Vec<u8>, StoreError> {
            self.inner.get_bytes(id)
        }

        fn local_path(&self, _: BlobId) -> Option<PathBuf> {
            None
        }

        fn local_root(&self) -> Option<&Path> {
            None
        }
    }

    fn file(dir: &Path, text: &str) -> (BlobId, PathBuf) {
        let path = dir.join(text);
        std::fs::write(&path, text).unwrap();
        (BlobId::of(text.as_bytes()), path)
    }

    #[test]
    fn nobody_waits_for_what_is_sent_until_the_end_and_each_failure_is_its_own_parcels() {
        let dir = tempfile::tempdir().unwrap();
        let (tell, told) = channel();
        let store = Arc::new(Slow {
            inner: FsStore::new(&dir.path().join("store")),
            refused: BlobId::of(b"bad"),
            told: Mutex::new(told),
            calls: Mutex::default(),
        });
        let mut outbox = Outbox::new(Some(store.clone()));
        let [one, two, bad, last] = ["one", "two", "bad", "last"].map(|text| file(dir.path(), text));
        // Nothing is taken yet, and none of these waits.
        outbox.send(vec![one.clone()]);
        outbox.send(vec![]);
        outbox.send(vec![two.clone(), bad.clone()]);
        assert_eq!(outbox.unsent(), [one.0, two.0, bad.0].into());
        (0..3).for_each(|_| tell.send(()).unwrap());
        outbox.wait();
        assert_eq!(outbox.unsent(), BTreeSet::new());
        outbox.send(vec![last]);
        (0..3).for_each(|_| tell.send(()).unwrap());
        let sent = outbox.end();
        let stored: Vec<_> = sent.iter().map(|sent| (sent.stored, sent.failure.is_some())).collect();
        assert_eq!(stored, [(1, false), (0, false), (1, true), (1, false)]);
        assert_eq!(sent[3].bytes, 4);
        assert!(store.calls.lock().unwrap().len() <= 4);
        assert!(store.missing(&[one.0, two.0]).unwrap().is_empty());
    }

    #[test]
    fn without_a_store_there_is_nothing_to_wait_for() {
        let mut outbox = Outbox::new(None);
        outbox.send(vec![(BlobId::of(b"x"), "/nowhere".into())]);
        outbox.wait();
        assert_eq!(outbox.end(), [Sent::default()]);
    }
}
