//! Walks a linker's arguments as the linker does, and adds each file that it would open.
//!
//! The rules are GNU ld's (`ldfile.c`, `ldlang.c`, manual "Command-line Options"); gold, lld and mold open no more than
//! ld does. Where ld's choice hangs on more than names, every candidate is added: a file that is there and not looked at
//! changes nothing, one that is looked for and not there may.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustc_hash::FxHashSet;

use super::facts::{Facts, Leads, Target, split};
use super::options::{Effect, LdArg};
use super::script::{Named, Script};
use super::{Context, Halt, LinkOutput, is_plain_object};
use crate::inputs::InputSet;
use crate::model::{Found, Reason};

/// A shared library, by the path that it was found at.
pub(super) type Library = (PathBuf, Arc<Facts>);

/// What the arguments settle for all files, wherever they stand.
#[derive(Default, Debug)]
pub(super) struct Settings {
    /// The output as written.
    pub(super) output: Option<String>,
    /// Further outputs as written.
    pub(super) writes: Vec<String>,
    /// Where libraries are searched, in order.
    dirs: Vec<PathBuf>,
    target: Option<Target>,
    pub(super) sysroot: PathBuf,
    pub(super) run_path: Vec<String>,
    pub(super) run_path_link: Vec<String>,
    pub(super) built_in: Vec<PathBuf>,
    /// Whether the libraries that shared libraries need are read.
    pub(super) with_needed: bool,
    /// Whether a shared library is made.
    pub(super) shared: bool,
    /// Whether an object is made.
    pub(super) relocatable: bool,
    /// The name that a shared library is given.
    pub(super) soname: Option<String>,
}

impl Settings {
    /// Gathers them.
    pub(super) fn of(args: &[LdArg], context: &Context<'_>) -> Self {
        let mut settings = Self { sysroot: PathBuf::from("/"), ..Self::default() };
        let (mut emulation, mut own_dirs, mut no_defaults) = ("", None, false);
        let mut dirs = Vec::new();
        for arg in args {
            let LdArg::Option(effect, value) = arg else { continue };
            match effect {
                Effect::Output => settings.output = Some(value.clone()),
                Effect::Writes | Effect::Map => settings.writes.push(value.clone()),
                Effect::LibraryDir => dirs.push(value.as_str()),
                Effect::DefaultDirs => own_dirs = Some(split(value)),
                Effect::RunPath | Effect::JustSymbols => settings.run_path.extend(split(value)),
                Effect::RunPathLink => settings.run_path_link.extend(split(value)),
                Effect::Sysroot => settings.sysroot = context.dir.join(value),
                Effect::Emulation => emulation = value,
                Effect::NoDefaultDirs => no_defaults = true,
                Effect::Shared => settings.shared = true,
                Effect::WithNeeded => settings.with_needed = true,
                Effect::Relocatable => settings.relocatable = true,
                Effect::Soname => settings.soname = Some(value.clone()),
                _ => {}
            }
        }
        settings.with_needed |= !settings.shared && !settings.relocatable;
        settings.target = Target::of_emulation(emulation);
        settings.dirs = dirs.iter().map(|dir| settings.placed(dir, context.dir)).collect();
        let built_in = context.defaults.built_in(context.linker, emulation);
        let built_in = own_dirs.as_deref().unwrap_or(&built_in);
        settings.built_in = built_in.iter().map(|dir| settings.placed(dir, context.dir)).collect();
        if !no_defaults {
            settings.dirs.extend_from_slice(&settings.built_in);
        }
        settings
    }

    /// A directory as an option or a script writes it: `=` and `$SYSROOT` stand for the sysroot.
    fn placed(&self, dir: &str, base: &Path) -> PathBuf {
        match dir.strip_prefix('=').or_else(|| dir.strip_prefix("$SYSROOT")) {
            Some(below) => self.sysroot.join(below.trim_start_matches('/')),
            None => base.join(dir),
        }
    }
}

/// The walk itself.
pub(super) struct Walk<'a, 'i> {
    pub(super) context: &'a Context<'a>,
    pub(super) inputs: &'a mut InputSet<'i>,
    pub(super) settings: Settings,
    /// Shared libraries that are linked, with the path that each was found at.
    pub(super) shared: Vec<Library>,
    /// What was opened already, so that a script that is named twice is read once.
    opened: FxHashSet<PathBuf>,
    /// Libraries that were searched already, with whether only archives were wanted.
    searched: FxHashSet<(String, bool)>,
    static_only: bool,
    pushed: Vec<bool>,
    /// What is written, and so cannot be read.
    outputs: &'a [LinkOutput],
}

impl<'a, 'i> Walk<'a, 'i> {
    /// Starts with nothing opened.
    pub(super) fn new(
        context: &'a Context<'a>,
        inputs: &'a mut InputSet<'i>,
        settings: Settings,
        outputs: &'a [LinkOutput],
    ) -> Self {
        Self {
            context,
            inputs,
            settings,
            shared: Vec::new(),
            opened: FxHashSet::default(),
            searched: FxHashSet::default(),
            static_only: false,
            pushed: Vec::new(),
            outputs,
        }
    }

    /// Adds the files of all arguments. Answers the settings and the shared libraries.
    pub(super) fn run(mut self, args: &[LdArg]) -> Result<(Settings, Vec<Library>), Halt> {
        for arg in args {
            match arg {
                LdArg::File(name) => self.file(name)?,
                LdArg::Option(effect, value) => self.option(*effect, value)?,
            }
        }
        if self.settings.with_needed {
            self.needed()?;
        }
        Ok((self.settings, self.shared))
    }

    fn option(&mut self, effect: Effect, value: &str) -> Result<(), Halt> {
        match effect {
            Effect::Static => self.static_only = true,
            Effect::Dynamic => self.static_only = false,
            Effect::Push => self.pushed.push(self.static_only),
            Effect::Pop => self.static_only = self.pushed.pop().unwrap_or(self.static_only),
            Effect::Library => self.library(value)?,
            Effect::Reads => {
                self.read(Path::new(value))?;
            }
            Effect::Script => self.script_option(value)?,
            Effect::JustSymbols if self.find(&self.context.dir.join(value)) != Found::Directory => {
                self.file(value)?
            }
            Effect::Plugin => self.plugin(value)?,
            _ => {}
        }
        Ok(())
    }

    /// A plugin comes with the libraries that it loads.
    fn plugin(&mut self, name: &str) -> Result<(), Halt> {
        let path = self.context.dir.join(name);
        self.inputs.add_all(&self.context.tools.tool_files(&path, self.context.files)?);
        Ok(())
    }

    /// A file that is named on the command line.
    fn file(&mut self, name: &str) -> Result<(), Halt> {
        let path = self.context.dir.join(name);
        if is_plain_object(name) {
            return self.read(Path::new(name));
        }
        if name.starts_with('@') {
            return Err(Reason::Other(format!("the linker itself reads `{name}`")).into());
        }
        self.open(path)
    }

    /// Opens a file: adds it, and what it leads to.
    fn open(&mut self, path: PathBuf) -> Result<(), Halt> {
        if !self.opened.insert(path.clone()) {
            return Ok(());
        }
        let facts = self.facts(&path)?;
        self.follow(path, facts)
    }

    /// Opens what the search found, unless it was opened before.
    fn open_found(&mut self, (path, facts): Library) -> Result<(), Halt> {
        if self.opened.insert(path.clone()) { self.follow(path, facts) } else { Ok(()) }
    }

    fn follow(&mut self, path: PathBuf, facts: Arc<Facts>) -> Result<(), Halt> {
        self.read(&path)?;
        match &facts.leads {
            Leads::Nowhere => Ok(()),
            Leads::Shared(_) => {
                self.shared.push((path, facts));
                Ok(())
            }
            Leads::Members(members) => self.members(&path, members),
            Leads::Script(script) => self.script(&path, script),
        }
    }

    /// The members of a thin archive stand beside it, or wherever their names lead from there.
    fn members(&mut self, archive: &Path, members: &[String]) -> Result<(), Halt> {
        let beside = archive.parent().unwrap_or(Path::new("/"));
        for member in members {
            let path = beside.join(member);
            if is_plain_object(member) {
                self.read(&path)?;
            } else {
                self.open(path)?;
            }
        }
        Ok(())
    }

    fn script(&mut self, path: &Path, script: &Script) -> Result<(), Halt> {
        if script.names_output {
            return Err(Reason::Other(format!("`{}` names the output", path.display())).into());
        }
        let sysroot = self.settings.sysroot.clone();
        self.settings.dirs.extend(script.dirs.iter().map(|dir| match dir.strip_prefix('=') {
            Some(below) => sysroot.join(below.trim_start_matches('/')),
            None => self.context.dir.join(dir),
        }));
        for named in &script.files {
            match named {
                Named::Library(name) => self.library(name)?,
                Named::File(name) => self.script_file(path, name)?,
                Named::Include(name) => self.script_file(path, name)?,
            }
        }
        for name in &script.perhaps {
            if self.find(&self.context.dir.join(name)) != Found::Missing {
                self.open(self.context.dir.join(name))?;
            } else if let Some(found) = self.search(&[name.as_str()])? {
                self.open_found(found)?;
            }
        }
        Ok(())
    }

    /// A file that a script names: below the sysroot if the script is, then as written, beside the script, and along the
    /// search path (`ldfile_open_file`).
    fn script_file(&mut self, script: &Path, name: &str) -> Result<(), Halt> {
        if let Some(below) = name.strip_prefix('/') {
            let rooted = self.settings.sysroot.join(below);
            let below_sysroot =
                script.starts_with(&self.settings.sysroot) && self.find(&rooted) != Found::Missing;
            return self.open(if below_sysroot { rooted } else { PathBuf::from(name) });
        }
        let beside = script.with_file_name(name);
        for path in [self.context.dir.join(name), beside] {
            if self.find(&path) != Found::Missing {
                return self.open(path);
            }
        }
        match self.search(&[name])? {
            Some(found) => self.open_found(found),
            None => Err(Reason::MissingInput(name.to_owned()).into()),
        }
    }

    /// `-T` looks for a script here, then along the search path (`ldfile_find_command_file`).
    fn script_option(&mut self, name: &str) -> Result<(), Halt> {
        let here = self.context.dir.join(name);
        if self.find(&here) != Found::Missing {
            return self.open(here);
        }
        let found = self.search(&[name])?.ok_or_else(|| Reason::MissingInput(name.to_owned()))?;
        self.open_found(found)
    }

    /// `-lNAME`: in each directory the shared library, then the archive; `-l:NAME` is a file's name.
    fn library(&mut self, name: &str) -> Result<(), Halt> {
        if !self.searched.insert((name.to_owned(), self.static_only)) {
            return Ok(());
        }
        let found = match name.strip_prefix(':') {
            Some(exact) => self.search(&[exact])?,
            None => {
                let (shared, archive) = (format!("lib{name}.so"), format!("lib{name}.a"));
                let both = [shared.as_str(), archive.as_str()];
                self.search(if self.static_only { &both[1..] } else { &both })?
            }
        };
        match found {
            Some(found) => self.open_found(found),
            None => Err(Reason::MissingInput(format!("-l{name}")).into()),
        }
    }

    /// The first of these names that is there and fits, directory by directory. What does not fit is added on the way:
    /// ld opens it, says so and goes on.
    fn search(&mut self, names: &[&str]) -> Result<Option<Library>, Halt> {
        for at in 0..self.settings.dirs.len() {
            for name in names {
                let path = self.settings.dirs[at].join(name);
                if matches!(self.find(&path), Found::Missing | Found::Directory) {
                    continue;
                }
                let facts = self.facts(&path)?;
                if self.fits(&facts) {
                    return Ok(Some((path, facts)));
                }
                self.read(&path)?;
            }
        }
        Ok(None)
    }

    fn fits(&self, facts: &Facts) -> bool {
        match (self.settings.target, facts.target) {
            (Some(wanted), Some(found)) => wanted == found,
            _ => true,
        }
    }

    pub(super) fn facts(&self, path: &Path) -> Result<Arc<Facts>, Halt> {
        self.context.knowledge.of(path, self.context.files)
    }

    pub(super) fn find(&self, path: &Path) -> Found {
        self.context.files.find(path)
    }

    /// Takes note of a shared library that others need.
    pub(super) fn note_shared(&mut self, path: PathBuf, facts: Arc<Facts>) {
        if self.opened.insert(path.clone()) {
            self.shared.push((path, facts));
        }
    }

    /// Adds a file.
    pub(super) fn read(&mut self, path: &Path) -> Result<(), Halt> {
        let real = self.inputs.add(self.context.dir, path)?;
        if self.outputs.iter().any(|output| output.path == real) {
            return Err(Reason::Other(format!("`{real}` is read and written")).into());
        }
        Ok(())
    }
}

/// The name that a shared library answers to.
pub(super) fn answers_to(path: &Path, facts: &Facts) -> Option<String> {
    let Leads::Shared(shared) = &facts.leads else { return None };
    let name = || path.file_name().and_then(|name| name.to_str()).map(str::to_owned);
    shared.soname.clone().or_else(name)
}
