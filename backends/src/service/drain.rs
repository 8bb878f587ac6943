//! Ending without losing what runs: new jobs are refused, and the service ends when the last one is through.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;

/// After the last answer its large outputs are still asked for: a service ends when it had nothing to do for so long.
const QUIET: Duration = Duration::from_millis(500);

/// Counts what keeps a service from ending.
#[derive(Debug)]
pub(super) struct Drain {
    begun: AtomicBool,
    busy: watch::Sender<usize>,
    /// How many wait to be told that it is done.
    asked: watch::Sender<usize>,
    /// Told when it begins.
    start: watch::Sender<bool>,
}

impl Drain {
    pub(super) fn new() -> Self {
        Self {
            begun: AtomicBool::new(false),
            busy: watch::channel(0).0,
            asked: watch::channel(0).0,
            start: watch::channel(false).0,
        }
    }

    /// Takes no more jobs from now on.
    pub(super) fn begin(&self) {
        self.begun.store(true, Ordering::SeqCst);
        self.start.send_replace(true);
    }

    pub(super) fn begun(&self) -> bool {
        self.begun.load(Ordering::SeqCst)
    }

    /// Counts a job until the answer is dropped; nothing if no more are taken.
    pub(super) fn enter(&self) -> Option<Busy<'_>> {
        // Counted first: whoever begins to drain in between sees it.
        let busy = self.stay();
        (!self.begun()).then_some(busy)
    }

    /// Counts something that is finished also while the service drains.
    pub(super) fn stay(&self) -> Busy<'_> {
        Busy::of(&self.busy)
    }

    /// Counts somebody who waits to be told that it is [done](Self::done), until the answer is dropped.
    pub(super) fn ask(&self) -> Busy<'_> {
        Busy::of(&self.asked)
    }

    /// Waits until all who [asked](Self::ask) have been told.
    pub(super) async fn told(&self) {
        let _ = self.asked.subscribe().wait_for(|count| *count == 0).await;
    }

    /// Waits until draining has begun.
    pub(super) async fn wait_begun(&self) {
        let _ = self.start.subscribe().wait_for(|begun| *begun).await;
    }

    /// Waits until nothing has been busy for a while.
    pub(super) async fn done(&self) {
        let mut busy = self.busy.subscribe();
        loop {
            let _ = busy.wait_for(|count| *count == 0).await;
            if tokio::time::timeout(QUIET, busy.wait_for(|count| *count > 0)).await.is_err() {
                return;
            }
        }
    }
}

/// Something that keeps a service from ending, until it is dropped.
pub(super) struct Busy<'a>(&'a watch::Sender<usize>);

impl<'a> Busy<'a> {
    fn of(count: &'a watch::Sender<usize>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_runs_is_waited_for_and_nothing_new_is_taken() {
        let drain = Drain::new();
        let busy = drain.enter().unwrap();
        drain.begin();
        drain.wait_begun().await;
        assert!(drain.enter().is_none());
        assert!(tokio::time::timeout(2 * QUIET, drain.done()).await.is_err());
        drop(busy);
        tokio::time::timeout(Duration::from_secs(60), drain.done()).await.unwrap();
    }
}
