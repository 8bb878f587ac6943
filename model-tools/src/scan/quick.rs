//! Most conditions need no expansion: `defined X`, `!defined (X) && __GNUC__ >= 4`. They are evaluated in place.
//!
//! **Invariant:** an answer here is the answer of [`Unit::condition`]; anything out of the ordinary is no answer.

use super::expr::{Num, integer};
use super::macros::Meaning;
use super::mode::Mode;
use super::symbol::Sym;
use super::token::{Kind, Tok};
use super::unit::Unit;

impl Unit<'_> {
    /// The value of a condition made of `defined`, plain numbers, names of plain numbers, comparisons, `!`, `&&`, `||`.
    pub(crate) fn quick_condition(&self, toks: &[Tok]) -> Option<bool> {
        if self.is_tainted() {
            return None;
        }
        let mut quick = Quick { unit: self, toks, at: 0, depth: 0 };
        let value = quick.or()?;
        (quick.at == toks.len()).then_some(!value.is_zero())
    }
}

struct Quick<'a, 'u> {
    unit: &'a Unit<'u>,
    toks: &'a [Tok],
    at: usize,
    depth: u32,
}

impl Quick<'_, '_> {
    fn kind(&self) -> Kind {
        self.toks.get(self.at).map_or(Kind::End, |tok| tok.kind)
    }

    fn next(&mut self) -> Option<Tok> {
        let tok = self.toks.get(self.at).copied();
        self.at += 1;
        tok
    }

    fn or(&mut self) -> Option<Num> {
        let mut value = self.and()?;
        while self.kind() == Kind::OrOr {
            self.at += 1;
            let right = self.and()?;
            value = Num::truth(!value.is_zero() || !right.is_zero());
        }
        Some(value)
    }

    fn and(&mut self) -> Option<Num> {
        let mut value = self.comparison()?;
        while self.kind() == Kind::AndAnd {
            self.at += 1;
            let right = self.comparison()?;
            value = Num::truth(!value.is_zero() && !right.is_zero());
        }
        Some(value)
    }

    /// At most one comparison: `a < b` but not `a < b < c`.
    fn comparison(&mut self) -> Option<Num> {
        let left = self.value()?;
        let kind = self.kind();
        match kind {
            Kind::Less | Kind::LessEq | Kind::Greater | Kind::GreaterEq | Kind::EqEq | Kind::NotEq => {
                self.at += 1;
                let right = self.value()?;
                self.unit.operate(kind, left, right).ok()
            }
            _ => Some(left),
        }
    }

    fn value(&mut self) -> Option<Num> {
        let tok = self.next()?;
        match tok.kind {
            Kind::Not => {
                self.deeper()?;
                Some(Num::truth(self.value()?.is_zero()))
            }
            Kind::OpenParen => {
                self.deeper()?;
                let value = self.or()?;
                (self.next()?.kind == Kind::CloseParen).then_some(value)
            }
            Kind::Number => self.number(tok),
            Kind::Ident if tok.sym == Sym::DEFINED => self.defined(),
            Kind::Ident => self.name(tok),
            _ => None,
        }
    }

    fn deeper(&mut self) -> Option<()> {
        self.depth += 1;
        (self.depth < 100).then_some(())
    }

    fn number(&self, tok: Tok) -> Option<Num> {
        integer(self.unit.scanner.symbols().text(tok.sym), self.unit.mode)
    }

    fn defined(&mut self) -> Option<Num> {
        let mut tok = self.next()?;
        let paren = tok.kind == Kind::OpenParen;
        if paren {
            tok = self.next()?;
        }
        if tok.kind != Kind::Ident || (paren && self.next()?.kind != Kind::CloseParen) {
            return None;
        }
        Some(Num::truth(self.unit.table.is_defined(tok.sym)))
    }

    fn name(&self, tok: Tok) -> Option<Num> {
        match self.unit.table.meaning(tok.sym) {
            Meaning::Nothing => Some(Num::truth(self.unit.mode.has(Mode::CXX) && tok.sym == Sym::TRUE)),
            Meaning::User { source, index } => {
                let def = self.unit.definition(source, index);
                match def.body.as_slice() {
                    [body] if !def.fun_like && def.unsure.is_none() && body.kind == Kind::Number => {
                        self.number(*body)
                    }
                    _ => None,
                }
            }
            Meaning::Builtin(_) => None,
        }
    }
}
