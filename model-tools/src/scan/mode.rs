//! How text is read: the parts of the language standard that decide where tokens end (`lang_defaults` in `init.cc`).

use super::facts::Facts;
use super::request::{Compiler, Language};
use super::result::ScanMiss;

/// A set of reading rules. Files are lexed once for each mode that they are read in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Mode(pub(crate) u16);

impl Mode {
    /// `R"(…)"`
    pub(crate) const RAW_STRINGS: Mode = Mode(1);
    /// `1'000`
    pub(crate) const DIGIT_SEPARATORS: Mode = Mode(1 << 1);
    /// `??=`
    pub(crate) const TRIGRAPHS: Mode = Mode(1 << 2);
    /// `%:`
    pub(crate) const DIGRAPHS: Mode = Mode(1 << 3);
    /// Named operators, `true`, `::`.
    pub(crate) const CXX: Mode = Mode(1 << 4);
    /// ISO C90: `//` does not always start a comment.
    pub(crate) const C90: Mode = Mode(1 << 5);
    /// Unknown directives are text.
    pub(crate) const ASSEMBLER: Mode = Mode(1 << 6);
    /// `$` in identifiers.
    pub(crate) const DOLLARS: Mode = Mode(1 << 7);
    /// `#elifdef` is a directive.
    pub(crate) const ELIFDEF: Mode = Mode(1 << 8);
    /// `u"…"`, `U"…"`, `u8"…"`
    pub(crate) const UNICODE_STRINGS: Mode = Mode(1 << 9);
    /// A single empty variable argument keeps the comma (`-std=cXX`).
    pub(crate) const STRICT: Mode = Mode(1 << 10);
    /// `::` is one token.
    pub(crate) const SCOPE: Mode = Mode(1 << 11);

    pub(crate) fn has(self, other: Mode) -> bool {
        self.0 & other.0 != 0
    }

    fn set(&mut self, other: Mode, on: bool) {
        if on {
            self.0 |= other.0;
        }
    }

    /// The mode that a compiler with these facts reads in.
    pub(crate) fn of(compiler: &Compiler, facts: &Facts) -> Result<Mode, ScanMiss> {
        for flag in &compiler.flags {
            let unsure = UNSURE_FLAGS
                .iter()
                .any(|known| known.strip_suffix('*').map_or(flag == known, |start| flag.starts_with(start)));
            if unsure {
                return Err(ScanMiss::unsure(format!("flag `{flag}`")));
            }
        }
        let last = |flag: &str| compiler.flags.iter().rposition(|given| given == flag);
        let mut mode = Mode(0);
        let (dollars, no_dollars) = (last("-fdollars-in-identifiers"), last("-fno-dollars-in-identifiers"));
        // Choosing a standard forgets an earlier `-trigraphs`.
        let standard = compiler.flags.iter().rposition(|flag| flag.starts_with("-std=") || flag == "-ansi");
        let trigraphs = last("-trigraphs").is_some_and(|at| standard.is_none_or(|standard| at > standard));
        if compiler.language == Language::Assembler {
            if trigraphs {
                return Err(ScanMiss::unsure("trigraphs in assembly"));
            }
            mode.set(Mode::ASSEMBLER | Mode::ELIFDEF, true);
            mode.set(Mode::DOLLARS, dollars > no_dollars);
            return Ok(mode);
        }
        let value = |name: &str| macro_value(&facts.macros, name);
        let strict = value("__STRICT_ANSI__").is_some();
        let number = |text: Option<&[u8]>| -> u64 {
            let digits: String = text
                .unwrap_or_default()
                .iter()
                .take_while(|byte| byte.is_ascii_digit())
                .map(|&b| b as char)
                .collect();
            digits.parse().unwrap_or(0)
        };
        mode.set(Mode::STRICT, strict);
        mode.set(Mode::TRIGRAPHS, trigraphs);
        mode.set(Mode::DOLLARS, dollars >= no_dollars);
        if compiler.language == Language::Cxx {
            let standard = number(value("__cplusplus"));
            mode.set(Mode::CXX | Mode::DIGRAPHS | Mode::SCOPE, true);
            mode.set(Mode::RAW_STRINGS | Mode::UNICODE_STRINGS, standard >= 201_103);
            mode.set(Mode::DIGIT_SEPARATORS, standard >= 201_402);
            mode.set(Mode::TRIGRAPHS, strict && standard < 201_703);
            mode.set(Mode::ELIFDEF, !strict || standard > 202_002);
            return Ok(mode);
        }
        let standard = number(value("__STDC_VERSION__"));
        let c99 = standard >= 199_901;
        let c2x = standard > 201_710;
        mode.set(Mode::TRIGRAPHS, strict);
        mode.set(Mode::C90, strict && !c99);
        mode.set(Mode::DIGRAPHS, !strict || standard != 0);
        mode.set(Mode::RAW_STRINGS, !strict && c99);
        mode.set(Mode::UNICODE_STRINGS, if strict { standard >= 201_112 } else { c99 });
        mode.set(Mode::DIGIT_SEPARATORS, c2x);
        mode.set(Mode::ELIFDEF, !strict || c2x);
        mode.set(Mode::SCOPE, !strict || c2x);
        Ok(mode)
    }
}

impl std::ops::BitOr for Mode {
    type Output = Mode;
    fn bitor(self, other: Mode) -> Mode {
        Mode(self.0 | other.0)
    }
}

/// Flags that change what is read in ways that are not modelled here.
const UNSURE_FLAGS: &[&str] = &[
    "-traditional",
    "-traditional-cpp",
    "-fpreprocessed",
    "-fdirectives-only",
    "-remap",
    "-finput-charset*",
    "-fexec-charset*",
    "-fwide-exec-charset*",
    "-fmodules*",
    "-fmodule-*",
    "-fno-canonical-system-headers",
    "-fno-extended-identifiers",
    "-fno-operator-names",
    "-fmax-include-depth*",
    "-fpch-preprocess",
    "-fsearch-include-path*",
    "-imultilib*",
    "-iprefix*",
    "-iwithprefix*",
    "-undef",
    "-A*",
    "-F*",
    "-fplugin*",
    "-include-pch",
];

/// The replacement text of a macro among `#define` lines.
fn macro_value<'a>(macros: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let wanted = format!("#define {name}");
    macros.split(|&byte| byte == b'\n').find_map(|line| {
        let rest = line.strip_prefix(wanted.as_bytes())?;
        match rest.first() {
            None => Some(rest),
            Some(b' ') => Some(&rest[1..]),
            Some(_) => None,
        }
    })
}
