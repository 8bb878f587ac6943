//! What the scanner is asked: one translation unit, as a `gcc` command line describes it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The language that the preprocessor runs as (`-x`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Language {
    /// `-x c`
    C,
    /// `-x c++`
    Cxx,
    /// `-x assembler-with-cpp`
    Assembler,
}

impl Language {
    /// The name that `-x` takes.
    pub fn name(self) -> &'static str {
        match self {
            Language::C => "c",
            Language::Cxx => "c++",
            Language::Assembler => "assembler-with-cpp",
        }
    }
}

/// A compiler, and the flags that decide its predefined macros, its default directories and how it reads text.
///
/// `flags` holds every flag of the command line that may matter to `gcc FLAGS -E -v -dM`: `-std=…`, `-ansi`, `-m…`, `-O…`,
/// `-f…`, `-g…`, `-pthread`, `-nostdinc`, `-nostdinc++`, `--sysroot=…`, `-isysroot …`, `-B…`, `-specs=…`, `-undef`, `-trigraphs`.
/// It must not hold `-D`, `-U`, `-I…`, `-include`, `-imacros`, `-M…`, `-o` or `-c`. A flag too many costs a query, no more.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Compiler {
    /// The driver, by a path that runs the real one.
    pub program: PathBuf,
    /// Changes whenever the compiler's files may have changed (hash or stamp of the driver and of `cc1`).
    pub version: u64,
    /// The language.
    pub language: Language,
    /// The flags, in their order.
    pub flags: Vec<String>,
}

/// One `-D` or `-U`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum MacroFlag {
    /// What follows `-D`: `NAME`, `NAME=text`, `NAME(x)=text`.
    Define(String),
    /// What follows `-U`.
    Undefine(String),
}

/// One `-include` or `-imacros`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Forced {
    /// `-include FILE`
    Include(String),
    /// `-imacros FILE`
    Macros(String),
}

/// Which chain a directory joins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum DirClass {
    /// `-iquote`
    Quote,
    /// `-I`
    Bracket,
    /// `-isystem`
    System,
    /// `-idirafter`
    After,
}

/// One directory flag, in the order of the command line.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum DirFlag {
    /// A directory for a chain, as spelled (`=dir` and `$SYSROOT/dir` too).
    Add(DirClass, String),
    /// `-I-`
    Split,
}

/// One translation unit to scan.
///
/// `compiler.flags` decide default directories too, so `-nostdinc` and `--sysroot` stand there; `sysroot` is only what `=dir`
/// in a directory flag is replaced by.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct ScanRequest {
    /// The compiler and what decides its predefined macros.
    pub compiler: Compiler,
    /// The source file as the command line spells it.
    pub source: String,
    /// The working directory: absolute, no symlinks.
    pub dir: PathBuf,
    /// `-D` and `-U`, in their order.
    pub macros: Vec<MacroFlag>,
    /// `-include` and `-imacros`, in their order.
    pub forced: Vec<Forced>,
    /// `-I`, `-iquote`, `-isystem`, `-idirafter`, `-I-`, in their order.
    pub dirs: Vec<DirFlag>,
    /// The argument of `--sysroot=` or `-isysroot`.
    pub sysroot: Option<String>,
    /// The value of `CPATH`.
    pub cpath: Option<String>,
    /// The value of `C_INCLUDE_PATH`, or of `CPLUS_INCLUDE_PATH` for C++.
    pub language_path: Option<String>,
    /// `-MG`: a header that is missing is a dependency, by its name, and no error. Only with `-M` and `-MM`.
    pub missing_is_generated: bool,
    /// Whether GCC looks for precompiled headers: not when it makes one, nor when it only preprocesses.
    pub looks_for_precompiled: bool,
}
