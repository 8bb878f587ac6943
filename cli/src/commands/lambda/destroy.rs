//! `ggr lambda destroy`.

use std::process::ExitCode;

use ggr_backends::lambda::deploy::Contents;

use super::{Context, Error, Service, plan, say};
use crate::run::runtime;

/// Remove what `ggr lambda deploy` made
///
/// Removed is only what carries ggr's tag. A bucket that holds something stays.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Remove the bucket with all that is in it
    #[arg(long)]
    bucket_contents: bool,
    #[command(flatten)]
    service: Service,
}

pub(super) fn run(context: &Context, args: &Args) -> Result<ExitCode, Error> {
    let plan = plan(context);
    let contents = if args.bucket_contents { Contents::Removed } else { Contents::Kept };
    runtime()?.block_on(async {
        let cloud = args.service.connect(context).await?;
        cloud.destroy(&plan, contents, &mut say(context)).await?;
        Ok::<_, Error>(())
    })?;
    Ok(ExitCode::SUCCESS)
}
