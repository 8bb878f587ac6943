//! Gathers the files of a call of a tool that the user described.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use ggr_ir::{Entry, Object, RootPath};

use super::describe::UserTool;
use super::line::Argument;
use crate::glob;
use crate::inputs::InputSet;
use crate::link;
use crate::model::{FileView, Found, Invocation, Reason};
use crate::toolchain::Tools;

/// How many files the directories of one call may hold: beyond, staging them costs more than the tool.
const MAX_FILES: usize = 20_000;

/// How deep directories may lie in each other, so that a loop of symlinks ends.
const MAX_DEPTH: usize = 40;

/// How many interpreters of interpreters a script may have, as the kernel allows (`BINPRM_MAX_RECURSION`).
const MAX_INTERPRETERS: usize = 4;

/// The longest first line of a script, in bytes (`BINPRM_BUF_SIZE`).
const MAX_LINE: u64 = 256;

/// A thunk's inputs, outputs and environment.
type Gathered = (BTreeMap<RootPath, Entry<Object>>, BTreeSet<RootPath>, BTreeMap<String, String>);

/// What is known of the call so far.
pub(super) struct Gathering<'a> {
    invocation: &'a Invocation,
    files: &'a dyn FileView,
    tools: &'a Tools,
    inputs: InputSet<'a>,
    outputs: BTreeSet<RootPath>,
    /// The directories of programs, which make the tool's `PATH`.
    path: BTreeSet<PathBuf>,
    count: usize,
}

impl<'a> Gathering<'a> {
    pub(super) fn new(invocation: &'a Invocation, files: &'a dyn FileView, tools: &'a Tools) -> Self {
        let inputs = InputSet::new(files, tools.trails());
        Self { invocation, files, tools, inputs, outputs: BTreeSet::new(), path: BTreeSet::new(), count: 0 }
    }

    /// Adds the tool itself, and what it always needs.
    pub(super) fn tool(&mut self, tool: &UserTool) -> Result<(), Reason> {
        let invocation = self.invocation;
        self.inputs.add_dir(&invocation.dir, &invocation.dir)?;
        self.program(&invocation.program, 0)?;
        let called = invocation.args.first().map_or("", String::as_str);
        if let Some(found) = self.find_program(called) {
            self.program(&found, 0)?;
        }
        for name in &tool.programs {
            let found = self.find_program(name).ok_or_else(|| Reason::MissingInput(name.clone()))?;
            self.program(&found, 0)?;
        }
        for file in &tool.extra_files {
            self.inputs.add(Path::new("/"), file)?;
        }
        for dir in &tool.extra_dirs {
            self.directory(dir, None, 0)?;
        }
        Ok(())
    }

    /// Adds what an argument names.
    pub(super) fn argument(&mut self, argument: &Argument) -> Result<(), Reason> {
        let dir = &self.invocation.dir;
        match argument {
            Argument::Reads(name) => match self.files.find(&dir.join(name)) {
                Found::Directory => self.directory(&dir.join(name), None, 0)?,
                _ => drop(self.inputs.add(dir, Path::new(name))?),
            },
            Argument::ReadsDir(name, pattern) => self.directory(&dir.join(name), pattern.as_deref(), 0)?,
            Argument::Writes(name) => self.writes(name)?,
            Argument::WritesDir(name) => self.inputs.add_dir(dir, Path::new(name))?,
            Argument::Updates(name) => {
                if self.files.find(&dir.join(name)) != Found::Missing {
                    self.inputs.add(dir, Path::new(name))?;
                }
                self.writes(name)?;
            }
        }
        Ok(())
    }

    fn writes(&mut self, name: &str) -> Result<(), Reason> {
        let path = link::output(name, &self.invocation.dir, &mut self.inputs, self.files)?;
        self.outputs.insert(path);
        Ok(())
    }

    /// Adds the files below a directory whose names match.
    fn directory(&mut self, dir: &Path, pattern: Option<&str>, depth: usize) -> Result<(), Reason> {
        if depth == MAX_DEPTH {
            return Err(Reason::Other(format!("`{}` is too deep", dir.display())));
        }
        self.inputs.add_dir(Path::new("/"), dir)?;
        let mut entries: Vec<PathBuf> = match fs::read_dir(dir) {
            Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
            // A directory that is not there is as absent in the sandbox.
            Err(_) => return Ok(()),
        };
        entries.sort();
        for entry in entries {
            let name = entry.file_name().and_then(|name| name.to_str()).ok_or(Reason::NotUtf8)?;
            match self.files.find(&entry) {
                Found::Directory => self.directory(&entry, pattern, depth + 1)?,
                Found::File { .. } | Found::Placeholder(_)
                    if pattern.is_none_or(|pattern| glob::matches_name(pattern, name)) =>
                {
                    self.count += 1;
                    if self.count > MAX_FILES {
                        return Err(Reason::Other(format!("`{}` holds too many files", dir.display())));
                    }
                    self.inputs.add(Path::new("/"), &entry)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn find_program(&self, name: &str) -> Option<PathBuf> {
        if name.contains('/') {
            return Some(self.invocation.dir.join(name));
        }
        let path = self.invocation.env.get("PATH").map_or("", String::as_str);
        Tools::in_path(name, path, &self.invocation.dir, self.files)
    }

    /// Adds a program with its libraries; a script with its interpreter.
    fn program(&mut self, program: &Path, depth: usize) -> Result<(), Reason> {
        self.path.extend(program.parent().map(Path::to_owned));
        let Some(line) = first_line(program) else {
            self.inputs.add_all(&self.tools.tool_files(program, self.files)?);
            return Ok(());
        };
        if depth == MAX_INTERPRETERS {
            return Err(Reason::Other(format!("`{}` has too many interpreters", program.display())));
        }
        self.inputs.add(Path::new("/"), program)?;
        let mut words = line.split_whitespace();
        let interpreter = words.next().ok_or_else(|| Reason::MissingInput(program.display().to_string()))?;
        self.program(Path::new(interpreter), depth + 1)?;
        // `#!/usr/bin/env [-S] NAME` leads on by way of `PATH`.
        if interpreter.ends_with("/env")
            && let Some(name) = words.find(|word| !word.starts_with('-') && !word.contains('='))
        {
            let found = self.find_program(name).ok_or_else(|| Reason::MissingInput(name.to_owned()))?;
            self.program(&found, depth + 1)?;
        }
        Ok(())
    }

    /// The inputs, the outputs and the environment.
    pub(super) fn finish(self, tool: &UserTool) -> Gathered {
        let passed =
            tool.env.iter().filter_map(|name| Some((name.clone(), self.invocation.env.get(name)?.clone())));
        let mut env: BTreeMap<String, String> = passed.collect();
        // The caller's order, so that the same programs are found; nothing but the directories that hold one.
        let path = self.invocation.env.get("PATH").map_or("", String::as_str);
        let kept: Vec<&str> =
            path.split(':').filter(|part| self.path.contains(&self.invocation.dir.join(part))).collect();
        env.entry("PATH".to_owned()).or_insert_with(|| kept.join(":"));
        (self.inputs.finish(), self.outputs, env)
    }
}

/// What stands behind `#!`; nothing if the file is no script.
fn first_line(program: &Path) -> Option<String> {
    let mut start = Vec::new();
    fs::File::open(program).ok()?.take(MAX_LINE).read_to_end(&mut start).ok()?;
    let line = start.strip_prefix(b"#!")?.split(|&byte| byte == b'\n').next()?;
    Some(String::from_utf8_lossy(line).trim().to_owned())
}
