//! `ggr force [TARGET…]`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::Context;
use super::forcing;
use super::target::{Target, placeholders_below, repository_of};
use crate::error::Error;
use crate::run::runtime;

/// Make placeholders real
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Placeholders, directories with placeholders, or ids of thunks [default: this directory]
    targets: Vec<PathBuf>,
}

/// Forces each target.
pub(crate) fn run(context: &Context, args: &Args) -> Result<ExitCode, Error> {
    let here = [PathBuf::from(".")];
    let targets = if args.targets.is_empty() { &here[..] } else { &args.targets };
    let mut found = Vec::new();
    for target in targets {
        found.extend(resolve(context, target)?);
    }
    force(context, &found)
}

/// Makes all of these real.
pub(super) fn force(context: &Context, targets: &[Target]) -> Result<ExitCode, Error> {
    if targets.is_empty() {
        context.note("there are no placeholders");
        return Ok(ExitCode::SUCCESS);
    }
    for target in targets {
        if let Some(path) = target.path() {
            repository_of(context, path)?;
        }
    }
    runtime()?.block_on(async {
        let workshop = forcing::open(context).await?;
        let forced = forcing::all(context, &workshop, targets).await;
        workshop.close(context).await;
        forced
    })
}

fn resolve(context: &Context, target: &Path) -> Result<Vec<Target>, Error> {
    let path = context.dir.join(target);
    if path.is_dir() {
        return placeholders_below(&path);
    }
    let repo = repository_of(context, target)?;
    match Target::find(context, &repo, target)? {
        // It is real already.
        Target::Made(..) => Ok(Vec::new()),
        other => Ok(vec![other]),
    }
}
