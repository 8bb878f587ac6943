//! Macro definitions, and the table of what each name means now.

use super::mode::Mode;
use super::symbol::{Interning, Sym};
use super::token::{Headers, Kind, PASTE_LEFT, PREV_WHITE, STRINGIFY, Tok, Tokenizer};

/// A parsed `#define`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct MacroDef {
    pub(crate) fun_like: bool,
    pub(crate) variadic: bool,
    pub(crate) params: u16,
    pub(crate) body: Vec<Tok>,
    /// Why expanding it is not modelled.
    pub(crate) unsure: Option<&'static str>,
}

impl MacroDef {
    /// Parses what follows the macro's name, as `create_iso_definition` does.
    pub(crate) fn parse(text: &[u8], mode: Mode, interning: &mut Interning<'_>) -> MacroDef {
        let mut toks = Vec::new();
        if !Tokenizer::new(text, mode, Headers::Never).all(interning, &mut toks) {
            return MacroDef { unsure: Some("a macro's body"), ..MacroDef::default() };
        }
        let fun_like = text.first() == Some(&b'(');
        let (params, variadic, start) = if fun_like {
            match parameters(&toks) {
                Some(found) => found,
                None => return MacroDef { unsure: Some("a macro's parameters"), ..MacroDef::default() },
            }
        } else {
            (Vec::new(), false, 0)
        };
        let mut def = MacroDef { fun_like, variadic, params: params.len() as u16, ..MacroDef::default() };
        def.unsure = def.fill(&toks[start..], &params, mode).err();
        def
    }

    fn fill(&mut self, toks: &[Tok], params: &[Sym], mode: Mode) -> Result<(), &'static str> {
        let mut paste = false;
        for &tok in toks {
            let mut tok = tok;
            if tok.kind == Kind::Ident {
                if tok.sym == Sym::VA_OPT {
                    return Err("`__VA_OPT__` in a directive");
                }
                if let Some(at) = params.iter().position(|param| *param == tok.sym) {
                    (tok.kind, tok.arg) = (Kind::Param, at as u16);
                }
            }
            if self.fun_like
                && self.body.last().is_some_and(|last| last.kind == Kind::Hash && !last.has(PASTE_LEFT))
            {
                if tok.kind == Kind::Param {
                    let hash = self.body.pop().unwrap_or(tok);
                    tok.flags = (tok.flags & !PREV_WHITE) | STRINGIFY | (hash.flags & PREV_WHITE);
                } else if !mode.has(Mode::ASSEMBLER) {
                    return Err("`#` before something that is no parameter");
                }
            }
            if tok.kind == Kind::Paste {
                let Some(last) = self.body.last_mut() else { return Err("`##` at the start of a macro") };
                last.flags |= PASTE_LEFT;
                paste = true;
                continue;
            }
            paste = false;
            self.body.push(tok);
        }
        if paste {
            return Err("`##` at the end of a macro");
        }
        if self.fun_like
            && !mode.has(Mode::ASSEMBLER)
            && self.body.last().is_some_and(|last| last.kind == Kind::Hash)
        {
            return Err("`#` at the end of a macro");
        }
        if let Some(first) = self.body.first_mut() {
            first.flags &= !PREV_WHITE;
        }
        Ok(())
    }
}

/// The parameters, whether the last is variadic, and where the body starts.
fn parameters(toks: &[Tok]) -> Option<(Vec<Sym>, bool, usize)> {
    let mut names: Vec<Sym> = Vec::new();
    let mut variadic = false;
    let mut previous = false;
    for (at, tok) in toks.iter().enumerate().skip(1) {
        match tok.kind {
            Kind::Ident if !previous && !variadic && !names.contains(&tok.sym) && tok.sym != Sym::VA_ARGS => {
                names.push(tok.sym);
                previous = true;
            }
            Kind::CloseParen if previous || names.is_empty() || variadic => {
                return Some((names, variadic, at + 1));
            }
            Kind::Comma if previous && !variadic => previous = false,
            Kind::Punct if tok.sym == Sym::ELLIPSIS && !variadic => {
                if !previous {
                    names.push(Sym::VA_ARGS);
                }
                variadic = true;
            }
            _ => return None,
        }
    }
    None
}

/// The macros that have no definition in text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Builtin {
    Line,
    File,
    BaseFile,
    IncludeLevel,
    HasInclude,
    HasIncludeNext,
    /// `__has_attribute` and the like: the compiler knows.
    Feature,
    /// `_Pragma`: not a macro in a directive, but defined.
    Pragma,
    /// `__DATE__`, `__COUNTER__` and others that no condition should depend on.
    Unsure,
}

impl Builtin {
    pub(crate) fn of(name: &str) -> Builtin {
        match name {
            "__LINE__" => Builtin::Line,
            "__FILE__" => Builtin::File,
            "__BASE_FILE__" => Builtin::BaseFile,
            "__INCLUDE_LEVEL__" => Builtin::IncludeLevel,
            "__has_include" => Builtin::HasInclude,
            "__has_include_next" => Builtin::HasIncludeNext,
            "_Pragma" => Builtin::Pragma,
            name if super::facts::FEATURE_OPERATORS.contains(&name) => Builtin::Feature,
            _ => Builtin::Unsure,
        }
    }
}

/// What a name means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// It is no macro.
    Nothing,
    /// A `#define`: which source of the unit, and which macro of it.
    User { source: u32, index: u32 },
    /// A builtin.
    Builtin(Builtin),
}

/// The macro table of one unit: a slot for each symbol, valid in its epoch, so that clearing it costs nothing.
#[derive(Debug, Default)]
pub(crate) struct MacroTable {
    epoch: u32,
    slots: Vec<(u32, Meaning)>,
}

impl MacroTable {
    /// Forgets all macros.
    pub(crate) fn clear(&mut self) {
        if self.epoch == u32::MAX {
            self.slots.clear();
            self.epoch = 0;
        }
        self.epoch += 1;
    }

    #[inline]
    pub(crate) fn meaning(&self, name: Sym) -> Meaning {
        match self.slots.get(name.0 as usize) {
            Some((epoch, meaning)) if *epoch == self.epoch => *meaning,
            _ => Meaning::Nothing,
        }
    }

    #[inline]
    pub(crate) fn is_defined(&self, name: Sym) -> bool {
        self.meaning(name) != Meaning::Nothing
    }

    #[inline]
    pub(crate) fn set(&mut self, name: Sym, meaning: Meaning) {
        let at = name.0 as usize;
        if at >= self.slots.len() {
            self.slots.resize((at + 1).next_multiple_of(4096), (0, Meaning::Nothing));
        }
        self.slots[at] = (self.epoch, meaning);
    }
}
