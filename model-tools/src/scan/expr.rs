//! The value of an `#if` (`expr.cc`). Whatever GCC would complain about is not evaluated: `NotSure`.

use super::macros::Meaning;
use super::mode::Mode;
use super::result::ScanMiss;
use super::symbol::Sym;
use super::token::{Kind, Tok};
use super::unit::Unit;

/// A number of the preprocessor: 64 bits, signed or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Num {
    bits: u64,
    unsigned: bool,
}

impl Num {
    /// A signed number.
    pub(crate) fn of(value: i64) -> Num {
        Num { bits: value as u64, unsigned: false }
    }

    pub(crate) fn truth(value: bool) -> Num {
        Num { bits: u64::from(value), unsigned: false }
    }

    pub(crate) fn is_zero(self) -> bool {
        self.bits == 0
    }

    fn signed(self) -> i64 {
        self.bits as i64
    }
}

/// The state of one evaluation: a token read ahead, and whether values matter here.
struct Reader {
    ahead: Tok,
    depth: u32,
}

fn error(reason: &str) -> ScanMiss {
    ScanMiss::unsure(format!("a condition with {reason}"))
}

/// How tightly an operator binds; 0 for what is none.
fn priority(kind: Kind) -> u8 {
    match kind {
        Kind::Query => 4,
        Kind::OrOr => 5,
        Kind::AndAnd => 6,
        Kind::Or => 7,
        Kind::Xor => 8,
        Kind::And => 9,
        Kind::EqEq | Kind::NotEq => 11,
        Kind::Less | Kind::Greater | Kind::LessEq | Kind::GreaterEq => 12,
        Kind::LShift | Kind::RShift => 13,
        Kind::Plus | Kind::Minus => 14,
        Kind::Mult | Kind::Div | Kind::Mod => 15,
        _ => 0,
    }
}

impl Unit<'_> {
    /// Whether the condition holds.
    pub(crate) fn condition(&mut self, toks: &[Tok]) -> Result<bool, ScanMiss> {
        self.expansion.start(toks, false);
        self.skip_eval = 0;
        let mut reader = Reader { ahead: self.solid()?, depth: 0 };
        let value = self.binary(&mut reader, 4)?;
        match reader.ahead.kind {
            Kind::End => Ok(!value.is_zero()),
            _ => Err(error("a stray token")),
        }
    }

    fn advance(&mut self, reader: &mut Reader) -> Result<Tok, ScanMiss> {
        let next = self.solid()?;
        Ok(std::mem::replace(&mut reader.ahead, next))
    }

    fn binary(&mut self, reader: &mut Reader, least: u8) -> Result<Num, ScanMiss> {
        reader.depth += 1;
        if reader.depth > 500 {
            return Err(error("deep nesting"));
        }
        let mut left = self.unary(reader)?;
        loop {
            let kind = reader.ahead.kind;
            let binds = priority(kind);
            if binds < least || binds == 0 {
                reader.depth -= 1;
                return Ok(left);
            }
            left = match kind {
                Kind::OrOr | Kind::AndAnd => {
                    let decided = (kind == Kind::OrOr) != left.is_zero();
                    self.skip_eval += u32::from(decided);
                    self.advance(reader)?;
                    let right = self.binary(reader, binds + 1)?;
                    self.skip_eval -= u32::from(decided);
                    let both = kind == Kind::AndAnd;
                    Num::truth(if both {
                        !left.is_zero() && !right.is_zero()
                    } else {
                        !left.is_zero() || !right.is_zero()
                    })
                }
                Kind::Query => self.ternary(reader, left)?,
                _ => {
                    self.advance(reader)?;
                    let right = self.binary(reader, binds + 1)?;
                    self.operate(kind, left, right)?
                }
            };
        }
    }

    fn ternary(&mut self, reader: &mut Reader, test: Num) -> Result<Num, ScanMiss> {
        let first = !test.is_zero();
        self.skip_eval += u32::from(!first);
        self.advance(reader)?;
        let left = self.binary(reader, 4)?;
        if reader.ahead.kind != Kind::Colon {
            return Err(error("`?` without `:`"));
        }
        if first {
            self.skip_eval += 1;
        } else {
            self.skip_eval -= 1;
        }
        self.advance(reader)?;
        let right = self.binary(reader, 4)?;
        self.skip_eval -= u32::from(first);
        let chosen = if first { left } else { right };
        Ok(Num { bits: chosen.bits, unsigned: left.unsigned || right.unsigned })
    }

    fn unary(&mut self, reader: &mut Reader) -> Result<Num, ScanMiss> {
        reader.depth += 1;
        if reader.depth > 500 {
            return Err(error("deep nesting"));
        }
        let tok = reader.ahead;
        let value = match tok.kind {
            Kind::Not => {
                self.advance(reader)?;
                Num::truth(self.unary(reader)?.is_zero())
            }
            Kind::Compl => {
                self.advance(reader)?;
                let value = self.unary(reader)?;
                Num { bits: !value.bits, ..value }
            }
            Kind::Plus => {
                self.advance(reader)?;
                self.unary(reader)?
            }
            Kind::Minus => {
                self.advance(reader)?;
                let value = self.unary(reader)?;
                Num { bits: value.bits.wrapping_neg(), ..value }
            }
            Kind::OpenParen => {
                self.advance(reader)?;
                let value = self.binary(reader, 4)?;
                if reader.ahead.kind != Kind::CloseParen {
                    return Err(error("an unbalanced parenthesis"));
                }
                self.advance(reader)?;
                value
            }
            Kind::Number => {
                let value = self.number(tok)?;
                self.advance(reader)?;
                value
            }
            Kind::Char => {
                let value = self.character(tok)?;
                self.advance(reader)?;
                value
            }
            Kind::Ident if tok.sym == Sym::DEFINED => {
                let value = self.defined()?;
                self.advance(reader)?;
                value
            }
            Kind::Ident => {
                let value = Num::truth(self.mode.has(Mode::CXX) && tok.sym == Sym::TRUE);
                self.advance(reader)?;
                value
            }
            _ => return Err(error("something that is no value")),
        };
        reader.depth -= 1;
        Ok(value)
    }

    /// After `defined`, which was read ahead: its operand comes next.
    fn defined(&mut self) -> Result<Num, ScanMiss> {
        self.expansion.prevent += 1;
        let first = self.solid()?;
        let (name, closed) = if first.kind == Kind::OpenParen {
            let name = self.solid()?;
            (name, self.solid()?.kind == Kind::CloseParen)
        } else {
            (first, true)
        };
        self.expansion.prevent -= 1;
        if name.kind != Kind::Ident || !closed {
            return Err(error("a malformed `defined`"));
        }
        self.check_options(name.sym)?;
        Ok(Num::truth(self.table.meaning(name.sym) != Meaning::Nothing))
    }

    pub(crate) fn operate(&self, kind: Kind, left: Num, right: Num) -> Result<Num, ScanMiss> {
        let unsigned = left.unsigned || right.unsigned;
        let bits = match kind {
            Kind::Plus => left.bits.wrapping_add(right.bits),
            Kind::Minus => left.bits.wrapping_sub(right.bits),
            Kind::Mult => left.bits.wrapping_mul(right.bits),
            Kind::And => left.bits & right.bits,
            Kind::Or => left.bits | right.bits,
            Kind::Xor => left.bits ^ right.bits,
            Kind::Div | Kind::Mod if right.is_zero() => {
                if self.skip_eval == 0 {
                    return Err(error("a division by zero"));
                }
                left.bits
            }
            Kind::Div if unsigned => left.bits / right.bits,
            Kind::Mod if unsigned => left.bits % right.bits,
            Kind::Div => left.signed().wrapping_div(right.signed()) as u64,
            Kind::Mod => left.signed().wrapping_rem(right.signed()) as u64,
            Kind::LShift | Kind::RShift => return Ok(shift(kind, left, right)),
            Kind::EqEq => return Ok(Num::truth(left.bits == right.bits)),
            Kind::NotEq => return Ok(Num::truth(left.bits != right.bits)),
            _ => {
                let order =
                    if unsigned { left.bits.cmp(&right.bits) } else { left.signed().cmp(&right.signed()) };
                return Ok(Num::truth(match kind {
                    Kind::Less => order.is_lt(),
                    Kind::LessEq => order.is_le(),
                    Kind::Greater => order.is_gt(),
                    _ => order.is_ge(),
                }));
            }
        };
        Ok(Num { bits, unsigned })
    }

    fn number(&self, tok: Tok) -> Result<Num, ScanMiss> {
        match integer(self.scanner.symbols().text(tok.sym), self.mode) {
            Some(value) => Ok(value),
            None => Err(error("a number that is no plain integer")),
        }
    }

    fn character(&self, tok: Tok) -> Result<Num, ScanMiss> {
        let text = self.scanner.symbols().text(tok.sym);
        let value = match text {
            [b'\'', byte @ 0x20..0x7f, b'\''] if *byte != b'\\' => *byte,
            [b'\'', b'\\', escape, b'\''] => match escape {
                b'0'..=b'7' => escape - b'0',
                b'n' => b'\n',
                b't' => b'\t',
                b'r' => b'\r',
                b'a' => 7,
                b'b' => 8,
                b'v' => 0x0b,
                b'f' => 0x0c,
                b'\\' | b'\'' | b'"' | b'?' => *escape,
                _ => return Err(error("a character constant")),
            },
            _ if self.skip_eval > 0 => 0,
            _ => return Err(error("a character constant")),
        };
        Ok(Num { bits: u64::from(value), unsigned: false })
    }
}

fn shift(kind: Kind, left: Num, right: Num) -> Num {
    let reverse = !right.unsigned && right.signed() < 0;
    let by = if reverse { right.bits.wrapping_neg() } else { right.bits };
    let to_left = (kind == Kind::LShift) != reverse;
    let bits = match (to_left, by) {
        (true, 0..64) => left.bits << by,
        (true, _) => 0,
        (false, 0..64) if left.unsigned => left.bits >> by,
        (false, 0..64) => (left.signed() >> by) as u64,
        (false, _) if !left.unsigned && left.signed() < 0 => u64::MAX,
        (false, _) => 0,
    };
    Num { bits, unsigned: left.unsigned }
}

/// An integer constant with its suffix; nothing if it is malformed, floating or too large.
pub(crate) fn integer(text: &[u8], mode: Mode) -> Option<Num> {
    if let [digit @ b'0'..=b'9'] = text {
        return Some(Num { bits: u64::from(digit - b'0'), unsigned: false });
    }
    let (radix, digits) = match text {
        [b'0', b'x' | b'X', rest @ ..] => (16, rest),
        [b'0', b'b' | b'B', rest @ ..] => (2, rest),
        [b'0', ..] => (8, text),
        _ => (10, text),
    };
    let separator = |byte: u8| byte == b'\'' && mode.has(Mode::DIGIT_SEPARATORS);
    let length = digits
        .iter()
        .position(|byte| !((*byte as char).is_digit(if radix == 16 { 16 } else { 10 }) || separator(*byte)))
        .unwrap_or(digits.len());
    if length == 0 {
        return None;
    }
    let mut bits: u64 = 0;
    for &byte in &digits[..length] {
        if separator(byte) {
            continue;
        }
        let digit = (byte as char).to_digit(radix)?;
        bits = bits.checked_mul(u64::from(radix))?.checked_add(u64::from(digit))?;
    }
    let suffix = &digits[length..];
    let unsigned = suffix.iter().filter(|byte| matches!(byte, b'u' | b'U')).count();
    let long: Vec<u8> = suffix.iter().copied().filter(|byte| matches!(byte, b'l' | b'L')).collect();
    let adjacent = long.len() < 2 || memchr::memmem::find(suffix, &long).is_some();
    let same = long.windows(2).all(|pair| pair[0] == pair[1]);
    if unsigned > 1 || long.len() > 2 || unsigned + long.len() != suffix.len() || !adjacent || !same {
        return None;
    }
    Some(Num { bits, unsigned: unsigned == 1 || bits > i64::MAX as u64 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<(u64, bool)>) {
        let value = integer(text.as_bytes(), Mode(0)).map(|value| (value.bits, value.unsigned));
        assert_eq!(value, expected, "{text}");
    }

    #[test]
    fn integers_are_read_with_their_suffixes() {
        check("0", Some((0, false)));
        check("010", Some((8, false)));
        check("0x10UL", Some((16, true)));
        check("201112L", Some((201_112, false)));
        check("18446744073709551615", Some((u64::MAX, true)));
        check("18446744073709551616", None);
        check("1.0", None);
        check("08", None);
        check("1lul", None);
        check("1Ll", None);
        check("0b11", Some((3, false)));
        check("0x", None);
    }
}
