//! Results of thunks: known ones, awaited ones, failed ones.

use std::path::Path;
use std::sync::Arc;

use ggr_backends::drive::{Finished, Origin, Submission};
use ggr_backends::scheduler::Urgency;
use ggr_ir::{Lookup, OutputRef, Reduction, ThunkId};
use ggr_models::Plan;

use super::{Course, Ended, Session};
use crate::coordinator::stages;

impl Session {
    /// The results of a plan's thunks, if all are known already.
    pub(crate) fn look_up(&self, plan: &Plan, ids: &[ThunkId]) -> Option<Vec<Arc<Finished>>> {
        if !plan.cacheable {
            return None;
        }
        let mut found: Vec<Arc<Finished>> = Vec::with_capacity(ids.len());
        for ((thunk, _), _) in plan.thunks.iter().zip(ids) {
            let known = |output: &OutputRef| {
                let of_plan = ids.iter().position(|id| *id == output.thunk).and_then(|at| found.get(at));
                let finished = of_plan.cloned().or_else(|| self.finished_thunk(output.thunk))?;
                finished.output(&output.name).map(|entry| entry.blob)
            };
            let ready = thunk.resolve(known).ok()?;
            found.push(Arc::new(Finished::new(self.recorded(ready.id())?, Origin::Cache)));
        }
        Some(found)
    }

    /// The id of a plan's only thunk with nothing left to wait for; nothing if there are several, or if it is not to be
    /// recorded.
    pub(crate) fn ready_id(&self, plan: &Plan) -> Option<ThunkId> {
        let [(thunk, _)] = plan.thunks.as_slice() else { return None };
        let known = |output: &OutputRef| Some(self.finished_thunk(output.thunk)?.output(&output.name)?.blob);
        thunk.resolve(known).ok().filter(|_| plan.cacheable).map(|ready| ready.id())
    }

    /// What is recorded under this id.
    pub(crate) fn recorded(&self, id: ThunkId) -> Option<Reduction> {
        match self.cache.look(id) {
            Lookup::Hit(reduction) => Some(reduction),
            Lookup::Miss => None,
            // Other calls are served meanwhile.
            Lookup::Far => tokio::task::block_in_place(|| self.cache.get(id)),
        }
    }

    /// Records what can be had again: failing to do so costs time.
    pub(crate) fn record(&self, id: ThunkId, reduction: &Reduction) {
        let _ = self.cache.put(id, reduction);
    }

    fn finished_thunk(&self, id: ThunkId) -> Option<Arc<Finished>> {
        self.finished.read().expect("no holder panics").get(&id).cloned()
    }

    pub(crate) async fn submit(&self, plan: &Plan, ids: &[ThunkId], urgency: Urgency) {
        for ((thunk, kind), id) in plan.thunks.iter().zip(ids) {
            let submission = Submission {
                id: *id,
                thunk: Arc::new(thunk.clone()),
                kind: *kind,
                label: plan.label.as_str().into(),
                limits: plan.limits.over(self.limits),
                estimate: None,
                cacheable: plan.cacheable,
                urgency,
            };
            // Only `ggr show` misses what cannot be written here.
            let _ = self.thunks.put(thunk);
            self.driver.submit(submission).await;
        }
    }

    /// Waits for results.
    pub(crate) async fn results(
        &self,
        ids: &[ThunkId],
        urgency: Urgency,
    ) -> Result<Vec<Arc<Finished>>, Ended> {
        let mut results = Vec::with_capacity(ids.len());
        for id in ids {
            let verdict = match urgency {
                Urgency::Awaited => self.driver.verdict(*id).await,
                Urgency::Eventual => self.driver.follow(*id).await,
            };
            let finished = verdict.map_err(|failure| Ended::from(&*failure))?;
            self.finished.write().expect("no holder panics").insert(*id, Arc::clone(&finished));
            results.push(finished);
        }
        Ok(results)
    }

    /// Gives the scheduler a result that was made outside of it. The last of a plan's thunks first: then none of it starts
    /// with what is no input of its own.
    pub(crate) async fn resolve_externally(&self, ids: &[ThunkId], reduction: &Reduction) {
        for id in ids.iter().rev() {
            self.driver.resolve_externally(*id, reduction.clone()).await;
        }
    }

    /// A deferred call has failed for real: this pass over the build is over.
    pub(crate) async fn believe_failure(&self, plan: &Plan, ids: &[ThunkId]) {
        let whole = stages::whole(plan).map(|(_, ids)| ids);
        for id in ids.iter().rev().chain(whole.iter().flatten()) {
            self.failed.lock().expect("no holder panics").insert(*id);
            self.driver.confirm_failure(*id).await;
        }
        self.change_course(Course::Again);
    }

    pub(crate) fn is_known_to_fail(&self, id: ThunkId) -> bool {
        self.failed.lock().expect("no holder panics").contains(&id)
    }

    /// Somebody waits for this thunk.
    pub(crate) async fn demand(&self, id: ThunkId) {
        self.held_back.release(self, [id]).await;
        self.driver.demand(id).await;
    }

    /// Makes one placeholder real, and waits until it is.
    pub(crate) async fn force(&self, path: &Path) {
        let Ok(stat) = rustix::fs::stat(path) else { return };
        if let Some(placeholder) = self.placeholders.find((stat.st_dev, stat.st_ino)) {
            self.demand(placeholder.output.thunk).await;
            placeholder.settled().await;
        }
    }
}
