//! What `ggr trace` holds back: plans whose thunks run only when somebody asks for an output.
//!
//! **Invariant:** a plan is handed to the scheduler after every held plan that it reads from.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use ggr_backends::scheduler::Urgency;
use ggr_ir::ThunkId;
use ggr_models::Plan;
use rustc_hash::FxBuildHasher;
use tokio::sync::watch;

use super::session::Session;

/// A plan that nobody has asked for yet.
struct Waiting {
    plan: Plan,
    ids: Vec<ThunkId>,
    wanted: watch::Sender<bool>,
}

/// The plans of a traced build that nobody has asked for yet.
#[derive(Default)]
pub(crate) struct HeldBack {
    /// By each of their thunks.
    plans: Mutex<HashMap<ThunkId, Arc<Waiting>, FxBuildHasher>>,
    /// One release at a time: whoever finds a plan gone from the table must find it with the scheduler.
    releasing: tokio::sync::Mutex<()>,
}

impl HeldBack {
    /// Holds a plan back. What it gives becomes true when the plan is released.
    pub(crate) fn add(&self, plan: &Plan, ids: &[ThunkId]) -> watch::Receiver<bool> {
        let (wanted, receiver) = watch::channel(false);
        let waiting = Arc::new(Waiting { plan: plan.clone(), ids: ids.to_vec(), wanted });
        let mut plans = self.plans.lock().expect("no holder panics");
        plans.extend(ids.iter().map(|id| (*id, Arc::clone(&waiting))));
        receiver
    }

    /// Whether a thunk is held back.
    pub(crate) fn holds(&self, id: ThunkId) -> bool {
        self.plans.lock().expect("no holder panics").contains_key(&id)
    }

    /// Gives these thunks, and all held ones that they need, to the scheduler.
    pub(crate) async fn release(&self, session: &Session, wanted: impl IntoIterator<Item = ThunkId>) {
        let _turn = self.releasing.lock().await;
        for waiting in self.take(wanted.into_iter().collect()) {
            session.submit(&waiting.plan, &waiting.ids, Urgency::Awaited).await;
            waiting.wanted.send_replace(true);
        }
    }

    /// Takes plans off the table, each after those that it reads from.
    fn take(&self, wanted: Vec<ThunkId>) -> Vec<Arc<Waiting>> {
        let mut plans = self.plans.lock().expect("no holder panics");
        let mut found = Vec::new();
        let mut pending = wanted;
        while let Some(id) = pending.pop() {
            let Some(waiting) = plans.remove(&id) else { continue };
            waiting.ids.iter().for_each(|id| drop(plans.remove(id)));
            pending.extend(needs(&waiting.plan));
            found.push(waiting);
        }
        // A plan reads only from earlier calls, but one that two others need may have been found through either.
        sort(found)
    }
}

/// The thunks that a plan's thunks read from.
pub(crate) fn needs(plan: &Plan) -> impl Iterator<Item = ThunkId> {
    plan.thunks.iter().flat_map(|(thunk, _)| thunk.waits_for()).map(|output| output.thunk)
}

/// Orders plans so that each comes after those that it reads from.
fn sort(found: Vec<Arc<Waiting>>) -> Vec<Arc<Waiting>> {
    let by_thunk: HashMap<ThunkId, usize, FxBuildHasher> = found
        .iter()
        .enumerate()
        .flat_map(|(at, waiting)| waiting.ids.iter().map(move |id| (*id, at)))
        .collect();
    let mut placed = vec![false; found.len()];
    let mut order = Vec::with_capacity(found.len());
    for start in 0..found.len() {
        let mut stack = vec![(start, false)];
        while let Some((at, needs_done)) = stack.pop() {
            if placed[at] {
                continue;
            }
            if needs_done {
                placed[at] = true;
                order.push(Arc::clone(&found[at]));
                continue;
            }
            stack.push((at, true));
            let needed = needs(&found[at].plan).filter_map(|id| by_thunk.get(&id).copied());
            stack.extend(needed.filter(|other| *other != at).map(|other| (other, false)));
        }
    }
    order
}
