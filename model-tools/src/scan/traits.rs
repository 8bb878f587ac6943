//! Looks for the few words in a file's text that matter although they stand in no directive.

use memchr::{memchr, memmem, memrchr};

use super::lexed::Traits;
use super::token::{is_ident, is_space};

/// Pragmas that change what is read, as they would stand in a string or a macro's argument.
const PRAGMAS: &[&[u8]] = &[
    b"push_macro",
    b"pop_macro",
    b"poison",
    b"system_header",
    b"push_options",
    b"pop_options",
    b"reset_options",
    b"GCC target",
    b"GCC optimize",
    b"GCC dependency",
    b"pch_preprocess",
    b"(once)",
];

/// Fills in the traits that depend on the text alone.
pub(crate) fn note(text: &[u8], traits: &mut Traits) {
    traits.time = [&b"__DATE__"[..], b"__TIME__", b"__TIMESTAMP__"].iter().any(|word| has_word(text, word));
    traits.incbin = has_word(text, b".incbin") || includes_in_assembly(text);
    traits.counter = has_word(text, b"__COUNTER__");
    if memmem::find(text, b"_Pragma").is_some() {
        operators(text, traits);
    }
    traits.hidden_pragma |= PRAGMAS.iter().any(|pragma| stands_hidden(text, pragma));
}

fn has_word(text: &[u8], word: &[u8]) -> bool {
    memmem::find_iter(text, word).any(|at| is_word(text, at, at + word.len()) && !in_line_comment(text, at))
}

fn is_word(text: &[u8], start: usize, end: usize) -> bool {
    let before = start.checked_sub(1).map(|at| text[at]);
    let first_is_ident = is_ident(text[start]);
    !(first_is_ident && before.is_some_and(is_ident)) && !text.get(end).copied().is_some_and(is_ident)
}

/// Whether the line up to here opens a `//` comment, or is a line of a block comment in the usual form (`* …`).
fn in_line_comment(text: &[u8], at: usize) -> bool {
    let start = memrchr(b'\n', &text[..at]).map_or(0, |newline| newline + 1);
    let line = &text[start..at];
    let quoted = memchr(b'"', line).is_some();
    !quoted && line.trim_ascii_start().starts_with(b"//")
}

/// `.include "file"` for the assembler, in a source or in a string.
fn includes_in_assembly(text: &[u8]) -> bool {
    memmem::find_iter(text, b".include").any(|at| {
        let rest = &text[at + b".include".len()..];
        let spaces = rest.iter().take_while(|byte| is_space(**byte)).count();
        spaces > 0 && matches!(rest.get(spaces), Some(b'"' | b'\\'))
    })
}

/// Looks at each `_Pragma (…)`.
fn operators(text: &[u8], traits: &mut Traits) {
    for at in memmem::find_iter(text, b"_Pragma") {
        let end = at + b"_Pragma".len();
        if !is_word(text, at, end) {
            continue;
        }
        match literal_operand(&text[end..]) {
            Some(literal) => {
                let word = literal.trim_ascii_start();
                let once = word.starts_with(b"once");
                if once || PRAGMAS.iter().any(|pragma| memmem::find(literal, pragma).is_some()) {
                    traits.hidden_pragma = true;
                    traits.dynamic_pragma = true;
                }
            }
            None => traits.dynamic_pragma = true,
        }
    }
}

/// The text of the string in `("…")`.
fn literal_operand(text: &[u8]) -> Option<&[u8]> {
    let text = text.trim_ascii_start().strip_prefix(b"(")?.trim_ascii_start().strip_prefix(b"\"")?;
    let mut end = 0;
    while *text.get(end)? != b'"' {
        end += if text[end] == b'\\' { 2 } else { 1 };
    }
    Some(&text[..end])
}

/// Whether the words stand anywhere but on a `#pragma` line.
fn stands_hidden(text: &[u8], words: &[u8]) -> bool {
    memmem::find_iter(text, words).any(|at| {
        let start = memrchr(b'\n', &text[..at]).map_or(0, |newline| newline + 1);
        let line = text[start..at].trim_ascii_start();
        let directive = line.strip_prefix(b"#").map(<[u8]>::trim_ascii_start);
        !directive.is_some_and(|rest| rest.starts_with(b"pragma"))
    })
}
