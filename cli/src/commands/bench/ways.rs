//! Ways to do the same thing, side by side: their times as a table or as JSON, the first as the floor of the others.

use std::fmt::Write as _;
use std::time::Duration;

use ggr_shim::bench::start::Row;
use serde_json::json;

use super::micros;
use crate::commands::Context;
use crate::error::Error;

/// Prints the rows. `what` is what was timed.
pub(super) fn print(context: &Context, what: &str, rows: &[Row]) -> Result<(), Error> {
    if context.json.is_none() {
        return context.print(&table(what, rows));
    }
    let row = |row: &Row| {
        json!({
            "way": row.name,
            "p50_us": row.percentile(50).map(micros),
            "p99_us": row.percentile(99).map(micros),
            "failed": row.times.as_ref().err(),
        })
    };
    context.print_json(&json!(rows.iter().map(row).collect::<Vec<_>>()))
}

fn table(what: &str, rows: &[Row]) -> String {
    let mut text = format!(
        "{what}, in ms\n{:<30} {:>7} {:>9} {:>9}   over the floor at p50\n",
        "way", "times", "p50", "p99"
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
