//! Calls that were answered before they ran: placeholders now, bytes later.

use std::fs::{File, Metadata};
use std::io;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Instant;

use ggr_backends::drive::Finished;
use ggr_backends::scheduler::Urgency;
use ggr_ir::{Reduction, ThunkId};
use ggr_models::Plan;
use tokio::sync::watch;

use super::call::Call;
use super::placeholders::{Placeholder, keep_times};
use super::session::{Ended, Session};
use super::stages;
use crate::report::Event;

/// A deferred call, until its bytes are there.
struct Deferred {
    invocation: ggr_models::Invocation,
    plan: Plan,
    ids: Vec<ThunkId>,
    placeholders: Vec<Arc<Placeholder>>,
    /// Becomes true when somebody asks for it; nothing: it was asked for from the start.
    wanted: Option<watch::Receiver<bool>>,
}

/// Writes what the model knows already, puts placeholders for the rest, and sees to it that they become real.
///
/// # Errors
/// If a file cannot be written: nothing is left behind, and the real tool should run.
pub(crate) fn put_in_place(
    session: &Arc<Session>,
    call: &Call,
    plan: Plan,
    ids: &[ThunkId],
    wanted: Option<watch::Receiver<bool>>,
) -> io::Result<()> {
    let mut placeholders = Vec::new();
    let mut put = || -> io::Result<()> {
        for output in &plan.outputs {
            let permissions = output.mode(call.umask);
            session.journal(&output.path, &output.output)?;
            placeholders.push(session.placeholders().create(
                &output.path,
                output.output.clone(),
                permissions,
            )?);
        }
        for (path, bytes) in &plan.written {
            std::fs::write(path, bytes)?;
            session.placeholders().note_written(path);
        }
        Ok(())
    };
    if let Err(error) = put() {
        placeholders.iter().for_each(|placeholder| session.placeholders().remove(placeholder));
        return Err(error);
    }
    let deferred = Deferred {
        invocation: call.invocation.clone(),
        // The scheduler has the thunks, or `HeldBack`: a call that waits for its turn needs no copy of them.
        plan: Plan { thunks: Vec::new(), ..plan },
        ids: ids.to_vec(),
        placeholders,
        wanted,
    };
    session.spawn(follow(Arc::clone(session), deferred));
    Ok(())
}

async fn follow(session: Arc<Session>, mut deferred: Deferred) {
    if let Some(wanted) = &mut deferred.wanted
        && wanted.wait_for(|wanted| *wanted).await.is_err()
    {
        // The session ends and nobody has asked: the placeholder stays.
        return;
    }
    match stages::outcome(&session, &deferred.plan, &deferred.ids, Urgency::Eventual).await {
        Ok(reductions) => {
            let filled = tokio::task::block_in_place(|| fill(&session, &deferred, &reductions));
            match filled {
                Ok(()) => session.print_for_build(&reductions),
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    let ended = Ended::Infra(error.to_string());
                    run_for_real(&session, &deferred, &ended).await;
                }
                Err(error) => {
                    session.fail_build(format!("writing the outputs of `{}`: {error}", deferred.plan.label))
                }
            }
        }
        // Stopping: whoever stops the build removes its placeholders. The same goes for what waits for a failure.
        Err(Ended::Cancelled | Ended::Poisoned) => {}
        Err(ended) => run_for_real(&session, &deferred, &ended).await,
    }
}

fn fill(session: &Session, deferred: &Deferred, reductions: &[Arc<Finished>]) -> io::Result<()> {
    for (placeholder, planned) in deferred.placeholders.iter().zip(&deferred.plan.outputs) {
        let entry = reductions
            .iter()
            .find_map(|reduction| reduction.output(&planned.output.name))
            .ok_or_else(|| io::Error::other(format!("output `{}` was not made", planned.output.name.0)))?;
        let path = session.placeholders().fill(placeholder, &session.checked_bytes(entry.blob)?)?;
        if let Some(path) = path {
            session.remember(&path, entry.blob);
        }
        session.journal_done(&planned.path);
        session.report(&Event::Materialized { path: planned.path.clone(), bytes: entry.blob.size() });
    }
    Ok(())
}

/// Runs the real tool on the real tree in the caller's stead: a thunk's failure is believed only when it fails too. If it
/// passes, its files take the placeholders' place.
async fn run_for_real(session: &Arc<Session>, deferred: &Deferred, ended: &Ended) {
    let _slot = session.local_slot().await;
    let start = Instant::now();
    let before: Vec<_> = deferred.placeholders.iter().map(|placeholder| placeholder.metadata()).collect();
    match real_tool(deferred).await {
        Ok(output) if output.status.success() => {
            session.note_doubt(&deferred.plan.label, ended, start.elapsed());
            let taken = tokio::task::block_in_place(|| take_over(session, deferred, &before, &output));
            match taken {
                Ok(reduction) => session.resolve_externally(&deferred.ids, &reduction).await,
                Err(error) => {
                    session.fail_build(format!("taking the outputs of `{}`: {error}", deferred.plan.label))
                }
            }
        }
        Ok(_) => session.believe_failure(&deferred.plan, &deferred.ids).await,
        Err(error) => session.fail_build(format!("starting `{}`: {error}", deferred.plan.label)),
    }
}

async fn real_tool(deferred: &Deferred) -> io::Result<std::process::Output> {
    let call = &deferred.invocation;
    tokio::process::Command::new(&call.program)
        .arg0(&call.args[0])
        .args(&call.args[1..])
        .env_clear()
        .envs(&call.env)
        .current_dir(&call.dir)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
}

/// Makes a reduction of the files that the real tool wrote, and fills the placeholders that it replaced: they may have
/// been moved or linked elsewhere meanwhile.
fn take_over(
    session: &Session,
    deferred: &Deferred,
    before: &[Option<Metadata>],
    output: &std::process::Output,
) -> io::Result<Reduction> {
    let mut outputs = std::collections::BTreeMap::new();
    for ((placeholder, planned), before) in
        deferred.placeholders.iter().zip(&deferred.plan.outputs).zip(before)
    {
        if let Some(before) = before {
            // The tool has written it now; the call was made then, and what make did since is newer.
            keep_times(&File::open(&planned.path)?, before)?;
        }
        let blob = session.ingest(&planned.path)?;
        let entry = ggr_ir::OutputEntry {
            path: ggr_models::model::root_path(&planned.path).map_err(io::Error::other)?,
            blob,
            permissions: planned.mode(0),
        };
        outputs.insert(planned.output.name.clone(), entry);
        if placeholder.stands_at(&planned.path) {
            // Written in place: it is real already.
            session.placeholders().forget(placeholder);
        } else {
            let moved = placeholder.current_path().is_some();
            session.placeholders().fill(placeholder, &session.checked_bytes(blob)?)?;
            if moved {
                super::placeholders::remove_if_there(&planned.path)?;
            }
        }
        session.journal_done(&planned.path);
    }
    session.print_bytes(&output.stdout, &output.stderr);
    Ok(Reduction {
        outputs,
        stdout: session.put_bytes(&output.stdout)?,
        stderr: session.put_bytes(&output.stderr)?,
        duration_us: 0,
    })
}
