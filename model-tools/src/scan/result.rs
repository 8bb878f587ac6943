//! What the scanner answers.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// One file that the compiler reads, in the order in which it first opens them; the source is the first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dep {
    /// The path as GCC spells it (relative to the working directory, or absolute), before a depfile strips a leading `./`.
    pub path: String,
    /// Whether it is a system header, which `-MM` and `-MMD` leave out.
    pub system: bool,
    /// A header that `-MG` only assumes: there is no such file.
    pub generated: bool,
}

/// Precompiled headers of which GCC may take one in place of the text of the first header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Precompiled {
    /// The `.gch` files and directories, absolute, in the order in which GCC looks at them.
    pub paths: Vec<PathBuf>,
    /// The first of [`Scan::deps`] that the header's text stands for: itself.
    pub first: usize,
    /// The end of those: what it includes, and was not read before.
    pub end: usize,
    /// Among them `__has_include` found a file, not one of the system's, that they do not include.
    pub probes: bool,
}

/// All that preprocessing one translation unit reads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scan {
    /// The files, as `gcc -M` lists them. One file may stand here twice under different spellings, as it does with GCC.
    pub deps: Vec<Dep>,
    /// Directories (absolute, not normalized) that must exist where the compiler runs, even if empty: those that it
    /// searches, because it drops one that does not exist from its chains, and those that a path leaves by `..`.
    pub dirs: Vec<PathBuf>,
    /// Files that `__has_include` found, and that were not read: they must exist for the compiler to see the same.
    pub probed: Vec<PathBuf>,
    /// `__DATE__`, `__TIME__` or `__TIMESTAMP__` stands somewhere in the text of a file that is read.
    pub uses_time: bool,
    /// `.incbin` stands somewhere in the text of a file that is read: the assembler reads a file that is not listed here.
    pub has_incbin: bool,
    /// What may stand for some of the files.
    pub precompiled: Option<Precompiled>,
    /// GCC fails: on `#error`, or for want of a header. What it has read by then is listed.
    pub fails: bool,
}

/// Why there is no scan. Nothing is wrong with the program: the real `gcc -M` has to answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScanMiss {
    /// The scanner cannot be certain of equalling GCC; says why.
    #[error("not sure: {0}")]
    NotSure(String),
    /// A file that is needed is a placeholder: make it real, then ask again.
    #[error("`{}` is still to be made", .0.display())]
    NeedReal(PathBuf),
}

impl ScanMiss {
    pub(crate) fn unsure(reason: impl Into<String>) -> ScanMiss {
        ScanMiss::NotSure(reason.into())
    }
}
