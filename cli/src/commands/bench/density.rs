//! `ggr bench density`: the memory of many compilers side by side.

use std::fmt::Write as _;
use std::process::ExitCode;

use ggr_shim::bench::density::{At, From, Weighed, weigh};
use serde_json::json;

use crate::commands::Context;
use crate::config::ByteSize;
use crate::error::Error;

/// Weigh many compilers, idle and in mid-compile: one toolchain for all, and a copy each
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// How many compilers
    #[arg(short = 'n', long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    workers: u32,
}

/// Weighs.
pub(crate) fn run(context: &Context, args: &Args) -> Result<ExitCode, Error> {
    let repo = context.repository_or_new()?;
    let rows = weigh(repo.root(), args.workers as usize)
        .map_err(|source| Error::Host { doing: "weigh compilers".to_owned(), source })?;
    if context.json.is_some() {
        let row = |row: &Weighed| json!({ "at": at(row.at), "from": from(row.from), "bytes": row.memory });
        context.print_json(&json!(rows.iter().map(row).collect::<Vec<_>>()))?;
    } else {
        context.print(&table(args.workers, &rows))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn at(at: At) -> &'static str {
    match at {
        At::Idle => "idle",
        At::MidCompile => "mid-compile",
    }
}

fn from(from: From) -> &'static str {
    match from {
        From::Shared => "one toolchain",
        From::Private => "a copy each",
    }
}

fn table(workers: u32, rows: &[Weighed]) -> String {
    let mut text = format!("{workers} compilers, memory together (PSS)\n");
    for row in rows {
        let memory = ByteSize(row.memory).to_string();
        let _ = writeln!(text, "{:<12} {:<14} {memory:>12}", at(row.at), from(row.from));
    }
    for state in [At::Idle, At::MidCompile] {
        let of = |source| {
            let row = rows.iter().find(|row| row.at == state && row.from == source);
            row.map_or(0.0, |row| row.memory as f64)
        };
        let _ = writeln!(text, "{}: copies take {:.1} ×", at(state), of(From::Private) / of(From::Shared));
    }
    text
}
