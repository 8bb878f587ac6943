//! `ggr stats`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;
use serde_json::json;

use super::Context;
use crate::config::ByteSize;
use crate::error::Error;
use crate::report::log::{self, Fate, Line};

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
    /// How often each reason made a call run here.
    reasons: BTreeMap<String, usize>,
}

/// Files below a directory of the repository.
#[derive(Default, Serialize)]
struct Held {
    files: u64,
    bytes: u64,
}

/// Prints the numbers.
pub(crate) fn run(context: &Context, _args: &Args) -> Result<ExitCode, Error> {
    let repo = context.repository()?;
    let lines = log::read(repo.root())?;
    let last = lines.iter().rposition(|line| matches!(line, Line::Build(_))).unwrap_or(0);
    let (last, all) = (count(&lines[last..]), count(&lines));
    let blobs = context.blobs(&repo);
    let held: Vec<_> = [("blobs", blobs), ("reductions", repo.root()), ("thunks", repo.root())]
        .into_iter()
        .map(|(name, root)| {
            Ok((name, held(&root.join(name)).map_err(Error::io("look at", root.join(name)))?))
        })
        .collect::<Result<_, Error>>()?;
    let limit = context.config.max_cache.value;
    if context.json.is_some() {
        let held: BTreeMap<_, _> = held.iter().map(|(name, held)| (*name, held)).collect();
        context.print_json(&json!({
            "repository": repo.root(), "limit": limit.0, "held": held, "last_build": last, "all_builds": all,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = format!("repository {} (limit {limit})\n", repo.root().display());
    for (name, held) in &held {
        writeln!(text, "  {name:<11} {:>8} files  {}", held.files, ByteSize(held.bytes))
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
            Line::Call(record) => record,
        };
        match record.fate {
            Fate::Hit => calls.hits += 1,
            Fate::Ran => calls.ran += 1,
            Fate::Failed => calls.failed += 1,
            Fate::Here => {
                calls.here += 1;
                *calls.reasons.entry(record.reason.clone().unwrap_or_default()).or_default() += 1;
            }
        }
    }
    calls
}

fn describe(what: &str, calls: &Calls) -> String {
    let thunks = calls.hits + calls.ran;
    let share = if thunks == 0 { 0.0 } else { 100.0 * calls.hits as f64 / thunks as f64 };
    let mut text = format!(
        "{what}: {} hits, {} ran ({share:.1} % hits), {} ran here, {} failed\n",
        calls.hits, calls.ran, calls.here, calls.failed
    );
    let mut reasons: Vec<_> = calls.reasons.iter().collect();
    reasons.sort_by_key(|(reason, count)| (std::cmp::Reverse(**count), *reason));
    for (reason, count) in reasons {
        writeln!(text, "  {count:>5} × {reason}").expect("writing to a string does not fail");
    }
    text
}

/// Counts files and their space on disk; none if the directory is not there.
fn held(directory: &Path) -> io::Result<Held> {
    let mut sum = Held::default();
    let mut pending = vec![directory.to_path_buf()];
    while let Some(directory) = pending.pop() {
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(e),
        };
        for entry in entries {
            let entry = entry?;
            // What another ggr removes meanwhile is not counted.
            let Ok(found) = entry.metadata() else { continue };
            if found.is_dir() {
                pending.push(entry.path());
            } else {
                sum.files += 1;
                sum.bytes += found.blocks() * 512;
            }
        }
    }
    Ok(sum)
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
            "last build: 3 hits, 1 ran (75.0 % hits), 1 ran here, 0 failed\n      1 × no model for `bison`\n"
        );
    }

    #[test]
    fn files_of_all_depths_are_held() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("ab/cd")).unwrap();
        fs::write(dir.path().join("ab/cd/x"), "1").unwrap();
        fs::write(dir.path().join("y"), "1").unwrap();
        assert_eq!(held(dir.path()).unwrap().files, 2);
        assert_eq!(held(&dir.path().join("absent")).unwrap().files, 0);
    }
}
