//! `ggr bench`: measurements that BENCHMARKS.md and SPECIFICATION.md name.

use std::process::ExitCode;

use ggr_backends::bench;
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
}

/// Measures.
pub(crate) fn run(context: &Context, args: &Args) -> Result<ExitCode, Error> {
    match args.what {
        What::Scale { thunks } => scale(context, thunks),
    }
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
