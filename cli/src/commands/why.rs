//! `ggr why FILE`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use ggr_ir::repo::{Repo, ThunkStoreError};
use ggr_ir::{Thunk, ThunkId};
use serde_json::json;

use super::Context;
use super::difference::Difference;
use crate::error::Error;
use crate::report::log::{self, Build, Fate, Line, Record};

/// How many differences are listed; `--all` lists the rest.
const SHOWN: usize = 10;

/// Show why a file was made again, or why its command ran here
///
/// Compares the last time that the file was made with the time before: which arguments, variables or inputs are different.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The file
    file: PathBuf,
    /// List every difference
    #[arg(long)]
    all: bool,
}

/// One making of the file.
struct Making<'a> {
    build: Option<&'a Build>,
    record: &'a Record,
}

/// What is known about a file.
struct Answer<'a> {
    file: &'a Path,
    last: Making<'a>,
    before: Option<Making<'a>>,
    /// Nothing if either time it was no thunk, or a thunk is gone.
    differences: Option<Vec<Difference>>,
}

/// Looks the file up in the log and explains.
pub(crate) fn run(context: &Context, args: &Args) -> Result<ExitCode, Error> {
    let repo = context.repository()?;
    let lines = log::read(repo.root())?;
    let file = context.absolute(&args.file);
    let mut makings = makings(&lines, &file);
    let last = makings.pop().ok_or_else(|| Error::Unknown {
        what: format!("no build that ggr remembers made `{}`", file.display()),
        hint: "`ggr why` knows the outputs of tool calls that ggr has seen; run the build with ggr first"
            .to_owned(),
    })?;
    // The same thunk again says nothing about a change; the last different one does.
    let before =
        makings.iter().rposition(|m| m.record.thunk != last.record.thunk).map(|at| makings.swap_remove(at));
    let differences = match &before {
        Some(before) => differences(&repo, before.record, last.record)?,
        None => None,
    };
    let answer = Answer { file: &file, last, before, differences };
    if context.json.is_some() {
        context.print_json(&as_json(&answer))?;
    } else {
        let shown = if args.all { usize::MAX } else { SHOWN };
        context.print(&explain(&answer, shown))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn makings<'a>(lines: &'a [Line], file: &Path) -> Vec<Making<'a>> {
    let mut build = None;
    let mut found = Vec::new();
    for line in lines {
        match line {
            Line::Build(started) => build = Some(started),
            Line::Call(record) if record.outputs.iter().any(|output| output == file) => {
                found.push(Making { build, record });
            }
            Line::Call(_) | Line::Shared(_) => {}
        }
    }
    found
}

fn differences(repo: &Repo, before: &Record, last: &Record) -> Result<Option<Vec<Difference>>, Error> {
    let (Some(before), Some(last)) = (load(repo, before)?, load(repo, last)?) else { return Ok(None) };
    Ok(Some(Difference::between(&before, &last)))
}

/// The record's thunk; nothing if it was none, or the repository has it no more.
fn load(repo: &Repo, record: &Record) -> Result<Option<Thunk>, Error> {
    let Some(id) = record.thunk.as_deref().and_then(|text| text.parse::<ThunkId>().ok()) else {
        return Ok(None);
    };
    match repo.thunks().get(id) {
        Ok(thunk) => Ok(Some(thunk)),
        Err(ThunkStoreError::Missing(_) | ThunkStoreError::Corrupt { .. }) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

fn explain(answer: &Answer<'_>, shown: usize) -> String {
    let record = answer.last.record;
    let mut lines = vec![format!("{}: {}", answer.file.display(), outcome(record))];
    lines.push(format!("  by `{}`{}", record.label, during(answer.last.build)));
    if let Some(why) = &record.fused {
        lines.push(format!("  as one thunk, not in stages: {why}"));
    }
    match (&answer.before, &answer.differences) {
        (None, _) if record.fate == Fate::Here => {}
        (None, _) => lines.push("  no earlier build that ggr remembers made it in another way".to_owned()),
        (Some(before), Some(differences)) => {
            lines.push(format!("  different from the time before{}:", during(before.build)));
            lines.extend(differences.iter().take(shown).map(|difference| format!("    {difference}")));
            if differences.len() > shown {
                lines.push(format!("    and {} more (`--all` lists them)", differences.len() - shown));
            }
        }
        (Some(before), None) => {
            let what = format!("the time before{} it was {}", during(before.build), outcome(before.record));
            lines.push(format!("  {what}; what is different is not known any more"));
        }
    }
    lines.join("\n") + "\n"
}

fn outcome(record: &Record) -> String {
    let reason = record.reason.as_deref().unwrap_or("no reason recorded");
    match record.fate {
        Fate::Hit => "taken from the cache".to_owned(),
        Fate::Ran => format!("made in a sandbox in {} ms", record.ms),
        Fate::Here => format!("made here in {} ms: {reason}", record.ms),
        Fate::Left => "left as a placeholder, or not made".to_owned(),
        Fate::Failed => format!("not made: {reason}"),
    }
}

fn during(build: Option<&Build>) -> String {
    let Some(build) = build else { return String::new() };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    format!(" in `{}`, {} ago", build.command.join(" "), ago(now.saturating_sub(build.started)))
}

fn ago(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86400),
    }
}

fn as_json(answer: &Answer<'_>) -> serde_json::Value {
    let making = |making: &Making<'_>| {
        json!({
            "record": making.record,
            "command": making.build.map(|build| &build.command),
            "started": making.build.map(|build| build.started),
        })
    };
    json!({
        "file": answer.file,
        "last": making(&answer.last),
        "before": answer.before.as_ref().map(making),
        "differences": answer.differences.as_ref().map(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(fate: Fate, thunk: Option<&str>) -> Record {
        Record {
            label: "gcc a.o".into(),
            outputs: vec!["/src/a.o".into()],
            fate,
            thunk: thunk.map(str::to_owned),
            reason: Some("unknown flag `-fx`".into()),
            fused: None,
            ms: 12,
        }
    }

    #[test]
    fn a_call_that_ran_here_is_explained_by_its_reason() {
        let record = record(Fate::Here, None);
        let last = Making { build: None, record: &record };
        let answer = Answer { file: Path::new("/src/a.o"), last, before: None, differences: None };
        assert_eq!(
            explain(&answer, 10),
            "/src/a.o: made here in 12 ms: unknown flag `-fx`\n  by `gcc a.o`\n"
        );
    }

    #[test]
    fn a_call_that_was_not_cut_into_stages_says_why() {
        let record = Record { fused: Some("`-flto`: x".into()), ..record(Fate::Hit, None) };
        let last = Making { build: None, record: &record };
        let answer = Answer { file: Path::new("/src/a.o"), last, before: None, differences: None };
        assert!(explain(&answer, 10).contains("  as one thunk, not in stages: `-flto`: x\n"));
    }

    #[test]
    fn makings_of_other_files_are_passed_over() {
        let build = Build { command: vec!["make".into()], started: 5 };
        let lines = [
            Line::Call(record(Fate::Hit, Some("T1"))),
            Line::Build(build),
            Line::Call(record(Fate::Ran, Some("T2"))),
        ];
        let found = makings(&lines, Path::new("/src/a.o"));
        assert_eq!(found.len(), 2);
        assert!(found[0].build.is_none());
        assert_eq!(found[1].build.unwrap().command, ["make"]);
        assert!(makings(&lines, Path::new("/src/b.o")).is_empty());
    }
}
