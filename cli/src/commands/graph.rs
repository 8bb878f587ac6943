//! `ggr graph [TARGET…]`.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;

use ggr_ir::ThunkId;
use ggr_ir::dag::{Dag, DagError};
use ggr_ir::repo::{Repo, ThunkStoreError};

use super::Context;
use super::target::Target;
use crate::error::Error;
use crate::report::log::{self, Line};

/// Print the graph of thunks for Graphviz (`ggr graph | dot -Tsvg`)
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Files or ids, with all that they wait for [default: the thunks of the last build]
    targets: Vec<PathBuf>,
}

/// Prints it.
pub(crate) fn run(context: &Context, args: &Args) -> Result<ExitCode, Error> {
    let repo = context.repository()?;
    let roots = if args.targets.is_empty() {
        last_build(&repo)?
    } else {
        let find = |word: &PathBuf| Target::find(context, &repo, word)?.thunk_id();
        args.targets.iter().map(find).collect::<Result<_, _>>()?
    };
    let dag = Dag::load(roots, |id| repo.thunks().get(id)).map_err(error)?;
    context.print(&dag.to_dot())?;
    Ok(ExitCode::SUCCESS)
}

/// The thunks of the last build that are still in the repository.
fn last_build(repo: &Repo) -> Result<BTreeSet<ThunkId>, Error> {
    let lines = log::read(repo.root())?;
    let start = lines.iter().rposition(|line| matches!(line, Line::Build(_))).unwrap_or(0);
    let thunks = repo.thunks();
    Ok(lines[start..]
        .iter()
        .filter_map(|line| match line {
            Line::Call(record) => record.thunk.as_deref()?.parse().ok(),
            Line::Build(_) | Line::Shared(_) => None,
        })
        .filter(|id| thunks.contains(*id))
        .collect())
}

/// An error of loading a graph.
pub(super) fn error(e: DagError<ThunkStoreError>) -> Error {
    match e {
        DagError::Fetch(e) => e.into(),
        cycle => Error::Bug(cycle.to_string()),
    }
}
