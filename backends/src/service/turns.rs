//! Who runs next when all slots are taken: tenants in turn, and the jobs of one in the order in which they came.
//!
//! **Invariant:** a tenant that waits with a job is passed over by no other tenant twice. Slots that nobody else wants are
//! anybody's: nothing is kept free.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// The slots of a service, and who waits for one.
#[derive(Debug)]
pub(super) struct Turns(Mutex<State>);

#[derive(Debug)]
struct State {
    free: usize,
    /// Tenants with jobs that wait, the next one first. Bound: the requests that their clients may have open.
    waiting: VecDeque<(Arc<str>, VecDeque<oneshot::Sender<Turn>>)>,
}

/// A slot; given to the next one when it is dropped.
#[derive(Debug)]
pub(super) struct Turn(Option<Arc<Turns>>);

impl Turns {
    pub(super) fn new(slots: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State { free: slots, waiting: VecDeque::new() })))
    }

    /// No code that holds the lock can panic half-way through a change.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a slot. Whoever drops the future leaves the queue.
    pub(super) async fn take(self: &Arc<Self>, tenant: &Arc<str>) -> Turn {
        let waiting = {
            let mut state = self.lock();
            if state.free > 0 {
                // Then nobody waits: a slot that is given back goes to those first.
                state.free -= 1;
                return Turn(Some(Arc::clone(self)));
            }
            let (turn, waiting) = oneshot::channel();
            match state.waiting.iter_mut().find(|(name, _)| name == tenant) {
                Some((_, queue)) => queue.push_back(turn),
                None => state.waiting.push_back((Arc::clone(tenant), VecDeque::from([turn]))),
            }
            waiting
        };
        waiting.await.expect("a queue is dropped only with its last job, and never before the slots")
    }

    /// Gives a slot to the next one who still waits.
    fn pass_on(self: Arc<Self>) {
        let mut turn = Turn(Some(self));
        while let Some(turns) = turn.0.clone() {
            let next = turns.lock().next();
            let Some(next) = next else {
                turn.0 = None;
                turns.lock().free += 1;
                return;
            };
            match next.send(turn) {
                Ok(()) => return,
                // It does not wait any more.
                Err(back) => turn = back,
            }
        }
    }
}

impl State {
    /// The first job of the next tenant, which then goes to the end of the row.
    fn next(&mut self) -> Option<oneshot::Sender<Turn>> {
        let (tenant, mut queue) = self.waiting.pop_front()?;
        let next = queue.pop_front();
        if !queue.is_empty() {
            self.waiting.push_back((tenant, queue));
        }
        next
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(turns) = self.0.take() {
            turns.pass_on();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    // Polls of one test count together: tokio would have it yield after 128.
    use tokio::task::unconstrained;

    use super::*;

    fn names() -> [Arc<str>; 3] {
        ["ann", "bob", "eve"].map(Into::into)
    }

    #[tokio::test]
    async fn a_tenant_with_one_job_does_not_wait_for_the_thousand_of_another() {
        let (turns, [ann, bob, eve]) = (Turns::new(2), names());
        let mut running = vec![turns.take(&ann).await, turns.take(&ann).await];
        let mut waiting: Vec<_> =
            (0..1000).map(|_| (&ann, Box::pin(unconstrained(turns.take(&ann))))).collect();
        waiting.iter_mut().for_each(|(_, job)| assert!(job.as_mut().now_or_never().is_none()));
        for late in [&bob, &eve] {
            waiting.push((late, Box::pin(unconstrained(turns.take(late)))));
            assert!(waiting.last_mut().unwrap().1.as_mut().now_or_never().is_none());
        }
        let mut order = Vec::new();
        while let Some(done) = running.pop() {
            drop(done);
            let next = waiting.iter_mut().enumerate();
            let next = next.filter_map(|(at, (_, job))| job.as_mut().now_or_never().map(|turn| (at, turn)));
            let Some((at, turn)) = next.into_iter().next() else { continue };
            order.push(waiting.remove(at).0.clone());
            running.push(turn);
        }
        let place = |name| order.iter().position(|one| one == name).unwrap();
        assert_eq!(order.len(), 1002);
        assert!(place(&bob) <= 2 && place(&eve) <= 3, "{} {}", place(&bob), place(&eve));
        assert_eq!(turns.lock().free, 2);
    }

    #[tokio::test]
    async fn who_has_gone_away_takes_no_slot_along() {
        let (turns, [ann, bob, _]) = (Turns::new(1), names());
        let running = turns.take(&ann).await;
        let mut gone = Box::pin(turns.take(&bob));
        let mut given = Box::pin(turns.take(&ann));
        let mut stays = Box::pin(turns.take(&bob));
        for job in [&mut gone, &mut given, &mut stays] {
            assert!(job.as_mut().now_or_never().is_none());
        }
        drop(gone);
        // Given to the second one, which goes away without having looked.
        drop(running);
        drop(given);
        let turn = stays.as_mut().now_or_never();
        assert!(turn.is_some());
        drop(turn);
        assert_eq!(turns.lock().free, 1);
    }
}
