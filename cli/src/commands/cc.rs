//! `ggr cc TOOL ARGS…`: one tool call, waited for.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ggr_models::Invocation;

use super::Context;
use crate::coordinator::{Answer, Call, Output, decide};
use crate::error::Error;
use crate::report::Reporter;
use crate::run::{Purpose, Workshop, runtime};

/// Run one tool call as a thunk and wait for it
///
/// For `make CC="ggr cc gcc"` and `CMAKE_C_COMPILER_LAUNCHER="ggr;cc"`: the call's outputs, messages and exit status are the
/// tool's own.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The tool and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "TOOL")]
    command: Vec<OsString>,
}

/// Runs one call.
pub(crate) fn run(context: &Context, args: &Args) -> Result<ExitCode, Error> {
    let tool = find(context, &args.command[0])?;
    // Inside a session the launcher stands in place of the tool, and knows what to do.
    let caught = context.env.inside_session();
    let Some(call) = (if caught { None } else { call(context, &tool, &args.command) }) else {
        return execute(&args.command);
    };
    let answer = runtime()?.block_on(async {
        let output = Output { stdout: None, stderr: None };
        let workshop = Workshop::open(context, Purpose::Build, Reporter::new(Vec::new()), output).await?;
        super::forcing::left(context, &workshop, &Reporter::new(Vec::new())).await?;
        let answer = decide(&workshop.session, &call).await;
        workshop.close(context).await;
        Ok::<Answer, Error>(answer)
    })?;
    match answer {
        Answer::Exit { code, stdout, stderr } => {
            // A reader that has gone away is no failure of the call.
            let _ = std::io::stdout().write_all(&stdout).and_then(|()| std::io::stdout().flush());
            let _ = std::io::stderr().write_all(&stderr);
            Ok(code.into())
        }
        Answer::RunHere(_) => execute(&args.command),
    }
}

fn call(context: &Context, tool: &Path, command: &[OsString]) -> Option<Call> {
    let env = context.env.all().iter();
    let invocation = Invocation {
        program: tool.to_owned(),
        args: command.iter().map(|word| word.to_str().map(str::to_owned)).collect::<Option<_>>()?,
        env: env.filter_map(|(k, v)| Some((k.to_str()?.to_owned(), v.to_str()?.to_owned()))).collect(),
        dir: context.dir.clone(),
        stderr_is_terminal: std::io::IsTerminal::is_terminal(&std::io::stderr()),
    };
    Some(Call { deferral: false.into(), ..Call::new(invocation, umask(), std::process::id()) })
}

fn umask() -> u32 {
    let mask = rustix::process::umask(rustix::fs::Mode::empty());
    rustix::process::umask(mask);
    mask.as_raw_mode()
}

fn execute(command: &[OsString]) -> Result<ExitCode, Error> {
    let source = std::process::Command::new(&command[0]).args(&command[1..]).exec();
    Err(Error::CannotRun { program: command[0].to_string_lossy().into_owned(), source })
}

/// The real file of a tool, as a shell would find it.
pub(super) fn find(context: &Context, name: &OsStr) -> Result<PathBuf, Error> {
    let not_found = || Error::CommandNotFound(name.to_string_lossy().into_owned());
    let path = context.env.value("PATH").unwrap_or_default();
    let candidates: Vec<PathBuf> = match Path::new(name).components().count() > 1 {
        true => vec![context.dir.join(name)],
        false => std::env::split_paths(path).map(|dir| dir.join(name)).collect(),
    };
    let executable =
        |path: &PathBuf| rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok() && path.is_file();
    let found = candidates.into_iter().find(executable).ok_or_else(not_found)?;
    found.canonicalize().map_err(Error::io("look at", &found))
}
