//! `ggr stats`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;

use ggr_backends::store::inventory::{Inventory, Kind, Usage};
use ggr_ir::repo::Repo;
use serde::Serialize;
use serde_json::json;

use super::Context;
use crate::config::ByteSize;
use crate::error::Error;
use crate::report::log::{self, Fate, Line, Shared};

/// Show the cache: hits, misses, why calls ran here, sizes
#[derive(clap::Args, Debug)]
pub(crate) struct Args {}

/// Calls of one or more builds.
#[derive(Default, Serialize)]
struct Calls {
    builds: usize,
    hits: usize,
    ran: usize,
    here: usize,
    failed: usize,
    left: usize,
    /// How often each reason made a call run here.
    reasons: BTreeMap<String, usize>,
    /// What shared stores had to do with it; the hits are among those above.
    shared: Shared,
}

/// Prints the numbers.
pub(crate) fn run(context: &Context, _args: &Args) -> Result<ExitCode, Error> {
    let repo = context.repository()?;
    let lines = log::read(repo.root())?;
    let last = lines.iter().rposition(|line| matches!(line, Line::Build(_))).unwrap_or(0);
    let (last, all) = (count(&lines[last..]), count(&lines));
    let held = held(&repo)?;
    let limit = context.config.max_cache.value;
    if context.json.is_some() {
        let held: BTreeMap<_, _> = held
            .iter()
            .map(|(name, held)| (*name, json!({ "files": held.files, "room": held.room })))
            .collect();
        context.print_json(&json!({
            "repository": repo.root(), "limit": limit.0, "held": held, "last_build": last, "all_builds": all,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = format!("repository {} (limit {limit})\n", repo.root().display());
    for (name, held) in &held {
        writeln!(text, "  {name:<16} {:>8} files  {}", held.files, ByteSize(held.room))
            .expect("writing to a string does not fail");
    }
    text.push_str(&describe("last build", &last));
    text.push_str(&describe(&format!("{} builds", all.builds), &all));
    context.print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn count(lines: &[Line]) -> Calls {
    let mut calls = Calls::default();
    for line in lines {
        let record = match line {
            Line::Build(_) => {
                calls.builds += 1;
                continue;
            }
            Line::Shared(shared) => {
                add(&mut calls.shared, shared);
                continue;
            }
            Line::Call(record) => record,
        };
        match record.fate {
            Fate::Hit => calls.hits += 1,
            Fate::Ran => calls.ran += 1,
            Fate::Failed => calls.failed += 1,
            Fate::Left => calls.left += 1,
            Fate::Here => {
                calls.here += 1;
                *calls.reasons.entry(record.reason.clone().unwrap_or_default()).or_default() += 1;
            }
        }
    }
    calls
}

fn add(to: &mut Shared, shared: &Shared) {
    to.hits += shared.hits;
    to.repeated += shared.repeated;
    to.stored += shared.stored;
    to.down += shared.down;
    to.up += shared.up;
    to.requests += shared.requests;
}

fn describe(what: &str, calls: &Calls) -> String {
    let thunks = calls.hits + calls.ran;
    let share = if thunks == 0 { 0.0 } else { 100.0 * calls.hits as f64 / thunks as f64 };
    let mut text = format!(
        "{what}: {} hits, {} ran ({share:.1} % hits), {} ran here, {} failed, {} not made\n",
        calls.hits, calls.ran, calls.here, calls.failed, calls.left
    );
    let shared = &calls.shared;
    if *shared != Shared::default() {
        let local = (calls.hits as u64).saturating_sub(shared.hits);
        let (down, up) = (ByteSize(shared.down), ByteSize(shared.up));
        writeln!(
            text,
            "  hits: {local} local, {} from the shared store ({} of captured programs; {} put into it; {down} down, {up} up, {} requests)",
            shared.hits, shared.repeated, shared.stored, shared.requests
        )
        .expect("writing to a string does not fail");
    }
    let mut reasons: Vec<_> = calls.reasons.iter().collect();
    reasons.sort_by_key(|(reason, count)| (std::cmp::Reverse(**count), *reason));
    for (reason, count) in reasons {
        writeln!(text, "  {count:>5} × {reason}").expect("writing to a string does not fail");
    }
    text
}

/// What the repository holds, by kind.
fn held(repo: &Repo) -> Result<Vec<(&'static str, Usage)>, Error> {
    let mut kinds: Vec<(Kind, &'static str, Usage)> = [
        (Kind::Blob, "blobs"),
        (Kind::Twin, "executable twins"),
        (Kind::Reduction, "reductions"),
        (Kind::Thunk, "thunks"),
        (Kind::Capture, "captures"),
    ]
    .map(|(kind, name)| (kind, name, Usage::default()))
    .into();
    for item in &Inventory::of(repo)?.items {
        for (kind, _, usage) in &mut kinds {
            if *kind == item.kind {
                *usage = usage.with(item);
            }
        }
    }
    Ok(kinds.into_iter().map(|(_, name, usage)| (name, usage)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::log::{Build, Record};

    #[test]
    fn fates_and_reasons_are_counted() {
        let record = |fate, reason: Option<&str>| {
            Line::Call(Record {
                label: "x".into(),
                outputs: vec![],
                fate,
                thunk: None,
                reason: reason.map(str::to_owned),
                fused: None,
                ms: 0,
            })
        };
        let lines = [
            Line::Build(Build { command: vec![], started: 0 }),
            record(Fate::Hit, None),
            record(Fate::Hit, None),
            record(Fate::Hit, None),
            record(Fate::Ran, None),
            record(Fate::Here, Some("no model for `bison`")),
        ];
        assert_eq!(
            describe("last build", &count(&lines)),
            "last build: 3 hits, 1 ran (75.0 % hits), 1 ran here, 0 failed, 0 not made\n      1 × no model for `bison`\n"
        );
    }
}
