//! Cuts a file into directives; passes over text, comments, strings and raw strings as `lex.cc` does.

use memchr::{memchr, memmem};

use super::clean::Clean;
use super::conditions::Conditions;
use super::lexed::Lexed;
use super::mode::Mode;
use super::symbol::{self, Interning, Symbols};
use super::token::{is_ident, is_space};
use super::traits::Places;

/// Lexes the raw bytes of a file.
pub(crate) fn lex(raw: &[u8], mode: Mode, symbols: &Symbols) -> Lexed {
    let clean = Clean::new(raw, mode);
    let places = Places::find(&clean.text);
    let mut lexer = Lexer {
        raw,
        text: &clean.text,
        clean: &clean,
        mode,
        at: 0,
        counted: (0, 1),
        interning: symbols.lock(),
        conditions: Conditions::default(),
        scratch: Vec::new(),
        comments: Vec::new(),
        note_comments: !places.is_empty(),
        out: Lexed::default(),
    };
    lexer.run();
    let mut out = lexer.out;
    match lexer.conditions.finish() {
        Ok(guard) => out.guard = guard,
        Err(reason) => {
            out.unsure.get_or_insert(reason.to_owned());
        }
    }
    places.note(&lexer.comments, &mut out.traits);
    out.content = (symbol::hash(raw), raw.len() as u64);
    out.prepare();
    out
}

pub(crate) struct Lexer<'a> {
    raw: &'a [u8],
    pub(crate) text: &'a [u8],
    clean: &'a Clean<'a>,
    pub(crate) mode: Mode,
    pub(crate) at: usize,
    /// A position and the line that it is on; lines are counted on demand from there.
    counted: (usize, u32),
    pub(crate) interning: Interning<'a>,
    pub(crate) conditions: Conditions,
    pub(crate) scratch: Vec<u8>,
    /// Where comments stand, if anything in the text makes that matter.
    comments: Vec<(usize, usize)>,
    note_comments: bool,
    pub(crate) out: Lexed,
}

/// What a byte may start, in text.
const PLAIN: u8 = 0;
const NEWLINE: u8 = 1;
const QUOTE: u8 = 2;
const SLASH: u8 = 3;
static CLASS: [u8; 256] = {
    let mut table = [PLAIN; 256];
    table[b'\n' as usize] = NEWLINE;
    table[b'"' as usize] = QUOTE;
    table[b'\'' as usize] = QUOTE;
    table[b'/' as usize] = SLASH;
    table
};

impl<'a> Lexer<'a> {
    fn run(&mut self) {
        while self.at < self.text.len() && self.out.unsure.is_none() {
            self.spaces();
            match self.peek(0) {
                None => break,
                Some(b'\n') => self.at += 1,
                Some(b'#') if self.peek(1) != Some(b'#') => {
                    self.at += 1;
                    self.directive();
                }
                Some(b'%') if self.digraph_hash() => {
                    self.at += 2;
                    self.directive();
                }
                Some(_) => {
                    self.conditions.text();
                    self.skip_line();
                }
            }
        }
    }

    pub(crate) fn peek(&self, ahead: usize) -> Option<u8> {
        self.text.get(self.at + ahead).copied()
    }

    fn digraph_hash(&self) -> bool {
        self.mode.has(Mode::DIGRAPHS)
            && self.text[self.at..].starts_with(b"%:")
            && !self.text[self.at..].starts_with(b"%:%:")
    }

    /// Moves over white space and comments, but not over the end of the line.
    pub(crate) fn spaces(&mut self) {
        loop {
            match self.peek(0) {
                Some(byte) if is_space(byte) => self.at += 1,
                Some(b'/') if self.comment() => {}
                _ => return,
            }
        }
    }

    /// If a comment starts here, moves to its end (a line comment's newline is left).
    pub(crate) fn comment(&mut self) -> bool {
        let start = self.at;
        let found = self.pass_comment();
        if found && self.note_comments {
            self.comments.push((start, self.at));
        }
        found
    }

    fn pass_comment(&mut self) -> bool {
        match self.peek(1) {
            Some(b'*') => {
                match memmem::find(&self.text[self.at + 2..], b"*/") {
                    Some(length) => self.at += length + 4,
                    None => {
                        self.at = self.text.len();
                        self.out.unsure.get_or_insert_with(|| "unterminated comment".to_owned());
                    }
                }
                true
            }
            Some(b'/') => {
                if self.mode.has(Mode::C90) {
                    self.out.unsure.get_or_insert_with(|| "`//` in ISO C90".to_owned());
                }
                self.at =
                    memchr(b'\n', &self.text[self.at..]).map_or(self.text.len(), |length| self.at + length);
                true
            }
            _ => false,
        }
    }

    /// Moves over the rest of the logical line, its newline included. Comments and raw strings may make it span several.
    pub(crate) fn skip_line(&mut self) {
        loop {
            while self.at < self.text.len() && CLASS[self.text[self.at] as usize] == PLAIN {
                self.at += 1;
            }
            match self.peek(0) {
                None => return,
                Some(b'\n') => {
                    self.at += 1;
                    return;
                }
                Some(b'/') => {
                    if !self.comment() {
                        self.at += 1;
                    }
                }
                Some(quote) => self.literal(quote),
            }
            if self.out.unsure.is_some() {
                return;
            }
        }
    }

    /// Moves over the string or character constant that starts here.
    pub(crate) fn literal(&mut self, quote: u8) {
        if quote == b'\'' && self.mode.has(Mode::DIGIT_SEPARATORS) && self.is_separator() {
            self.at += 1;
            return;
        }
        if quote == b'"' && self.mode.has(Mode::RAW_STRINGS) && self.is_raw() {
            self.raw_string();
            return;
        }
        self.at += 1;
        while let Some(byte) = self.peek(0) {
            match byte {
                b'\n' => return,
                b'\\' if self.peek(1) != Some(b'\n') => self.at += 2,
                _ => {
                    self.at += 1;
                    if byte == quote {
                        return;
                    }
                }
            }
        }
    }

    /// Whether the `'` here stands inside a number.
    fn is_separator(&self) -> bool {
        if !self.peek(1).is_some_and(is_ident) {
            return false;
        }
        let mut start = self.at;
        while start > 0 && (is_ident(self.text[start - 1]) || matches!(self.text[start - 1], b'.' | b'\'')) {
            start -= 1;
        }
        // `'a'1'2'` and the like is no program; only a run that starts with a digit is a number.
        let run = &self.text[start..self.at];
        run.first().is_some_and(u8::is_ascii_digit)
            || (run.first() == Some(&b'.') && run.get(1).is_some_and(u8::is_ascii_digit))
    }

    /// Whether the `"` here follows the prefix of a raw string.
    fn is_raw(&mut self) -> bool {
        if self.at == 0 || self.text[self.at - 1] != b'R' {
            return false;
        }
        let mut start = self.at;
        while start > 0 && (is_ident(self.text[start - 1]) || self.text[start - 1] == b'.') {
            start -= 1;
        }
        let is_prefix = matches!(&self.text[start..self.at], b"R" | b"LR" | b"uR" | b"UR" | b"u8R");
        let joined = match self.text[..start] {
            // The suffix of a literal, in C++; in C the prefix of the next.
            [.., b'"' | b'\''] => true,
            // Part of a number.
            [.., b'e' | b'E' | b'p' | b'P', b'+' | b'-'] => true,
            _ => false,
        };
        if is_prefix && joined {
            self.out.unsure.get_or_insert_with(|| "a raw string that may be none".to_owned());
        }
        is_prefix
    }

    /// Moves over a raw string; in it splices and trigraphs are text, so its end is looked for in the raw bytes.
    fn raw_string(&mut self) {
        let open = self.clean.raw_position(self.at + 1);
        let end = memchr(b'(', &self.raw[open..]).filter(|length| *length <= 16).and_then(|length| {
            let prefix = &self.raw[open..open + length];
            if prefix
                .iter()
                .any(|byte| matches!(byte, b' ' | b')' | b'\\' | b'\t' | b'\n' | b'?' | 0x0b | 0x0c))
            {
                return None;
            }
            let mut close = vec![b')'];
            close.extend_from_slice(prefix);
            close.push(b'"');
            let from = open + length + 1;
            memmem::find(&self.raw[from..], &close).map(|found| from + found + close.len())
        });
        match end {
            Some(end) => self.at = self.clean.clean_position(end),
            None => {
                self.at += 1;
                self.out.unsure.get_or_insert_with(|| "malformed raw string".to_owned());
            }
        }
    }

    /// The line of a position that is not before the last one asked for.
    pub(crate) fn line(&mut self, at: usize) -> u32 {
        let (from, line) = self.counted;
        let newlines = memchr::memchr_iter(b'\n', &self.text[from..at]).count() as u32;
        let cuts = &self.clean.cuts;
        let low = cuts.partition_point(|cut| cut.clean <= from);
        let cut_lines: u32 = cuts[low..].iter().take_while(|cut| cut.clean <= at).map(|cut| cut.lines).sum();
        self.counted = (at, line + newlines + cut_lines);
        self.counted.1
    }
}
