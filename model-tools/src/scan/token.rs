//! Preprocessing tokens of one directive, after splices are gone and comments are spaces.

use serde::{Deserialize, Serialize};

use super::mode::Mode;
use super::symbol::{Interning, Sym};

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
pub(crate) enum Kind {
    Ident,
    Number,
    Char,
    /// `"…"` with no prefix.
    Str,
    /// A string with a prefix, raw or not.
    OtherStr,
    /// `<…>` where a header name may stand.
    Header,
    /// A parameter in a macro's body; `Tok::arg` says which.
    Param,
    /// Padding: no text, only spacing. `Tok::sym` is unused.
    Padding,
    /// The end of a macro argument.
    End,
    /// A named operator of C++ spelled as a word; `Tok::arg` is the operator's kind.
    Other,
    Not,
    Greater,
    Less,
    Plus,
    Minus,
    Mult,
    Div,
    Mod,
    And,
    Or,
    Xor,
    RShift,
    LShift,
    Compl,
    AndAnd,
    OrOr,
    Query,
    Colon,
    Comma,
    OpenParen,
    CloseParen,
    EqEq,
    NotEq,
    GreaterEq,
    LessEq,
    Hash,
    Paste,
    /// Any other punctuator.
    Punct,
}

/// The token had white space before it.
pub(crate) const PREV_WHITE: u8 = 1;
/// `##` follows it.
pub(crate) const PASTE_LEFT: u8 = 1 << 1;
/// `#` stands before this parameter.
pub(crate) const STRINGIFY: u8 = 1 << 2;
/// It is the name of a macro that was being expanded: never expand it.
pub(crate) const NO_EXPAND: u8 = 1 << 3;
/// A padding token that has a source token.
pub(crate) const HAS_SOURCE: u8 = 1 << 4;
/// A padding token whose source had white space before it.
pub(crate) const SOURCE_WHITE: u8 = 1 << 5;

/// A token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tok {
    pub(crate) kind: Kind,
    pub(crate) flags: u8,
    /// Which parameter, for [`Kind::Param`].
    pub(crate) arg: u16,
    /// The spelling.
    pub(crate) sym: Sym,
}

impl Tok {
    pub(crate) fn new(kind: Kind, sym: Sym, flags: u8) -> Tok {
        Tok { kind, flags, arg: 0, sym }
    }

    pub(crate) fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Whether stringifying it escapes quotes and backslashes.
    pub(crate) fn is_literal(self) -> bool {
        matches!(self.kind, Kind::Char | Kind::Str | Kind::OtherStr)
    }
}

/// Where a `<` may start a header name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Headers {
    /// Nowhere but after `__has_include (`.
    Conditional,
    /// Anywhere.
    Always,
    /// Nowhere.
    Never,
}

/// Cuts text into tokens. The text holds no newline and no comment.
pub(crate) struct Tokenizer<'a> {
    text: &'a [u8],
    at: usize,
    mode: Mode,
    headers: Headers,
}

/// Bytes that may go on in an identifier.
pub(crate) fn is_ident(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

pub(crate) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\x0b' | b'\x0c' | b'\0')
}

impl<'a> Tokenizer<'a> {
    pub(crate) fn new(text: &'a [u8], mode: Mode, headers: Headers) -> Tokenizer<'a> {
        Tokenizer { text, at: 0, mode, headers }
    }

    /// Appends all tokens; says whether each of them is one that the scanner reads as GCC does.
    pub(crate) fn all(mut self, interning: &mut Interning<'_>, out: &mut Vec<Tok>) -> bool {
        let first = out.len();
        loop {
            let mut flags = 0;
            while self.peek(0).is_some_and(is_space) {
                self.at += 1;
                flags = PREV_WHITE;
            }
            if self.at >= self.text.len() {
                return true;
            }
            let start = self.at;
            let angled = match self.headers {
                Headers::Always => true,
                Headers::Never => false,
                Headers::Conditional => after_has_include(&out[first..]),
            };
            let Some(kind) = self.next_kind(angled) else { return false };
            let sym = interning.intern(&self.text[start..self.at]);
            let (kind, arg) = self.named_operator(kind, sym);
            out.push(Tok { kind, flags, arg, sym });
        }
    }

    /// Whether the text is exactly one token; gives its kind.
    pub(crate) fn single(mut self, interning: &mut Interning<'_>) -> Option<Tok> {
        let kind = self.next_kind(false)?;
        if self.at != self.text.len() {
            return None;
        }
        let sym = interning.intern(self.text);
        let (kind, arg) = self.named_operator(kind, sym);
        Some(Tok { kind, flags: 0, arg, sym })
    }

    fn peek(&self, ahead: usize) -> Option<u8> {
        self.text.get(self.at + ahead).copied()
    }

    fn named_operator(&self, kind: Kind, sym: Sym) -> (Kind, u16) {
        if kind != Kind::Ident || !self.mode.has(Mode::CXX) {
            return (kind, 0);
        }
        let kind = match sym {
            Sym::AND => Kind::AndAnd,
            Sym::BITAND => Kind::And,
            Sym::BITOR => Kind::Or,
            Sym::COMPL => Kind::Compl,
            Sym::NOT => Kind::Not,
            Sym::NOT_EQ => Kind::NotEq,
            Sym::OR => Kind::OrOr,
            Sym::XOR => Kind::Xor,
            Sym::AND_EQ | Sym::OR_EQ | Sym::XOR_EQ => Kind::Punct,
            _ => return (Kind::Ident, 0),
        };
        (kind, 1)
    }

    /// Moves over one token. Nothing for a byte that needs rules which are not modelled.
    fn next_kind(&mut self, angled: bool) -> Option<Kind> {
        let byte = self.peek(0)?;
        match byte {
            b'0'..=b'9' => Some(self.number()),
            b'.' if self.peek(1).is_some_and(|next| next.is_ascii_digit()) => Some(self.number()),
            b'_' | b'a'..=b'z' | b'A'..=b'Z' => self.word(),
            b'$' if self.mode.has(Mode::DOLLARS) => self.word(),
            b'"' | b'\'' => Some(self.string(0, angled)),
            b'<' if angled && memchr::memchr(b'>', &self.text[self.at..]).is_some() => {
                self.at += memchr::memchr(b'>', &self.text[self.at..])? + 1;
                Some(Kind::Header)
            }
            b'\\' if matches!(self.peek(1), Some(b'u' | b'U')) => None,
            0x80.. => None,
            _ => Some(self.punctuator(byte)),
        }
    }

    fn number(&mut self) -> Kind {
        self.at += 1;
        while let Some(byte) = self.peek(0) {
            let exponent =
                matches!(self.text[self.at - 1], b'e' | b'E' | b'p' | b'P') && matches!(byte, b'+' | b'-');
            let separator =
                byte == b'\'' && self.mode.has(Mode::DIGIT_SEPARATORS) && self.peek(1).is_some_and(is_ident);
            let dollar = byte == b'$' && self.mode.has(Mode::DOLLARS);
            if !(is_ident(byte) || byte == b'.' || exponent || separator || dollar) {
                break;
            }
            self.at += 1;
        }
        Kind::Number
    }

    fn word(&mut self) -> Option<Kind> {
        let start = self.at;
        while self
            .peek(0)
            .is_some_and(|byte| is_ident(byte) || (byte == b'$' && self.mode.has(Mode::DOLLARS)))
        {
            self.at += 1;
        }
        // An identifier that goes on in UTF-8 or with a universal character name.
        if self.peek(0).is_some_and(|byte| byte >= 0x80)
            || (self.peek(0) == Some(b'\\') && matches!(self.peek(1), Some(b'u' | b'U')))
        {
            return None;
        }
        let word = &self.text[start..self.at];
        let quote = self.peek(0).filter(|byte| matches!(byte, b'"' | b'\''));
        let Some(quote) = quote else { return Some(Kind::Ident) };
        let unicode = self.mode.has(Mode::UNICODE_STRINGS) || self.mode.has(Mode::RAW_STRINGS);
        match word {
            b"L" => Some(self.string(1, false)),
            b"u" | b"U" if unicode => Some(self.string(1, false)),
            b"u8" if unicode && quote == b'"' => Some(self.string(1, false)),
            // `u8'a'` is a character only in some modes.
            b"u8" if unicode => None,
            b"R" | b"LR" | b"uR" | b"UR" | b"u8R" if quote == b'"' && self.mode.has(Mode::RAW_STRINGS) => {
                None
            }
            _ => Some(Kind::Ident),
        }
    }

    /// A string or character constant; one without an end goes to the end of the line.
    fn string(&mut self, prefix: usize, angled: bool) -> Kind {
        let quote = self.text[self.at];
        self.at += 1;
        loop {
            match self.peek(0) {
                None => return Kind::Other,
                Some(b'\\') if !angled => self.at = (self.at + 2).min(self.text.len()),
                Some(byte) => {
                    self.at += 1;
                    if byte == quote {
                        break;
                    }
                }
            }
        }
        match (quote, prefix) {
            (b'\'', _) => Kind::Char,
            (_, 0) => Kind::Str,
            _ => Kind::OtherStr,
        }
    }

    fn punctuator(&mut self, byte: u8) -> Kind {
        let next = self.peek(1);
        let third = self.peek(2);
        let digraphs = self.mode.has(Mode::DIGRAPHS);
        let (length, kind) = match (byte, next) {
            (b'<', Some(b'=')) => (2, Kind::LessEq),
            (b'<', Some(b'<')) if third == Some(b'=') => (3, Kind::Punct),
            (b'<', Some(b'<')) => (2, Kind::LShift),
            (b'<', Some(b':' | b'%')) if digraphs => (2, Kind::Punct),
            (b'<', _) => (1, Kind::Less),
            (b'>', Some(b'=')) => (2, Kind::GreaterEq),
            (b'>', Some(b'>')) if third == Some(b'=') => (3, Kind::Punct),
            (b'>', Some(b'>')) => (2, Kind::RShift),
            (b'>', _) => (1, Kind::Greater),
            (b'%', Some(b':')) if digraphs && third == Some(b'%') && self.peek(3) == Some(b':') => {
                (4, Kind::Paste)
            }
            (b'%', Some(b':')) if digraphs => (2, Kind::Hash),
            (b'%', Some(b'>')) if digraphs => (2, Kind::Punct),
            (b'%', Some(b'=')) => (2, Kind::Punct),
            (b'%', _) => (1, Kind::Mod),
            (b'.', Some(b'.')) if third == Some(b'.') => (3, Kind::Punct),
            (b'.', Some(b'*')) if self.mode.has(Mode::CXX) => (2, Kind::Punct),
            (b'+', Some(b'+' | b'=')) | (b'-', Some(b'-' | b'=')) => (2, Kind::Punct),
            (b'-', Some(b'>')) if third == Some(b'*') && self.mode.has(Mode::CXX) => (3, Kind::Punct),
            (b'-', Some(b'>')) => (2, Kind::Punct),
            (b'+', _) => (1, Kind::Plus),
            (b'-', _) => (1, Kind::Minus),
            (b'*' | b'/' | b'^' | b'=', Some(b'=')) if byte != b'=' => (2, Kind::Punct),
            (b'=', Some(b'=')) => (2, Kind::EqEq),
            (b'*', _) => (1, Kind::Mult),
            (b'/', _) => (1, Kind::Div),
            (b'^', _) => (1, Kind::Xor),
            (b'&', Some(b'&')) => (2, Kind::AndAnd),
            (b'|', Some(b'|')) => (2, Kind::OrOr),
            (b'&' | b'|', Some(b'=')) => (2, Kind::Punct),
            (b'&', _) => (1, Kind::And),
            (b'|', _) => (1, Kind::Or),
            (b':', Some(b':')) if self.mode.has(Mode::SCOPE) => (2, Kind::Punct),
            (b':', Some(b'>')) if digraphs => (2, Kind::Punct),
            (b':', _) => (1, Kind::Colon),
            (b'!', Some(b'=')) => (2, Kind::NotEq),
            (b'!', _) => (1, Kind::Not),
            (b'#', Some(b'#')) => (2, Kind::Paste),
            (b'#', _) => (1, Kind::Hash),
            (b'?', _) => (1, Kind::Query),
            (b'~', _) => (1, Kind::Compl),
            (b',', _) => (1, Kind::Comma),
            (b'(', _) => (1, Kind::OpenParen),
            (b')', _) => (1, Kind::CloseParen),
            (b'[' | b']' | b'{' | b'}' | b';' | b'.' | b'=', _) => (1, Kind::Punct),
            _ => (1, Kind::Other),
        };
        self.at += length;
        kind
    }
}

fn after_has_include(before: &[Tok]) -> bool {
    match before {
        [.., name, paren] => {
            paren.kind == Kind::OpenParen
                && name.kind == Kind::Ident
                && matches!(name.sym, Sym::HAS_INCLUDE | Sym::HAS_INCLUDE_NEXT)
        }
        _ => false,
    }
}
