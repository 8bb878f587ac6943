//! `ggr collect`.

use std::process::ExitCode;

use super::Context;
use super::force::force;
use super::target::placeholders_below;
use crate::error::Error;

/// Make every placeholder real in the directory that the repository is in
#[derive(clap::Args, Debug)]
pub(crate) struct Args {}

/// Forces them all.
pub(crate) fn run(context: &Context, _args: &Args) -> Result<ExitCode, Error> {
    let repo = context.repository()?;
    let project = repo.root().parent().unwrap_or(repo.root());
    force(context, &placeholders_below(project)?)
}
