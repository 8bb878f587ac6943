//! `as`, called by itself (the manual of GNU as, "Command-Line Options").
//!
//! The files of `.include` and `.incbin` are found by reading the source: a name in quotes right after the directive, in
//! the working directory and along `-I`. Whatever else follows a directive makes the command run here.

use std::path::Path;
use std::sync::Arc;

use ggr_ir::{Kind, RootPath};

use super::{Binutils, Draft, answer, promise};
use crate::getopt::{self, Row, Style, Value::Maybe, Value::No, Value::Yes, Word};
use crate::link::Halt;
use crate::link::facts::{Facts, Leads};
use crate::model::{FileView, Found, Invocation, Model, Modelled, Plan, Reason};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Meaning {
    Plain,
    Dir,
    Output,
    Depfile,
    Query,
    Local,
}

use Meaning::*;

const AS: &[Row<Meaning>] = &[
    ("32", No, Plain),
    ("64", No, Plain),
    ("D", No, Plain),
    ("I", Yes, Dir),
    ("J", No, Plain),
    ("K", No, Plain),
    ("L", No, Plain),
    ("M", No, Plain),
    ("MD", Yes, Depfile),
    ("O", Maybe, Plain),
    ("Qn", No, Plain),
    ("Qy", No, Plain),
    ("R", No, Plain),
    ("V", No, Plain),
    ("W", No, Plain),
    ("X", No, Plain),
    ("Z", No, Plain),
    ("a", Maybe, Local),
    ("alternate", No, Plain),
    ("compress-debug-sections", Maybe, Plain),
    ("debug-prefix-map", Yes, Plain),
    ("defsym", Yes, Plain),
    ("divide", No, Plain),
    ("dump-config", No, Query),
    ("elf-stt-common", Yes, Plain),
    ("execstack", No, Plain),
    ("f", No, Plain),
    ("fatal-warnings", No, Plain),
    ("g", No, Plain),
    ("gdwarf-2", No, Plain),
    ("gdwarf-3", No, Plain),
    ("gdwarf-4", No, Plain),
    ("gdwarf-5", No, Plain),
    ("gdwarf-cie-version", Yes, Plain),
    ("gdwarf-sections", No, Plain),
    ("gen-debug", No, Plain),
    ("generate-missing-build-notes", Yes, Plain),
    ("gsframe", No, Plain),
    ("gstabs", No, Plain),
    ("gstabs+", No, Plain),
    ("hash-size", Yes, Plain),
    ("help", No, Query),
    ("k", No, Plain),
    ("keep-locals", No, Plain),
    ("mri", No, Plain),
    ("multibyte-handling", Yes, Plain),
    ("n", No, Plain),
    ("no-pad-sections", No, Plain),
    ("no-warn", No, Plain),
    ("nocompress-debug-sections", No, Plain),
    ("nocpp", No, Plain),
    ("noexecstack", No, Plain),
    ("o", Yes, Output),
    ("q", No, Plain),
    ("reduce-memory-overheads", No, Plain),
    ("s", No, Plain),
    ("sectname-subst", No, Plain),
    ("size-check", Yes, Plain),
    ("statistics", No, Local),
    ("strip-local-absolute", No, Plain),
    ("target-help", No, Query),
    ("traditional-format", No, Plain),
    ("v", No, Plain),
    ("version", No, Query),
    ("w", No, Plain),
    ("warn", No, Plain),
    ("x32", No, Plain),
];

/// What a command line says about files.
#[derive(Default, Debug)]
struct Call {
    sources: Vec<String>,
    dirs: Vec<String>,
    output: Option<String>,
    depfile: Option<String>,
}

fn read(args: &[String]) -> Result<Call, Reason> {
    // The options for the processor all start so, and have their value in the same word.
    let args: Vec<String> =
        args.iter().filter(|arg| !arg.starts_with("-m") || *arg == "-m").cloned().collect();
    let mut call = Call::default();
    for word in getopt::parse(AS, Style::LongOnly(&[]), &args)? {
        match word {
            Word::Operand(name) if name == "-" => return Err(Reason::ReadsStdin),
            Word::Operand(name) => call.sources.push(name),
            Word::Option(Plain, ..) => {}
            Word::Option(Dir, value, _) => call.dirs.push(value),
            Word::Option(Output, value, _) => call.output = Some(value),
            Word::Option(Depfile, value, _) => call.depfile = Some(value),
            Word::Option(Query, ..) => return Err(Reason::Query),
            Word::Option(Local, _, written) => return Err(Reason::LocalFlag(written)),
        }
    }
    if call.sources.is_empty() { Err(Reason::ReadsStdin) } else { Ok(call) }
}

/// The model of `as`.
pub struct Assembler {
    shared: Arc<Binutils>,
}

impl Assembler {
    /// Makes the model.
    pub fn new(shared: Arc<Binutils>) -> Self {
        Self { shared }
    }

    fn plan(&self, invocation: &Invocation, files: &dyn FileView) -> Result<Box<Plan>, Halt> {
        let mut draft = Draft::new(invocation, files, &self.shared.tools)?;
        let call = read(&draft.args)?;
        directory_has_one_name(&mut draft)?;
        let mut scan: Vec<String> = call.sources.clone();
        let mut seen: Vec<RootPath> = Vec::new();
        while let Some(name) = scan.pop() {
            let path = draft.reads(&name)?;
            if !seen.contains(&path) {
                scan.extend(included(&mut draft, &path, &call.dirs)?);
                seen.push(path);
            }
        }
        draft.writes(call.output.as_deref().unwrap_or("a.out"), 0o666)?;
        if let Some(depfile) = &call.depfile {
            draft.writes(depfile, 0o666)?;
            draft.deferrable = false;
        }
        let plan = draft.plan(Kind::Assemble)?;
        promise(&self.shared.linkers, &plan, Facts::plain(Leads::Nowhere));
        Ok(plan)
    }
}

/// The assembler writes the directory into debug information by the name that `PWD` gives it, if it gives one.
fn directory_has_one_name(draft: &mut Draft<'_>) -> Result<(), Reason> {
    let dir = &draft.invocation.dir;
    let Some(named) = draft.invocation.env.get("PWD").map(Path::new) else { return Ok(()) };
    if named == dir || !named.is_absolute() {
        return Ok(());
    }
    match draft.inputs.follow(Path::new("/"), named) {
        Ok(real) if real.as_path() == dir => Err(Reason::Other("`PWD` goes through a symlink".to_owned())),
        _ => Ok(()),
    }
}

/// Adds the files that a source names; answers those that are sources themselves.
fn included(draft: &mut Draft<'_>, path: &RootPath, dirs: &[String]) -> Result<Vec<String>, Halt> {
    let bytes = draft.files.read(path.as_path()).map_err(|error| match error.kind() {
        std::io::ErrorKind::WouldBlock => Halt::Force(path.as_path().to_owned()),
        _ => Reason::Other(format!("`{path}` cannot be read: {error}")).into(),
    })?;
    let mut sources = Vec::new();
    for (directive, name) in directives(&bytes)? {
        let candidates = std::iter::once(name.clone()).chain(dirs.iter().map(|dir| format!("{dir}/{name}")));
        for candidate in candidates {
            if draft.find(&candidate) != Found::Missing {
                match directive {
                    Directive::Include => sources.push(candidate),
                    Directive::Incbin => drop(draft.reads(&candidate)?),
                }
                break;
            }
        }
    }
    Ok(sources)
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Directive {
    Include,
    Incbin,
}

/// The directives of a source that name files, wherever they stand: one in a comment does no harm.
fn directives(bytes: &[u8]) -> Result<Vec<(Directive, String)>, Reason> {
    let mut found = Vec::new();
    for at in memchr::memchr_iter(b'.', bytes) {
        let after = &bytes[at + 1..];
        let word = after.get(..7).unwrap_or(after);
        let (directive, rest) = match word {
            _ if word.eq_ignore_ascii_case(b"include") => (Directive::Include, &after[7..]),
            _ if word.len() > 5 && word[..6].eq_ignore_ascii_case(b"incbin") => {
                (Directive::Incbin, &after[6..])
            }
            _ => continue,
        };
        if rest.first().is_some_and(|byte| byte.is_ascii_alphanumeric() || b"_.$".contains(byte)) {
            continue;
        }
        let name = rest
            .trim_ascii_start()
            .strip_prefix(b"\"")
            .and_then(|text| text.split(|&byte| byte == b'"').next());
        match name.map(std::str::from_utf8) {
            Some(Ok(name)) if !name.contains(['\\', '\n']) => found.push((directive, name.to_owned())),
            _ => return Err(Reason::Other(format!("a file that `{directive:?}` names cannot be told"))),
        }
    }
    Ok(found)
}

impl Model for Assembler {
    fn name(&self) -> &str {
        "as"
    }

    fn handles(&self, tool: &str) -> bool {
        tool == "as"
    }

    fn model(&self, invocation: &Invocation, files: &dyn FileView) -> Modelled {
        answer(self.plan(invocation, files))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted() {
        assert!(AS.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }

    #[test]
    fn a_command_line_is_read() {
        let args = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let call = read(&args("--64 -I inc -Iother -o a.o -march=haswell --MD a.d -g a.s")).unwrap();
        assert_eq!(call.sources, ["a.s"]);
        assert_eq!(call.dirs, ["inc", "other"]);
        assert_eq!((call.output.as_deref(), call.depfile.as_deref()), (Some("a.o"), Some("a.d")));
        assert_eq!(read(&args("-o a.o -")).unwrap_err(), Reason::ReadsStdin);
        assert_eq!(read(&args("-o a.o")).unwrap_err(), Reason::ReadsStdin);
        assert_eq!(read(&args("-alh a.s")).unwrap_err(), Reason::LocalFlag("-alh".into()));
    }

    #[test]
    fn directives_are_found_wherever_they_stand() {
        let found =
            directives(b".text\n .include \"a.inc\"\nx: .INCBIN \"b.bin\", 2\n.include\t\"c\" # .incbinx\n")
                .unwrap();
        let names: Vec<_> = found.iter().map(|(directive, name)| (*directive, name.as_str())).collect();
        assert_eq!(
            names,
            [(Directive::Include, "a.inc"), (Directive::Incbin, "b.bin"), (Directive::Include, "c")]
        );
        assert!(directives(b".incbin \\file").is_err());
        assert!(directives(b".incbin \"a\\\"b\"").is_err());
        assert!(directives(b".include").is_err());
        assert_eq!(directives(b".section .text").unwrap(), []);
    }
}
