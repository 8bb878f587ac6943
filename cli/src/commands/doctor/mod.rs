//! `ggr doctor`: what works on this machine, what does not, what to do.

mod bucket;
mod checks;
mod probe;
mod sys;

use std::fmt::Write as _;
use std::process::ExitCode;

use serde::Serialize;

use super::Context;
use crate::error::Error;
use crate::exit::Kind;

/// Show what works on this machine, what does not, and what to do
///
/// Each line is `ok`, `degraded` (ggr works, but slower or with less) or `missing` (ggr cannot do its work); the exit code
/// is 1 if anything is missing.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Try one thing in this process and say how it went; `doctor` starts itself so
    #[arg(long, hide = true, value_enum)]
    probe: Option<probe::Probe>,
}

/// How something stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    Degraded,
    Missing,
}

/// What a check found.
#[derive(Serialize)]
struct Finding {
    state: State,
    /// What is there.
    found: String,
    /// What to do, unless all is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

impl Finding {
    fn ok(found: impl Into<String>) -> Self {
        Self { state: State::Ok, found: found.into(), advice: None }
    }

    fn degraded(found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { state: State::Degraded, found: found.into(), advice: Some(advice.into()) }
    }

    fn missing(found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { state: State::Missing, found: found.into(), advice: Some(advice.into()) }
    }
}

#[derive(Serialize)]
struct Row {
    check: &'static str,
    #[serde(flatten)]
    finding: Finding,
}

/// Runs every check.
pub(crate) fn run(context: &Context, args: &Args) -> Result<ExitCode, Error> {
    if let Some(probe) = args.probe {
        return Ok(probe::run(probe));
    }
    let rows: Vec<Row> =
        checks::CHECKS.iter().map(|(check, look)| Row { check, finding: look(context) }).collect();
    if context.json.is_some() {
        context.print_json(&serde_json::json!({ "checks": rows }))?;
    } else {
        context.print(&render(&rows))?;
    }
    let missing = rows.iter().any(|row| row.finding.state == State::Missing);
    Ok(if missing { Kind::Findings.into() } else { ExitCode::SUCCESS })
}

fn render(rows: &[Row]) -> String {
    let mut text = String::new();
    for row in rows {
        let state = match row.finding.state {
            State::Ok => "ok",
            State::Degraded => "degraded",
            State::Missing => "missing",
        };
        writeln!(text, "{state:<8}  {:<22} {}", row.check, row.finding.found)
            .expect("writing to a string does not fail");
        if let Some(advice) = &row.finding.advice {
            writeln!(text, "{:<8}  {:<22} → {advice}", "", "").expect("writing to a string does not fail");
        }
    }
    text
}
