//! `ggr bench start`: from a request to the first instruction of the program.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use ggr_shim::bench::start::{Row, starts};
use serde_json::json;

use super::{micros, worker};
use crate::commands::Context;
use crate::error::Error;

/// Time from a request to the program's first instruction: fork+exec, sandboxes, bwrap, crun
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// How many starts of each kind; cold ones a tenth of it
    #[arg(short = 'n', long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    starts: u32,
}

/// Measures.
pub(crate) fn run(context: &Context, args: &Args) -> Result<ExitCode, Error> {
    let repo = context.repository_or_new()?;
    let rows = starts(&mut worker(1, repo.root()), repo.root(), args.starts)
        .map_err(|source| Error::Host { doing: "measure starts".to_owned(), source })?;
    if context.json.is_some() {
        let row = |row: &Row| {
            json!({
                "way": row.name,
                "p50_us": row.percentile(50).map(micros),
                "p99_us": row.percentile(99).map(micros),
                "failed": row.times.as_ref().err(),
            })
        };
        context.print_json(&json!(rows.iter().map(row).collect::<Vec<_>>()))?;
    } else {
        context.print(&table(&rows))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn table(rows: &[Row]) -> String {
    let mut text = format!(
        "request to first instruction, in ms\n{:<30} {:>7} {:>9} {:>9}   over the floor at p50\n",
        "way", "starts", "p50", "p99"
    );
    let floor = rows.first().and_then(|row| row.percentile(50)).unwrap_or_default();
    let ms = |time: Duration| micros(time) / 1000.0;
    for row in rows {
        let _ = match (&row.times, row.percentile(50), row.percentile(99)) {
            (Ok(times), Some(p50), Some(p99)) => writeln!(
                text,
                "{:<30} {:>7} {:>9.3} {:>9.3}   {:+.3}",
                row.name,
                times.len(),
                ms(p50),
                ms(p99),
                ms(p50) - ms(floor)
            ),
            _ => {
                let why = row.times.as_ref().err().map_or("", String::as_str);
                writeln!(text, "{:<30} not measured: {why}", row.name)
            }
        };
    }
    text
}
