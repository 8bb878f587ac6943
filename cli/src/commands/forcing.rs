//! Forcing thunks that the repository holds, outside of a build.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use ggr_backends::drive::{Failure, Submission, Verdict};
use ggr_backends::scheduler::Urgency;
use ggr_ir::dag::{self, Dag};
use ggr_ir::{Kind, ThunkId};

use super::Context;
use crate::coordinator::Output;
use crate::error::Error;
use crate::report::Reporter;
use crate::run::Workshop;

/// A session without a build.
pub(super) async fn open(context: &Context) -> Result<Workshop, Error> {
    Workshop::open(context, Reporter::new(Vec::new()), Output { stdout: None, stderr: None }).await
}

/// Forces a thunk with all that it waits for.
///
/// # Errors
/// If a thunk is not in the repository; what became of a thunk that is, is the verdict.
pub(super) async fn thunk(context: &Context, workshop: &Workshop, id: ThunkId) -> Result<Verdict, Error> {
    let thunks = workshop.repo.thunks();
    let dag = Dag::load([id], |id| thunks.get(id)).map_err(super::graph::error)?;
    let driver = workshop.session.driver();
    for (id, thunk) in dag.order() {
        let submission = Submission {
            id,
            thunk: Arc::new(thunk.clone()),
            kind: Kind::Other,
            label: dag::label(thunk).into(),
            limits: context.config.limits(),
            estimate: None,
            cacheable: true,
            urgency: Urgency::Awaited,
        };
        driver.submit(submission).await;
    }
    Ok(driver.verdict(id).await)
}

/// What a failed thunk means for the exit code: its program's own, or an error of ours.
pub(super) fn failed(failure: &Failure) -> Result<ExitCode, Error> {
    let Failure::Tool(tool) = failure else {
        return Err(Error::NotForced(failure.to_string()));
    };
    if let Some(why) = &tool.unrepresentable {
        return Err(Error::NotForced(why.clone()));
    }
    // A reader that has gone away does not change what the program did.
    let _ = std::io::stdout().write_all(&tool.stdout).and_then(|()| std::io::stdout().flush());
    let _ = std::io::stderr().write_all(&tool.stderr);
    let code = tool.code.unwrap_or_else(|| 128 + tool.signal.unwrap_or(0));
    Ok(ExitCode::from(code as u8))
}
