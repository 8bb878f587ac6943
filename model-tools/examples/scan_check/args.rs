//! Enough of `gcc`'s command line to make scan requests from recorded compiler calls. The gcc model has the full parser.

use std::path::{Path, PathBuf};

use ggr_models::scan::{Compiler, DirClass, DirFlag, Forced, Language, MacroFlag, ScanRequest};
use serde::Deserialize;

/// One recorded compiler call.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Call {
    /// The working directory.
    pub(crate) dir: PathBuf,
    /// The arguments, the compiler first.
    pub(crate) args: Vec<String>,
}

/// A call that preprocesses one source: the request, and the arguments that `-M` needs.
pub(crate) struct Unit {
    /// What the scanner is asked.
    pub(crate) request: ScanRequest,
    /// The compiler's arguments without output and dependency flags.
    pub(crate) plain: Vec<String>,
}

/// Flags with an argument of their own that do not matter here.
const SKIPPED: [&str; 5] = ["-o", "-MF", "-MT", "-MQ", "-L"];

impl Call {
    /// The units that this call compiles.
    pub(crate) fn units(&self) -> Vec<Unit> {
        let mut flags = Vec::new();
        let (mut macros, mut forced, mut dirs) = (Vec::new(), Vec::new(), Vec::new());
        let mut sources: Vec<(String, Option<Language>)> = Vec::new();
        let mut sysroot = None;
        let mut language = None;
        let mut plain = Vec::new();
        let mut args = self.args[1..].iter();
        while let Some(arg) = args.next() {
            let joined = |name: &str| -> Option<String> {
                let rest = arg.strip_prefix(name)?;
                if rest.is_empty() { args.clone().next().cloned() } else { Some(rest.to_owned()) }
            };
            let separate = |name: &str| arg == name;
            let classes = [
                ("-iquote", DirClass::Quote),
                ("-isystem", DirClass::System),
                ("-idirafter", DirClass::After),
                ("-I", DirClass::Bracket),
            ];
            let mut took = false;
            if arg == "-I-" {
                dirs.push(DirFlag::Split);
                took = true;
            } else if let Some((name, class, value)) =
                classes.iter().find_map(|(name, class)| Some((*name, *class, joined(name)?)))
            {
                dirs.push(DirFlag::Add(class, value.clone()));
                plain.push(name.to_owned());
                plain.push(value);
                if separate(name) {
                    args.next();
                }
                continue;
            } else if let Some(value) = joined("-include") {
                forced.push(Forced::Include(value));
                took = true;
            } else if let Some(value) = joined("-imacros") {
                forced.push(Forced::Macros(value));
                took = true;
            } else if let Some(value) = joined("-D") {
                macros.push(MacroFlag::Define(value));
                took = true;
            } else if let Some(value) = joined("-U") {
                macros.push(MacroFlag::Undefine(value));
                took = true;
            }
            if took {
                plain.push(arg.clone());
                if ["-D", "-U", "-include", "-imacros"].contains(&arg.as_str()) {
                    plain.extend(args.next().cloned());
                }
                continue;
            }
            if SKIPPED.contains(&arg.as_str()) {
                args.next();
            } else if arg == "-x" {
                language = args.next().and_then(|name| parse_language(name));
            } else if let Some(root) = arg.strip_prefix("--sysroot=") {
                sysroot = Some(root.to_owned());
                flags.push(arg.clone());
                plain.push(arg.clone());
            } else if arg == "-isysroot" {
                sysroot = args.next().cloned();
                let root = sysroot.clone().unwrap_or_default();
                flags.extend([arg.clone(), root.clone()]);
                plain.extend([arg.clone(), root]);
            } else if arg == "-c"
                || arg == "-S"
                || arg == "-E"
                || arg.starts_with("-M")
                || arg.starts_with("-Wl,")
            {
            } else if arg.starts_with('-') && arg != "-" {
                plain.push(arg.clone());
                if !arg.starts_with("-W")
                    && !arg.starts_with("-pedantic")
                    && !arg.starts_with("-l")
                    && !arg.starts_with("-L")
                {
                    flags.push(arg.clone());
                }
            } else {
                sources.push((arg.clone(), language));
            }
        }
        let program = PathBuf::from(&self.args[0]);
        let cxx =
            Path::new(&self.args[0]).file_name().is_some_and(|name| name.to_string_lossy().contains("++"));
        let units = sources.into_iter().filter_map(|(source, given)| {
            let language = given.or_else(|| by_suffix(&source, cxx))?;
            let request = ScanRequest {
                compiler: Compiler { program: program.clone(), version: 0, language, flags: flags.clone() },
                source: source.clone(),
                dir: self.dir.clone(),
                macros: macros.clone(),
                forced: forced.clone(),
                dirs: dirs.clone(),
                sysroot: sysroot.clone(),
                cpath: None,
                language_path: None,
                missing_is_generated: false,
                looks_for_precompiled: true,
            };
            let mut plain = plain.clone();
            plain.extend(["-x".into(), language.name().into(), source]);
            Some(Unit { request, plain })
        });
        units.collect()
    }
}

fn parse_language(name: &str) -> Option<Language> {
    match name {
        "c" | "c-header" => Some(Language::C),
        "c++" | "c++-header" => Some(Language::Cxx),
        "assembler-with-cpp" => Some(Language::Assembler),
        _ => None,
    }
}

fn by_suffix(source: &str, cxx: bool) -> Option<Language> {
    match Path::new(source).extension()?.to_str()? {
        "c" | "h" if cxx => Some(Language::Cxx),
        "c" | "h" => Some(Language::C),
        "cc" | "cpp" | "cxx" | "C" | "c++" | "CPP" | "cp" | "hh" | "hpp" | "H" => Some(Language::Cxx),
        "S" | "sx" => Some(Language::Assembler),
        _ => None,
    }
}
