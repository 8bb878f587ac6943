//! One translation unit being preprocessed: runs the directives of its files.

mod execute;

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use rustc_hash::FxBuildHasher;

use super::expand::Expansion;
use super::lexed::{Lexed, Op};
use super::macros::{MacroTable, Meaning};
use super::mode::Mode;
use super::request::{Forced, ScanRequest};
use super::result::{Dep, Precompiled, Scan, ScanMiss};
use super::scanner::{Scanner, Setup};
use super::search::{CppFile, NO_SEARCH, Purpose, Search, Start, left_dirs};
use super::symbol::Sym;
use super::watch::Watch;
use crate::model::FileView;

/// GCC's default limit on nested includes.
const DEEPEST: u32 = 200;

/// Where preprocessing stands.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Current {
    /// Index into [`Search::files`].
    pub(crate) file: u32,
    /// Whether the buffer counts as a system header.
    pub(crate) system: bool,
    pub(crate) depth: u32,
    /// The line of the directive, 0 if it spans several.
    pub(crate) line: u32,
}

/// Whether option pragmas may have changed predefined macros.
#[derive(Clone, Copy, Debug, Default)]
struct Taint {
    target: bool,
    optimize: bool,
}

/// A unit being scanned.
pub(crate) struct Unit<'a> {
    pub(crate) scanner: &'a Scanner,
    pub(crate) request: &'a ScanRequest,
    pub(crate) files: &'a dyn FileView,
    pub(crate) setup: Arc<Setup>,
    pub(crate) mode: Mode,
    pub(crate) table: MacroTable,
    pub(crate) search: Search,
    pub(crate) expansion: Expansion,
    pub(crate) skip_eval: u32,
    pub(crate) current: Current,
    pub(crate) pch_possible: bool,
    /// The precompiled headers that stand for the file that was looked for last.
    pub(crate) pch: Vec<PathBuf>,
    /// The files that `__has_include` found.
    pub(crate) probed: Vec<u32>,
    pub(crate) watch: Watch,
    /// The working directory.
    pub(crate) dir: Sym,
    pub(crate) sources: Vec<Arc<Lexed>>,
    seen_once: bool,
    pushed: Vec<(Sym, Meaning)>,
    taint: Taint,
    taints: Vec<Taint>,
    /// The condition being tested decides nothing that matters here.
    tolerant: bool,
    dynamic_pragma: bool,
    hidden_pragma: bool,
    /// GCC has stopped for want of a header.
    stopped: bool,
    scan: Scan,
    by_source: HashMap<*const Lexed, u32, FxBuildHasher>,
}

impl<'a> Unit<'a> {
    pub(crate) fn new(
        scanner: &'a Scanner,
        request: &'a ScanRequest,
        files: &'a dyn FileView,
        setup: Arc<Setup>,
        mut table: MacroTable,
    ) -> Unit<'a> {
        table.clear();
        Unit {
            scanner,
            request,
            files,
            mode: setup.mode,
            setup,
            table,
            search: Search::default(),
            expansion: Expansion::default(),
            skip_eval: 0,
            current: Current::default(),
            pch_possible: false,
            pch: Vec::new(),
            probed: Vec::new(),
            watch: Watch::default(),
            dir: scanner.symbols().intern(request.dir.as_os_str().as_bytes()),
            sources: Vec::new(),
            seen_once: false,
            pushed: Vec::new(),
            taint: Taint::default(),
            taints: Vec::new(),
            tolerant: false,
            dynamic_pragma: false,
            hidden_pragma: false,
            stopped: false,
            scan: Scan::default(),
            by_source: HashMap::default(),
        }
    }

    /// Runs the whole unit, in the order of `c_common_post_options` and `c_finish_options`.
    pub(crate) fn run(&mut self) -> Result<Scan, ScanMiss> {
        self.set_up_search()?;
        let source = self.scanner.symbols().intern(self.request.source.as_bytes());
        let main = self.find_file(source, NO_SEARCH, Purpose::Include)?;
        let main = main.ok_or_else(|| ScanMiss::unsure("no source"))?;
        self.run_files(main).or_else(|miss| if self.stopped { Ok(()) } else { Err(miss) })?;
        if self.dynamic_pragma && self.hidden_pragma {
            return Err(ScanMiss::unsure("`_Pragma` may change what is read"));
        }
        let mut scan = std::mem::take(&mut self.scan);
        let mut dirs: Vec<PathBuf> = self.watch.existing_dirs();
        for dep in scan.deps.iter().filter(|dep| !dep.generated && dep.path.contains("..")) {
            dirs.extend(left_dirs(&self.request.dir.join(&dep.path)));
        }
        dirs.sort_unstable();
        dirs.dedup();
        scan.dirs = dirs;
        let unread = self.search.files.iter().filter(|file| file.found && file.stacked == 0);
        for file in unread {
            let path = utf8(self.scanner.symbols().text(file.path))?;
            scan.probed.push(self.request.dir.join(path));
        }
        Ok(scan)
    }

    /// Every file from the first to the last, or to the one that is missing.
    fn run_files(&mut self, main: u32) -> Result<(), ScanMiss> {
        let main_source = self.open_main(main)?;
        self.pch_possible = self.request.looks_for_precompiled;
        if self.pch_possible {
            self.look_for_pch(self.request.source.clone().into_bytes())?;
            if !self.pch.is_empty() {
                return Err(ScanMiss::unsure("a precompiled header in place of the source"));
            }
        }
        self.predefine()?;
        for forced in &self.request.forced {
            if let Forced::Macros(name) = forced {
                self.forced(name)?;
            }
        }
        if self.setup.preinclude {
            self.include(Sym::STDC_PREDEF, true, Start::Angled, Purpose::Preinclude)?;
        }
        for forced in &self.request.forced {
            if let Forced::Include(name) = forced {
                self.forced(name)?;
            }
        }
        self.execute(main, main_source)
    }

    pub(crate) fn into_parts(self) -> (MacroTable, Watch) {
        (self.table, self.watch)
    }

    fn open_main(&mut self, main: u32) -> Result<u32, ScanMiss> {
        let source = self.read(main)?;
        self.add_dep(main, false)?;
        self.search.files[main as usize].stacked = 1;
        self.current = Current { file: main, system: false, depth: 1, line: 0 };
        Ok(source)
    }

    fn predefine(&mut self) -> Result<(), ScanMiss> {
        let setup = Arc::clone(&self.setup);
        for (name, builtin) in &setup.special {
            self.table.set(*name, Meaning::Builtin(*builtin));
        }
        self.apply(Arc::clone(&setup.predefined));
        let text = super::scanner::command_line_macros(&self.request.macros)?;
        if !text.is_empty() {
            let mode = Mode(self.mode.0 & !Mode::TRIGRAPHS.0);
            let lexed = Arc::new(super::lex::lex(&text, mode, self.scanner.symbols()));
            if lexed.unsure.is_some() || lexed.ops.iter().any(|op| matches!(op, Op::Unsure(_))) {
                return Err(ScanMiss::unsure("a macro of the command line"));
            }
            self.apply(lexed);
        }
        Ok(())
    }

    /// Runs a list of nothing but `#define` and `#undef`.
    fn apply(&mut self, lexed: Arc<Lexed>) {
        let source = self.add_source(&lexed);
        for op in &lexed.ops {
            match *op {
                Op::Define(index) => {
                    let name = lexed.macros[index as usize].name;
                    self.table.set(name, Meaning::User { source, index });
                }
                Op::Undef(name) => self.table.set(name, Meaning::Nothing),
                _ => {}
            }
        }
    }

    fn forced(&mut self, name: &str) -> Result<(), ScanMiss> {
        if name.is_empty() {
            return Err(ScanMiss::unsure("an empty file name"));
        }
        let name = self.scanner.symbols().intern(name.as_bytes());
        self.include(name, false, Start::CommandLine, Purpose::Include)
    }

    fn add_source(&mut self, lexed: &Arc<Lexed>) -> u32 {
        let sources = &mut self.sources;
        *self.by_source.entry(Arc::as_ptr(lexed)).or_insert_with(|| {
            sources.push(Arc::clone(lexed));
            sources.len() as u32 - 1
        })
    }

    /// Reads and lexes a file.
    fn read(&mut self, file: u32) -> Result<u32, ScanMiss> {
        if let Some(source) = self.search.files[file as usize].source {
            return Ok(source);
        }
        let CppFile { path, absolute, stamp, .. } = self.search.files[file as usize];
        let lexed = self.lexed(absolute, stamp)?;
        if let Some(reason) = &lexed.unsure {
            let path = String::from_utf8_lossy(self.scanner.symbols().text(path)).into_owned();
            return Err(ScanMiss::unsure(format!("{reason} in `{path}`")));
        }
        self.scan.uses_time |= lexed.traits.time;
        self.scan.has_incbin |= lexed.traits.incbin;
        self.dynamic_pragma |= lexed.traits.dynamic_pragma;
        self.hidden_pragma |= lexed.traits.hidden_pragma;
        let source = self.add_source(&lexed);
        self.search.files[file as usize].source = Some(source);
        Ok(source)
    }

    fn add_dep(&mut self, file: u32, system: bool) -> Result<(), ScanMiss> {
        let path = self.scanner.symbols().text(self.search.files[file as usize].path);
        self.scan.deps.push(Dep { path: utf8(path)?.to_owned(), system, generated: false });
        Ok(())
    }

    /// A header that is not there (`open_file_failed`).
    pub(crate) fn missing(&mut self, name: Sym, start: u32) -> Result<(), ScanMiss> {
        let name = utf8(self.scanner.symbols().text(name))?.to_owned();
        if !self.request.missing_is_generated {
            (self.stopped, self.scan.fails) = (true, true);
            return Err(ScanMiss::unsure(format!("`{name}` was not found")));
        }
        let system = start == self.search.bracket || self.current.system;
        self.scan.deps.push(Dep { path: name, system, generated: true });
        Ok(())
    }

    /// `_cpp_stack_include`: finds a file and runs it.
    fn include(&mut self, name: Sym, angled: bool, start: Start, purpose: Purpose) -> Result<(), ScanMiss> {
        if self.current.depth >= DEEPEST {
            return Err(ScanMiss::unsure("includes that are nested too deeply"));
        }
        let dir = self.search_head(name, start, angled)?;
        match self.find_file(name, dir, purpose)? {
            Some(file) if self.search.files[file as usize].found => self.stack(file, false),
            _ => Ok(()),
        }
    }

    /// `_cpp_stack_file`
    fn stack(&mut self, file: u32, import: bool) -> Result<(), ScanMiss> {
        let at = file as usize;
        if self.search.files[at].once {
            return Ok(());
        }
        if import {
            self.mark_once(file);
            if self.search.files[at].stacked > 0 {
                return Ok(());
            }
        }
        if self.search.files[at].guard.is_some_and(|guard| self.table.is_defined(guard)) {
            return Ok(());
        }
        let paths = std::mem::take(&mut self.pch);
        let source = self.read(file)?;
        if self.seen_once && !self.has_unique_contents(file, import)? {
            return Ok(());
        }
        let dir = self.search.files[at].dir as usize;
        let system = self.current.system || self.search.dirs[dir].system;
        let (first, replaceable) = (self.scan.deps.len(), !paths.is_empty());
        if replaceable {
            self.scan.precompiled = Some(Precompiled { paths, first, end: first, probes: false });
        }
        if self.search.files[at].stacked == 0 {
            self.add_dep(file, system)?;
        }
        self.search.files[at].stacked += 1;
        let before = self.current;
        self.current = Current { file, system, depth: before.depth + 1, line: 0 };
        self.execute(file, source)?;
        self.current = before;
        if replaceable && let Some(precompiled) = &mut self.scan.precompiled {
            precompiled.end = self.scan.deps.len();
            precompiled.probes = self.probed.iter().any(|file| {
                let CppFile { absolute, found, stacked, .. } = self.search.files[*file as usize];
                found && stacked == 0 && !self.scanner.symbols().text(absolute).starts_with(b"/usr/")
            });
        }
        Ok(())
    }

    fn mark_once(&mut self, file: u32) {
        self.seen_once = true;
        self.search.files[file as usize].once = true;
    }

    /// `has_unique_contents`: GCC compares time, size and bytes with the files that are read once only.
    fn has_unique_contents(&self, file: u32, import: bool) -> Result<bool, ScanMiss> {
        let this = &self.search.files[file as usize];
        let content = |file: &CppFile| file.source.map(|source| self.sources[source as usize].content);
        let others = self.search.files.iter().enumerate();
        let others =
            others.filter(|(at, other)| *at != file as usize && other.found && (import || other.once));
        for (_, other) in others {
            if other.stamp == this.stamp {
                return Ok(false);
            }
            let unread = content(other).is_none();
            if unread || content(other) == content(this) {
                return Err(ScanMiss::unsure("two files that may be one, read once only"));
            }
        }
        Ok(true)
    }
}

fn utf8(text: &[u8]) -> Result<&str, ScanMiss> {
    std::str::from_utf8(text).map_err(|_| ScanMiss::unsure("a path that is not UTF-8"))
}
