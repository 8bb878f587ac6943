//! What a compiler driver hands to the linker, learned by asking it: `gcc -### FLAGS`.
//!
//! The answer holds the startup files, the library directories, the libraries of the language and the runtime, and all
//! that specs and `-B`, `-static-pie`, `-fsanitize=…`, `-pg` and their like change in these. It is asked once for each
//! set of flags; the objects, `-l`, `-L`, `-Wl,` and `-o` of a call are no part of it.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, RwLock};

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use super::LinkCall;
use crate::model::{FileView, Reason};

/// What stands for the objects in the question: it exists, so that no driver complains, and its name has no suffix, so
/// that it is taken for an object.
const OBJECTS: &str = "/dev/null";

/// The variables that change what the driver answers.
const VARIABLES: &[&str] = &["PATH", "COMPILER_PATH", "LIBRARY_PATH", "GCC_EXEC_PREFIX"];

/// Flags whose value is a path that the driver itself follows: then the working directory is part of the question.
const RELATIVE: &[&str] =
    &["-B", "-specs", "--specs", "--sysroot", "--gcc-toolchain", "-iplugindir", "-wrapper"];

/// The version of the encoding of [`Templates`], its first byte.
const VERSION: u8 = 1;

/// The longest encoding that is read, in bytes: some thousand sets of flags.
const MAX_LEN: usize = 16 << 20;

/// How many sets of flags are remembered; a build has some tens.
const MAX_KNOWN: usize = 4096;

/// What the linker is given for one set of flags.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Template {
    /// The program that the driver starts: `collect2`, or the linker itself.
    pub program: PathBuf,
    /// Where the driver and `collect2` look for programs before `PATH`.
    pub program_dirs: Vec<PathBuf>,
    /// Spec files that the driver reads.
    pub specs: Vec<PathBuf>,
    /// The arguments in front of the objects, without the output.
    pub before: Vec<String>,
    /// The arguments after them.
    pub after: Vec<String>,
}

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, Debug)]
struct Question {
    driver: PathBuf,
    stamp: u64,
    argv0: String,
    flags: Vec<String>,
    dir: Option<PathBuf>,
    env: BTreeMap<String, String>,
}

/// The answers of drivers, valid while the driver's file is the same.
#[derive(Default, Debug)]
pub struct Templates {
    known: RwLock<FxHashMap<Question, Arc<Template>>>,
}

impl Templates {
    /// The template for a call. Costs one run of the driver (some 2 ms) for a set of flags that is new.
    ///
    /// # Errors
    /// [`Reason::MissingInput`] without a driver, [`Reason::Other`] if it answers otherwise than expected.
    pub fn of(&self, call: &LinkCall<'_>, files: &dyn FileView) -> Result<Arc<Template>, Reason> {
        let question = Question::of(call, files)?;
        if let Some(known) = self.known.read().expect("no writer panics").get(&question) {
            return Ok(known.clone());
        }
        let template = Arc::new(ask(call, &question)?);
        // A startup file without a directory was not found: it may be installed later.
        let complete = |arg: &String| arg.starts_with('/') || !arg.ends_with(".o");
        let mut known = self.known.write().expect("no writer panics");
        if known.len() < MAX_KNOWN && template.before.iter().chain(&template.after).all(complete) {
            known.insert(question, template.clone());
        }
        Ok(template)
    }

    /// Encodes for a file: a version byte, then postcard.
    pub fn to_bytes(&self) -> Vec<u8> {
        let known = self.known.read().expect("no writer panics");
        let sorted: BTreeMap<&Question, &Template> =
            known.iter().map(|(key, value)| (key, &**value)).collect();
        postcard::to_extend(&sorted, vec![VERSION]).expect("strings, paths and maps can be encoded")
    }

    /// Decodes; knows nothing when the version is another one, or the bytes are damaged or too many.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let known: Option<BTreeMap<Question, Template>> = match bytes.split_first() {
            Some((&VERSION, rest)) if rest.len() <= MAX_LEN => postcard::from_bytes(rest).ok(),
            _ => None,
        };
        let known =
            known.unwrap_or_default().into_iter().map(|(key, value)| (key, Arc::new(value))).collect();
        Self { known: RwLock::new(known) }
    }
}

impl Question {
    fn of(call: &LinkCall<'_>, files: &dyn FileView) -> Result<Self, Reason> {
        let invocation = call.invocation;
        let missing = || Reason::MissingInput(invocation.program.display().to_string());
        let relative = |flag: &String| RELATIVE.iter().any(|name| flag.starts_with(name));
        let env =
            VARIABLES.iter().filter_map(|&name| Some((name.to_owned(), invocation.env.get(name)?.clone())));
        Ok(Self {
            driver: invocation.program.clone(),
            stamp: files.stamp(&invocation.program).ok_or_else(missing)?,
            argv0: invocation.args.first().cloned().unwrap_or_default(),
            flags: asked(call.flags),
            dir: call.flags.iter().any(relative).then(|| invocation.dir.clone()),
            env: env.collect(),
        })
    }
}

/// Flags that say nothing to a link, with their value in the next word.
const APART: &[&str] = &[
    "-D",
    "-I",
    "-MF",
    "-MQ",
    "-MT",
    "-U",
    "-idirafter",
    "-imacros",
    "-include",
    "-iquote",
    "-isystem",
    "-x",
];

/// Starts of flags that say nothing to a link.
const ASIDE: &[&str] = &["-D", "-I", "-M", "-U", "-W", "-idirafter", "-iquote", "-isystem", "-x"];

/// The flags that are asked about: not those for the preprocessor, so that calls that differ in these alone share an
/// answer, and not `-x`, which would make a source of what stands for the objects.
fn asked(flags: &[String]) -> Vec<String> {
    let mut asked = Vec::with_capacity(flags.len());
    let mut rest = flags.iter();
    while let Some(flag) = rest.next() {
        if APART.contains(&flag.as_str()) {
            rest.next();
        } else if !ASIDE.iter().any(|start| flag.starts_with(start)) {
            asked.push(flag.clone());
        }
    }
    asked
}

fn ask(call: &LinkCall<'_>, question: &Question) -> Result<Template, Reason> {
    let output = Command::new(&question.driver)
        .arg0(&question.argv0)
        .arg("-###")
        .args(&question.flags)
        .arg(OBJECTS)
        .current_dir(&call.invocation.dir)
        .env_clear()
        .envs(&question.env)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| {
            Reason::Other(format!("`{}` could not be asked: {error}", question.driver.display()))
        })?;
    let said = String::from_utf8(output.stderr).map_err(|_| Reason::NotUtf8)?;
    if !output.status.success() {
        let error = said.lines().find(|line| line.contains("error: "));
        return Err(Reason::Other(error.unwrap_or("the driver does not link").to_owned()));
    }
    read(&said).ok_or_else(|| Reason::Other(format!("`{} -###` shows no link", question.driver.display())))
}

/// Reads what the driver said: the commands stand on lines that start with a space.
fn read(said: &str) -> Option<Template> {
    let mut words = said.lines().rfind(|line| line.starts_with(' ')).map(split)?.into_iter();
    let program = words.next()?;
    let args: Vec<String> = words.collect();
    let at = args.iter().position(|arg| arg == OBJECTS)?;
    let program_dirs =
        said.lines().rev().find_map(|line| line.strip_prefix("COMPILER_PATH=")).unwrap_or_default();
    let specs = said.lines().filter_map(|line| line.strip_prefix("Reading specs from "));
    Some(Template {
        program: program.into(),
        program_dirs: once_each(program_dirs.split(':').filter(|dir| !dir.is_empty())),
        specs: specs.map(PathBuf::from).collect(),
        before: without_output(&args[..at]),
        after: args[at + 1..].to_vec(),
    })
}

fn once_each<'a>(dirs: impl Iterator<Item = &'a str>) -> Vec<PathBuf> {
    let mut seen: Vec<PathBuf> = Vec::new();
    dirs.for_each(|dir| {
        if !seen.iter().any(|other| other == Path::new(dir)) {
            seen.push(dir.into());
        }
    });
    seen
}

/// Clang names an output even if none was asked for.
fn without_output(args: &[String]) -> Vec<String> {
    let mut kept = Vec::with_capacity(args.len());
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        match arg.as_str() {
            "-o" => drop(rest.next()),
            _ => kept.push(arg.clone()),
        }
    }
    kept
}

/// Splits a command as the driver prints it: words, quoted with `"` where needed, `\` before `"`, `\` and `$`.
pub(crate) fn split(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted, mut open) = (Vec::new(), String::new(), false, false);
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => (quoted, open) = (!quoted, true),
            '\\' if quoted => word.extend(letters.next()),
            ' ' if !quoted => {
                if open {
                    words.push(std::mem::take(&mut word));
                }
                open = false;
            }
            letter => {
                word.push(letter);
                open = true;
            }
        }
    }
    if open {
        words.push(word);
    }
    words
}

impl Template {
    /// The linker that `collect2` starts (`find_a_file` in `collect2.c`): in the driver's directories under three names,
    /// then in `PATH`.
    ///
    /// # Errors
    /// [`Reason::MissingInput`] if there is none.
    pub fn linker(
        &self,
        flags: &[String],
        path: &str,
        dir: &Path,
        files: &dyn FileView,
    ) -> Result<PathBuf, Reason> {
        if self.program.file_name().is_none_or(|name| name != "collect2") {
            return Ok(self.program.clone());
        }
        let chosen = flags.iter().rev().find_map(|flag| flag.strip_prefix("-fuse-ld="));
        let name = chosen.map_or_else(|| "ld".to_owned(), |which| format!("ld.{which}"));
        for candidate in ["real-ld", "collect-ld", &name] {
            if let Some(found) = self.part(candidate, dir, files) {
                return Ok(found);
            }
        }
        crate::toolchain::Tools::in_path(&name, path, dir, files).ok_or(Reason::MissingInput(name))
    }

    /// A program in the driver's directories.
    pub fn part(&self, name: &str, dir: &Path, files: &dyn FileView) -> Option<PathBuf> {
        let candidates = self.program_dirs.iter().map(|place| dir.join(place).join(name));
        candidates.into_iter().find(|path| files.stamp(path).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_printed_command_is_split_as_the_driver_quotes_it() {
        let check = |line: &str, expected: &[&str]| assert_eq!(split(line), expected, "{line}");
        check(r#" /c -o "a b" "x\$y\\z\"" d"#, &["/c", "-o", "a b", "x$y\\z\"", "d"]);
        check(r#" "/usr/bin/ld" "" -x"#, &["/usr/bin/ld", "", "-x"]);
    }

    #[test]
    fn a_link_is_read_around_the_objects() {
        let said = "Reading specs from /x/libgomp.spec\nCOMPILER_PATH=/p/:/q/\n /p/collect2 -m elf_x86_64 -o a.out \
                    crt1.o /dev/null -lc crtn.o\nCOLLECT_GCC_OPTIONS='-o'\n";
        let template = read(said).unwrap();
        assert_eq!(template.program, Path::new("/p/collect2"));
        assert_eq!(template.before, ["-m", "elf_x86_64", "crt1.o"]);
        assert_eq!(template.after, ["-lc", "crtn.o"]);
        assert_eq!(template.program_dirs, [Path::new("/p/"), Path::new("/q/")]);
        assert_eq!(template.specs, [Path::new("/x/libgomp.spec")]);
        assert_eq!(read("gcc: fatal error"), None);
    }

    #[test]
    fn what_is_for_sources_is_no_part_of_the_question() {
        let flags = "-O2 -x c -pie -xc++ -I inc -DA=1 -D B -MD -MF x.d -Wall -static -include a.h -isysteminc -T l.ld";
        let flags: Vec<String> = flags.split(' ').map(str::to_owned).collect();
        assert_eq!(asked(&flags), ["-O2", "-pie", "-static", "-T", "l.ld"]);
    }

    #[test]
    fn damaged_records_mean_that_nothing_is_known() {
        let bytes = Templates::default().to_bytes();
        assert!(Templates::from_bytes(&bytes).known.read().unwrap().is_empty());
        assert!(Templates::from_bytes(&[9, 9, 9]).known.read().unwrap().is_empty());
        assert!(Templates::from_bytes(&[]).known.read().unwrap().is_empty());
    }
}
