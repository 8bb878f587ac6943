//! Builds.

use std::ffi::OsString;
use std::process::ExitCode;

use super::Context;
use crate::error::Error;

/// Run a program whose name is one of ggr's commands
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "PROGRAM")]
    pub(crate) command: Vec<OsString>,
}

pub(crate) fn run(_context: &Context, _command: &[OsString]) -> Result<ExitCode, Error> {
    Ok(ExitCode::SUCCESS)
}
