//! The directives of a file, one by one (`directives.cc`).

use memchr::{memchr, memmem};

use super::lex::Lexer;
use super::lexed::{Expr, Header, Include, IncludeKind, MacroText, Op, Options};
use super::mode::Mode;
use super::symbol::Sym;
use super::token::{Headers, Tokenizer, is_ident, is_space};

impl<'a> Lexer<'a> {
    /// The name or number at this place.
    fn word(&mut self) -> &'a [u8] {
        let start = self.at;
        while self
            .peek(0)
            .is_some_and(|byte| is_ident(byte) || (byte == b'$' && self.mode.has(Mode::DOLLARS)))
        {
            self.at += 1;
        }
        &self.text[start..self.at]
    }

    /// After `#`.
    pub(crate) fn directive(&mut self) {
        let hash = self.at;
        self.spaces();
        let word = self.word();
        let elifdef = self.mode.has(Mode::ELIFDEF);
        match word {
            b"define" => self.define(),
            b"undef" => self.undef(),
            b"include" => self.include(IncludeKind::Include),
            b"include_next" => self.include(IncludeKind::Next),
            b"import" => self.include(IncludeKind::Import),
            b"if" => self.condition(false),
            b"elif" => self.condition(true),
            b"ifdef" | b"ifndef" => self.named_condition(word),
            b"elifdef" | b"elifndef" if elifdef => self.named_condition(word),
            b"else" | b"endif" => {
                let op = if word == b"else" { Op::Else { end: 0 } } else { Op::Endif };
                self.conditions.directive();
                self.branch(op);
                self.skip_line();
            }
            b"pragma" => self.pragma(),
            b"error" => {
                self.conditions.directive();
                self.out.ops.push(Op::Error);
                self.skip_line();
            }
            b"warning" | b"ident" | b"sccs" | b"assert" | b"unassert" => {
                self.conditions.directive();
                self.skip_line();
            }
            b"line" => {
                self.conditions.directive();
                self.out.traits.line_directive = true;
                self.skip_line();
            }
            b"" if matches!(self.peek(0), None | Some(b'\n')) => self.skip_line(),
            [b'0'..=b'9', ..] if !self.mode.has(Mode::ASSEMBLER) => self.line_marker(),
            _ if self.mode.has(Mode::ASSEMBLER) => {
                self.conditions.text();
                self.at = hash;
                self.skip_line();
            }
            _ => {
                // An error where it is not skipped; no effect on an include guard.
                self.unsure_op("an unknown directive");
                self.skip_line();
            }
        }
    }

    fn unsure_op(&mut self, reason: &str) {
        let index = self.out.reasons.len() as u32;
        self.out.reasons.push(reason.to_owned());
        self.out.ops.push(Op::Unsure(index));
    }

    /// A macro's name after `#define`, `#undef`, `#ifdef`; nothing if GCC would complain.
    fn macro_name(&mut self) -> Option<Sym> {
        self.spaces();
        if self.peek(0).is_some_and(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let word = self.word();
        let goes_on = match self.peek(0) {
            Some(0x80..) => true,
            Some(b'\\') => matches!(self.peek(1), Some(b'u' | b'U')),
            _ => false,
        };
        if word.is_empty() || goes_on {
            return None;
        }
        let sym = self.interning.intern(word);
        let operator = self.mode.has(Mode::CXX) && (Sym::AND..=Sym::XOR_EQ).contains(&sym);
        (!operator).then_some(sym)
    }

    fn define(&mut self) {
        self.conditions.directive();
        let name = self
            .macro_name()
            .filter(|name| *name != Sym::DEFINED && *name != Sym::VA_ARGS && *name != Sym::VA_OPT);
        let Some(name) = name else {
            return self.unsure_line_after("a `#define` of a strange name");
        };
        let start = self.out.text.len() as u32;
        self.rest();
        let mut end = self.scratch.len();
        while end > 0 && is_space(self.scratch[end - 1]) {
            end -= 1;
        }
        self.out.text.extend_from_slice(&self.scratch[..end]);
        let index = self.out.macros.len() as u32;
        self.out.macros.push(MacroText { name, start, end: self.out.text.len() as u32 });
        self.out.ops.push(Op::Define(index));
    }

    fn unsure_line_after(&mut self, reason: &str) {
        self.unsure_op(reason);
        self.skip_line();
    }

    fn undef(&mut self) {
        self.conditions.directive();
        match self.macro_name() {
            Some(name) if name != Sym::DEFINED => {
                self.out.ops.push(Op::Undef(name));
                self.skip_line();
            }
            _ => self.unsure_line_after("an `#undef` of a strange name"),
        }
    }

    /// Moves over the rest of the line, and leaves it in `scratch` with comments as spaces and no newline.
    fn rest(&mut self) {
        self.scratch.clear();
        let line = &self.text[self.at..];
        let end = memchr(b'\n', line).unwrap_or(line.len());
        let raw = self.mode.has(Mode::RAW_STRINGS) && memmem::find(&line[..end], b"R\"").is_some();
        if !raw && memchr(b'/', &line[..end]).is_none() {
            self.scratch.extend_from_slice(&line[..end]);
            self.at = (self.at + end + 1).min(self.text.len());
            return;
        }
        loop {
            let start = self.at;
            match self.peek(0) {
                None => return,
                Some(b'\n') => {
                    self.at += 1;
                    return;
                }
                Some(b'/') if self.comment() => self.scratch.push(b' '),
                Some(quote @ (b'"' | b'\'')) => {
                    self.literal(quote);
                    self.scratch.extend_from_slice(&self.text[start..self.at]);
                }
                Some(byte) => {
                    self.at += 1;
                    self.scratch.push(byte);
                }
            }
        }
    }

    /// The rest of the line as tokens of a condition or include.
    fn expression(&mut self, headers: Headers) -> Option<u32> {
        let at = self.at;
        let line = self.line(at);
        self.rest();
        let end = self.at.saturating_sub(1).max(at);
        let line = if self.line(end) == line { line } else { 0 };
        let start = self.out.toks.len() as u32;
        let scratch = std::mem::take(&mut self.scratch);
        let read = Tokenizer::new(&scratch, self.mode, headers).all(&mut self.interning, &mut self.out.toks);
        self.scratch = scratch;
        self.out.exprs.push(Expr { start, end: self.out.toks.len() as u32, line });
        read.then_some(self.out.exprs.len() as u32 - 1)
    }

    fn condition(&mut self, elif: bool) {
        let expr = self.expression(Headers::Conditional);
        let guard = match expr {
            Some(expr) => super::conditions::guard_of(self.out.tokens(self.out.exprs[expr as usize])),
            None => None,
        };
        let expr = expr.unwrap_or_else(|| {
            // An expression that cannot be read: its test is `NotSure`.
            self.out.exprs.push(Expr { start: 0, end: 0, line: u32::MAX });
            self.out.exprs.len() as u32 - 1
        });
        if elif {
            self.conditions.directive();
            self.branch(Op::Elif { expr, next: 0, end: 0 });
        } else {
            self.conditions.open(guard, &mut self.out.ops, Op::If { expr, next: 0 });
        }
    }

    fn branch(&mut self, op: Op) {
        if let Err(reason) = self.conditions.branch(&mut self.out.ops, op) {
            self.out.unsure.get_or_insert(reason.to_owned());
        }
    }

    fn named_condition(&mut self, word: &[u8]) {
        let name = self.macro_name();
        self.skip_line();
        let name = name.unwrap_or_else(|| {
            self.out.unsure.get_or_insert_with(|| "a conditional with a strange name".to_owned());
            Sym::EMPTY
        });
        match word {
            b"ifdef" => self.conditions.open(None, &mut self.out.ops, Op::Ifdef { name, next: 0 }),
            b"ifndef" => self.conditions.open(Some(name), &mut self.out.ops, Op::Ifndef { name, next: 0 }),
            _ => {
                self.conditions.directive();
                let elifdef = word == b"elifdef";
                self.branch(if elifdef {
                    Op::Elifdef { name, next: 0, end: 0 }
                } else {
                    Op::Elifndef { name, next: 0, end: 0 }
                });
            }
        }
    }

    fn include(&mut self, kind: IncludeKind) {
        self.conditions.directive();
        self.spaces();
        let close = match self.peek(0) {
            Some(b'<') => Some(b'>'),
            Some(b'"') => Some(b'"'),
            _ => None,
        };
        let line = &self.text[self.at..];
        let line = &line[..memchr(b'\n', line).unwrap_or(line.len())];
        let length = close.and_then(|close| memchr(close, line.get(1..).unwrap_or_default()));
        let header = match (close, length) {
            (Some(close), Some(length)) => {
                let name = self.interning.intern(&line[1..=length]);
                self.at += length + 2;
                self.skip_line();
                if close == b'>' { Header::Angled(name) } else { Header::Quoted(name) }
            }
            _ => match self.expression(Headers::Always) {
                Some(expr) => Header::Computed(expr),
                None => return self.unsure_op("an include that cannot be read"),
            },
        };
        let index = self.out.includes.len() as u32;
        self.out.includes.push(Include { kind, header });
        self.out.ops.push(Op::Include(index));
    }

    /// `# 33 "file" 1 3`
    fn line_marker(&mut self) {
        self.conditions.directive();
        self.out.traits.line_directive = true;
        self.rest();
        let Some(quote) = self.scratch.iter().rposition(|byte| *byte == b'"') else { return };
        let after = &self.scratch[quote + 1..];
        if after.iter().all(|byte| is_space(*byte)) {
            self.out.ops.push(Op::LineMarker);
        } else {
            self.unsure_op("a line marker with flags");
        }
    }

    fn pragma(&mut self) {
        self.conditions.directive();
        self.rest();
        let scratch = std::mem::take(&mut self.scratch);
        let mut words = scratch.split(|byte| !is_ident(*byte)).filter(|word| !word.is_empty());
        let first = words.next().unwrap_or_default();
        match first {
            b"once" => self.out.ops.push(Op::Once),
            b"push_macro" | b"pop_macro" => match quoted_name(&scratch) {
                Some(name) => {
                    let name = self.interning.intern(name);
                    let push = first == b"push_macro";
                    self.out.ops.push(if push { Op::PushMacro(name) } else { Op::PopMacro(name) });
                }
                None => self.unsure_op("a strange `push_macro` or `pop_macro`"),
            },
            b"GCC" => match words.next().unwrap_or_default() {
                b"system_header" => self.out.ops.push(Op::SystemHeader),
                b"poison" => {
                    for word in words {
                        let name = self.interning.intern(word);
                        self.out.ops.push(Op::Poison(name));
                    }
                }
                b"target" => self.out.ops.push(Op::Options(Options::Target)),
                b"optimize" => self.out.ops.push(Op::Options(Options::Optimize)),
                b"push_options" => self.out.ops.push(Op::Options(Options::Push)),
                b"pop_options" => self.out.ops.push(Op::Options(Options::Pop)),
                b"reset_options" => self.out.ops.push(Op::Options(Options::Reset)),
                b"error" | b"dependency" | b"pch_preprocess" => self.unsure_op("a GCC pragma"),
                _ => {}
            },
            _ => {}
        }
        self.scratch = scratch;
    }
}

/// The macro's name in `push_macro("NAME")`.
fn quoted_name(text: &[u8]) -> Option<&[u8]> {
    let start = memchr(b'"', text)? + 1;
    let name = &text[start..start + memchr(b'"', &text[start..])?];
    let shape = text.iter().filter(|byte| !is_space(**byte) && !is_ident(**byte));
    let plain = !name.is_empty() && name.iter().all(|byte| is_ident(*byte));
    (plain && shape.copied().eq(*b"(\"\")")).then_some(name)
}
