//! A file as the scanner keeps it: its directives, and what its text holds that matters.

use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};

use super::macros::MacroDef;
use super::symbol::Sym;
use super::token::Tok;

/// One directive. Jumps are indices into [`Lexed::ops`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Op {
    /// Index into [`Lexed::macros`].
    Define(u32),
    Undef(Sym),
    /// `next`: the branch that follows, or the `#endif`.
    If {
        expr: u32,
        next: u32,
    },
    Ifdef {
        name: Sym,
        next: u32,
    },
    Ifndef {
        name: Sym,
        next: u32,
    },
    /// Reached from a branch that was taken: go to `end`. Reached from one that was not: test.
    Elif {
        expr: u32,
        next: u32,
        end: u32,
    },
    Elifdef {
        name: Sym,
        next: u32,
        end: u32,
    },
    Elifndef {
        name: Sym,
        next: u32,
        end: u32,
    },
    Else {
        end: u32,
    },
    Endif,
    /// Index into [`Lexed::includes`].
    Include(u32),
    Once,
    SystemHeader,
    Poison(Sym),
    PushMacro(Sym),
    PopMacro(Sym),
    /// `#pragma GCC target`, `optimize`, `push_options`, `pop_options`, `reset_options`: macros change with them.
    Options(Options),
    /// `# 33 "file"` with no flags: the buffer is no system header from here on.
    LineMarker,
    /// Something whose effect is not modelled; index into [`Lexed::reasons`].
    Unsure(u32),
    /// `#error`.
    Error,
}

/// The pragmas that change the compiler's options.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Options {
    Target,
    Optimize,
    Push,
    Pop,
    Reset,
}

/// Tokens of a condition or of a computed include.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Expr {
    pub(crate) start: u32,
    pub(crate) end: u32,
    /// The line that it stands on, 0 if it stands on several.
    pub(crate) line: u32,
}

/// Which directive includes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum IncludeKind {
    Include,
    Next,
    Import,
}

/// What an include names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Header {
    Quoted(Sym),
    Angled(Sym),
    /// Index into [`Lexed::exprs`].
    Computed(u32),
}

/// An include directive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Include {
    pub(crate) kind: IncludeKind,
    pub(crate) header: Header,
}

/// A `#define`: its name, and where what follows the name stands in [`Lexed::text`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MacroText {
    pub(crate) name: Sym,
    pub(crate) start: u32,
    pub(crate) end: u32,
}

/// Facts about a file's text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Traits {
    /// `__DATE__`, `__TIME__`, `__TIMESTAMP__`
    pub(crate) time: bool,
    /// `.incbin`, `.include "`
    pub(crate) incbin: bool,
    /// `_Pragma` with something else than a harmless literal.
    pub(crate) dynamic_pragma: bool,
    /// A pragma that matters stands in a string or a macro's body: `_Pragma` could run it.
    pub(crate) hidden_pragma: bool,
    /// `#line` or a line marker: `__FILE__` and `__LINE__` are not what they seem.
    pub(crate) line_directive: bool,
    /// `__COUNTER__`
    pub(crate) counter: bool,
}

/// A lexed file.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Lexed {
    pub(crate) ops: Vec<Op>,
    pub(crate) exprs: Vec<Expr>,
    pub(crate) toks: Vec<Tok>,
    pub(crate) macros: Vec<MacroText>,
    pub(crate) includes: Vec<Include>,
    pub(crate) reasons: Vec<String>,
    /// Macro bodies, comments replaced by spaces.
    pub(crate) text: Vec<u8>,
    /// The macro that guards the whole file.
    pub(crate) guard: Option<Sym>,
    pub(crate) traits: Traits,
    /// Why this file cannot be scanned at all.
    pub(crate) unsure: Option<String>,
    /// Hash and length of the raw bytes.
    pub(crate) content: (u64, u64),
    /// Macros parsed so far, as `macros`.
    #[serde(skip)]
    pub(crate) parsed: Vec<OnceLock<Arc<MacroDef>>>,
}

impl Lexed {
    /// The tokens of a condition or computed include.
    pub(crate) fn tokens(&self, expr: Expr) -> &[Tok] {
        &self.toks[expr.start as usize..expr.end as usize]
    }

    /// Makes room for parsed macros; after building and after loading.
    pub(crate) fn prepare(&mut self) {
        self.parsed = self.macros.iter().map(|_| OnceLock::new()).collect();
    }
}
