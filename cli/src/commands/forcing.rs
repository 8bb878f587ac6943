//! Forcing thunks that the repository holds, outside of a build.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use ggr_backends::drive::{Failure, Finished, Submission, Verdict};
use ggr_backends::scheduler::Urgency;
use ggr_ir::dag::{self, Dag};
use ggr_ir::repo::Journal;
use ggr_ir::{Kind, ThunkId};

use super::Context;
use super::target::Target;
use crate::coordinator::{Output, fill_in_place};
use crate::error::Error;
use crate::report::{Event, Reporter};
use crate::run::{Purpose, Workshop};

/// A session without a build.
pub(super) async fn open(context: &Context) -> Result<Workshop, Error> {
    Workshop::open(context, Purpose::Build, Reporter::new(Vec::new()), Output { stdout: None, stderr: None })
        .await
}

/// Forces a thunk with all that it waits for.
///
/// # Errors
/// If a thunk is not in the repository; what became of a thunk that is, is the verdict.
pub(super) async fn thunk(context: &Context, workshop: &Workshop, id: ThunkId) -> Result<Verdict, Error> {
    let thunks = workshop.repo.thunks();
    let dag = Dag::load([id], |id| thunks.get(id)).map_err(super::graph::error)?;
    submit(context, workshop, &dag).await;
    Ok(workshop.session.driver().verdict(id).await)
}

/// Forces all targets side by side, and fills those that are placeholders. The first failure decides the exit code; the
/// others are forced all the same.
pub(super) async fn all(
    context: &Context,
    workshop: &Workshop,
    targets: &[Target],
) -> Result<ExitCode, Error> {
    let thunks = workshop.repo.thunks();
    for target in targets {
        // Each by itself first, so that a thunk that is gone is told with its file.
        target.thunk(&workshop.repo)?;
    }
    let ids = targets.iter().map(Target::thunk_id).collect::<Result<Vec<_>, _>>()?;
    let dag = Dag::load(ids, |id| thunks.get(id)).map_err(super::graph::error)?;
    submit(context, workshop, &dag).await;
    let mut code = None;
    for target in targets {
        match workshop.session.driver().verdict(target.thunk_id()?).await {
            Ok(finished) => tokio::task::block_in_place(|| settle(workshop, target, &finished))?,
            Err(failure) if code.is_none() => {
                context.note(&format!(
                    "{} was not made",
                    target.path().unwrap_or(Path::new("a thunk")).display()
                ));
                code = Some(failed(&failure));
            }
            Err(_) => {}
        }
    }
    code.unwrap_or(Ok(ExitCode::SUCCESS))
}

/// Makes real what `ggr trace` left, before a build looks at it: to make, and to models, a placeholder of another session is
/// a file like any other. One that cannot be made is removed, so that the build makes it and says what is wrong.
///
/// # Errors
/// If the journals, or a placeholder, cannot be read or written.
pub(super) async fn left(context: &Context, workshop: &Workshop, reporter: &Reporter) -> Result<(), Error> {
    let left = Journal::left(&workshop.repo)?;
    if left.is_empty() {
        return Ok(());
    }
    let thunks = workshop.repo.thunks();
    for output in left.values() {
        // A thunk that is gone, or needs one that is, gets no verdict below.
        if let Ok(dag) = Dag::load([output.thunk], |id| thunks.get(id)) {
            submit(context, workshop, &dag).await;
        }
    }
    let (mut made, mut removed) = (0, 0);
    for (path, output) in left {
        let verdict = workshop.session.driver().verdict(output.thunk).await;
        let target = Target::Placeholder(path.clone(), output);
        let filled =
            verdict.ok().map(|done| tokio::task::block_in_place(|| settle(workshop, &target, &done)));
        match filled {
            Some(Ok(())) => made += 1,
            Some(Err(_)) | None => {
                std::fs::remove_file(&path).map_err(Error::io("remove", &path))?;
                removed += 1;
            }
        }
    }
    let text =
        format!("of the placeholders that `ggr trace` had left, {made} were made real and {removed} removed");
    reporter.report(&Event::Note { text });
    Ok(())
}

async fn submit(context: &Context, workshop: &Workshop, dag: &Dag) {
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
        let driver = workshop.session.driver().clone();
        driver.submit(submission).await;
        // There is no real tree to run it on: a failure is believed, or what waits for it would wait for ever.
        tokio::spawn(async move {
            if driver.follow(id).await.is_err() {
                driver.confirm_failure(id).await;
            }
        });
    }
}

/// Fills a target that is a placeholder.
fn settle(workshop: &Workshop, target: &Target, finished: &Finished) -> Result<(), Error> {
    let Target::Placeholder(path, output) = target else { return Ok(()) };
    let entry = finished
        .output(&output.name)
        .ok_or_else(|| Error::NotForced(format!("`{}` has no output `{}`", output.thunk, output.name.0)))?;
    let session = &workshop.session;
    let fill = || {
        let bytes = session.checked_bytes(entry.blob)?;
        // If this ggr is killed half way, the next session finds the file in the journal.
        session.journal(path, output)?;
        fill_in_place(&OpenOptions::new().write(true).open(path)?, &bytes)?;
        session.journal_done(path);
        Ok(())
    };
    fill().map_err(Error::io("fill", path))
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
