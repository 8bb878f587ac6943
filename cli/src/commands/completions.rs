//! `ggr completions SHELL`.

use std::process::ExitCode;

use clap::CommandFactory;

use super::context::print;
use crate::args::Cli;
use crate::error::Error;

/// Print a completion script for a shell
///
/// For bash: `ggr completions bash > ~/.local/share/bash-completion/completions/ggr`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The shell
    shell: clap_complete::Shell,
}

/// Prints the script.
pub(crate) fn run(args: &Args) -> Result<ExitCode, Error> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "ggr", &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}
