//! `ggr man`.

use std::process::ExitCode;

use clap::CommandFactory;

use super::context::print;
use crate::args::Cli;
use crate::env::VARIABLES;
use crate::error::Error;

/// Print the manual page (`ggr man | man -l -`)
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The page of one command, in place of ggr's
    command: Option<String>,
}

/// Prints the page.
pub(crate) fn run(args: &Args) -> Result<ExitCode, Error> {
    let whole = Cli::command();
    let page = match &args.command {
        None => whole,
        Some(name) => whole.find_subcommand(name).cloned().ok_or_else(|| Error::Usage {
            message: format!("ggr has no command `{name}`"),
            hint: "`ggr --help` lists its commands".to_owned(),
        })?,
    };
    let mut text = Vec::new();
    let render = clap_mangen::Man::new(page).render(&mut text);
    render.map_err(|e| Error::Bug(format!("the manual page: {e}")))?;
    let mut text = String::from_utf8_lossy(&text).into_owned();
    if args.command.is_none() {
        text.push_str(&environment());
    }
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// The section on variables, in roff.
fn environment() -> String {
    let mut text = String::from(".SH ENVIRONMENT\n");
    for variable in VARIABLES {
        text.push_str(&format!(".TP\n\\fB{}\\fR\n{}\n", variable.name, variable.help.replace('-', "\\-")));
    }
    text
}
