//! One translation unit being preprocessed: runs the directives of its files.

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use rustc_hash::FxBuildHasher;

use super::expand::Expansion;
use super::lexed::{Header, Include, IncludeKind, Lexed, Op, Options};
use super::macros::{MacroDef, MacroTable, Meaning};
use super::mode::Mode;
use super::request::{Forced, ScanRequest};
use super::result::{Dep, Scan, ScanMiss};
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
        self.pch_possible = true;
        let main_source = self.open_main(main)?;
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
        self.execute(main, main_source)?;
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
        let source = self.read(file)?;
        if self.seen_once && !self.has_unique_contents(file, import)? {
            return Ok(());
        }
        let dir = self.search.files[at].dir as usize;
        let system = self.current.system || self.search.dirs[dir].system;
        if self.search.files[at].stacked == 0 {
            self.add_dep(file, system)?;
        }
        self.search.files[at].stacked += 1;
        let before = self.current;
        self.current = Current { file, system, depth: before.depth + 1, line: 0 };
        self.execute(file, source)?;
        self.current = before;
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

    fn execute(&mut self, file: u32, source: u32) -> Result<(), ScanMiss> {
        let lexed = Arc::clone(&self.sources[source as usize]);
        let mut at = 0;
        while let Some(op) = lexed.ops.get(at) {
            at = self.step(&lexed, source, *op, at)?;
        }
        let guard = &mut self.search.files[file as usize].guard;
        if guard.is_none() {
            *guard = lexed.guard;
        }
        Ok(())
    }

    /// Carries out one directive; gives the index of the next.
    #[inline]
    fn step(&mut self, lexed: &Lexed, source: u32, op: Op, at: usize) -> Result<usize, ScanMiss> {
        match op {
            Op::Define(index) => {
                let name = lexed.macros[index as usize].name;
                self.table.set(name, Meaning::User { source, index });
            }
            Op::Undef(name) => self.table.set(name, Meaning::Nothing),
            Op::If { next, .. } | Op::Ifdef { next, .. } | Op::Ifndef { next, .. } => {
                self.tolerant = self.is_tainted() && self.only_saves_options(lexed, at, next as usize);
                let holds = self.test(lexed, op);
                self.tolerant = false;
                if !holds? {
                    return self.next_branch(lexed, next);
                }
            }
            Op::Elif { end, .. } | Op::Elifdef { end, .. } | Op::Elifndef { end, .. } | Op::Else { end } => {
                return Ok(end as usize + 1);
            }
            Op::Endif => {}
            Op::Include(index) => self.directive_include(lexed, lexed.includes[index as usize])?,
            Op::Once => self.mark_once(self.current.file),
            Op::SystemHeader => self.current.system |= !self.is_main(),
            Op::LineMarker => self.current.system = false,
            Op::Poison(name) => self.table.set(name, Meaning::Nothing),
            Op::PushMacro(name) => self.pushed.push((name, self.table.meaning(name))),
            Op::PopMacro(name) => {
                if let Some(found) = self.pushed.iter().rposition(|(pushed, _)| *pushed == name) {
                    let (_, meaning) = self.pushed.remove(found);
                    self.table.set(name, meaning);
                }
            }
            Op::Options(options) => self.change_options(options),
            Op::Unsure(reason) => return Err(ScanMiss::unsure(lexed.reasons[reason as usize].clone())),
        }
        Ok(at + 1)
    }

    /// From a branch that is not taken: the first directive of the one that is.
    fn next_branch(&mut self, lexed: &Lexed, mut at: u32) -> Result<usize, ScanMiss> {
        loop {
            let op = lexed.ops[at as usize];
            match op {
                Op::Elif { next, .. } | Op::Elifdef { next, .. } | Op::Elifndef { next, .. } => {
                    if self.test(lexed, op)? {
                        return Ok(at as usize + 1);
                    }
                    at = next;
                }
                _ => return Ok(at as usize + 1),
            }
        }
    }

    fn test(&mut self, lexed: &Lexed, op: Op) -> Result<bool, ScanMiss> {
        match op {
            Op::Ifdef { name, .. } | Op::Elifdef { name, .. } => {
                self.check_options(name)?;
                Ok(self.table.is_defined(name))
            }
            Op::Ifndef { name, .. } | Op::Elifndef { name, .. } => {
                self.check_options(name)?;
                Ok(!self.table.is_defined(name))
            }
            Op::If { expr, .. } | Op::Elif { expr, .. } => {
                let expr = lexed.exprs[expr as usize];
                if expr.line == u32::MAX {
                    return Err(ScanMiss::unsure("a condition that cannot be read"));
                }
                let toks = lexed.tokens(expr);
                if let Some(value) = self.quick_condition(toks) {
                    return Ok(value);
                }
                self.current.line = if lexed.traits.line_directive { 0 } else { expr.line };
                self.condition(toks)
            }
            _ => Ok(true),
        }
    }

    fn directive_include(&mut self, lexed: &Lexed, include: Include) -> Result<(), ScanMiss> {
        let (name, angled) = match include.header {
            Header::Quoted(name) => (name, false),
            Header::Angled(name) => (name, true),
            Header::Computed(expr) => {
                let expr = lexed.exprs[expr as usize];
                self.current.line = if lexed.traits.line_directive { 0 } else { expr.line };
                self.computed_header(lexed.tokens(expr))?
            }
        };
        if name == Sym::EMPTY {
            return Err(ScanMiss::unsure("an empty file name"));
        }
        let usual = if angled { Start::Angled } else { Start::Quoted };
        match include.kind {
            IncludeKind::Include => self.include(name, angled, usual, Purpose::Include),
            // In the source itself there is no next one: GCC warns and includes as usual.
            IncludeKind::Next if self.is_main() => self.include(name, angled, usual, Purpose::Include),
            IncludeKind::Next => self.include(name, angled, Start::Next, Purpose::Include),
            IncludeKind::Import => {
                let dir = self.search_head(name, usual, angled)?;
                match self.find_file(name, dir, Purpose::Include)? {
                    Some(file) if self.search.files[file as usize].found => self.stack(file, true),
                    _ => Ok(()),
                }
            }
        }
    }

    fn is_main(&self) -> bool {
        self.current.file == 0
    }

    /// The definition of a macro, parsed when it is first used.
    pub(crate) fn definition(&self, source: u32, index: u32) -> Arc<MacroDef> {
        let lexed = &self.sources[source as usize];
        let slot = &lexed.parsed[index as usize];
        let parsed = slot.get_or_init(|| {
            let found = lexed.macros[index as usize];
            let text = &lexed.text[found.start as usize..found.end as usize];
            Arc::new(MacroDef::parse(text, self.mode, &mut self.scanner.symbols().lock()))
        });
        Arc::clone(parsed)
    }

    /// Whether option pragmas are in force.
    pub(crate) fn is_tainted(&self) -> bool {
        self.taint.target || self.taint.optimize
    }

    fn change_options(&mut self, options: Options) {
        match options {
            Options::Target => self.taint.target = true,
            Options::Optimize => self.taint.optimize = true,
            Options::Push => self.taints.push(self.taint),
            Options::Pop => self.taint = self.taints.pop().unwrap_or(self.taint),
            Options::Reset => self.taint = Taint::default(),
        }
    }

    /// Whether the block is GCC's own idiom around its intrinsics: `#pragma GCC push_options`, `#pragma GCC target`,
    /// `#define __DISABLE_AVX__`, undone by a later block that tests that name. Entered or not, it reads the same files.
    fn only_saves_options(&self, lexed: &Lexed, at: usize, next: usize) -> bool {
        // `_MM512_REDUCE_OP` is defined for a few functions and then undefined.
        let marks = |name: Sym| {
            let text = self.scanner.symbols().text(name);
            text.starts_with(b"__DISABLE_") || text.starts_with(b"_MM")
        };
        let harmless = |op: &Op| match *op {
            Op::Options(_) => true,
            Op::Define(index) => marks(lexed.macros[index as usize].name),
            Op::Undef(name) => marks(name),
            _ => false,
        };
        let end = match lexed.ops[next] {
            Op::Else { end } => end as usize,
            _ => next,
        };
        let inside = lexed.ops[at + 1..next].iter().chain(&lexed.ops[(next + 1).min(end)..end]);
        lexed.ops[end] == Op::Endif && inside.into_iter().all(harmless)
    }

    /// Whether the name may mean something else since `#pragma GCC target` or `optimize`.
    pub(crate) fn check_options(&self, name: Sym) -> Result<(), ScanMiss> {
        if !self.is_tainted() || self.tolerant {
            return Ok(());
        }
        let changed = (self.taint.target && self.setup.target_macros.contains(&name))
            || (self.taint.optimize && self.setup.optimize_macros.contains(&name));
        if changed {
            let name = String::from_utf8_lossy(self.scanner.symbols().text(name));
            return Err(ScanMiss::unsure(format!("an option pragma may have changed `{name}`")));
        }
        Ok(())
    }
}

fn utf8(text: &[u8]) -> Result<&str, ScanMiss> {
    std::str::from_utf8(text).map_err(|_| ScanMiss::unsure("a path that is not UTF-8"))
}
