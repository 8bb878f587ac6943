//! Builtin macros in directives, and header names that are made of tokens.

use super::macros::Builtin;
use super::result::ScanMiss;
use super::search::{Purpose, Start};
use super::symbol::Sym;
use super::token::{Kind, PREV_WHITE, Tok};
use super::unit::Unit;

impl Unit<'_> {
    /// What a computed include names, and whether in angle brackets (`parse_include`).
    pub(crate) fn computed_header(&mut self, toks: &[Tok]) -> Result<(Sym, bool), ScanMiss> {
        self.expansion.start(toks, true);
        let first = self.solid()?;
        let text = self.scanner.symbols().text(first.sym);
        match first.kind {
            Kind::Str => Ok((self.scanner.symbols().intern(&text[1..text.len() - 1]), false)),
            Kind::Header => Ok((self.scanner.symbols().intern(&text[1..text.len() - 1]), true)),
            Kind::Less => Ok((self.glued_header()?, true)),
            _ => Err(ScanMiss::unsure("an include of something else than a file name")),
        }
    }

    /// The tokens up to `>` as one name (`glue_header_name`).
    fn glued_header(&mut self) -> Result<Sym, ScanMiss> {
        let mut name = Vec::new();
        loop {
            let tok = self.solid()?;
            match tok.kind {
                Kind::Greater => return Ok(self.scanner.symbols().intern(&name)),
                Kind::End => return Err(ScanMiss::unsure("a header name without an end")),
                _ => {
                    if tok.has(PREV_WHITE) {
                        name.push(b' ');
                    }
                    name.extend_from_slice(self.scanner.symbols().text(tok.sym));
                }
            }
        }
    }

    /// The value of a builtin macro.
    pub(crate) fn builtin(&mut self, builtin: Builtin, tok: Tok) -> Result<Tok, ScanMiss> {
        let value = match builtin {
            Builtin::Line if self.current.line != 0 => i64::from(self.current.line),
            Builtin::IncludeLevel => i64::from(self.current.depth) - 1,
            Builtin::HasInclude => i64::from(self.has_include(false)?),
            Builtin::HasIncludeNext => i64::from(self.has_include(true)?),
            Builtin::Feature => self.feature(tok.sym)?,
            Builtin::File | Builtin::BaseFile => return self.file_name(builtin, tok),
            _ => return Err(ScanMiss::unsure("a builtin macro in a directive")),
        };
        let sym = self.scanner.symbols().intern(value.to_string().as_bytes());
        Ok(Tok::new(Kind::Number, sym, tok.flags & PREV_WHITE))
    }

    fn file_name(&self, builtin: Builtin, tok: Tok) -> Result<Tok, ScanMiss> {
        let file = if builtin == Builtin::File { self.current.file } else { 0 };
        let path = self.search.files[file as usize].path;
        let path = self.scanner.symbols().text(path);
        let source = self.search.files[file as usize].source;
        let renamed = source.is_some_and(|source| self.sources[source as usize].traits.line_directive);
        let mapped = self.request.compiler.flags.iter().any(|flag| flag.contains("prefix-map"));
        if renamed || mapped || path.iter().any(|byte| matches!(byte, b'"' | b'\\')) {
            return Err(ScanMiss::unsure("`__FILE__` in a directive"));
        }
        let text = [b"\"", path, b"\""].concat();
        Ok(Tok::new(Kind::Str, self.scanner.symbols().intern(&text), tok.flags & PREV_WHITE))
    }

    /// After `__has_include` (`builtin_has_include`).
    fn has_include(&mut self, next: bool) -> Result<bool, ScanMiss> {
        if self.solid()?.kind != Kind::OpenParen {
            return Err(ScanMiss::unsure("`__has_include` without `(`"));
        }
        let tok = self.solid()?;
        let text = self.scanner.symbols().text(tok.sym);
        let (name, angled) = match tok.kind {
            Kind::Str => (self.scanner.symbols().intern(&text[1..text.len() - 1]), false),
            Kind::Header => (self.scanner.symbols().intern(&text[1..text.len() - 1]), true),
            Kind::Less => (self.glued_header()?, true),
            _ => return Err(ScanMiss::unsure("`__has_include` of something else than a file name")),
        };
        let mut found = false;
        if self.skip_eval == 0 {
            if name == Sym::EMPTY {
                return Err(ScanMiss::unsure("an empty file name"));
            }
            let usual = if angled { Start::Angled } else { Start::Quoted };
            let dir = self.search_head(name, if next { Start::Next } else { usual }, angled)?;
            let file = self.find_file(name, dir, Purpose::HasInclude)?;
            found = file.is_some_and(|file| self.search.files[file as usize].found);
        }
        if self.solid()?.kind != Kind::CloseParen {
            return Err(ScanMiss::unsure("`__has_include` without `)`"));
        }
        Ok(found)
    }

    /// After `__has_attribute` and its like: the compiler's own answer.
    fn feature(&mut self, operator: Sym) -> Result<i64, ScanMiss> {
        let mut test = self.scanner.symbols().text(operator).to_vec();
        if self.solid()?.kind != Kind::OpenParen {
            return Err(ScanMiss::unsure("a feature test without `(`"));
        }
        test.push(b'(');
        loop {
            let tok = self.solid()?;
            let text = self.scanner.symbols().text(tok.sym);
            match tok.kind {
                Kind::CloseParen => break,
                Kind::Ident | Kind::Colon => test.extend_from_slice(text),
                _ if text == b"::" => test.extend_from_slice(text),
                _ => return Err(ScanMiss::unsure("a strange feature test")),
            }
        }
        test.push(b')');
        self.scanner.feature(self.request, &self.setup, &test)
    }
}
