//! What is different with Clang: one program is driver, compiler and assembler; it looks for a GCC to borrow startup files
//! and C++ headers from; and it knows other options.
//!
//! The include scanner is GCC's preprocessor rewritten, so Clang itself is asked what it reads (`-M`), and depfiles are
//! outputs of the thunk.

use std::path::Path;

use super::call::{Call, Source};
use super::flags::{self, Flag, Meaning, Mode};
use super::source::{Language, Personality};
use crate::inputs::InputSet;
use crate::model::{FileView, Found, Reason};
use crate::models::tool_name;
use crate::toolchain::Driver;

/// What a driver's options mean.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Dialect {
    Gcc,
    Clang,
}

impl Dialect {
    /// By the driver's own file.
    pub(super) fn of(program: &Path) -> Self {
        match tool_name(program).starts_with("clang") {
            true => Self::Clang,
            false => Self::Gcc,
        }
    }

    /// Matches a word that starts with `-`; none if there is no such option.
    pub(super) fn find(self, word: &str) -> Option<Flag<'_>> {
        match self {
            Self::Gcc => flags::find(word),
            Self::Clang => own(word).or_else(|| flags::find(word)).or_else(|| warning(word)),
        }
    }
}

/// Which of Clang's drivers runs: all are one file, and the name that it is called by says which.
pub(super) fn personality(called: &str) -> Personality {
    Personality::of(&tool_name(Path::new(called))).unwrap_or(Personality::C)
}

/// Makes sure that the call leaves what GCC's rules say.
///
/// # Errors
/// Why it must run here.
pub(super) fn check(call: &Call) -> Result<(), Reason> {
    if call.native {
        return Err(Reason::LocalFlag("native".to_owned()));
    }
    let assembler =
        |source: &Source| matches!(source.language, Language::Assembler | Language::AssemblerWithCpp);
    if let Some(header) = call.sources.iter().find(|source| source.language.is_header()) {
        return Err(Reason::Other(format!("`{}` is to be precompiled", header.path)));
    }
    // GCC writes nothing then; Clang the preprocessed text.
    if call.mode == Mode::Compile && call.sources.iter().any(assembler) {
        return Err(Reason::Other("assembler text is only preprocessed".to_owned()));
    }
    Ok(())
}

/// Files that say which distribution this is: some defaults depend on it (`clang/lib/Driver/Distro.cpp`).
const DISTRIBUTION: [&str; 5] = [
    "/etc/os-release",
    "/etc/lsb-release",
    "/etc/debian_version",
    "/etc/redhat-release",
    "/etc/SuSE-release",
];

/// By these a GCC installation and its variants are known (`clang/lib/Driver/ToolChains/Gnu.cpp`).
const STARTUP: [&str; 3] = ["crtbegin.o", "32/crtbegin.o", "x32/crtbegin.o"];

/// Adds what the driver looks at before it compiles anything.
///
/// # Errors
/// As [`InputSet::add`].
pub(super) fn add_installation(
    driver: &Driver,
    set: &mut InputSet<'_>,
    files: &dyn FileView,
) -> Result<(), Reason> {
    let startup = driver.library_dirs.iter().flat_map(|dir| STARTUP.iter().map(move |name| dir.join(name)));
    for path in DISTRIBUTION.iter().map(|path| Path::new(path).to_owned()).chain(startup) {
        if matches!(files.find(&path), Found::File { .. }) {
            set.add(Path::new("/"), &path)?;
        }
    }
    set.add_dir(Path::new("/"), &driver.install.join("include"))
}

/// Options that GCC has not, or reads otherwise; in byte order. A row that ends with `=` takes the rest of the word.
const OWN: [(&str, Meaning); 43] = [
    ("-Qunused-arguments", Meaning::Plain),
    ("-emit-llvm", Meaning::Local),
    ("-fansi-escape-codes", Meaning::Plain),
    ("-fapple-pragma-pack", Meaning::Macros),
    ("-fblocks", Meaning::Macros),
    ("-fbracket-depth=", Meaning::Plain),
    ("-fcaret-diagnostics", Meaning::Plain),
    ("-fcolor-diagnostics", Meaning::Plain),
    ("-fcoverage-mapping", Meaning::Plain),
    ("-fdebug-macro", Meaning::Plain),
    ("-fdelayed-template-parsing", Meaning::Macros),
    ("-ferror-limit=", Meaning::Plain),
    ("-fexperimental-new-pass-manager", Meaning::Plain),
    ("-ffp-model=", Meaning::Macros),
    ("-fheinous-gnu-extensions", Meaning::Macros),
    ("-fintegrated-as", Meaning::Plain),
    ("-fintegrated-cc1", Meaning::Plain),
    ("-flimit-debug-info", Meaning::Plain),
    ("-flto", Meaning::Plain),
    ("-flto=thin", Meaning::Plain),
    ("-fmacro-backtrace-limit=", Meaning::Plain),
    ("-fms-extensions", Meaning::Macros),
    ("-fno-caret-diagnostics", Meaning::Plain),
    ("-fno-color-diagnostics", Meaning::Plain),
    ("-fno-experimental-new-pass-manager", Meaning::Plain),
    ("-fno-integrated-as", Meaning::Plain),
    ("-fno-limit-debug-info", Meaning::Plain),
    ("-fno-slp-vectorize", Meaning::Plain),
    ("-fno-spell-checking", Meaning::Plain),
    ("-fno-standalone-debug", Meaning::Plain),
    ("-fno-vectorize", Meaning::Plain),
    ("-fprofile-instr-generate", Meaning::Macros),
    ("-fslp-vectorize", Meaning::Plain),
    ("-fstandalone-debug", Meaning::Plain),
    ("-ftemplate-backtrace-limit=", Meaning::Plain),
    ("-ftime-trace", Meaning::Extra("json")),
    ("-ftime-trace-granularity=", Meaning::Plain),
    ("-fvectorize", Meaning::Plain),
    ("-gline-directives-only", Meaning::Plain),
    ("-gline-tables-only", Meaning::Plain),
    ("-glldb", Meaning::Plain),
    ("-gmodules", Meaning::Local),
    ("-stdlib=", Meaning::Macros),
];

fn own(word: &str) -> Option<Flag<'_>> {
    let (name, meaning) = OWN.iter().find(|(name, _)| match name.ends_with('=') {
        true => word.starts_with(name),
        false => word == *name,
    })?;
    Some(Flag { meaning: *meaning, joined: word.get(name.len()..), separate: false, negated: false })
}

/// Clang takes every warning, and says which it does not know.
fn warning(word: &str) -> Option<Flag<'_>> {
    let plain = Flag { meaning: Meaning::Plain, joined: None, separate: false, negated: false };
    word.starts_with("-W").then_some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order() {
        assert!(OWN.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }

    #[test]
    fn options_of_clang_are_known_to_clang_alone() {
        let meaning = |dialect: Dialect, word: &'static str| dialect.find(word).map(|flag| flag.meaning);
        for (word, expected) in [
            ("-Weverything", Some(Meaning::Plain)),
            ("-fcolor-diagnostics", Some(Meaning::Plain)),
            ("-fstandalone-debug", Some(Meaning::Plain)),
            ("-ftime-trace", Some(Meaning::Extra("json"))),
            ("-fbogus", None),
        ] {
            assert_eq!(meaning(Dialect::Clang, word), expected, "{word}");
            assert_eq!(meaning(Dialect::Gcc, word), None, "{word}");
        }
        assert_eq!(meaning(Dialect::Clang, "-Wl,-s"), meaning(Dialect::Gcc, "-Wl,-s"));
    }

    #[test]
    fn the_driver_is_told_by_its_name() {
        let check = |called: &str, expected| assert_eq!(personality(called), expected, "{called}");
        check("clang", Personality::C);
        check("/usr/bin/clang++-14", Personality::Cxx);
        check("c++", Personality::Cxx);
        check("/opt/cc", Personality::C);
        assert_eq!(Dialect::of(Path::new("/usr/lib/llvm-14/bin/clang")), Dialect::Clang);
        assert_eq!(Dialect::of(Path::new("/usr/bin/x86_64-linux-gnu-gcc-12")), Dialect::Gcc);
    }
}
