//! `ggr thunk create` and `ggr thunk run`: thunks by hand.

mod create;
mod run;

use std::process::ExitCode;

use super::Context;
use crate::error::Error;

/// Make and run thunks by hand
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

/// What is to be done.
#[derive(clap::Subcommand, Debug)]
enum What {
    Create(create::Args),
    Run(run::Args),
}

/// Does it.
pub(crate) fn run(context: &Context, args: &Args) -> Result<ExitCode, Error> {
    match &args.what {
        What::Create(args) => create::run(context, args),
        What::Run(args) => run::run(context, args),
    }
}
