//! `ggr bench handoff`: from one thunk's output to the next one's input.

use std::fmt::Write as _;
use std::process::ExitCode;

use ggr_shim::bench::handoff::{Handed, SIZES, Way, handoffs};
use serde_json::json;

use super::micros;
use crate::commands::Context;
use crate::config::ByteSize;
use crate::error::Error;

/// Hand files from one thunk to the next: on one worker, to a peer, through a store, durably
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// How many files of each size in each way
    #[arg(short = 'n', long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    files: u32,
}

/// Measures.
pub(crate) fn run(context: &Context, args: &Args) -> Result<ExitCode, Error> {
    let repo = context.repository_or_new()?;
    let rows = handoffs(repo.root(), args.files)
        .map_err(|source| Error::Host { doing: "hand files over".to_owned(), source })?;
    if context.json.is_some() {
        let row = |row: &Handed| {
            json!({
                "way": row.way.name(),
                "bytes": row.size,
                "p50_us": micros(row.p50),
                "p99_us": micros(row.p99),
            })
        };
        context.print_json(&json!(rows.iter().map(row).collect::<Vec<_>>()))?;
    } else {
        context.print(&table(&rows))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn table(rows: &[Handed]) -> String {
    let mut text = format!("p50 (p99) in µs\n{:<20}", "way");
    for size in SIZES {
        let _ = write!(text, " {:>20}", ByteSize(size as u64).to_string());
    }
    text.push('\n');
    for way in Way::ALL {
        let _ = write!(text, "{:<20}", way.name());
        for row in rows.iter().filter(|row| row.way == way) {
            let _ = write!(text, " {:>20}", format!("{:.0} ({:.0})", micros(row.p50), micros(row.p99)));
        }
        text.push('\n');
    }
    text
}
