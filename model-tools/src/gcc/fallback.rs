//! `gcc -M` in place of the scanner, where the scanner is not sure.
//!
//! Costs one process of some 15 ms, and another if system headers must be told apart.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::stop::Stop;
use super::text::Texts;
use crate::model::{FileView, Found, Reason};
use crate::scan::{Dep, DirClass, DirFlag, Forced, MacroFlag, Scan, ScanRequest};

/// Why a call runs here that the preprocessor refuses: the real tool says it best.
pub const PREPROCESSOR_FAILS: &str = "the preprocessor fails";

/// Asks the compiler itself which files it reads, and if `classify` is set which of them are system headers. `called`: its
/// environment and the name that it is called by.
///
/// # Errors
/// [`Stop::RunHere`] if it fails (it will say why when it runs for real), or if a file is read that `-M` does not list:
/// a precompiled header, or one that `__has_include` looks for.
pub(super) fn ask(
    request: &ScanRequest,
    called: (&BTreeMap<String, String>, &str),
    files: &dyn FileView,
    (texts, classify): (&Texts, bool),
) -> Result<Scan, Stop> {
    let all = run(request, called, "-M")?;
    let user: BTreeSet<String> = if classify {
        run(request, called, "-MM")?.into_iter().collect()
    } else {
        all.iter().cloned().collect()
    };
    let mut scan = Scan::default();
    for path in all {
        let full = request.dir.join(&path);
        match files.find(&full) {
            Found::Placeholder(_) => return Err(Stop::Force(vec![full])),
            Found::Missing if !request.missing_is_generated => return Err(Reason::MissingInput(path).into()),
            found => {
                if request.looks_for_precompiled {
                    forbid_precompiled(&full, &path, files)?;
                }
                look_into(&full, &path, found == Found::Missing, files, texts, &mut scan)?;
            }
        }
        let generated = files.find(&full) == Found::Missing;
        scan.deps.push(Dep { system: !user.contains(&path), generated, path });
    }
    let dirs = request.dirs.iter().filter_map(|flag| match flag {
        DirFlag::Add(_, dir) => Some(request.dir.join(dir.strip_prefix('=').unwrap_or(dir))),
        DirFlag::Split => None,
    });
    scan.dirs = dirs.collect();
    Ok(scan)
}

/// A precompiled header that may stand for a header: where the files are that it stands for is not known here.
fn forbid_precompiled(full: &Path, path: &str, files: &dyn FileView) -> Result<(), Stop> {
    let precompiled = |suffix: &str| PathBuf::from(format!("{}.{suffix}", full.display()));
    if ["gch", "pch"].iter().any(|suffix| files.find(&precompiled(suffix)) != Found::Missing) {
        return Err(Reason::Other(format!("`{path}` may be precompiled")).into());
    }
    Ok(())
}

fn look_into(
    full: &Path,
    path: &str,
    missing: bool,
    files: &dyn FileView,
    texts: &Texts,
    scan: &mut Scan,
) -> Result<(), Stop> {
    if missing {
        return Ok(());
    }
    // The system's headers look for others only in order to include them, and read no clock.
    if full.starts_with("/usr") {
        return Ok(());
    }
    let facts = texts.of(full, files).map_err(|error| Reason::Other(format!("`{path}`: {error}")))?;
    if facts.probes {
        return Err(Reason::Other(format!("`{path}` may look for headers that it does not include")).into());
    }
    scan.uses_time |= facts.uses_time;
    scan.has_incbin |= facts.assembler_reads;
    Ok(())
}

fn run(
    request: &ScanRequest,
    (env, named): (&BTreeMap<String, String>, &str),
    mode: &str,
) -> Result<Vec<String>, Stop> {
    let output = Command::new(&request.compiler.program)
        .arg0(named)
        .args(arguments(request, mode))
        .current_dir(&request.dir)
        .env_clear()
        .envs(env)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| Reason::Other(format!("`{}`: {error}", request.compiler.program.display())))?;
    let text = String::from_utf8(output.stdout).map_err(|_| Reason::NotUtf8)?;
    if !output.status.success() {
        return Err(Reason::Other(PREPROCESSOR_FAILS.into()).into());
    }
    Ok(names(&text))
}

fn arguments(request: &ScanRequest, mode: &str) -> Vec<String> {
    let mut args = request.compiler.flags.clone();
    for flag in &request.macros {
        args.push(match flag {
            MacroFlag::Define(text) => format!("-D{text}"),
            MacroFlag::Undefine(text) => format!("-U{text}"),
        });
    }
    for flag in &request.dirs {
        match flag {
            DirFlag::Split => args.push("-I-".into()),
            DirFlag::Add(class, dir) => {
                let name = match class {
                    DirClass::Quote => "-iquote",
                    DirClass::Bracket => "-I",
                    DirClass::System => "-isystem",
                    DirClass::After => "-idirafter",
                };
                args.extend([name.into(), dir.clone()]);
            }
        }
    }
    for forced in &request.forced {
        match forced {
            Forced::Include(file) => args.extend(["-include".into(), file.clone()]),
            Forced::Macros(file) => args.extend(["-imacros".into(), file.clone()]),
        }
    }
    if request.missing_is_generated {
        args.push("-MG".into());
    }
    for arg in [mode, "-MT", "x", "-x", request.compiler.language.name(), &request.source] {
        args.push(arg.into());
    }
    args
}

/// The prerequisites of the rule `x: …`.
fn names(rule: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut name = String::new();
    let mut letters = rule.strip_prefix("x:").unwrap_or(rule).chars().peekable();
    while let Some(letter) = letters.next() {
        match (letter, letters.peek()) {
            ('\\', Some('\n')) => {}
            ('\\', Some(&next @ (' ' | '#'))) => {
                letters.next();
                name.push(next);
            }
            ('$', Some('$')) => {
                letters.next();
                name.push('$');
            }
            (' ' | '\n', _) => names.extend((!name.is_empty()).then(|| std::mem::take(&mut name))),
            _ => name.push(letter),
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_read() {
        let rule = "x: a.c /usr/include/x.h \\\n b\\ c.h d$$e.h\n";
        assert_eq!(names(rule), ["a.c", "/usr/include/x.h", "b c.h", "d$e.h"]);
    }
}
