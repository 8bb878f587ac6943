//! Languages: what a source file is, by `-x`, by its suffix (`default_compilers` in `gcc.cc`, `cp/lang-specs.h`) and by
//! the driver's own name (`cp/g++spec.cc`).

use crate::scan;

/// What a source file is compiled as.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Language {
    C,
    Cxx,
    /// Preprocessed C: `.i`
    CText,
    /// Preprocessed C++: `.ii`
    CxxText,
    /// Assembler text: `.s`
    Assembler,
    /// Assembler text to be preprocessed: `.S`
    AssemblerWithCpp,
    /// A C header; unless it is only preprocessed or checked, it is precompiled.
    CHeader,
    /// A C++ header.
    CxxHeader,
    /// A language that is not modelled.
    Foreign,
}

impl Language {
    /// The compiler program that it takes; none if the assembler alone does it.
    pub(super) fn compiler(self) -> Option<&'static str> {
        match self {
            Self::C | Self::CText | Self::AssemblerWithCpp | Self::CHeader => Some("cc1"),
            Self::Cxx | Self::CxxText | Self::CxxHeader => Some("cc1plus"),
            Self::Assembler | Self::Foreign => None,
        }
    }

    /// What the include scanner calls it; none if nothing is included.
    pub(super) fn scanned_as(self) -> Option<scan::Language> {
        match self {
            Self::C | Self::CHeader => Some(scan::Language::C),
            Self::Cxx | Self::CxxHeader => Some(scan::Language::Cxx),
            Self::AssemblerWithCpp => Some(scan::Language::Assembler),
            _ => None,
        }
    }

    /// Whether it is a header's.
    pub(super) fn is_header(self) -> bool {
        matches!(self, Self::CHeader | Self::CxxHeader)
    }
}

/// Which driver runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Personality {
    /// `gcc`, `cc`, `clang`
    C,
    /// `g++`, `c++`, `clang++`: C is compiled as C++.
    Cxx,
    /// `cpp`: preprocesses only.
    Cpp,
}

impl Personality {
    /// By the tool's name, without triplet and version.
    pub(super) fn of(tool: &str) -> Option<Self> {
        match tool {
            "gcc" | "cc" | "clang" => Some(Self::C),
            "g++" | "c++" | "clang++" => Some(Self::Cxx),
            "cpp" => Some(Self::Cpp),
            _ => None,
        }
    }
}

/// What the argument of `-x` names; none for `-x none`.
pub(super) fn named(name: &str) -> Option<Language> {
    Some(match name {
        "none" => return None,
        "c" => Language::C,
        "c++" => Language::Cxx,
        "cpp-output" => Language::CText,
        "c++-cpp-output" => Language::CxxText,
        "assembler" => Language::Assembler,
        "assembler-with-cpp" => Language::AssemblerWithCpp,
        "c-header" => Language::CHeader,
        "c++-header" => Language::CxxHeader,
        _ => Language::Foreign,
    })
}

/// What a file is by its suffix; none for what goes to the linker.
pub(super) fn by_suffix(path: &str, personality: Personality) -> Option<Language> {
    let name = path.rsplit('/').next().unwrap_or(path);
    let (_, suffix) = name.rsplit_once('.')?;
    let language = match suffix {
        "c" => Language::C,
        "cc" | "cp" | "cxx" | "cpp" | "c++" | "C" | "CPP" => Language::Cxx,
        "i" => Language::CText,
        "ii" => Language::CxxText,
        "s" => Language::Assembler,
        "S" | "sx" => Language::AssemblerWithCpp,
        "h" => Language::CHeader,
        "hh" | "H" | "hp" | "hxx" | "hpp" | "HPP" | "h++" | "tcc" => Language::CxxHeader,
        "m" | "mi" | "mm" | "M" | "mii" | "ads" | "adb" | "f" | "F" | "for" | "FOR" | "ftn" | "FTN"
        | "fpp" | "FPP" | "f90" | "F90" | "f95" | "F95" | "f03" | "F03" | "f08" | "F08" | "r" | "go"
        | "d" | "dd" | "di" => Language::Foreign,
        _ => return None,
    };
    Some(match (personality, language) {
        (Personality::Cxx, Language::C) => Language::Cxx,
        (Personality::Cxx, Language::CText) => Language::CxxText,
        (Personality::Cxx, Language::CHeader) => Language::CxxHeader,
        _ => language,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_name_languages() {
        let check =
            |path: &str, personality, expected| assert_eq!(by_suffix(path, personality), expected, "{path}");
        check("a.c", Personality::C, Some(Language::C));
        check("a.c", Personality::Cxx, Some(Language::Cxx));
        check("x.y/a.cc", Personality::C, Some(Language::Cxx));
        check("a.i", Personality::Cxx, Some(Language::CxxText));
        check("a.S", Personality::C, Some(Language::AssemblerWithCpp));
        check("a.h", Personality::C, Some(Language::CHeader));
        check("a.h", Personality::Cxx, Some(Language::CxxHeader));
        check("a.hxx", Personality::C, Some(Language::CxxHeader));
        check("a.f90", Personality::C, Some(Language::Foreign));
        for object in ["a.o", "liba.a", "x.c/a", "libz.so.1", "a"] {
            check(object, Personality::C, None);
        }
    }
}
