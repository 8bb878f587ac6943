//! Calls that fail: what they said is remembered, and said again while all that they read is the same.
//!
//! A configure script asks for what is not there, a build asks for dependencies with `|| true`, and each time a compiler says
//! no. Such a no is recorded like a result, under an id of its own, if it was given on the real tree, with exit status 1
//! and a message about the sources; not if memory, disk or permissions may have been the reason.
//!
//! **Invariant:** a failure is recorded, and said again, only where none of the files stands that the call would have
//! written: a tool that fails removes some of them and leaves others.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::Instant;

use ggr_ir::{Reduction, ThunkId, ToolFailure};
use ggr_models::Plan;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

use super::apart;
use super::call::{Answer, Call};
use super::callers;
use super::session::Session;
use crate::intercept::with_umask;
use crate::report::Event;

/// The exit status of a compiler or linker that has found a mistake.
const MISTAKE: i32 = 1;

/// What a message says if something else than the sources may be the reason.
const ANOTHER_REASON: [&str; 9] = [
    "No space left",
    "annot allocate",
    "memory exhausted",
    "out of memory",
    "Permission denied",
    "Too many open files",
    "Resource temporarily",
    "internal compiler error",
    "Input/output error",
];

/// A failure that the sandbox has seen, and that the real tree has to confirm.
#[derive(Clone)]
pub(crate) struct Doubt {
    id: ThunkId,
    failure: ToolFailure,
    outputs: Vec<PathBuf>,
}

impl Doubt {
    /// Of a plan that failed so; nothing if such a failure is not remembered.
    pub(super) fn of(session: &Session, plan: &Plan, failure: &ToolFailure) -> Option<Self> {
        let id = session.ready_id(plan).filter(|_| plan.deferrable)?;
        let known = failure.code == Some(MISTAKE) && is_about_sources(&failure.stderr);
        known.then(|| Self { id, failure: failure.clone(), outputs: outputs(plan) })
    }

    /// The real tool has ended with this wait status.
    pub(super) fn settle(&self, session: &Session, status: i32) {
        if status == MISTAKE << 8 && none_stands(&self.outputs) {
            let ToolFailure { stdout, stderr, .. } = &self.failure;
            remember(session, self.id.of_failure(false), stdout, stderr);
        }
    }
}

/// What a call of this plan said when it failed on the same inputs, if that is remembered.
pub(super) async fn recall(session: &Session, call: &Call, plan: &Plan) -> Option<Answer> {
    let id = session.ready_id(plan).filter(|_| plan.deferrable || plan.fails)?;
    let recorded = |together| session.recorded(id.of_failure(together));
    let found = recorded(false).or_else(|| if together(call) { recorded(true) } else { None })?;
    if !none_stands(&outputs(plan)) {
        return None;
    }
    let (stdout, stderr) = session.printed_by(&found).ok()?;
    session.settle_before(call).await;
    session.note_failing(call);
    Some(Answer::Exit { code: MISTAKE as u8, stdout, stderr })
}

/// Runs a call that is known to fail on the real tree, and remembers what it says. Nothing if that has to be left to the
/// launcher.
pub(super) async fn run(session: &Arc<Session>, call: &Call, plan: &Plan) -> Option<Answer> {
    if !call.is_whole || call.invocation.stderr_is_terminal || session.is_linked() {
        return None;
    }
    session.settle_before(call).await;
    let _slot = session.local_slot().await;
    let (together, began) = (together(call), Instant::now());
    let apart = apart::run(session, call, plan, together).await;
    let parts =
        apart.as_ref().map_or_else(String::new, |(_, count)| format!(", in {count} parts side by side"));
    let output = match apart {
        Some((output, _)) => output,
        None => real_tool(call, &call.invocation.args, together).await.ok()?,
    };
    let code = u8::try_from(output.status.code()?).ok()?;
    let tool = plan.label.as_str();
    session.report(&Event::RanHere {
        label: tool.into(),
        reason: format!("{tool}: {}{parts}", if code == 0 { "it was thought to fail" } else { "it fails" }),
        took: began.elapsed(),
        outputs: outputs(plan),
    });
    if code != 0 {
        session.note_failing(call);
    }
    let id = session.ready_id(plan).filter(|_| i32::from(code) == MISTAKE);
    if let Some(id) = id
        && is_about_sources(&output.stderr)
        && none_stands(&outputs(plan))
    {
        remember(session, id.of_failure(together), &output.stdout, &output.stderr);
    }
    Some(Answer::Exit { code, stdout: output.stdout, stderr: output.stderr })
}

/// Runs the tool with these arguments as its caller would. `together`: both its outputs are one, and come as standard error.
pub(super) async fn real_tool(call: &Call, args: &[String], together: bool) -> io::Result<Output> {
    let invocation = &call.invocation;
    let mut command = tokio::process::Command::new(&invocation.program);
    command
        .arg0(&args[0])
        .args(&args[1..])
        .env_clear()
        .envs(&invocation.env)
        .current_dir(&invocation.dir)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    with_umask(command.as_std_mut(), call.umask);
    if !together {
        return command.output().await;
    }
    let (reader, writer) = io::pipe()?;
    command.stdout(OwnedFd::from(writer.try_clone()?)).stderr(OwnedFd::from(writer));
    let mut child = command.spawn()?;
    // Its ends of the pipe: ours would never see the other close.
    drop(command);
    let mut stderr = Vec::new();
    pipe::Receiver::from_owned_fd(reader.into())?.read_to_end(&mut stderr).await?;
    Ok(Output { status: child.wait().await?, stdout: Vec::new(), stderr })
}

/// Whether the caller's standard output and error are one file: then the order of what comes through them counts.
fn together(call: &Call) -> bool {
    callers::sink(call.pid, 1) == callers::sink(call.pid, 2)
}

fn outputs(plan: &Plan) -> Vec<PathBuf> {
    let written = plan.written.iter().map(|(path, _)| path.clone());
    plan.outputs.iter().map(|output| output.path.clone()).chain(written).collect()
}

fn none_stands(paths: &[PathBuf]) -> bool {
    let gone =
        |path: &PathBuf| path.symlink_metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
    paths.iter().all(gone)
}

/// Whether a message speaks of a mistake in what was compiled or linked.
fn is_about_sources(message: &[u8]) -> bool {
    let text = String::from_utf8_lossy(message);
    text.contains("error:") && !ANOTHER_REASON.iter().any(|reason| text.contains(reason))
}

fn remember(session: &Session, id: ThunkId, stdout: &[u8], stderr: &[u8]) {
    let put = || -> io::Result<Reduction> {
        let (stdout, stderr) = (session.put_bytes(stdout)?, session.put_bytes(stderr)?);
        Ok(Reduction { outputs: Default::default(), stdout, stderr, duration_us: 0 })
    };
    // What cannot be recorded is asked again.
    if let Ok(said) = put() {
        session.record(id, &said);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_said_about_sources_is_remembered() {
        for (text, expected) in [
            ("a.c:1:2: error: unknown type name 'x'", true),
            ("a.c:1:2: fatal error: x.h: No such file or directory", true),
            ("collect2: error: ld returned 1 exit status", true),
            ("as: error: a.o: No space left on device", false),
            ("cc1: fatal error: a.c: Permission denied", false),
            ("a.c: internal compiler error: Killed; error: x", false),
            ("gcc: warning: nothing", false),
        ] {
            assert_eq!(is_about_sources(text.as_bytes()), expected, "{text}");
        }
    }
}
