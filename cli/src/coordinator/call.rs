//! One tool call: from the launcher's question to its answer.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use ggr_backends::drive::Finished;
use ggr_backends::scheduler::Urgency;
use ggr_ir::ThunkId;
use ggr_ir::protocol::launcher::{self, Reply, Request};
use ggr_models::gcc::PREPROCESSOR_FAILS;
use ggr_models::{Invocation, Modelled, Plan, Reason};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::deferred;
use super::failing;
use super::held_back;
use super::session::{Ended, Session};
use super::stages;
use crate::capture;
use crate::report::Event;

/// How often a model may ask for placeholders to be made real before it is believed to be confused.
const MAX_FORCES: usize = 16;

/// One tool call, understood.
pub(crate) struct Call {
    /// What was called.
    pub(crate) invocation: Invocation,
    /// The caller's file mode creation mask.
    pub(crate) umask: u32,
    /// Whether it may be answered before the tool has run; nothing: not found out yet, of this process.
    pub(crate) deferral: OnceLock<bool>,
    /// The launcher.
    pub(crate) pid: u32,
    /// Whether the invocation has the caller's whole environment; a variable that is not UTF-8 is left out.
    pub(crate) is_whole: bool,
    /// How its thunk failed in the sandbox.
    pub(crate) doubt: OnceLock<failing::Doubt>,
}

impl Call {
    /// A call of this process that has not been looked at.
    pub(crate) fn new(invocation: Invocation, umask: u32, pid: u32) -> Self {
        Self { invocation, umask, deferral: OnceLock::new(), pid, is_whole: true, doubt: OnceLock::new() }
    }

    /// Whether it may be answered before the tool has run. Looks at the callers on the first use, which costs some dozen
    /// system calls: a call whose result is recorded never asks.
    pub(crate) fn may_defer(&self, session: &Session) -> bool {
        *self.deferral.get_or_init(|| session.may_defer(self.pid))
    }
}

/// What is to happen with a call.
#[derive(Debug)]
pub(crate) enum Answer {
    /// It is done, or stands as good as done.
    Exit {
        /// The exit status.
        code: u8,
        /// What the tool wrote to its standard output.
        stdout: Vec<u8>,
        /// What the tool wrote to its standard error.
        stderr: Vec<u8>,
    },
    /// The caller runs the real tool itself.
    RunHere(Ended),
}

impl Answer {
    fn quiet() -> Self {
        Answer::Exit { code: 0, stdout: Vec::new(), stderr: Vec::new() }
    }
}

/// Serves one launcher to its end.
pub(crate) async fn serve(session: Arc<Session>, mut stream: UnixStream) -> io::Result<()> {
    let pid = stream.peer_cred()?.pid().map_or(0, |pid| pid as u32);
    let frame = read_frame(&mut stream).await?;
    let mut request = session.resolve(Request::from_frame(&frame)?);
    let tool = PathBuf::from(os(request.program.clone()));
    if let Some(program) = session.capture().diversion().program_of(pid, &tool) {
        request.program = program.into_os_string().into_vec();
        return capture::serve(session, stream, pid, request).await;
    }
    if session.capture().captures(&tool) {
        return capture::serve(session, stream, pid, request).await;
    }
    session.capture().note_model(pid, &tool);
    if session.is_run_here(pid) {
        return run_here(&session, stream, pid, tool, false).await;
    }
    let Some(call) = understand(pid, request) else {
        session.note_here(pid, &tool, &Ended::Modelled(Reason::NotUtf8), None);
        return run_here(&session, stream, pid, tool, true).await;
    };
    session.report(&Event::Called(Arc::new(crate::report::Call {
        args: call.invocation.args.clone(),
        dir: call.invocation.dir.clone(),
    })));
    let mut more = [0u8; 1];
    let answer = tokio::select! {
        answer = decide(&session, &call) => answer,
        // A launcher says nothing more until it is answered: this is its end (a signal), and nobody wants the answer.
        _ = stream.read(&mut more) => return Ok(()),
    };
    match answer {
        Answer::Exit { code, stdout, stderr } => {
            stream.write_all(&Reply::Exit { code, stdout, stderr }.to_frame()).await
        }
        Answer::RunHere(ended) => {
            let slot = ended.takes_slot();
            session.settle_before_failure(&call, &ended).await;
            session.note_here(pid, &tool, &ended, Some(&call));
            run_here(&session, stream, pid, tool, slot).await
        }
    }
}

async fn read_frame(stream: &mut UnixStream) -> io::Result<Vec<u8>> {
    let len = stream.read_u32_le().await? as usize;
    if len > launcher::MAX_FRAME {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "frame too long"));
    }
    let mut frame = vec![0; len];
    stream.read_exact(&mut frame).await?;
    Ok(frame)
}

fn os(bytes: Vec<u8>) -> std::ffi::OsString {
    std::ffi::OsString::from_vec(bytes)
}

fn understand(pid: u32, request: Request) -> Option<Call> {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).ok();
    let mut env = BTreeMap::new();
    let variables = request.env.len();
    for variable in request.env {
        // A variable that is not UTF-8 is not on any allow-list, so it would not be passed on anyway.
        if let Some((name, value)) = text(variable).as_deref().and_then(|v| v.split_once('=')) {
            env.insert(name.to_owned(), value.to_owned());
        }
    }
    let invocation = Invocation {
        program: text(request.program)?.into(),
        args: request.args.into_iter().map(text).collect::<Option<_>>()?,
        env,
        dir: text(request.dir)?.into(),
        stderr_is_terminal: stderr_is_terminal(pid),
    };
    let is_whole = invocation.env.len() == variables;
    Some(Call { is_whole, ..Call::new(invocation, request.umask, pid) })
}

fn stderr_is_terminal(pid: u32) -> bool {
    let target = std::fs::read_link(format!("/proc/{pid}/fd/2"));
    target.is_ok_and(|target| target.starts_with("/dev/pts") || target.starts_with("/dev/tty"))
}

/// Tells the launcher to run the real tool, and waits for its end.
async fn run_here(
    session: &Session,
    mut stream: UnixStream,
    pid: u32,
    tool: PathBuf,
    slot: bool,
) -> io::Result<()> {
    let _slot = match slot {
        true => Some(session.local_slot().await),
        false => None,
    };
    let _mark = session.mark_run_here(pid);
    stream.write_all(&Reply::Exec(session.real_path(&tool)).to_frame()).await?;
    // Its wait status, or the end of the stream if it was killed.
    let mut status = [0u8; 4];
    if stream.read_exact(&mut status).await.is_ok() {
        session.note_exit(pid, i32::from_le_bytes(status));
        stream.write_all(&[1]).await?;
    }
    Ok(())
}

/// Models the call and brings it as far as its caller has to wait for.
pub(crate) async fn decide(session: &Arc<Session>, call: &Call) -> Answer {
    let Some(model) = session.model_for(&call.invocation) else {
        let name = call.invocation.program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        return Answer::RunHere(Ended::Modelled(Reason::NoModel(name)));
    };
    for _ in 0..MAX_FORCES {
        let modelled = tokio::task::block_in_place(|| model.model(&call.invocation, session.view()));
        match modelled {
            Modelled::RunHere(reason) => return Answer::RunHere(Ended::Modelled(reason)),
            Modelled::Thunks(plan) => return run_plan(session, call, *plan).await,
            Modelled::Force(paths) => {
                for path in paths {
                    session.force(&path).await;
                }
            }
        }
    }
    Answer::RunHere(Ended::Modelled(Reason::Other("its model keeps asking for placeholders".into())))
}

async fn run_plan(session: &Arc<Session>, call: &Call, plan: Plan) -> Answer {
    if plan.fails {
        return fail(session, call, &plan).await;
    }
    let plan = stages::chosen(session, plan);
    let ids: Vec<ThunkId> = plan.thunks.iter().map(|(thunk, _)| thunk.id()).collect();
    let Some(&last) = ids.last() else { return Answer::quiet() };
    session.note_traced(&plan, &ids);
    let nowhere = session.nowhere();
    let defer =
        || plan.deferrable && nowhere.is_none() && !session.is_known_to_fail(last) && call.may_defer(session);
    let hold_back = session.is_trace() && defer();
    if !hold_back && let Some(reductions) = stages::look_up(session, &plan, &ids) {
        session.note_hit(&plan, &ids);
        return finish(session, call, &plan, &reductions);
    }
    if !hold_back && let Some(answer) = failing::recall(session, call, &plan).await {
        session.note_hit(&plan, &ids);
        return answer;
    }
    let defer = defer();
    session.keep_thunks(&plan);
    if let Some(why) = nowhere {
        return Answer::RunHere(Ended::Infra(why));
    }
    let mut wanted = None;
    if hold_back {
        wanted = Some(session.held_back().add(&plan, &ids));
    } else {
        session.held_back().release(session, held_back::needs(&plan)).await;
        let urgency = if defer { Urgency::Eventual } else { Urgency::Awaited };
        session.submit(&plan, &ids, urgency).await;
    }
    if defer {
        match deferred::put_in_place(session, call, plan, &ids, wanted) {
            Ok(()) => return Answer::quiet(),
            // The tool itself will say best why its output cannot be written.
            Err(error) => return Answer::RunHere(Ended::Unwritable(error.to_string())),
        }
    }
    match stages::outcome(session, &plan, &ids, Urgency::Awaited).await {
        Ok(reductions) => finish(session, call, &plan, &reductions),
        Err(ended) => {
            if let Ended::ToolFailed(failure) = &ended
                && let Some(doubt) = failing::Doubt::of(session, &plan, failure)
            {
                // A call has one plan.
                let _ = call.doubt.set(doubt);
            }
            Answer::RunHere(ended)
        }
    }
}

/// A call that is known to fail: says what it said before, or runs here.
async fn fail(session: &Arc<Session>, call: &Call, plan: &Plan) -> Answer {
    let ids: Vec<ThunkId> = plan.thunks.iter().map(|(thunk, _)| thunk.id()).collect();
    if let Some(answer) = failing::recall(session, call, plan).await {
        session.note_traced(plan, &ids);
        session.note_hit(plan, &ids);
        return answer;
    }
    let ran = failing::run(session, call, plan).await;
    ran.unwrap_or_else(|| Answer::RunHere(Ended::Modelled(Reason::Other(PREPROCESSOR_FAILS.into()))))
}

/// Writes the results where the tool would have, and answers with what it printed.
fn finish(session: &Session, call: &Call, plan: &Plan, reductions: &[Arc<Finished>]) -> Answer {
    let written = tokio::task::block_in_place(|| session.materialize(call, plan, reductions));
    match written.and_then(|()| session.printed(reductions)) {
        Ok((stdout, stderr)) => Answer::Exit { code: 0, stdout, stderr },
        Err(error) => Answer::RunHere(Ended::Unwritable(error.to_string())),
    }
}

/// The files that a command line names as its outputs in the usual ways (`-o FILE`, `-c SOURCE`, `ar rc FILE.a`), for `ggr why`
/// to find a call by. A guess that is wrong misleads nobody: only that command reads it.
pub(super) fn named_outputs(invocation: &Invocation) -> Vec<PathBuf> {
    let args = invocation.args.get(1..).unwrap_or_default();
    let after = |flag: &str| args.iter().position(|arg| arg == flag).and_then(|at| args.get(at + 1)).cloned();
    let joined = args.iter().find_map(|arg| arg.strip_prefix("-o").filter(|rest| !rest.is_empty()));
    let operands = || args.iter().filter(|arg| !arg.starts_with('-'));
    let named: Vec<PathBuf> = if let Some(output) = after("-o").or_else(|| joined.map(str::to_owned)) {
        vec![output.into()]
    } else if args.iter().any(|arg| arg == "-c") {
        let object =
            |source: &String| Path::new(source).file_name().map(|name| Path::new(name).with_extension("o"));
        operands().filter(|arg| arg.contains('.')).filter_map(object).collect()
    } else {
        operands().find(|arg| arg.ends_with(".a")).map(PathBuf::from).into_iter().collect()
    };
    named.into_iter().map(|path| invocation.dir.join(path)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_found_on_usual_command_lines() {
        let check = |line: &str, expected: &[&str]| {
            let invocation = Invocation {
                program: "/usr/bin/x".into(),
                args: line.split(' ').map(str::to_owned).collect(),
                env: BTreeMap::new(),
                dir: "/w".into(),
                stderr_is_terminal: false,
            };
            assert_eq!(
                named_outputs(&invocation),
                expected.iter().map(PathBuf::from).collect::<Vec<_>>(),
                "{line}"
            );
        };
        check("gcc -c a.c -o d/a.o", &["/w/d/a.o"]);
        check("gcc -oprog a.o", &["/w/prog"]);
        check("gcc -c src/a.c b.c", &["/w/a.o", "/w/b.o"]);
        check("ar rc lib.a a.o", &["/w/lib.a"]);
        check("gcc --version", &[]);
    }
}
