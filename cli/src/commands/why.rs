//! `ggr why FILE`.

use std::process::ExitCode;

use super::Context;
use crate::error::Error;

/// Show why a file was made again, or why its command ran here
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The file
    file: std::path::PathBuf,
}

pub(crate) fn run(_context: &Context, _args: &Args) -> Result<ExitCode, Error> {
    Ok(ExitCode::SUCCESS)
}
