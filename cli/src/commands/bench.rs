//! `ggr bench`: measurements that BENCHMARKS.md and SPECIFICATION.md name.

mod density;
mod fleet;
mod handoff;
mod keepalive;
pub(crate) mod launcher;
mod locality;
mod model;
mod net;
mod service;
mod start;
mod store;
mod ways;

use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use ggr_backends::bench;
use ggr_shim::bench::sleepers;
use serde_json::json;

use super::Context;
use crate::config::ByteSize;
use crate::error::Error;
use crate::report::seconds;

/// Measure a part of ggr by itself
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

/// What can be measured.
#[derive(clap::Subcommand, Debug)]
enum What {
    /// Push a synthetic graph through the scheduler, on a place that does nothing
    Scale {
        /// How many thunks
        #[arg(default_value_t = 1_000_000)]
        thunks: u64,
    },
    /// Run `sleep` many times at once, each in a sandbox of its own
    Sleep {
        /// How many sleepers; the worker gets as many slots
        #[arg(default_value_t = 1000)]
        sleepers: u64,
        /// How long each sleeps, as for sleep(1)
        #[arg(default_value = "2")]
        time: String,
        /// Through a `ggr worker serve` that is started for it
        #[arg(long)]
        service: bool,
    },
    Launcher(launcher::Args),
    Locality(locality::Args),
    Model(model::Args),
    Net(net::Args),
    Fleet(fleet::Args),
    Keepalive(keepalive::Args),
    Start(start::Args),
    Handoff(handoff::Args),
    Density(density::Args),
    Store(store::Args),
}

/// Measures.
pub(crate) fn run(context: &Context, args: &Args) -> Result<ExitCode, Error> {
    match &args.what {
        What::Scale { thunks } => scale(context, *thunks),
        What::Sleep { sleepers, time, service } => sleep(context, *sleepers, time, *service),
        What::Launcher(args) => launcher::run(context, args),
        What::Locality(args) => locality::run(context, args),
        What::Model(args) => model::run(context, args),
        What::Net(args) => net::run(context, args),
        What::Fleet(args) => fleet::run(context, args),
        What::Keepalive(args) => keepalive::run(context, args),
        What::Start(args) => start::run(context, args),
        What::Handoff(args) => handoff::run(context, args),
        What::Density(args) => density::run(context, args),
        What::Store(args) => store::run(context, args),
    }
}

/// The command line of a worker over the store below `root`.
fn worker(slots: u64, root: &Path) -> Command {
    let mut worker = Command::new("/proc/self/exe");
    worker.args(["worker", "--slots", &slots.to_string(), "--store"]).arg(root);
    worker
}

/// Microseconds, with what is below them.
fn micros(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1000.0
}

fn scale(context: &Context, thunks: u64) -> Result<ExitCode, Error> {
    let report = crate::run::runtime()?.block_on(bench::scale(thunks));
    if context.json.is_some() {
        context.print_json(&json!({
            "thunks": report.thunks,
            "seconds": report.elapsed.as_secs_f64(),
            "per_second": report.per_second(),
            "bytes_each": report.bytes_each(),
        }))?;
    } else {
        context.print(&format!(
            "{} thunks in {}: {:.0} a second, {:.0} bytes each ({} in all)\n",
            report.thunks,
            seconds(report.elapsed),
            report.per_second(),
            report.bytes_each(),
            ByteSize(report.memory)
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn sleep(context: &Context, count: u64, time: &str, service: bool) -> Result<ExitCode, Error> {
    let repo = context.repository_or_new()?;
    let slept = match service {
        true => crate::run::runtime()?.block_on(service::sleepers(repo.root(), count, time)),
        false => sleepers(&mut worker(count, repo.root()), repo.root(), count, time),
    };
    let slept = slept.map_err(|source| Error::Host { doing: format!("run {count} sleepers"), source })?;
    if context.json.is_some() {
        context.print_json(&json!({
            "sleepers": count,
            "seconds": slept.all.as_secs_f64(),
            "overhead_us": slept.overhead.as_micros() as u64,
        }))?;
    } else {
        context.print(&format!(
            "{count} × `sleep {time}`, each in a sandbox of its own: {} in all, {} ms of sandbox each (median)\n",
            seconds(slept.all),
            slept.overhead.as_micros() as f64 / 1000.0
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}
