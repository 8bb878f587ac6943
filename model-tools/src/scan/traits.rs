//! Looks for the few words in a file's text that matter although they stand in no directive.

use memchr::{memmem, memrchr};

use super::lexed::Traits;
use super::token::{is_ident, is_space};

/// Pragmas that change what is read, as they would stand in a string or a macro's argument.
const PRAGMAS: &[&[u8]] = &[b"push_macro", b"pop_macro", b"(once)"];

/// Those of them that follow `GCC`.
const GCC_PRAGMAS: &[&[u8]] =
    &[b"poison", b"system_header", b"target", b"optimize", b"dependency", b"pch_preprocess"];

/// Where such words stand.
fn pragmas(text: &[u8]) -> impl Iterator<Item = usize> {
    let plain = PRAGMAS.iter().flat_map(move |word| {
        memmem::find_iter(text, word).filter(move |at| is_word(text, *at, at + word.len()))
    });
    let after_gcc = memmem::find_iter(text, b"GCC").filter(move |at| {
        let rest = &text[at + 3..];
        let spaces = rest.iter().take_while(|byte| is_space(**byte)).count();
        let word = &rest[spaces..];
        let word = &word[..word.iter().take_while(|byte| is_ident(**byte)).count()];
        spaces > 0 && GCC_PRAGMAS.contains(&word)
    });
    plain.chain(after_gcc)
}

/// What a word found in the text means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Time,
    Incbin,
    Counter,
    /// `_Pragma` that may run anything.
    Dynamic,
    /// `_Pragma` of a string that matters.
    Harmful,
    Hidden,
}

/// The places in a text that may matter, found before it is known what is a comment.
#[derive(Debug, Default)]
pub(crate) struct Places(Vec<(usize, Found)>);

impl Places {
    pub(crate) fn find(text: &[u8]) -> Places {
        let mut places = Vec::new();
        for (words, found) in WORDS {
            for word in *words {
                let hits = memmem::find_iter(text, word).filter(|at| is_word(text, *at, at + word.len()));
                places.extend(hits.map(|at| (at, *found)));
            }
        }
        places.extend(assembler_includes(text).map(|at| (at, Found::Incbin)));
        places.extend(operators(text));
        places.extend(pragmas(text).filter(|at| stands_hidden(text, *at)).map(|at| (at, Found::Hidden)));
        Places(places)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Fills in the traits; places in comments do not count. The comments are in order.
    pub(crate) fn note(&self, comments: &[(usize, usize)], traits: &mut Traits) {
        for (at, found) in &self.0 {
            let after = comments.partition_point(|(start, _)| start <= at);
            if after.checked_sub(1).is_some_and(|last| *at < comments[last].1) {
                continue;
            }
            match found {
                Found::Time => traits.time = true,
                Found::Incbin => traits.incbin = true,
                Found::Counter => traits.counter = true,
                Found::Dynamic => traits.dynamic_pragma = true,
                Found::Harmful => (traits.dynamic_pragma, traits.hidden_pragma) = (true, true),
                Found::Hidden => traits.hidden_pragma = true,
            }
        }
    }
}

const WORDS: &[(&[&[u8]], Found)] = &[
    (&[b"__DATE__", b"__TIME__", b"__TIMESTAMP__"], Found::Time),
    (&[b".incbin"], Found::Incbin),
    (&[b"__COUNTER__"], Found::Counter),
];

fn is_word(text: &[u8], start: usize, end: usize) -> bool {
    let before = start > 0 && is_ident(text[start]) && is_ident(text[start - 1]);
    let after = text.get(end).copied().is_some_and(is_ident);
    !before && !after
}

/// `.include "file"` for the assembler, in a source or in a string.
fn assembler_includes(text: &[u8]) -> impl Iterator<Item = usize> {
    memmem::find_iter(text, b".include").filter(|at| {
        let rest = &text[at + b".include".len()..];
        let spaces = rest.iter().take_while(|byte| is_space(**byte)).count();
        spaces > 0 && matches!(rest.get(spaces), Some(b'"' | b'\\'))
    })
}

/// Each `_Pragma (…)` that is not plainly harmless.
fn operators(text: &[u8]) -> Vec<(usize, Found)> {
    let mut places = Vec::new();
    for at in memmem::find_iter(text, b"_Pragma") {
        let end = at + b"_Pragma".len();
        if !is_word(text, at, end) {
            continue;
        }
        match literal_operand(&text[end..]) {
            Some(literal) => {
                let once = literal.trim_ascii_start().starts_with(b"once");
                if once || pragmas(literal).next().is_some() {
                    places.push((at, Found::Harmful));
                }
            }
            None => places.push((at, Found::Dynamic)),
        }
    }
    places
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
fn stands_hidden(text: &[u8], at: usize) -> bool {
    let start = memrchr(b'\n', &text[..at]).map_or(0, |newline| newline + 1);
    let line = text[start..at].trim_ascii_start();
    let directive = line.strip_prefix(b"#").map(<[u8]>::trim_ascii_start);
    !directive.is_some_and(|rest| rest.starts_with(b"pragma"))
}
