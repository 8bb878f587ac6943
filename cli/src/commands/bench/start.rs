//! `ggr bench start`: from a request to the first instruction of the program.

use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ggr_backends::Backend;
use ggr_backends::microvm::MicrovmBackend;
use ggr_backends::store::FsStore;
use ggr_ir::Outcome;
use ggr_shim::bench::start::{Row, clock_job, starts};
use tokio::runtime::Runtime;

use super::{ways, worker};
use crate::commands::Context;
use crate::error::Error;
use crate::microvm;

/// Time from a request to the program's first instruction: fork+exec, sandboxes, bwrap, crun, and guests with `--guests`
///
/// A guest has a clock of its own, so guests are measured to the arrival of the answer.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// How many starts of each kind; cold ones a tenth of it
    #[arg(short = 'n', long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    starts: u32,
    /// Guests of microVMs too: prewarmed (a tenth of the starts), new and restored (a thirtieth), cold-booted (a hundredth)
    #[arg(long)]
    guests: bool,
}

/// Measures.
pub(crate) fn run(context: &Context, args: &Args) -> Result<ExitCode, Error> {
    let repo = context.repository_or_new()?;
    let failed = |source| Error::Host { doing: "measure starts".to_owned(), source };
    let mut rows = starts(&mut worker(1, repo.root()), repo.root(), args.starts).map_err(failed)?;
    if args.guests {
        rows.extend(guests(context, repo.root(), args.starts).map_err(failed)?);
    }
    ways::print(context, "request to first instruction", &rows)?;
    Ok(ExitCode::SUCCESS)
}

const GUESTS: [&str; 4] = [
    "prewarmed guest, to the answer",
    "prewarmed guest, its first thunk",
    "restored guest",
    "cold-booted guest",
];

/// The ways to a guest; the reason in each row where there can be none.
fn guests(context: &Context, root: &Path, count: u32) -> io::Result<Vec<Row>> {
    let runtime = crate::run::runtime().map_err(|error| io::Error::other(error.to_string()))?;
    let store = Arc::new(FsStore::new(root));
    let pools = match runtime.block_on(microvm::pools(context, store)) {
        Ok(pools) => pools,
        Err(why) => return Ok(GUESTS.map(|name| Row { name, times: Err(why.clone()) }).into()),
    };
    let mut number = 0;
    let mut next = || {
        number += 1;
        clock_job(root, number)
    };
    let warm = pools();
    let prepared = runtime.block_on(async {
        warm.prepare(Duration::MAX).await?;
        warm.restore_one().await
    });
    let mut rows = Vec::new();
    rows.push(Row::sample(GUESTS[0], (count / 10).max(1), || {
        prepared.clone().map_err(io::Error::other)?;
        answered(&runtime, &warm, next()?)
    }));
    drop(warm);
    rows.push(Row::sample(GUESTS[1], (count / 30).max(1), || {
        let pool = pools();
        runtime.block_on(pool.prepare(Duration::MAX)).map_err(io::Error::other)?;
        runtime.block_on(pool.restore_one()).map_err(io::Error::other)?;
        answered(&runtime, &pool, next()?)
    }));
    rows.push(Row::sample(GUESTS[2], (count / 30).max(1), || {
        let pool = pools();
        runtime.block_on(pool.prepare(Duration::MAX)).map_err(io::Error::other)?;
        // Nothing was made ahead: the pool restores a guest for this thunk.
        answered(&runtime, &pool, next()?)
    }));
    rows.push(Row::sample(GUESTS[3], (count / 100).max(1), || {
        let pool = pools();
        // The template is only looked for: the job must not make one.
        runtime.block_on(pool.prepare(Duration::MAX)).map_err(io::Error::other)?;
        let asked = Instant::now();
        runtime.block_on(pool.boot_one()).map_err(io::Error::other)?;
        let started = asked.elapsed();
        Ok(started + answered(&runtime, &pool, next()?)?)
    }));
    Ok(rows)
}

/// From asking a guest that is up to its answer.
fn answered(runtime: &Runtime, pool: &MicrovmBackend, job: ggr_ir::Job) -> io::Result<Duration> {
    let asked = Instant::now();
    let attempt = runtime.block_on(pool.run(&job));
    let took = asked.elapsed();
    match attempt.outcome {
        Outcome::Reduced(_) => Ok(took),
        other => Err(io::Error::other(format!("{other:?}"))),
    }
}
