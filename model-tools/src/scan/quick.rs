//! Most conditions need no expansion: `defined X`, `!defined (X) && __GNUC__ >= 4`, `__GNUC_PREREQ (4, 3)`. They are evaluated
//! in place: a macro whose body is one token or stands in parentheses has a value of its own, wherever it is used, and so
//! has a parameter that is given one token.
//!
//! **Invariant:** an answer here is the answer of [`Unit::condition`]; anything out of the ordinary is no answer.

use super::expr::{Num, integer};
use super::macros::{Builtin, MacroDef, Meaning};
use super::mode::Mode;
use super::scanner::FeatureTest;
use super::symbol::Sym;
use super::token::{Kind, PASTE_LEFT, STRINGIFY, Tok};
use super::unit::Unit;

/// How many steps into parentheses and macros a condition may take.
const MAX_STEPS: u32 = 100;

impl Unit<'_> {
    /// The value of a condition made of `defined`, plain numbers, macros for such conditions, comparisons, `+`, `-`, shifts,
    /// `!`, `&&`, `||`.
    pub(crate) fn quick_condition(&self, toks: &[Tok]) -> Option<bool> {
        if self.is_tainted() {
            return None;
        }
        let mut quick = Quick { unit: self, toks, args: None, at: 0, steps: 0 };
        let value = quick.or()?;
        (quick.at == toks.len()).then_some(!value.is_zero())
    }

    /// What the compiler says to a feature test: operator, scope or nothing, name.
    fn quick_feature(&self, test: FeatureTest) -> Option<i64> {
        if let Some(value) = self.setup.answer(test) {
            return Some(value);
        }
        let symbols = self.scanner.symbols();
        let (operator, scope, name) = (symbols.text(test.0), symbols.text(test.1), symbols.text(test.2));
        let scope = if scope.is_empty() { Vec::new() } else { [scope, b"::"].concat() };
        let text = [operator, b"(", &scope, name, b")"].concat();
        let value = self.scanner.feature(self.request, &self.setup, &text).ok()?;
        self.setup.keep_answer(test, value);
        Some(value)
    }
}

struct Quick<'a, 'u> {
    unit: &'a Unit<'u>,
    toks: &'a [Tok],
    /// In a macro's body: what its parameters stand for.
    args: Option<&'a [Tok]>,
    at: usize,
    steps: u32,
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
        let left = self.shift()?;
        let kind = self.kind();
        match kind {
            Kind::Less | Kind::LessEq | Kind::Greater | Kind::GreaterEq | Kind::EqEq | Kind::NotEq => {
                self.at += 1;
                let right = self.shift()?;
                self.unit.operate(kind, left, right).ok()
            }
            _ => Some(left),
        }
    }

    fn shift(&mut self) -> Option<Num> {
        let mut value = self.sum()?;
        while let kind @ (Kind::LShift | Kind::RShift) = self.kind() {
            self.at += 1;
            let right = self.sum()?;
            value = self.unit.operate(kind, value, right).ok()?;
        }
        Some(value)
    }

    fn sum(&mut self) -> Option<Num> {
        let mut value = self.value()?;
        while let kind @ (Kind::Plus | Kind::Minus) = self.kind() {
            self.at += 1;
            let right = self.value()?;
            value = self.unit.operate(kind, value, right).ok()?;
        }
        Some(value)
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
            Kind::Param => match self.argument(tok)? {
                tok if tok.kind == Kind::Number => self.number(tok),
                tok if tok.sym != Sym::DEFINED => self.name(tok),
                _ => None,
            },
            _ => None,
        }
    }

    fn deeper(&mut self) -> Option<()> {
        self.steps += 1;
        (self.steps < MAX_STEPS).then_some(())
    }

    fn number(&self, tok: Tok) -> Option<Num> {
        integer(self.unit.scanner.symbols().text(tok.sym), self.unit.mode)
    }

    fn defined(&mut self) -> Option<Num> {
        if self.args.is_some() {
            return None;
        }
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

    fn name(&mut self, tok: Tok) -> Option<Num> {
        match self.unit.table.meaning(tok.sym) {
            Meaning::Nothing => Some(Num::truth(self.unit.mode.has(Mode::CXX) && tok.sym == Sym::TRUE)),
            Meaning::User { source, index } => {
                let def = self.unit.definition(source, index);
                if def.unsure.is_some() || def.variadic {
                    None
                } else if def.fun_like {
                    self.call(&def)
                } else {
                    self.body(&def, &[])
                }
            }
            Meaning::Builtin(Builtin::Feature) => self.feature(tok.sym),
            Meaning::Builtin(_) => None,
        }
    }

    /// `__has_attribute (cold)`, `__has_cpp_attribute (gnu::cold)`, of names that are no macros.
    fn feature(&mut self, operator: Sym) -> Option<Num> {
        let open = self.next()?.kind == Kind::OpenParen;
        let mut name = self.plain_name()?;
        let mut scope = Sym::EMPTY;
        if self.kind() == Kind::Punct {
            let symbols = self.unit.scanner.symbols();
            let colons = self.next().is_some_and(|tok| symbols.text(tok.sym) == b"::");
            scope = std::mem::replace(&mut name, self.plain_name()?);
            colons.then_some(())?;
        }
        let closed = self.next()?.kind == Kind::CloseParen;
        let value = (open && closed).then(|| self.unit.quick_feature((operator, scope, name))).flatten()?;
        Some(Num::of(value))
    }

    fn plain_name(&mut self) -> Option<Sym> {
        let tok = self.next()?;
        let tok = self.argument(tok).filter(|tok| tok.kind == Kind::Ident)?;
        (self.unit.table.meaning(tok.sym) == Meaning::Nothing).then_some(tok.sym)
    }

    /// A function-like macro whose arguments are one token each.
    fn call(&mut self, def: &MacroDef) -> Option<Num> {
        if self.next()?.kind != Kind::OpenParen {
            return None;
        }
        let mut args = Vec::with_capacity(usize::from(def.params));
        loop {
            let tok = self.next()?;
            args.push(self.argument(tok)?);
            match self.next()?.kind {
                Kind::Comma => {}
                Kind::CloseParen => break,
                _ => return None,
            }
        }
        if args.len() != usize::from(def.params) {
            return None;
        }
        match def.body.as_slice() {
            [left, right] if left.has(PASTE_LEFT) => self.pasted(*left, *right, &args),
            _ => self.body(def, &args),
        }
    }

    /// `__GLIBC_USE_ ## F`, of a name that is no macro.
    fn pasted(&mut self, left: Tok, right: Tok, args: &[Tok]) -> Option<Num> {
        self.deeper()?;
        let plain =
            left.kind == Kind::Ident && right.kind == Kind::Param && !right.has(PASTE_LEFT | STRINGIFY);
        let right = args.get(usize::from(right.arg)).filter(|tok| plain && tok.kind == Kind::Ident)?;
        if self.unit.table.meaning(right.sym) != Meaning::Nothing {
            return None;
        }
        let symbols = self.unit.scanner.symbols();
        let sym = symbols.intern(&[symbols.text(left.sym), symbols.text(right.sym)].concat());
        (sym != Sym::DEFINED).then(|| self.name(Tok::new(Kind::Ident, sym, 0))).flatten()
    }

    /// The number or name that a token is, or that its parameter stands for.
    fn argument(&self, tok: Tok) -> Option<Tok> {
        match tok.kind {
            Kind::Number | Kind::Ident => Some(tok),
            Kind::Param => self.args?.get(usize::from(tok.arg)).copied(),
            _ => None,
        }
    }

    fn body(&mut self, def: &MacroDef, args: &[Tok]) -> Option<Num> {
        self.deeper()?;
        let toks = match def.body.as_slice() {
            [_] => def.body.as_slice(),
            [open, inside @ .., close] if (open.kind, close.kind) == (Kind::OpenParen, Kind::CloseParen) => {
                inside
            }
            _ => return None,
        };
        if toks.iter().any(|tok| tok.has(PASTE_LEFT | STRINGIFY)) {
            return None;
        }
        let mut inner = Quick { unit: self.unit, toks, args: Some(args), at: 0, steps: self.steps };
        let value = inner.or()?;
        self.steps = inner.steps;
        (inner.at == toks.len()).then_some(value)
    }
}
