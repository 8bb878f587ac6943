//! `ggr bench net`: what the network costs at the start of a sandbox.

use std::fmt::Write as _;
use std::process::ExitCode;

use ggr_shim::bench::net::{self, Started, Way};
use serde_json::json;

use super::micros;
use crate::commands::Context;
use crate::error::Error;

/// Start sandboxes with each way to give them a network, side by side
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// How many sandboxes
    #[arg(short = 'n', long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    sandboxes: u32,
    /// How many processes start them, side by side; may be a list as 1,2,4
    #[arg(long, value_delimiter = ',', default_value = "1", value_parser = clap::value_parser!(u32).range(1..=64))]
    managers: Vec<u32>,
    /// The ways with this word in their names alone, as `tenant`
    #[arg(long)]
    only: Option<String>,
}

/// Measures.
pub(crate) fn run(context: &Context, args: &Args) -> Result<ExitCode, Error> {
    let wanted = |way: &Way| args.only.as_ref().is_none_or(|word| way.name().contains(word));
    let ways: Vec<_> = Way::ALL.into_iter().filter(wanted).collect();
    let rows = net::measure(&ways, args.sandboxes as usize, &args.managers)
        .map_err(|source| Error::Host { doing: "start sandboxes".to_owned(), source })?;
    if context.json.is_some() {
        context.print_json(&json!(rows.iter().map(|row| as_json(row, &rows)).collect::<Vec<_>>()))?;
    } else {
        context.print(&table(args.sandboxes, &rows))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// How many times faster than create-and-move with as many managers.
fn ratio(row: &Started, rows: &[Started]) -> Option<f64> {
    let moved =
        rows.iter().find(|other| other.way == Way::CreateAndMove && other.managers == row.managers)?;
    Some(moved.total.as_secs_f64() / row.total.as_secs_f64())
}

fn as_json(row: &Started, rows: &[Started]) -> serde_json::Value {
    json!({
        "way": row.way.name(),
        "managers": row.managers,
        "seconds": row.total.as_secs_f64(),
        "p50_us": micros(row.p50),
        "p99_us": micros(row.p99),
        "times_faster_than_move": ratio(row, rows),
    })
}

fn table(sandboxes: u32, rows: &[Started]) -> String {
    let mut text = format!("{sandboxes} sandboxes, all alive at the end; times in ms\n");
    let _ = writeln!(
        text,
        "{:<24} {:>8} {:>10} {:>8} {:>8}   than create and move",
        "way", "managers", "in all", "p50", "p99"
    );
    for row in rows {
        let ratio = ratio(row, rows).map_or(String::new(), |ratio| format!("{ratio:.1} × faster"));
        let ms = |time: std::time::Duration| time.as_secs_f64() * 1000.0;
        let _ = writeln!(
            text,
            "{:<24} {:>8} {:>10.1} {:>8.2} {:>8.2}   {ratio}",
            row.way.name(),
            row.managers,
            ms(row.total),
            ms(row.p50),
            ms(row.p99)
        );
    }
    text
}
