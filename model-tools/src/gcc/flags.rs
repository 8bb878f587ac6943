//! What each flag of a compiler driver means for the model.
//!
//! The options stand in one table ([`super::table`], written from GCC's own option files); this is how a word of a command
//! line is matched with a row, as GCC's `find_opt` and `decode_cmdline_option` (`opts-common.cc`) do it.

use super::table::{Row, TABLE};
use crate::scan::DirClass;

/// How an option takes its value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Attach {
    /// It has none.
    Alone,
    /// It follows in the same word.
    Joined,
    /// It is the next word.
    Separate,
    /// In the same word if anything follows there, else in the next.
    Either,
    /// It follows in the same word, or there is none.
    JoinedOrMissing,
}

/// How far a call goes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Mode {
    /// To the linked program (no flag).
    Link,
    /// `-c`: to the object.
    Assemble,
    /// `-S`: to assembler text.
    Compile,
    /// `-fsyntax-only`: nothing is written.
    Check,
    /// `-E`: to preprocessed text.
    Preprocess,
    /// `-M`, `-MM`: to a list of dependencies.
    Dependencies,
}

/// Which headers a depfile names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Depfile {
    /// `-MD`
    All,
    /// `-MMD`: not those of the system.
    User,
}

/// How arguments are handed on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Handed {
    /// `-Wa,one,two`
    List,
    /// `-Xassembler one`
    One,
}

/// What an option means for the model.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Meaning {
    /// Nothing: no file is read or written because of it.
    Plain,
    /// No file, but predefined macros or default directories may depend on it.
    Macros,
    /// How far the call goes.
    Mode(Mode),
    /// `-D`
    Define,
    /// `-U`
    Undefine,
    /// A directory for headers.
    Dir(DirClass),
    /// `-include`
    Include,
    /// `-imacros`
    Imacros,
    /// `--sysroot`, `-isysroot`
    Sysroot,
    /// `-x`
    Language,
    /// A depfile is written beside the output.
    Depfile(Depfile),
    /// `-MF`
    DepfileName,
    /// `-MT`
    DepfileTarget,
    /// `-MQ`
    DepfileQuoted,
    /// `-MP`
    DepfilePhony,
    /// `-MG`
    DepfileGenerated,
    /// Arguments for the preprocessor.
    Preprocessor(Handed),
    /// Arguments for the assembler.
    Assembler(Handed),
    /// Arguments for the linker.
    Linker(Handed),
    /// `-l`
    Library,
    /// `-L`
    LibraryDir,
    /// Concerns the linker only.
    Link,
    /// `-o`
    Output,
    /// A further file with this suffix, named after the output.
    Extra(&'static str),
    /// `-d` and letters: some write dumps, some do not.
    Letters,
    /// Further files, by rules of their own.
    Dump,
    /// `-march=` and its like: `native` depends on this machine.
    Processor,
    /// A character set: any but UTF-8 loads converters.
    Charset,
    /// Asks the driver something; nothing is compiled.
    Query,
    /// Reads, writes or says what a thunk cannot hold.
    Local,
}

/// One option of a command line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Flag<'a> {
    pub(super) meaning: Meaning,
    /// The value, if it stands in the same word.
    pub(super) joined: Option<&'a str>,
    /// The value is the next word.
    pub(super) separate: bool,
    /// It was given in its `no-` form.
    pub(super) negated: bool,
}

/// Matches a word that starts with `-`; none if GCC knows no such option.
pub(super) fn find(word: &str) -> Option<Flag<'_>> {
    let text = word.strip_prefix('-')?;
    if let Some(flag) = plain(text) {
        return Some(flag);
    }
    let (letter, rest) = (text.get(..1)?, text.get(1..)?.strip_prefix("no-")?);
    if !matches!(letter, "f" | "W" | "m" | "g") {
        return None;
    }
    let positive = format!("{letter}{rest}");
    match row(&positive) {
        Some((name, _, true, meaning)) => {
            let joined = (name.len() < positive.len()).then(|| &rest[name.len() - 1..]);
            Some(Flag { meaning: *meaning, joined, separate: false, negated: true })
        }
        // GCC takes every `-Wno-…`, and mentions one that it does not know only beside other messages.
        _ if letter == "W" => {
            Some(Flag { meaning: Meaning::Plain, joined: None, separate: false, negated: true })
        }
        _ => None,
    }
}

fn plain(text: &str) -> Option<Flag<'_>> {
    let (name, attach, _, meaning) = row(text)?;
    let rest = &text[name.len()..];
    let separate = match attach {
        Attach::Separate => true,
        Attach::Either => rest.is_empty(),
        Attach::Alone | Attach::Joined | Attach::JoinedOrMissing => false,
    };
    let joined = (!separate && *attach != Attach::Alone).then_some(rest);

    Some(Flag { meaning: *meaning, joined, separate, negated: false })
}

/// The longest row that the text equals, or starts with if a value may follow.
fn row(text: &str) -> Option<&'static Row> {
    let mut prefix = text;
    loop {
        let after = TABLE.partition_point(|row| row.0 <= prefix);
        let candidate = TABLE.get(after.checked_sub(1)?)?;
        let (name, attach, ..) = candidate;
        let common = name.bytes().zip(text.bytes()).take_while(|(a, b)| a == b).count();
        if common == name.len() && (common == text.len() || takes_joined(*attach)) {
            return Some(candidate);
        }
        // No row between this prefix and the text fits; the next that may is a prefix of what they share, and shorter.
        let shorter = if common == name.len() { common - 1 } else { common };
        prefix = text.get(..shorter.min(prefix.len()))?;
        if prefix.is_empty() {
            return None;
        }
    }
}

fn takes_joined(attach: Attach) -> bool {
    matches!(attach, Attach::Joined | Attach::Either | Attach::JoinedOrMissing)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(word: &str, meaning: Meaning, joined: Option<&str>, separate: bool, negated: bool) {
        assert_eq!(find(word), Some(Flag { meaning, joined, separate, negated }), "{word}");
    }

    #[test]
    fn the_table_is_in_order() {
        assert!(TABLE.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }

    #[test]
    fn options_are_matched_as_gcc_matches_them() {
        use Meaning::*;
        check("-c", Mode(super::Mode::Assemble), None, false, false);
        check("-o", Output, None, true, false);
        check("-ofoo", Output, Some("foo"), false, false);
        check("-Iinc", Dir(DirClass::Bracket), Some("inc"), false, false);
        check("-I", Dir(DirClass::Bracket), None, true, false);
        check("-isystem", Dir(DirClass::System), None, true, false);
        check("-isystem=x", Dir(DirClass::System), Some("=x"), false, false);
        check("-include", Include, None, true, false);
        check("-DX=1", Define, Some("X=1"), false, false);
        check("-MD", Depfile(super::Depfile::All), None, false, false);
        check("-MFx.d", DepfileName, Some("x.d"), false, false);
        check("-MMD", Depfile(super::Depfile::User), None, false, false);
        check("-O2", Macros, Some("2"), false, false);
        check("-Ofast", Macros, None, false, false);
        check("-g", Macros, Some(""), false, false);
        check("-g3", Macros, Some("3"), false, false);
        check("-ggdb3", Macros, Some("3"), false, false);
        check("-gdwarf-4", Macros, Some("4"), false, false);
        check("-gsplit-dwarf", Extra("dwo"), None, false, false);
        check("-std=c++17", Macros, None, false, false);
        check("-march=native", Processor, Some("native"), false, false);
        check("-Wall", Plain, None, false, false);
        check("-Werror=format", Plain, Some("format"), false, false);
        check("-Wl,-z,now", Linker(Handed::List), Some("-z,now"), false, false);
        check("-Wp,-MD,x", Preprocessor(Handed::List), Some("-MD,x"), false, false);
        check("-lm", Library, Some("m"), false, false);
        check("-fdump-tree-all", Dump, Some("tree-all"), false, false);
        check("-fsanitize=address", Macros, Some("address"), false, false);
        check("--sysroot=/x", Sysroot, Some("/x"), false, false);
        check("--param=ssp-buffer-size=4", Plain, Some("4"), false, false);
        check("-nostdlib", Link, None, false, false);
        check("-xc++", Language, Some("c++"), false, false);
        check("-pthread", Macros, None, false, false);
    }

    #[test]
    fn negative_forms_are_matched() {
        check("-fno-exceptions", Meaning::Macros, None, false, true);
        check("-Wno-error=format", Meaning::Plain, Some("format"), false, true);
        check("-Wno-never-heard-of", Meaning::Plain, None, false, true);
        check("-mno-sse2", Meaning::Macros, None, false, true);
        check("-fno-stats", Meaning::Local, None, false, true);
    }

    #[test]
    fn unknown_options_are_unknown() {
        for word in ["-fbogus", "-Wbogus", "-bogus", "-fno-bogus", "--bogus", "-mbogus", "-jfoo"] {
            assert_eq!(find(word), None, "{word}");
        }
    }
}
