//! The nesting of conditionals in a file: where each branch goes on, and whether one macro guards the whole file.

use super::lexed::Op;
use super::symbol::Sym;
use super::token::{Kind, Tok};

/// Conditionals that are open, and the state of GCC's multiple-include optimization (`mi_valid`, `mi_cmacro`).
#[derive(Debug)]
pub(crate) struct Conditions {
    open: Vec<Open>,
    valid: bool,
    guard: Option<Sym>,
}

#[derive(Debug)]
struct Open {
    guard: Option<Sym>,
    /// The branch whose `next` is still to be set.
    last: usize,
    /// The branches whose `end` is still to be set.
    branches: Vec<usize>,
    saw_else: bool,
}

impl Default for Conditions {
    fn default() -> Conditions {
        Conditions { open: Vec::new(), valid: true, guard: None }
    }
}

impl Conditions {
    /// A token outside of directives.
    pub(crate) fn text(&mut self) {
        self.valid = false;
    }

    /// Any directive but one that opens a conditional.
    pub(crate) fn directive(&mut self) {
        self.valid = false;
    }

    /// `#if`, `#ifdef`, `#ifndef`; `guard` is the macro whose being undefined is the whole condition.
    pub(crate) fn open(&mut self, guard: Option<Sym>, ops: &mut Vec<Op>, op: Op) {
        let top = self.valid && self.guard.is_none();
        let guard = if top { guard } else { None };
        self.open.push(Open { guard, last: ops.len(), branches: Vec::new(), saw_else: false });
        ops.push(op);
    }

    /// `#elif` and its like, `#else`, `#endif`.
    pub(crate) fn branch(&mut self, ops: &mut Vec<Op>, op: Op) -> Result<(), &'static str> {
        let here = ops.len();
        let Some(open) = self.open.last_mut() else { return Err("a branch without `#if`") };
        if open.saw_else && op != Op::Endif {
            return Err("a branch after `#else`");
        }
        set_next(&mut ops[open.last], here);
        open.last = here;
        ops.push(op);
        if op != Op::Endif {
            open.guard = None;
            open.saw_else = matches!(op, Op::Else { .. });
            open.branches.push(here);
            return Ok(());
        }
        let closed = self.open.pop().expect("one was open just now");
        for branch in closed.branches {
            set_end(&mut ops[branch], here);
        }
        if let (true, Some(guard)) = (self.open.is_empty(), closed.guard) {
            self.valid = true;
            self.guard = Some(guard);
        }
        Ok(())
    }

    /// At the end of the file: the macro that guards it.
    pub(crate) fn finish(&self) -> Result<Option<Sym>, &'static str> {
        if !self.open.is_empty() {
            return Err("an unterminated conditional");
        }
        Ok(if self.valid { self.guard } else { None })
    }
}

fn set_next(op: &mut Op, to: usize) {
    if let Op::If { next, .. }
    | Op::Ifdef { next, .. }
    | Op::Ifndef { next, .. }
    | Op::Elif { next, .. }
    | Op::Elifdef { next, .. }
    | Op::Elifndef { next, .. } = op
    {
        *next = to as u32;
    }
}

fn set_end(op: &mut Op, to: usize) {
    if let Op::Elif { end, .. } | Op::Elifdef { end, .. } | Op::Elifndef { end, .. } | Op::Else { end } = op {
        *end = to as u32;
    }
}

/// The macro of `!defined X` and `!defined (X)`.
pub(crate) fn guard_of(tokens: &[Tok]) -> Option<Sym> {
    let (not, rest) = tokens.split_first()?;
    let (defined, rest) = rest.split_first()?;
    if not.kind != Kind::Not || defined.sym != Sym::DEFINED {
        return None;
    }
    match rest {
        [name] if name.kind == Kind::Ident => Some(name.sym),
        [open, name, close]
            if open.kind == Kind::OpenParen && close.kind == Kind::CloseParen && name.kind == Kind::Ident =>
        {
            Some(name.sym)
        }
        _ => None,
    }
}
