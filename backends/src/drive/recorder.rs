//! Writes reductions to the cache on a thread of its own, so that a slow disk does not stall the schedule.

use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;

use ggr_ir::{ReductionCache, ThunkId};
use tokio::sync::broadcast;

use super::record::Finished;
use super::report::BuildEvent;

/// The thread and its queue. Bound: one entry for each thunk that a backend finished, and the results in it are kept by
/// the driver anyway.
#[derive(Debug)]
pub(super) struct Recorder {
    queue: mpsc::Sender<(ThunkId, Arc<Finished>)>,
    thread: JoinHandle<()>,
}

impl Recorder {
    pub(super) fn start(cache: Arc<dyn ReductionCache>, events: broadcast::Sender<BuildEvent>) -> Self {
        let (queue, records) = mpsc::channel::<(ThunkId, Arc<Finished>)>();
        let thread = std::thread::spawn(move || {
            let mut complained = false;
            for (id, finished) in records {
                if let Err(e) = cache.put(id, &finished.reduction())
                    && !std::mem::replace(&mut complained, true)
                {
                    let _ = events.send(BuildEvent::Notice(format!("a result could not be recorded: {e}")));
                }
            }
        });
        Self { queue, thread }
    }

    pub(super) fn record(&self, id: ThunkId, finished: Arc<Finished>) {
        // The thread ends only when this end of the queue is dropped, or by a panic of the cache.
        let _ = self.queue.send((id, finished));
    }

    /// Waits until all is written.
    pub(super) async fn finish(self) {
        drop(self.queue);
        let _ = tokio::task::spawn_blocking(move || self.thread.join()).await;
    }
}
