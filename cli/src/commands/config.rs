//! `ggr config`.

use std::fmt::Write as _;
use std::process::ExitCode;

use serde_json::json;

use super::Context;
use crate::config::KEYS;
use crate::error::Error;

/// Show each configuration value and where it came from
///
/// A flag wins over a GGR_* variable, that over the project's ggr.toml, that over the user's config.toml, that over the
/// default.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Show what each key does and takes, in place of its value
    #[arg(long)]
    keys: bool,
}

/// Prints the values.
pub(crate) fn run(context: &Context, args: &Args) -> Result<ExitCode, Error> {
    if context.json.is_some() {
        context.print_json(&as_json(context))?;
    } else if args.keys {
        context.print(&keys())?;
    } else {
        context.print(&values(context))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn values(context: &Context) -> String {
    let rows: Vec<_> = KEYS
        .iter()
        .map(|key| {
            let (value, origin) = key.show(&context.config);
            (key.name, value, origin.to_string())
        })
        .collect();
    let width = rows.iter().map(|row| row.1.chars().count()).max().unwrap_or(0).min(40);
    let mut text = String::new();
    for (name, value, origin) in rows {
        writeln!(text, "{name:<16} = {value:<width$}  # {origin}")
            .expect("writing to a string does not fail");
    }
    for tools in &context.config.tools {
        writeln!(text, "[[tool]]           # {}", tools.path.display())
            .expect("writing to a string does not fail");
    }
    text
}

fn keys() -> String {
    let mut text = String::new();
    for key in KEYS {
        let also: Vec<_> = key.flag.iter().chain(key.variable.iter()).copied().collect();
        let also = if also.is_empty() { String::new() } else { format!(" (also {})", also.join(", ")) };
        let own = if key.safe { "" } else { "; in a project's file only if it is yours" };
        let name = key.name;
        writeln!(text, "{name}{also}\n    {}: {}{own}", key.help, key.expected)
            .expect("writing to a string does not fail");
    }
    text
}

fn as_json(context: &Context) -> serde_json::Value {
    let values: serde_json::Map<_, _> = KEYS
        .iter()
        .map(|key| {
            let (value, origin) = key.show(&context.config);
            (key.name.to_owned(), json!({ "value": value, "origin": origin.to_string() }))
        })
        .collect();
    let tools: Vec<_> = context.config.tools.iter().map(|tools| tools.path.display().to_string()).collect();
    json!({ "values": values, "tools": tools, "notes": context.config.notes })
}
