//! `ggr cost`.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use ggr_backends::durations::Durations;
use ggr_backends::lambda::Price;
use ggr_ir::Kind;
use serde::Serialize;

use super::Context;
use crate::error::Error;
use crate::report::log::{self, Fate, Line};
use crate::report::seconds;

/// Estimate what a build costs on Lambda, from what the last one took here
///
/// Asks nobody. Prices are AWS's list prices of us-east-1; `lambda-memory` is what functions have.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {}

/// What a thunk takes in a function beside its program: fetching, staging, storing (BENCHMARKS.md, "Lambda").
const BESIDE: Duration = Duration::from_millis(20);

/// Requests to the bucket for a thunk: an object stored, and up to three that an environment does not have yet.
const PUTS: f64 = 1.0;
const GETS: f64 = 3.0;

/// A build's thunks, and what they would cost.
#[derive(Debug, Default, PartialEq, Serialize)]
struct Estimate {
    /// Thunks of the last build.
    thunks: usize,
    /// Those that ran: the others were in the cache.
    ran: usize,
    /// Those whose duration nobody remembers; they are taken to take what the others take in the mean.
    unknown: usize,
    /// How long all programs run, in seconds.
    work_s: f64,
    /// With nothing cached, in dollars.
    compute: f64,
    invocations: f64,
    bucket: f64,
    /// What the last build would have cost as it was, in dollars.
    last: f64,
}

impl Estimate {
    fn all(&self) -> f64 {
        self.compute + self.invocations + self.bucket
    }
}

/// Prints the estimate.
pub(crate) fn run(context: &Context, _args: &Args) -> Result<ExitCode, Error> {
    let repo = context.repository()?;
    let lines = log::read(repo.root())?;
    let durations = Durations::load(&repo.memo_file("durations"));
    let memory = context.config.lambda_memory.value;
    let estimate = estimate(&lines, &|label| remembered(&durations, label), memory, &Price::default());
    if context.json.is_some() {
        context.print_json(&serde_json::to_value(&estimate).expect("numbers are JSON"))?;
    } else {
        context.print(&render(&estimate, memory))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The log does not say of what kind a thunk is.
fn remembered(durations: &Durations, label: &str) -> Option<Duration> {
    let kinds = [
        Kind::Compile,
        Kind::Link,
        Kind::Archive,
        Kind::Assemble,
        Kind::Preprocess,
        Kind::Binutils,
        Kind::Other,
    ];
    kinds.into_iter().find_map(|kind| durations.remembered(label, kind))
}

fn estimate(
    lines: &[Line],
    remembered: &dyn Fn(&str) -> Option<Duration>,
    memory: u32,
    price: &Price,
) -> Estimate {
    let last = lines.iter().rposition(|line| matches!(line, Line::Build(_))).unwrap_or(0);
    let calls = |lines: &[Line]| -> Vec<(String, Fate, u64)> {
        let records = lines.iter().filter_map(|line| match line {
            Line::Call(record) => Some(record),
            Line::Build(_) | Line::Shared(_) => None,
        });
        let thunks = records.filter(|record| record.thunk.is_some());
        thunks.map(|record| (record.label.clone(), record.fate, record.ms)).collect()
    };
    let before: HashMap<String, u64> =
        calls(lines).into_iter().filter(|(.., ms)| *ms > 0).map(|(label, _, ms)| (label, ms)).collect();
    let took =
        |label: &str| remembered(label).or_else(|| before.get(label).map(|ms| Duration::from_millis(*ms)));
    let known: Vec<(Option<Duration>, Fate)> =
        calls(&lines[last..]).into_iter().map(|(label, fate, _)| (took(&label), fate)).collect();
    let (sum, count) = known
        .iter()
        .filter_map(|(took, _)| *took)
        .fold((Duration::ZERO, 0), |(sum, n), took| (sum + took, n + 1));
    let mean = sum.checked_div(count).unwrap_or_default();
    let mut estimate = Estimate { thunks: known.len(), ..Estimate::default() };
    for (took, fate) in known {
        estimate.unknown += usize::from(took.is_none());
        let took = took.unwrap_or(mean);
        estimate.work_s += took.as_secs_f64();
        let compute = price.compute(memory, took + BESIDE);
        let bucket = PUTS * price.put + GETS * price.get;
        estimate.compute += compute;
        estimate.invocations += price.request;
        estimate.bucket += bucket;
        if fate == Fate::Ran {
            estimate.ran += 1;
            estimate.last += compute + price.request + bucket;
        }
    }
    estimate
}

fn render(estimate: &Estimate, memory: u32) -> String {
    let mut text = format!(
        "last build: {} thunks, {} of work",
        estimate.thunks,
        seconds(Duration::from_secs_f64(estimate.work_s))
    );
    if estimate.unknown > 0 {
        write!(text, " ({} that nobody remembers are taken as the mean)", estimate.unknown)
            .expect("writing to a string does not fail");
    }
    write!(
        text,
        "\non Lambda with {memory} MB, nothing cached: about ${:.4} (functions ${:.4}, invocations ${:.4}, bucket ${:.4})\n\
         as it was, with {} from the cache: about ${:.4}\n",
        estimate.all(),
        estimate.compute,
        estimate.invocations,
        estimate.bucket,
        estimate.thunks - estimate.ran,
        estimate.last
    )
    .expect("writing to a string does not fail");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::log::{Build, Record};

    fn call(label: &str, fate: Fate, ms: u64) -> Line {
        let thunk = Some(format!("T{label}"));
        let (label, outputs) = (label.to_owned(), Vec::new());
        Line::Call(Record { label, outputs, fate, thunk, reason: None, fused: None, ms })
    }

    #[test]
    fn hits_cost_what_they_took_when_they_ran_and_the_unknown_take_the_mean() {
        let build = || Line::Build(Build { command: vec![], started: 0 });
        let lines = [
            build(),
            call("gcc a.o", Fate::Ran, 980),
            build(),
            call("gcc a.o", Fate::Hit, 0),
            call("gcc b.o", Fate::Ran, 2980),
            call("gcc c.o", Fate::Left, 0),
        ];
        let price = Price { gb_second: 1.0, request: 0.5, put: 0.0, get: 0.0, out_gb: 0.0 };
        let found = estimate(&lines, &|_| None, 1024, &price);
        assert_eq!((found.thunks, found.ran, found.unknown), (3, 1, 1));
        assert!((found.work_s - 5.94).abs() < 1e-9, "{found:?}");
        // Each takes 20 ms more.
        assert!((found.compute - 6.0).abs() < 1e-9 && (found.all() - 7.5).abs() < 1e-9, "{found:?}");
        assert!((found.last - 3.5).abs() < 1e-9, "{found:?}");
        let found = estimate(&lines, &|_| Some(Duration::from_secs(1)), 1024, &price);
        assert_eq!((found.unknown, found.work_s), (0, 3.0));
    }

    #[test]
    fn a_repository_without_a_build_costs_nothing() {
        let found = estimate(&[], &|_| None, 1024, &Price::default());
        assert_eq!(found, Estimate::default());
    }
}
