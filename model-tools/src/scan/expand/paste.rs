//! The operators `#` and `##`.

use super::Toks;
use crate::scan::result::ScanMiss;
use crate::scan::token::{HAS_SOURCE, Headers, Kind, PASTE_LEFT, PREV_WHITE, SOURCE_WHITE, Tok, Tokenizer};
use crate::scan::unit::Unit;

impl Unit<'_> {
    /// `#arg` (`stringify_arg`).
    pub(super) fn stringify(&mut self, toks: &[Tok]) -> Result<Tok, ScanMiss> {
        let mut text = vec![b'"'];
        let mut source: Option<Tok> = None;
        let mut backslashes = 0;
        for tok in toks {
            if tok.kind == Kind::Padding {
                let replaces = source.is_none_or(|old| {
                    let white =
                        if old.kind == Kind::Padding { old.has(SOURCE_WHITE) } else { old.has(PREV_WHITE) };
                    !white && !tok.has(HAS_SOURCE)
                });
                if replaces {
                    source = tok.has(HAS_SOURCE).then_some(*tok);
                }
                continue;
            }
            if text.len() > 1 {
                let white = match source {
                    Some(padding) => padding.has(SOURCE_WHITE),
                    None => tok.has(PREV_WHITE),
                };
                if white {
                    text.push(b' ');
                }
            }
            source = None;
            let spelling = self.scanner.symbols().text(tok.sym);
            for &byte in spelling {
                if tok.is_literal() && matches!(byte, b'"' | b'\\') {
                    text.push(b'\\');
                }
                text.push(byte);
            }
            backslashes = if tok.kind == Kind::Other && spelling == b"\\" { backslashes + 1 } else { 0 };
        }
        if backslashes % 2 == 1 {
            text.pop();
        }
        text.push(b'"');
        Ok(Tok::new(Kind::Str, self.scanner.symbols().intern(&text), 0))
    }

    /// Pastes `lhs` and what follows it in the innermost context.
    pub(super) fn paste_all(&mut self, mut lhs: Tok) -> Result<(), ScanMiss> {
        let name = self.expansion.contexts.last().and_then(|context| context.name);
        loop {
            let context = self.expansion.contexts.last_mut().expect("the token came from a context");
            let Some(&rhs) = context.toks.list().get(context.at) else {
                return Err(ScanMiss::unsure("a paste without a right side"));
            };
            context.at += 1;
            lhs = self.paste(lhs, rhs)?;
            if !rhs.has(PASTE_LEFT) {
                break;
            }
        }
        self.expansion.push(Toks::Owned(vec![lhs]), name)
    }

    pub(super) fn paste(&mut self, lhs: Tok, rhs: Tok) -> Result<Tok, ScanMiss> {
        let symbols = self.scanner.symbols();
        let mut text = if lhs.kind == Kind::Padding { Vec::new() } else { symbols.text(lhs.sym).to_vec() };
        if rhs.kind != Kind::Padding {
            text.extend_from_slice(symbols.text(rhs.sym));
        }
        if text.starts_with(b"//") || text.starts_with(b"/*") {
            return Err(ScanMiss::unsure("a paste that makes a comment"));
        }
        let single = Tokenizer::new(&text, self.mode, Headers::Never).single(&mut symbols.lock());
        match single {
            Some(tok) => Ok(Tok { flags: lhs.flags & PREV_WHITE, ..tok }),
            None => Err(ScanMiss::unsure("a paste that makes no token")),
        }
    }
}
