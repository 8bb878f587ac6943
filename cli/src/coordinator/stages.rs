//! Calls in stages: their result is that of the stages if none printed anything, and else that of the whole call's thunk.
//!
//! A message shows the line of the source that it is about, and a later stage has no source. So who prints is asked again
//! as a whole; so is who fails.

use std::sync::Arc;

use ggr_backends::drive::Finished;
use ggr_backends::scheduler::Urgency;
use ggr_ir::ThunkId;
use ggr_models::{Plan, Stages};

use super::session::{Ended, Session};

/// The whole call as one thunk, if the plan is in stages.
pub(super) fn whole(plan: &Plan) -> Option<(&Plan, Vec<ThunkId>)> {
    match &plan.stages {
        Stages::Staged(whole) => Some((whole, whole.thunks.iter().map(|(thunk, _)| thunk.id()).collect())),
        Stages::None | Stages::Fused(_) => None,
    }
}

/// The plan to follow: the whole call's if that is known to fail, and nothing can be learnt from its stages.
pub(super) fn chosen(session: &Session, plan: Plan) -> Plan {
    match plan.stages {
        Stages::Staged(whole)
            if whole.thunks.iter().any(|(thunk, _)| session.is_known_to_fail(thunk.id())) =>
        {
            *whole
        }
        _ => plan,
    }
}

/// The results of a plan, if all are recorded.
pub(super) fn look_up(session: &Session, plan: &Plan, ids: &[ThunkId]) -> Option<Vec<Arc<Finished>>> {
    let Some((whole, of_whole)) = whole(plan) else { return session.look_up(plan, ids) };
    session.look_up(plan, ids).filter(|stages| silent(stages)).or_else(|| session.look_up(whole, &of_whole))
}

/// Waits for the results of a plan.
pub(super) async fn outcome(
    session: &Session,
    plan: &Plan,
    ids: &[ThunkId],
    urgency: Urgency,
) -> Result<Vec<Arc<Finished>>, Ended> {
    let stages = session.results(ids, urgency).await;
    let Some((whole, of_whole)) = whole(plan) else { return stages };
    match stages {
        Ok(stages) if silent(&stages) => return Ok(stages),
        Err(Ended::Cancelled | Ended::Poisoned) => return stages,
        Ok(_) | Err(_) => {}
    }
    session.note_traced(whole, &of_whole);
    session.submit(whole, &of_whole, urgency).await;
    let results = session.results(&of_whole, urgency).await?;
    if let Some(last) = results.last() {
        // For those who wait for the last stage's output.
        session.resolve_externally(ids, &last.reduction()).await;
    }
    Ok(results)
}

fn silent(stages: &[Arc<Finished>]) -> bool {
    stages.iter().all(|stage| stage.stdout.size() == 0 && stage.stderr.size() == 0)
}
