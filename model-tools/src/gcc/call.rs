//! A driver's command line, read from left to right.

use std::collections::BTreeSet;

use super::clang::Dialect;
use super::flags::{Depfile, Flag, Handed, Meaning, Mode};
use super::source::{Language, Personality, by_suffix, named};
use crate::model::Reason;
use crate::scan::{self, DirClass, DirFlag, Forced, MacroFlag, Target};

/// One source file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Source {
    /// As spelled.
    pub(super) path: String,
    pub(super) language: Language,
}

/// A depfile that is asked for.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(super) struct DepfileFlags {
    pub(super) user_only: bool,
    /// `-MF`, or the file of `-Wp,-MD,file`.
    pub(super) name: Option<String>,
    /// `-MT` and `-MQ`, in order.
    pub(super) targets: Vec<Target>,
    pub(super) phony: bool,
    /// It was asked of `cc1` behind the driver's back (`-Wp,-MD,file`), so the driver names no target.
    pub(super) behind: bool,
    /// The driver was asked for one.
    pub(super) driver: bool,
}

/// One argument that concerns the linker, in its order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum LinkArg {
    File(String),
    Library(String),
    LibraryDir(String),
    Linker(String),
}

/// What a command line says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Call {
    pub(super) mode: Mode,
    pub(super) sources: Vec<Source>,
    pub(super) output: Option<String>,
    pub(super) depfile: Option<DepfileFlags>,
    pub(super) macros: Vec<MacroFlag>,
    pub(super) forced: Vec<Forced>,
    pub(super) dirs: Vec<DirFlag>,
    pub(super) sysroot: Option<String>,
    /// `-MG`
    pub(super) missing_is_generated: bool,
    /// The flags on which predefined macros or default directories may depend, in order.
    pub(super) macro_flags: Vec<String>,
    /// Suffixes of files that are written beside the output.
    pub(super) extras: BTreeSet<&'static str>,
    /// What stands before the names of files beside the output, if that is not named: the driver means to link `a.out`.
    pub(super) prefix: &'static str,
    /// More files are written, by rules that are not modelled.
    pub(super) dumps: bool,
    /// The values of the flags that say so: some name files or directories.
    pub(super) dump_names: Vec<String>,
    /// `-MF` of a call that only lists dependencies.
    pub(super) dependencies: Option<String>,
    /// Whether a flag says `native`.
    pub(super) native: bool,
    /// Files and libraries for the linker, and its arguments.
    pub(super) link_items: Vec<LinkArg>,
    /// All flags as written but `-o` and those in `link_items`.
    pub(super) flags: Vec<String>,
}

impl Call {
    /// Whether it makes precompiled headers.
    pub(super) fn precompiles(&self) -> bool {
        self.mode == Mode::Assemble && self.sources.iter().any(|source| source.language.is_header())
    }

    /// Whether GCC looks for precompiled headers: not when it makes one, nor when it only preprocesses.
    pub(super) fn uses_precompiled(&self, language: scan::Language) -> bool {
        self.mode <= Mode::Check && !self.precompiles() && language != scan::Language::Assembler
    }
}

/// Reads the arguments (without the program's name) of a call.
///
/// # Errors
/// The reason why the command must run here.
pub(super) fn parse(args: &[String], personality: Personality, dialect: Dialect) -> Result<Call, Reason> {
    let mut reader = Reader::new(personality);
    let mut words = args.iter();
    while let Some(word) = words.next() {
        if word == "-" {
            return Err(Reason::ReadsStdin);
        }
        if !word.starts_with('-') {
            reader.file(word)?;
            continue;
        }
        // The driver itself turns `--param name=value` into one word (`decode_cmdline_options_to_array`).
        if word == "--param" {
            let value = words.next().ok_or_else(|| missing_value(word))?;
            reader.call.flags.push(format!("--param={value}"));
            continue;
        }
        let flag = dialect.find(word).ok_or_else(|| Reason::UnknownFlag(word.clone()))?;
        let value = match flag {
            Flag { separate: true, .. } => Some(words.next().ok_or_else(|| missing_value(word))?.as_str()),
            Flag { joined, .. } => joined,
        };
        reader.flag(word, flag, value)?;
    }
    reader.finish()
}

fn missing_value(word: &str) -> Reason {
    Reason::Other(format!("`{word}` lacks its argument"))
}

struct Reader {
    call: Call,
    personality: Personality,
    /// The last `-x`.
    language: Option<Language>,
    depfile: DepfileFlags,
    depfile_kind: Option<Depfile>,
}

impl Reader {
    fn new(personality: Personality) -> Self {
        let mode = if personality == Personality::Cpp { Mode::Preprocess } else { Mode::Link };
        let call = Call {
            mode,
            sources: Vec::new(),
            output: None,
            depfile: None,
            macros: Vec::new(),
            forced: Vec::new(),
            dirs: Vec::new(),
            sysroot: None,
            missing_is_generated: false,
            macro_flags: Vec::new(),
            extras: BTreeSet::new(),
            prefix: "",
            dumps: false,
            dump_names: Vec::new(),
            dependencies: None,
            native: false,
            link_items: Vec::new(),
            flags: Vec::new(),
        };
        Self { call, personality, language: None, depfile: DepfileFlags::default(), depfile_kind: None }
    }

    fn file(&mut self, path: &str) -> Result<(), Reason> {
        let is_cpp = self.personality == Personality::Cpp;
        if is_cpp && self.call.sources.len() == 1 && self.call.output.is_none() {
            // `cpp in out` (`cppspec.cc`).
            self.call.output = Some(path.to_owned());
            return Ok(());
        }
        match self.language.or_else(|| by_suffix(path, self.personality)) {
            None if self.personality == Personality::Cpp => {
                Err(Reason::Other(format!("`{path}` has no suffix that the preprocessor knows")))
            }
            None => {
                self.call.link_items.push(LinkArg::File(path.to_owned()));
                Ok(())
            }
            Some(Language::Foreign) => Err(Reason::Other(format!("the language of `{path}` has no model"))),
            Some(language) => {
                self.call.sources.push(Source { path: path.to_owned(), language });
                Ok(())
            }
        }
    }

    fn flag(&mut self, word: &str, flag: Flag<'_>, value: Option<&str>) -> Result<(), Reason> {
        let text = || value.unwrap_or_default().to_owned();
        let call = &mut self.call;
        match flag.meaning {
            Meaning::Plain | Meaning::Link => {}
            Meaning::Local | Meaning::Dump if flag.negated => {}
            Meaning::Macros => call.macro_flags.push(word.to_owned()),
            Meaning::Mode(mode) if !flag.negated => call.mode = call.mode.max(mode),
            Meaning::Mode(_) => return Err(Reason::LocalFlag(word.to_owned())),
            Meaning::Define => call.macros.push(MacroFlag::Define(text())),
            Meaning::Undefine => call.macros.push(MacroFlag::Undefine(text())),
            Meaning::Dir(DirClass::Bracket) if value == Some("-") => call.dirs.push(DirFlag::Split),
            Meaning::Dir(class) => call.dirs.push(DirFlag::Add(class, text())),
            Meaning::Include => call.forced.push(Forced::Include(text())),
            Meaning::Imacros => call.forced.push(Forced::Macros(text())),
            Meaning::Sysroot => {
                call.sysroot = Some(text());
                call.macro_flags.push(word.to_owned());
                call.macro_flags.extend(flag.separate.then(text));
            }
            Meaning::Language => self.language = named(value.unwrap_or_default()),
            Meaning::Output => {
                if call.output.replace(text()).is_some() {
                    return Err(Reason::Other("`-o` is given twice".into()));
                }
                return Ok(());
            }
            Meaning::Extra(suffix) => {
                if flag.negated {
                    call.extras.remove(suffix);
                } else {
                    call.extras.insert(suffix);
                }
                // Split debug information is debug information too.
                call.macro_flags.extend((suffix == "dwo").then(|| word.to_owned()));
            }
            Meaning::Letters => call.dumps |= text().bytes().any(|letter| !b"ADIMNPUp".contains(&letter)),
            Meaning::Dump => {
                call.dumps = true;
                call.dump_names.extend(value.map(str::to_owned));
            }
            Meaning::Processor => {
                call.native |= value == Some("native");
                call.macro_flags.push(word.to_owned());
            }
            Meaning::Charset if value == Some("UTF-8") => {}
            Meaning::Query => return Err(Reason::Query),
            Meaning::Charset | Meaning::Local => return Err(Reason::LocalFlag(word.to_owned())),
            Meaning::Depfile(_)
            | Meaning::DepfileName
            | Meaning::DepfileTarget
            | Meaning::DepfileQuoted
            | Meaning::DepfilePhony
            | Meaning::DepfileGenerated => self.depfile_flag(flag.meaning, text()),
            Meaning::Preprocessor(handed) => self.preprocessor(word, handed, &text())?,
            Meaning::Assembler(handed) => assembler(word, handed, &text())?,
            Meaning::Linker(_) | Meaning::Library | Meaning::LibraryDir => {
                self.link_item(flag.meaning, text());
                return Ok(());
            }
        }
        self.call.flags.push(word.to_owned());
        self.call.flags.extend(flag.separate.then(|| value.unwrap_or_default().to_owned()));
        Ok(())
    }

    fn link_item(&mut self, meaning: Meaning, text: String) {
        let items = &mut self.call.link_items;
        match meaning {
            Meaning::Library => items.push(LinkArg::Library(text)),
            Meaning::LibraryDir => items.push(LinkArg::LibraryDir(text)),
            Meaning::Linker(Handed::List) => {
                items.extend(text.split(',').map(|part| LinkArg::Linker(part.to_owned())));
            }
            _ => items.push(LinkArg::Linker(text)),
        }
    }

    fn depfile_flag(&mut self, meaning: Meaning, text: String) {
        self.depfile.driver |= matches!(meaning, Meaning::Depfile(_) | Meaning::DepfileName);
        match meaning {
            // The later of `-MD` and `-MMD` does not win: both reach `cc1`, `-MMD` after `-MD`.
            Meaning::Depfile(Depfile::User) => self.depfile_kind = Some(Depfile::User),
            Meaning::Depfile(Depfile::All) => self.depfile_kind = self.depfile_kind.or(Some(Depfile::All)),
            Meaning::DepfileName => self.depfile.name = Some(text),
            Meaning::DepfileTarget => self.depfile.targets.push(Target::Verbatim(text)),
            Meaning::DepfileQuoted => self.depfile.targets.push(Target::Quoted(text)),
            Meaning::DepfilePhony => self.depfile.phony = true,
            _ => self.call.missing_is_generated = true,
        }
    }

    /// Arguments that reach `cc1` as they are. Only those that builds use are modelled (the kernel's `-Wp,-MMD,file`).
    fn preprocessor(&mut self, word: &str, handed: Handed, text: &str) -> Result<(), Reason> {
        let local = || Reason::LocalFlag(word.to_owned());
        if handed == Handed::One {
            return Err(local());
        }
        let mut parts = text.split(',');
        while let Some(part) = parts.next() {
            match part {
                "-MD" | "-MMD" if self.depfile_kind.is_none() && self.depfile.name.is_none() => {
                    self.depfile.name = Some(parts.next().ok_or_else(local)?.to_owned());
                    self.depfile.behind = true;
                    self.depfile_kind = Some(if part == "-MD" { Depfile::All } else { Depfile::User });
                }
                "-MP" => self.depfile.phony = true,
                "-MT" => {
                    self.depfile.targets.push(Target::Verbatim(parts.next().ok_or_else(local)?.to_owned()))
                }
                "-MQ" => {
                    self.depfile.targets.push(Target::Quoted(parts.next().ok_or_else(local)?.to_owned()))
                }
                _ if part.starts_with("-D") && part.len() > 2 => {
                    self.call.macros.push(MacroFlag::Define(part[2..].to_owned()));
                }
                _ if part.starts_with("-U") && part.len() > 2 => {
                    self.call.macros.push(MacroFlag::Undefine(part[2..].to_owned()));
                }
                _ => return Err(local()),
            }
        }
        Ok(())
    }

    /// Headers become precompiled ones, and nothing is linked.
    fn precompile(&mut self, header: &str) -> Result<(), Reason> {
        let call = &mut self.call;
        let alone =
            call.link_items.is_empty() && call.sources.iter().all(|source| source.language.is_header());
        let twice = ["-save-temps", "-no-integrated-cpp", "-traditional-cpp"];
        let preprocessed_apart = |flag: &String| twice.iter().any(|twice| flag.starts_with(twice));
        if !alone || call.mode == Mode::Compile || call.flags.iter().any(preprocessed_apart) {
            return Err(Reason::Other(format!("`{header}` is to be precompiled, and more is asked for")));
        }
        if call.mode == Mode::Link {
            (call.mode, call.prefix) = (Mode::Assemble, "a-");
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Call, Reason> {
        if self.call.sources.is_empty() && self.call.link_items.is_empty() {
            return Err(Reason::Other("there is no input file".into()));
        }
        if let Some(header) = self.call.sources.iter().find(|source| source.language.is_header()) {
            let (header, mode) = (header.path.clone(), self.call.mode);
            if mode < Mode::Check {
                self.precompile(&header)?;
            }
        }
        if self.personality == Personality::Cpp && self.call.sources.len() > 1 {
            return Err(Reason::Other("`cpp` is given two files".into()));
        }
        if self.call.mode == Mode::Dependencies {
            if self.depfile_kind.is_some() {
                return Err(Reason::Other("dependencies are asked for twice".into()));
            }
            self.call.dependencies = self.depfile.name.take();
        }
        if self.depfile.behind && self.depfile.driver {
            // The driver's options come first on `cc1`'s line, and which file wins depends on both.
            return Err(Reason::Other("a depfile is asked for twice".into()));
        }
        if let Some(kind) = self.depfile_kind {
            let behind_and_before = self.depfile.behind && self.call.mode == Mode::Link;
            if behind_and_before {
                return Err(Reason::Other("a depfile for a link".into()));
            }
            self.depfile.user_only = kind == Depfile::User;
            self.call.depfile = Some(self.depfile);
        }
        Ok(self.call)
    }
}

/// Arguments for the assembler: those that neither read nor write a file pass.
fn assembler(word: &str, handed: Handed, text: &str) -> Result<(), Reason> {
    const PLAIN: [&str; 16] = [
        "--noexecstack",
        "--execstack",
        "--fatal-warnings",
        "--warn",
        "--no-warn",
        "-W",
        "--32",
        "--64",
        "--divide",
        "--gdwarf-2",
        "--gdwarf-3",
        "--gdwarf-4",
        "--gdwarf-5",
        "--strip-local-absolute",
        "--compress-debug-sections",
        "--nocompress-debug-sections",
    ];
    const PREFIXES: [&str; 6] = [
        "-m",
        "--compress-debug-sections=",
        "--generate-missing-build-notes=",
        "--elf-stt-common=",
        "-g",
        "--size-check=",
    ];
    let fine = |part: &str| PLAIN.contains(&part) || PREFIXES.iter().any(|prefix| part.starts_with(prefix));
    let fine = match handed {
        Handed::List => text.split(',').all(fine),
        Handed::One => fine(text),
    };
    if fine { Ok(()) } else { Err(Reason::LocalFlag(word.to_owned())) }
}

#[cfg(test)]
mod tests;
