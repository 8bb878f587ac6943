//! `compile_commands.json` of the build: every call that compiles a source, in Clang's "JSON Compilation Database" form
//! (<https://clang.llvm.org/docs/JSONCompilationDatabase.html>).
//!
//! One entry a source and output; a later call for the same replaces the earlier one. Written when the build ends, beside
//! the file and then renamed, so that a language server never reads half of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use super::event::{Call, Event};
use super::reporter::{Sink, SinkError};

/// What the names of sources end in (GCC's manual, "Options Controlling the Kind of Output"): C, C++, Objective-C,
/// assembler and Fortran.
const SOURCES: &[&str] = &[
    "C", "CPP", "F", "F90", "M", "S", "c", "c++", "cc", "cp", "cpp", "cxx", "f", "f90", "i", "ii", "m", "mi",
    "mii", "mm", "s", "sx",
];

/// Names of drivers that compile, after a triplet and before a version.
const COMPILERS: &[&str] = &["gcc", "g++", "cc", "c++", "clang", "clang++", "gfortran"];

/// Flags whose argument is the next word and could be taken for a source.
const WITH_ARGUMENT: &[&str] = &[
    "-o",
    "-x",
    "-I",
    "-D",
    "-U",
    "-L",
    "-include",
    "-imacros",
    "-isystem",
    "-iquote",
    "-idirafter",
    "-MF",
    "-MT",
    "-MQ",
    "-Xlinker",
    "-Xassembler",
    "-Xpreprocessor",
    "-T",
    "-u",
    "-z",
    "-B",
    "-specs",
    "--param",
    "-aux-info",
];

#[derive(Serialize)]
struct Row {
    directory: PathBuf,
    arguments: Vec<String>,
    file: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<PathBuf>,
}

/// Collects compiler calls.
pub(crate) struct CompileCommands {
    path: PathBuf,
    rows: BTreeMap<(PathBuf, Option<PathBuf>), Row>,
}

impl CompileCommands {
    /// To be written to this file.
    pub(crate) fn to_file(path: &Path) -> Self {
        Self { path: path.to_path_buf(), rows: BTreeMap::new() }
    }

    fn add(&mut self, call: &Call) {
        for row in rows(call) {
            self.rows.insert((call.dir.join(&row.file), row.output.as_ref().map(|o| call.dir.join(o))), row);
        }
    }

    fn write(&self) -> std::io::Result<()> {
        let rows: Vec<_> = self.rows.values().collect();
        let mut text = serde_json::to_vec_pretty(&rows).map_err(std::io::Error::other)?;
        text.push(b'\n');
        let beside = self.path.with_extension(format!("{}.new", std::process::id()));
        fs::write(&beside, text)?;
        fs::rename(&beside, &self.path)
    }
}

impl Sink for CompileCommands {
    fn take(&mut self, _at: Duration, event: &Event) {
        if let Event::Called(call) = event {
            self.add(call);
        }
    }

    fn end(&mut self) -> Result<(), SinkError> {
        self.write().map_err(|source| SinkError { path: self.path.clone(), source })
    }
}

/// One row for each source of a compiler's call.
fn rows(call: &Call) -> Vec<Row> {
    let Some(program) = call.args.first() else { return Vec::new() };
    if !is_compiler(program) || call.args.iter().any(|arg| matches!(arg.as_str(), "-E" | "-M" | "-MM")) {
        return Vec::new();
    }
    let mut sources = Vec::new();
    let mut output = None;
    let mut args = call.args[1..].iter();
    while let Some(arg) = args.next() {
        if WITH_ARGUMENT.contains(&arg.as_str()) {
            let value = args.next();
            if arg == "-o" {
                output = value.map(PathBuf::from);
            }
        } else if !arg.starts_with('-') && is_source(arg) {
            sources.push(PathBuf::from(arg));
        }
    }
    sources
        .into_iter()
        .map(|file| Row {
            directory: call.dir.clone(),
            arguments: call.args.clone(),
            file,
            output: output.clone(),
        })
        .collect()
}

fn is_compiler(program: &str) -> bool {
    let name = program.rsplit('/').next().unwrap_or(program);
    let name = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.').trim_end_matches('-');
    let name = name.rsplit_once('-').map_or(name, |(_, last)| last);
    COMPILERS.contains(&name)
}

fn is_source(arg: &str) -> bool {
    Path::new(arg).extension().and_then(|e| e.to_str()).is_some_and(|e| SOURCES.contains(&e))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(command: &str, expected: &[(&str, Option<&str>)]) {
        let call = Call { args: command.split(' ').map(str::to_owned).collect(), dir: "/src".into() };
        let found: Vec<_> = rows(&call).into_iter().map(|row| (row.file, row.output)).collect();
        let expected: Vec<_> =
            expected.iter().map(|(file, output)| (PathBuf::from(file), output.map(PathBuf::from))).collect();
        assert_eq!(found, expected, "{command}");
    }

    #[test]
    fn sources_of_compiler_calls_are_found() {
        check("gcc -O2 -c a.c -o a.o", &[("a.c", Some("a.o"))]);
        check("/usr/bin/x86_64-linux-gnu-g++-12 -c d/a.cpp", &[("d/a.cpp", None)]);
        check("cc a.c b.c -o prog -lm", &[("a.c", Some("prog")), ("b.c", Some("prog"))]);
        check("gcc -include pre.c -c a.S", &[("a.S", None)]);
    }

    #[test]
    fn other_calls_are_left_out() {
        for command in
            ["ar rc lib.a a.o", "gcc a.o -o prog", "gcc -E a.c", "gcc --version", "gcc -M a.c", "ld -o x x.o"]
        {
            check(command, &[]);
        }
    }

    #[test]
    fn the_file_is_a_list_of_rows() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("compile_commands.json");
        let mut commands = CompileCommands::to_file(&path);
        for _ in 0..2 {
            commands.add(&Call { args: vec!["gcc".into(), "-c".into(), "a.c".into()], dir: "/src".into() });
        }
        commands.end().unwrap();
        let rows: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(
            rows,
            serde_json::json!([{ "directory": "/src", "arguments": ["gcc", "-c", "a.c"], "file": "a.c" }])
        );
    }
}
