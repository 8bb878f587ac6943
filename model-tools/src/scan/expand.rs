//! Macro expansion inside directives, with libcpp's contexts (`macro.cc`): the order in which they are entered and left decides
//! what `f(1)(2)` and its like come to.

mod paste;

use std::sync::Arc;

use super::macros::{Builtin, MacroDef, Meaning};
use super::result::ScanMiss;
use super::symbol::Sym;
use super::token::{HAS_SOURCE, Kind, NO_EXPAND, PASTE_LEFT, PREV_WHITE, SOURCE_WHITE, STRINGIFY, Tok};
use super::unit::Unit;

/// Bound on the tokens of one expansion; real conditions stay below a few hundred.
const MOST_TOKENS: usize = 200_000;

/// Tokens that are being read, and the macro whose expansion they are.
#[derive(Debug)]
struct Context {
    toks: Toks,
    at: usize,
    name: Option<Sym>,
}

#[derive(Debug)]
enum Toks {
    Body(Arc<MacroDef>),
    Owned(Vec<Tok>),
}

impl Toks {
    fn list(&self) -> &[Tok] {
        match self {
            Toks::Body(def) => &def.body,
            Toks::Owned(list) => list,
        }
    }
}

/// The state of expansion in one directive.
#[derive(Debug, Default)]
pub(crate) struct Expansion {
    base: Vec<Tok>,
    at: usize,
    contexts: Vec<Context>,
    /// While above 0, names are read but not expanded.
    pub(crate) prevent: u32,
    /// Whether padding tokens are wanted (in includes).
    padding: bool,
    produced: usize,
}

/// One argument of an invocation.
#[derive(Default)]
struct Arg {
    raw: Vec<Tok>,
    expanded: Option<Vec<Tok>>,
    stringified: Option<Tok>,
    /// The variable argument was left out altogether.
    missing: bool,
}

const END: Tok = Tok { kind: Kind::End, flags: 0, arg: 0, sym: Sym::EMPTY };

impl Expansion {
    /// Starts reading a directive's tokens.
    pub(crate) fn start(&mut self, toks: &[Tok], padding: bool) {
        self.base.clear();
        self.base.extend_from_slice(toks);
        self.contexts.clear();
        (self.at, self.prevent, self.padding, self.produced) = (0, 0, padding, 0);
    }

    fn is_disabled(&self, name: Sym) -> bool {
        self.contexts.iter().any(|context| context.name == Some(name))
    }

    /// Starts reading these tokens before the rest.
    fn push(&mut self, toks: Toks, name: Option<Sym>) -> Result<(), ScanMiss> {
        self.produced += toks.list().len();
        if self.produced > MOST_TOKENS || self.contexts.len() > 5000 {
            return Err(ScanMiss::unsure("a very long expansion"));
        }
        self.contexts.push(Context { toks, at: 0, name });
        Ok(())
    }

    /// Puts the last token back.
    fn back_up(&mut self) {
        match self.contexts.last_mut() {
            Some(context) => context.at -= 1,
            None => self.at -= 1,
        }
    }
}

impl Unit<'_> {
    /// The next token, macros expanded; [`Kind::End`] at the end of the directive or argument.
    pub(crate) fn token(&mut self) -> Result<Tok, ScanMiss> {
        loop {
            let expansion = &mut self.expansion;
            let tok = match expansion.contexts.last_mut() {
                None => match expansion.base.get(expansion.at) {
                    None => return Ok(END),
                    Some(&tok) => {
                        expansion.at += 1;
                        tok
                    }
                },
                Some(context) => match context.toks.list().get(context.at) {
                    Some(&tok) => {
                        context.at += 1;
                        if tok.has(PASTE_LEFT) {
                            self.paste_all(tok)?;
                            continue;
                        }
                        tok
                    }
                    None => {
                        expansion.contexts.pop();
                        continue;
                    }
                },
            };
            if tok.kind != Kind::Ident || tok.has(NO_EXPAND) {
                return Ok(tok);
            }
            let meaning = self.table.meaning(tok.sym);
            if meaning == Meaning::Nothing {
                return Ok(tok);
            }
            if self.expansion.is_disabled(tok.sym) {
                return Ok(Tok { flags: tok.flags | NO_EXPAND, ..tok });
            }
            if self.expansion.prevent > 0 {
                return Ok(tok);
            }
            self.check_options(tok.sym)?;
            match meaning {
                Meaning::User { source, index } => {
                    if !self.enter(tok.sym, source, index)? {
                        return Ok(tok);
                    }
                }
                Meaning::Builtin(Builtin::Pragma) => return Ok(tok),
                Meaning::Builtin(builtin) => return self.builtin(builtin, tok),
                Meaning::Nothing => return Ok(tok),
            }
        }
    }

    /// The next token that is no padding.
    pub(crate) fn solid(&mut self) -> Result<Tok, ScanMiss> {
        loop {
            let tok = self.token()?;
            if tok.kind != Kind::Padding {
                return Ok(tok);
            }
        }
    }

    /// Enters a macro. False if it is function-like and no `(` follows.
    fn enter(&mut self, name: Sym, source: u32, index: u32) -> Result<bool, ScanMiss> {
        let def = self.definition(source, index);
        if let Some(reason) = def.unsure {
            return Err(ScanMiss::unsure(reason));
        }
        if !def.fun_like {
            self.expansion.push(Toks::Body(def), Some(name))?;
            return Ok(true);
        }
        self.expansion.prevent += 1;
        let args = self.arguments(&def);
        self.expansion.prevent -= 1;
        let Some(mut args) = args? else { return Ok(false) };
        if def.params == 0 {
            self.expansion.push(Toks::Body(def), Some(name))?;
        } else {
            let replaced = self.replace(&def, &mut args)?;
            self.expansion.push(Toks::Owned(replaced), Some(name))?;
        }
        Ok(true)
    }

    /// Reads `( … )` if it follows (`funlike_invocation_p`, `collect_args`).
    fn arguments(&mut self, def: &MacroDef) -> Result<Option<Vec<Arg>>, ScanMiss> {
        let mut padding: Option<Tok> = None;
        let tok = loop {
            let tok = self.token()?;
            if tok.kind != Kind::Padding {
                break tok;
            }
            let replaces = padding
                .is_none_or(|old| !old.has(HAS_SOURCE) || (!old.has(SOURCE_WHITE) && !tok.has(HAS_SOURCE)));
            if replaces {
                padding = Some(tok);
            }
        };
        if tok.kind != Kind::OpenParen {
            // The end of the directive is not a token that could be put back; the end of an argument is.
            if tok.kind != Kind::End || !self.expansion.contexts.is_empty() {
                self.expansion.back_up();
                if let Some(padding) = padding {
                    self.expansion.push(Toks::Owned(vec![padding]), None)?;
                }
            }
            return Ok(None);
        }
        self.collect(def).map(Some)
    }

    fn collect(&mut self, def: &MacroDef) -> Result<Vec<Arg>, ScanMiss> {
        let params = usize::from(def.params);
        let mut args: Vec<Arg> = Vec::with_capacity(params.max(1));
        let mut close = false;
        while !close {
            let mut raw = Vec::new();
            let mut depth = 0u32;
            let last = args.len() + 1 == params;
            loop {
                let tok = self.token()?;
                match tok.kind {
                    Kind::Padding if raw.is_empty() => continue,
                    Kind::OpenParen => depth += 1,
                    Kind::CloseParen if depth == 0 => {
                        close = true;
                        break;
                    }
                    Kind::CloseParen => depth -= 1,
                    Kind::Comma if depth == 0 && !(def.variadic && last) => break,
                    Kind::End => return Err(ScanMiss::unsure("an unterminated macro call")),
                    _ => {}
                }
                raw.push(tok);
                if raw.len() > MOST_TOKENS {
                    return Err(ScanMiss::unsure("a very long macro call"));
                }
            }
            while raw.last().is_some_and(|tok| tok.kind == Kind::Padding) {
                raw.pop();
            }
            args.push(Arg { raw, ..Arg::default() });
        }
        if args.len() == 1 && params == 0 && args[0].raw.is_empty() {
            args.clear();
        }
        let left_out = args.len() + 1 == params && def.variadic;
        if args.len() != params && !left_out {
            return Err(ScanMiss::unsure("a macro call with the wrong number of arguments"));
        }
        let strict = self.mode.has(super::mode::Mode::STRICT);
        let lone_empty = args.len() == 1 && args[0].raw.is_empty() && !strict;
        if left_out {
            args.push(Arg::default());
        }
        if def.variadic
            && (left_out || lone_empty)
            && let Some(arg) = args.last_mut()
        {
            arg.missing = true;
        }
        Ok(args)
    }

    /// The body with its parameters replaced (`replace_args`).
    fn replace(&mut self, def: &MacroDef, args: &mut [Arg]) -> Result<Vec<Tok>, ScanMiss> {
        let mut out: Vec<Tok> = Vec::with_capacity(def.body.len() * 2);
        for (at, src) in def.body.iter().enumerate() {
            if src.kind != Kind::Param {
                out.push(*src);
                continue;
            }
            let after_paste = at > 0 && def.body[at - 1].has(PASTE_LEFT);
            let number = usize::from(src.arg);
            let variadic = def.variadic && number + 1 == usize::from(def.params);
            let arg = &mut args[number];
            let mut keep: Option<usize> = None;
            let start: Vec<Tok> = if src.has(STRINGIFY) {
                let text = match arg.stringified {
                    Some(text) => text,
                    None => self.stringify(&arg.raw)?,
                };
                arg.stringified = Some(text);
                vec![text]
            } else if src.has(PASTE_LEFT) {
                arg.raw.clone()
            } else if after_paste {
                if let Some(last) = out.last() {
                    if last.kind == Kind::Comma && variadic {
                        if arg.missing {
                            out.pop();
                        } else {
                            keep = Some(out.len() - 1);
                        }
                    } else if arg.raw.is_empty() {
                        keep = Some(out.len() - 1);
                    }
                }
                arg.raw.clone()
            } else {
                if arg.expanded.is_none() {
                    let raw = std::mem::take(&mut arg.raw);
                    let expanded = self.expand_argument(&raw)?;
                    arg.raw = raw;
                    arg.expanded = Some(expanded);
                }
                arg.expanded.clone().unwrap_or_default()
            };
            if self.expansion.padding && at > 0 && !after_paste {
                let white = if src.has(PREV_WHITE) { SOURCE_WHITE } else { 0 };
                out.push(Tok::new(Kind::Padding, Sym::EMPTY, HAS_SOURCE | white));
            }
            if !start.is_empty() {
                out.extend_from_slice(&start);
                if src.has(PASTE_LEFT) {
                    keep = Some(out.len() - 1);
                }
            }
            if let Some(flagged) = keep {
                out[flagged].flags = (out[flagged].flags & !PASTE_LEFT) | (src.flags & PASTE_LEFT);
            }
            if out.len() > MOST_TOKENS {
                return Err(ScanMiss::unsure("a very long expansion"));
            }
        }
        Ok(out)
    }

    fn expand_argument(&mut self, raw: &[Tok]) -> Result<Vec<Tok>, ScanMiss> {
        if raw.is_empty() {
            return Ok(Vec::new());
        }
        let mut toks = raw.to_vec();
        toks.push(END);
        let depth = self.expansion.contexts.len();
        self.expansion.push(Toks::Owned(toks), None)?;
        let prevent = std::mem::take(&mut self.expansion.prevent);
        let mut out = Vec::new();
        loop {
            let tok = self.token()?;
            if tok.kind == Kind::End {
                break;
            }
            out.push(tok);
            if out.len() > MOST_TOKENS {
                return Err(ScanMiss::unsure("a very long expansion"));
            }
        }
        self.expansion.prevent = prevent;
        self.expansion.contexts.truncate(depth);
        Ok(out)
    }
}
