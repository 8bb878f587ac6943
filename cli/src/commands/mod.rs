//! ggr's commands, one file each: an `Args` struct whose doc comment is its help, and a function of steps.

pub(crate) mod bench;
mod cc;
mod collect;
mod completions;
mod config;
mod context;
mod cost;
mod difference;
mod doctor;
mod force;
mod forcing;
mod gc;
mod graph;
mod lambda;
mod man;
mod run;
mod show;
mod stats;
mod target;
mod thunk;
mod trace;
mod verify;
mod why;
pub(crate) mod worker;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Subcommand;

pub(crate) use context::Context;

use crate::args::{self, Global};
use crate::error::{self, Error};
use crate::exit::Kind;
use crate::run::Purpose;

/// Every command.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    #[command(hide = true)]
    Run(run::Args),
    #[command(visible_alias = "infer")]
    Trace(trace::Args),
    Force(force::Args),
    Collect(collect::Args),
    #[command(visible_alias = "describe")]
    Show(show::Args),
    Graph(graph::Args),
    Why(why::Args),
    Thunk(thunk::Args),
    Cc(cc::Args),
    Stats(stats::Args),
    Cost(cost::Args),
    Gc(gc::Args),
    Verify(verify::Args),
    Doctor(doctor::Args),
    Config(config::Args),
    Completions(completions::Args),
    Man(man::Args),
    Bench(bench::Args),
    Worker(worker::Args),
    Lambda(lambda::Args),
    /// A program that is none of ggr's commands, and its arguments.
    #[command(external_subcommand)]
    Build(Vec<OsString>),
}

/// Runs one ggr: from the arguments, the program's name first, to the exit code.
pub(crate) fn run(arguments: Vec<OsString>) -> ExitCode {
    match args::parse(arguments) {
        Ok(cli) => dispatch(&cli.global, cli.command)
            .unwrap_or_else(|e| error::exit(&e, context::paint(&cli.global))),
        Err(e) => usage(&e),
    }
}

fn dispatch(global: &Global, command: Command) -> Result<ExitCode, Error> {
    // These are for installers, shells and ggr itself, and need neither a configuration nor a directory.
    match command {
        Command::Completions(args) => return completions::run(&args),
        Command::Man(args) => return man::run(&args),
        _ => {}
    }
    let context = Context::new(global)?;
    match command {
        Command::Run(args) => run::run(&context, Purpose::Build, &args.command),
        Command::Build(command) => run::run(&context, Purpose::Build, &command),
        Command::Trace(args) => run::run(&context, Purpose::Trace, &args.command),
        Command::Force(args) => force::run(&context, &args),
        Command::Collect(args) => collect::run(&context, &args),
        Command::Show(args) => show::run(&context, &args),
        Command::Graph(args) => graph::run(&context, &args),
        Command::Stats(args) => stats::run(&context, &args),
        Command::Cost(args) => cost::run(&context, &args),
        Command::Thunk(args) => thunk::run(&context, &args),
        Command::Gc(args) => gc::run(&context, &args),
        Command::Verify(args) => verify::run(&context, &args),
        Command::Bench(args) => bench::run(&context, &args),
        Command::Cc(args) => cc::run(&context, &args),
        Command::Worker(args) => worker::run(&context, &args),
        Command::Lambda(args) => lambda::run(&context, &args),
        Command::Why(args) => why::run(&context, &args),
        Command::Doctor(args) => doctor::run(&context, &args),
        Command::Config(args) => config::run(&context, &args),
        Command::Completions(_) | Command::Man(_) => unreachable!("answered above"),
    }
}

/// clap's own message, in our form; help and version are no errors.
fn usage(e: &clap::Error) -> ExitCode {
    if !e.use_stderr() {
        // A reader that has seen enough (`| head`) is no failure.
        let _ = e.print();
        return ExitCode::SUCCESS;
    }
    if e.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        eprint!("{}", e.render());
    } else {
        eprint!("ggr: {}", e.render());
    }
    Kind::Usage.into()
}
