//! `ggr thunk run`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use ggr_backends::drive::Finished;
use serde_json::json;

use crate::commands::Context;
use crate::commands::context::print_bytes;
use crate::commands::forcing::{self, open};
use crate::commands::target::Target;
use crate::error::Error;
use crate::run::{Workshop, runtime};

/// Run a thunk, and all that it waits for, and print its outputs
///
/// Each output is a line with its blob (`ggr show V…` prints the bytes) and its path. What the program printed goes to
/// standard output and standard error before that; a program that fails gives its own exit code.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// An id, or a file that a thunk makes; `-` for JSON on standard input
    target: PathBuf,
}

/// Runs it.
pub(crate) fn run(context: &Context, args: &Args) -> Result<ExitCode, Error> {
    let repo = context.repository_or_new()?;
    let id = match args.target.to_str() {
        Some("-") => repo.thunks().put(&super::create::read(None)?)?,
        _ => Target::find(context, &repo, &args.target)?.thunk_id()?,
    };
    runtime()?.block_on(async {
        let workshop = open(context).await?;
        let forced = forcing::thunk(context, &workshop, id).await;
        let code = match forced {
            Ok(Ok(finished)) => show(context, &workshop, &finished).map(|()| ExitCode::SUCCESS),
            Ok(Err(failure)) => forcing::failed(&failure),
            Err(e) => Err(e),
        };
        workshop.close(context).await;
        code
    })
}

fn show(context: &Context, workshop: &Workshop, finished: &Arc<Finished>) -> Result<(), Error> {
    let printed = workshop.session.printed(std::slice::from_ref(finished));
    let (stdout, stderr) = printed.map_err(Error::io("read", workshop.repo.root()))?;
    if context.json.is_some() {
        let outputs: Vec<_> = finished
            .outputs
            .iter()
            .map(|(name, entry)| json!({ "name": *name.0, "path": entry.path.as_str(), "blob": entry.blob.to_string() }))
            .collect();
        return context.print_json(&json!({
            "outputs": outputs,
            "stdout": finished.stdout.to_string(),
            "stderr": finished.stderr.to_string(),
            "duration_us": finished.duration_us,
        }));
    }
    print_bytes(&stdout)?;
    eprint!("{}", String::from_utf8_lossy(&stderr));
    let lines = finished.outputs.iter().map(|(_, entry)| format!("{}  {}\n", entry.blob, entry.path));
    context.print(&lines.collect::<String>())
}
