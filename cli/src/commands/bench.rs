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
use ggr_shim::bench::{Slept, sleepers};
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
        /// While they sleep, kill so many of the service's workers
        #[arg(long, value_name = "N", default_value_t = 0, requires = "service")]
        restarts: u64,
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
        What::Sleep { sleepers, time, service: false, .. } => sleep(context, *sleepers, time),
        What::Sleep { sleepers, time, restarts, .. } => sleep_served(context, *sleepers, time, *restarts),
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

fn sleep(context: &Context, count: u64, time: &str) -> Result<ExitCode, Error> {
    let repo = context.repository_or_new()?;
    let slept = sleepers(&mut worker(count, repo.root()), repo.root(), count, time);
    let slept = slept.map_err(|source| Error::Host { doing: format!("run {count} sleepers"), source })?;
    tell_sleep(context, (count, time), &slept, None)
}

fn sleep_served(context: &Context, count: u64, time: &str, restarts: u64) -> Result<ExitCode, Error> {
    let repo = context.repository_or_new()?;
    let served = crate::run::runtime()?.block_on(service::sleepers(repo.root(), count, time, restarts));
    let served = served.map_err(|source| Error::Host { doing: format!("run {count} sleepers"), source })?;
    tell_sleep(context, (count, time), &served.slept, Some(&served))
}

fn tell_sleep(
    context: &Context,
    (count, time): (u64, &str),
    slept: &Slept,
    served: Option<&service::Served>,
) -> Result<ExitCode, Error> {
    let (restarts, again) = served.map_or((0, 0), |served| (served.restarts, served.again));
    if context.json.is_some() {
        context.print_json(&json!({
            "sleepers": count,
            "seconds": slept.all.as_secs_f64(),
            "overhead_us": slept.overhead.as_micros() as u64,
            "restarts": restarts,
            "again": again,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    context.print(&format!(
        "{count} × `sleep {time}`, each in a sandbox of its own: {} in all, {} ms of sandbox each (median)\n",
        seconds(slept.all),
        slept.overhead.as_micros() as f64 / 1000.0
    ))?;
    if restarts > 0 {
        context
            .print(&format!("{restarts} workers were killed meanwhile, {again} sleepers were run again\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}
