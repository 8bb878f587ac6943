//! Builds: `ggr make -j8`.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Context;
use crate::coordinator::{self, BuildEnd, Output};
use crate::error::Error;
use crate::report::{
    Bar, ChromeTrace, CompileCommands, Event, JsonLines, Log, Reporter, Sink, SinkError, Summary, Terminal,
};
use crate::run::{Purpose, Workshop, runtime};

/// Run a program whose name is one of ggr's commands
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "PROGRAM")]
    pub(crate) command: Vec<OsString>,
}

/// Runs a build under ggr and gives its exit code.
pub(crate) fn run(context: &Context, purpose: Purpose, command: &[OsString]) -> Result<ExitCode, Error> {
    if context.env.inside_session() {
        return nested(command);
    }
    let bar = Bar::default();
    let terminal = if context.shows_progress() { Terminal::open(bar.clone()) } else { None };
    let code = runtime()?.block_on(build(
        context,
        purpose,
        command,
        terminal.as_ref().map(|terminal| (terminal, bar)),
    ));
    if let Some(terminal) = terminal {
        terminal.end();
    }
    let (code, reporter) = code?;
    for failure in reporter.end() {
        context.note(&failure.to_string());
    }
    Ok(code)
}

/// Inside a build that runs under ggr already, its calls are caught: the command runs as it is.
fn nested(command: &[OsString]) -> Result<ExitCode, Error> {
    let source = std::process::Command::new(&command[0]).args(&command[1..]).exec();
    let program = command[0].to_string_lossy().into_owned();
    match source.kind() {
        std::io::ErrorKind::NotFound => Err(Error::CommandNotFound(program)),
        _ => Err(Error::CannotRun { program, source }),
    }
}

async fn build(
    context: &Context,
    purpose: Purpose,
    command: &[OsString],
    terminal: Option<(&Terminal, Bar)>,
) -> Result<(ExitCode, Reporter), Error> {
    let mut output = Output { stdout: None, stderr: None };
    let mut stdio = (None, None);
    if let Some((terminal, _)) = &terminal {
        let (stdout, stderr) = terminal.build_side().map_err(Error::io("open", "the build's terminal"))?;
        output.stdout = stdout.as_ref().and_then(|fd| fd.try_clone().ok()).map(Into::into);
        output.stderr = stderr.try_clone().ok().map(Into::into);
        stdio = (stdout, Some(stderr));
    }
    let reporter = Reporter::new(Vec::new());
    let mut workshop = Workshop::open(context, purpose, reporter.clone(), output).await?;
    reporter.set_sinks(sinks(context, &workshop, terminal.map(|(_, bar)| bar))?);
    if workshop.healed > 0 {
        let text = format!("removed {} placeholders that a killed ggr had left", workshop.healed);
        reporter.report(&Event::Note { text });
    }
    if workshop.lost > 0 {
        let text = format!("{} blobs did not survive the last crash of this machine; removed", workshop.lost);
        reporter.report(&Event::Note { text });
    }
    super::forcing::left(context, &workshop, &reporter).await?;
    let mut interception = workshop.interception(context)?;
    interception.stdio = stdio;
    let words = command.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    reporter.report(&Event::BuildStarted { command: words, slots: context.config.slots.value.get() });
    if interception.is_linked() {
        // Where nothing can be mounted there may be no sandboxes either, and then nothing must be deferred.
        workshop.meet_worker().await;
    }
    let mut end = coordinator::run(&workshop.session, command, &interception).await;
    while let Err(error) = &end
        && let Some(text) = interception.do_with_less(error, context.config.intercept.value)
    {
        reporter.report(&Event::Note { text });
        workshop.meet_worker().await;
        end = coordinator::run(&workshop.session, command, &interception).await;
    }
    drop(interception);
    workshop.session.report_uncaught();
    let restored = workshop.restored.load(Ordering::Relaxed);
    if restored > 0 {
        let text = format!("{restored} blobs were damaged or gone; they were read again from their files");
        reporter.report(&Event::Note { text });
    }
    if purpose == Purpose::Trace {
        let left = workshop.session.leave_placeholders(&workshop.repo)?;
        let text = format!("{left} placeholders are left; `ggr force` makes them real");
        reporter.report(&Event::Note { text });
    }
    let repo = workshop.repo.clone();
    if matches!(end, Ok(BuildEnd::Interrupted(_))) {
        workshop.upload_wait = Duration::ZERO;
    }
    workshop.close(context).await;
    super::gc::collect_now_and_then(context, &repo);
    let code = match end? {
        BuildEnd::Exited(code) => code,
        BuildEnd::Interrupted(signal) => 128 + signal as u8,
    };
    reporter.report(&Event::BuildEnded { code });
    Ok((code.into(), reporter))
}

fn sinks(context: &Context, workshop: &Workshop, bar: Option<Bar>) -> Result<Vec<Box<dyn Sink>>, Error> {
    let failed = |e: SinkError| Error::io("write", e.path)(e.source);
    let config = &context.config;
    let mut sinks: Vec<Box<dyn Sink>> = Vec::new();
    sinks.extend(bar.map(|bar| Box::new(bar) as Box<dyn Sink>));
    if !config.quiet.value {
        sinks.push(Box::new(Summary::default()));
    }
    match context.json.as_deref() {
        Some(path) if path == std::path::Path::new("-") => sinks.push(Box::new(JsonLines::to_stderr())),
        Some(path) => sinks.push(Box::new(JsonLines::to_file(path).map_err(failed)?)),
        None => {}
    }
    if let Some(path) = &config.trace_out.value {
        sinks.push(Box::new(ChromeTrace::to_file(path).map_err(failed)?));
    }
    if let Some(path) = &config.compile_commands.value {
        sinks.push(Box::new(CompileCommands::to_file(path)));
    }
    sinks.push(Box::new(Log::open(workshop.repo.root()).map_err(failed)?));
    Ok(sinks)
}
