//! `ggr worker`: what a local pool starts. Not for users; its arguments may change with any version.

use std::path::PathBuf;
use std::process::ExitCode;

use ggr_shim::worker::{Isolation, WorkerOptions, serve};

use crate::args::Global;
use crate::error::Error;

/// Run jobs for the coordinator on descriptor 0 (`--slots` of them side by side, blobs in `--store`)
#[derive(clap::Args, Debug)]
pub(crate) struct Args {}

/// Serves until the coordinator hangs up. No thread may run yet: the worker forks.
pub(crate) fn run(global: &Global, _args: &Args) -> Result<ExitCode, Error> {
    let settings = global.settings();
    let given = |key: &str| settings.iter().find(|(name, _)| *name == key).map(|(_, value)| value);
    let slots = given("slots").and_then(|slots| slots.to_str()?.parse().ok());
    let (Some(slots), Some(root)) = (slots, given("store").map(PathBuf::from)) else {
        return Err(Error::Usage {
            message: "a worker needs `--slots` and `--store`".to_owned(),
            hint: "ggr starts its workers itself".to_owned(),
        });
    };
    serve(&WorkerOptions { slots, root, isolation: Isolation::default() })?;
    Ok(ExitCode::SUCCESS)
}
