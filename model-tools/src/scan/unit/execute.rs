//! Directives, one after the other.

use std::sync::Arc;

use super::{Taint, Unit};
use crate::scan::lexed::{Header, Include, IncludeKind, Lexed, Op, Options};
use crate::scan::macros::{MacroDef, Meaning};
use crate::scan::result::ScanMiss;
use crate::scan::search::{Purpose, Start};
use crate::scan::symbol::Sym;

impl Unit<'_> {
    pub(super) fn execute(&mut self, file: u32, source: u32) -> Result<(), ScanMiss> {
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
    pub(super) fn step(&mut self, lexed: &Lexed, source: u32, op: Op, at: usize) -> Result<usize, ScanMiss> {
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
            // GCC says so, and goes on.
            Op::Error => self.scan.fails = true,
            Op::Unsure(reason) => return Err(ScanMiss::unsure(lexed.reasons[reason as usize].clone())),
        }
        Ok(at + 1)
    }

    /// From a branch that is not taken: the first directive of the one that is.
    pub(super) fn next_branch(&mut self, lexed: &Lexed, mut at: u32) -> Result<usize, ScanMiss> {
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

    pub(super) fn test(&mut self, lexed: &Lexed, op: Op) -> Result<bool, ScanMiss> {
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

    pub(super) fn directive_include(&mut self, lexed: &Lexed, include: Include) -> Result<(), ScanMiss> {
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

    pub(super) fn is_main(&self) -> bool {
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

    pub(super) fn change_options(&mut self, options: Options) {
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
    pub(super) fn only_saves_options(&self, lexed: &Lexed, at: usize, next: usize) -> bool {
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
