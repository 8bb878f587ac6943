//! Cuts a compiler call into three thunks: preprocess, compile, assemble.
//!
//! The first carries out the directives and expands no macro ([`crate::directives`]). Its text stands in the second's root
//! in place of the source, and the driver is called there as it was here, but for what concerns headers: so the producer's
//! string, the names and the line table are those of the whole call. The third is the assembler, called as the driver
//! would call it (`-###`). What changes no token of the text ends at the first stage.
//!
//! **Invariant:** the stages give the bytes of the fused thunk, or one of them fails or prints; a call for which that is not
//! known stays fused.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};
use std::sync::Mutex;

use ggr_ir::{
    Command, Entry, Harvest, Kind, Mode as FileMode, Network, Object, OutputName, OutputRef, RootPath, Thunk,
    ToolLimits,
};
use rustc_hash::FxHashMap;

use super::Gcc;
use super::call::Call;
use super::clang::Dialect;
use super::flags::{self, Flag, Meaning, Mode};
use super::source::Language;
use crate::inputs::InputSet;
use crate::link::template;
use crate::model::{FileView, Invocation, Plan, PlannedOutput, Reason, Stages, root_path};
use crate::toolchain::ToolFiles;

/// The first stage's program as `build.rs` compiled it.
static PREPROCESS: &[u8] = include_bytes!(env!("GGR_PREPROCESS"));

/// Where it stands in a root.
const PREPROCESS_PATH: &str = "/.ggr/preprocess";

/// What stands for the output on the assembler's remembered line.
const OUTPUT: &str = "/ggr-output.o";

/// The longest answer to `-###` that is read, in bytes.
const MAX_ANSWER: usize = 1 << 20;

/// Starts of words that keep a call fused, and why.
const NOT_STAGED: [(&str, &str); 14] = [
    ("-Wp,", "arguments for the preprocessor alone"),
    ("-fauto-profile", "profiles"),
    ("-fbranch-probabilities", "profiles"),
    ("-flto", "objects for link-time optimization hold the command line"),
    ("-fmodule", "modules"),
    ("-fopenacc", "offloading"),
    ("-fprofile-", "profiles"),
    ("-frecord-gcc-switches", "the object holds the command line"),
    ("-fsanitize", "sanitizers"),
    ("-ftime-report", "it prints"),
    ("-imacros", "macros of a file whose text is dropped"),
    ("-no-integrated-cpp", "it preprocesses apart already"),
    ("-undef", "macros are not predefined"),
    ("-x", "the language is given"),
];

/// A driver, and flags.
type Asked = (PathBuf, Vec<String>);

/// How the driver calls the assembler, by driver and flags.
#[derive(Default)]
pub(super) struct Assemblers {
    known: Mutex<FxHashMap<Asked, Vec<String>>>,
}

/// What a call is cut with.
pub(super) struct Stager<'a> {
    pub(super) gcc: &'a Gcc,
    pub(super) invocation: &'a Invocation,
    pub(super) files: &'a dyn FileView,
    pub(super) call: Call,
    /// Its outputs and depfiles are all that it leaves.
    pub(super) exact: bool,
    /// A precompiled header may be taken.
    pub(super) precompiled: bool,
    pub(super) env: BTreeMap<String, String>,
    /// The compiler's programs with their libraries.
    pub(super) tools: ToolFiles,
    pub(super) locale: ToolFiles,
    pub(super) assembler: Option<PathBuf>,
}

impl Stager<'_> {
    /// The plan in stages, or the fused one with the reason why it is left so.
    pub(super) fn cut(&self, fused: Plan) -> Plan {
        match self.check(&fused).and_then(|()| self.staged(&fused)) {
            Ok(plan) => plan,
            Err(why) => Plan { stages: Stages::Fused(why), ..fused },
        }
    }

    /// # Errors
    /// Why it is not known that stages give the same.
    fn check(&self, fused: &Plan) -> Result<(), String> {
        let call = &self.call;
        if Dialect::of(&self.invocation.program) == Dialect::Clang {
            return Err("stages are for GCC".into());
        }
        let [source] = &call.sources[..] else { return Err("it compiles no single source".into()) };
        if call.mode != Mode::Assemble || !matches!(source.language, Language::C | Language::Cxx) {
            return Err("it does not go from C or C++ to an object".into());
        }
        if !self.exact || fused.outputs.len() != 1 {
            return Err("it leaves more than an object and a depfile".into());
        }
        if !fused.cacheable {
            return Err("it reads the clock".into());
        }
        if self.precompiled {
            return Err("a precompiled header may be taken, and text holds none".into());
        }
        if call.native || call.missing_is_generated {
            return Err("`native`, or headers that are generated later".into());
        }
        for word in &call.flags {
            if let Some((start, why)) = NOT_STAGED.iter().find(|(start, _)| word.starts_with(start)) {
                return Err(format!("`{start}`: {why}"));
            }
            if word.starts_with("-g") && word.ends_with('3') && !word.ends_with("dwarf-3") {
                return Err(format!("`{word}`: macros in the debug information"));
            }
        }
        if reads_lines(&call.flags) {
            return Err("`-Wmisleading-indentation` (in `-Wall`) reads the lines of the source again".into());
        }
        Ok(())
    }

    fn staged(&self, fused: &Plan) -> Result<Plan, String> {
        let [(whole, _)] = &fused.thunks[..] else { return Err("it is more than one thunk already".into()) };
        let [output] = &fused.outputs[..] else { return Err("it has more than one output".into()) };
        let object = whole.outputs.values().next().ok_or("it has no output")?;
        let beside = |suffix: &str| RootPath::new(&format!("{object}.{suffix}")).map_err(|e| e.to_string());
        let (text, assembler_text) = (beside("i")?, beside("s")?);
        let preprocess = self.preprocess(whole, &text)?;
        let compile = self.compile(whole, made_by(&preprocess, &text), &assembler_text);
        let compile = compile.map_err(|reason| reason.to_string())?;
        let assemble = self.assemble(object, &assembler_text, made_by(&compile, &assembler_text));
        let assemble = assemble.map_err(|reason| reason.to_string())?;
        let last = OutputRef { thunk: assemble.id(), name: output.output.name.clone() };
        Ok(Plan {
            limits: ToolLimits::default(),
            thunks: vec![
                (preprocess, Kind::Preprocess),
                (compile, Kind::Compile),
                (assemble, Kind::Assemble),
            ],
            outputs: vec![PlannedOutput { output: last, ..output.clone() }],
            stages: Stages::Staged(Box::new(fused.clone())),
            ..fused.clone()
        })
    }

    /// The whole call's inputs, and the program that runs the driver and tidies its text.
    fn preprocess(&self, whole: &Thunk, text: &RootPath) -> Result<Thunk, String> {
        let program = RootPath::new(PREPROCESS_PATH).map_err(|error| error.to_string())?;
        let blob = self.files.blob_of_bytes(PREPROCESS).map_err(|error| error.to_string())?;
        let mut inputs = whole.inputs.clone();
        inputs.insert(program.clone(), Entry { object: Object::Blob(blob), mode: FileMode::Executable });
        let mut args =
            vec!["preprocess".to_owned(), text.to_string(), whole.command.program.to_string(), self.name()];
        args.extend(self.flags(|meaning| !matches!(meaning, Meaning::Assembler(_))));
        args.extend(["-E", "-fdirectives-only", "-fno-working-directory"].map(str::to_owned));
        args.push(self.call.sources[0].path.clone());
        let command = Command { program, args, ..whole.command.clone() };
        Ok(thunk(command, inputs, text))
    }

    /// The driver and the compiler, and the text where the source stands.
    fn compile(&self, whole: &Thunk, text: Entry<Object>, to: &RootPath) -> Result<Thunk, Reason> {
        let dir = &self.invocation.dir;
        let mut set = self.root(to)?;
        let source = set.follow(dir, Path::new(&self.call.sources[0].path))?;
        set.add_all(&self.tools);
        set.add_all(&self.locale);
        // A compiler without a single directory for headers says so.
        let driver = self.gcc.tools.driver(&self.invocation.program, self.files)?;
        set.add_dir(Path::new("/"), &driver.install.join("include"))?;
        let mut inputs = set.finish();
        inputs.insert(source, text);
        let mut args = vec![self.name()];
        args.extend(
            self.flags(|meaning| !is_about_headers(meaning) && !matches!(meaning, Meaning::Assembler(_))),
        );
        args.extend(["-S".to_owned(), "-o".to_owned(), to.to_string()]);
        args.push(self.call.sources[0].path.clone());
        Ok(thunk(Command { args, ..whole.command.clone() }, inputs, to))
    }

    fn assemble(&self, object: &RootPath, from: &RootPath, text: Entry<Object>) -> Result<Thunk, Reason> {
        let assembler = self.assembler.as_deref().ok_or_else(|| Reason::MissingInput("as".into()))?;
        let mut set = self.root(object)?;
        set.add_all(&self.gcc.tools.files_of(&[assembler], self.files)?);
        let mut inputs = set.finish();
        inputs.insert(from.clone(), text);
        let mut args = self.assembler_line()?;
        args.iter_mut().filter(|arg| *arg == OUTPUT).for_each(|arg| *arg = object.to_string());
        args.push(from.to_string());
        let command = Command {
            program: root_path(assembler)?,
            args,
            // Of messages a later look makes the fused thunk's; nothing else depends on a variable.
            env: BTreeMap::new(),
            dir: root_path(&self.invocation.dir)?,
        };
        Ok(thunk(command, inputs, object))
    }

    /// The working directory and that of an output.
    fn root(&self, output: &RootPath) -> Result<InputSet<'_>, Reason> {
        let mut set = InputSet::new(self.files, self.gcc.tools.trails());
        set.add_dir(&self.invocation.dir, &self.invocation.dir)?;
        if let Some(parent) = output.as_path().parent() {
            set.add_dir(&self.invocation.dir, parent)?;
        }
        Ok(set)
    }

    /// The name that the driver is called by: it finds its parts by it.
    fn name(&self) -> String {
        self.invocation.args.first().cloned().unwrap_or_else(|| "gcc".to_owned())
    }

    /// The call's flags, without those that say how far it goes and that ask for depfiles.
    fn flags(&self, keep: impl Fn(Meaning) -> bool) -> Vec<String> {
        let mut kept = Vec::new();
        let mut words = self.call.flags.iter();
        while let Some(word) = words.next() {
            let flag = flags::find(word);
            let value = flag.filter(|Flag { separate, .. }| *separate).and_then(|_| words.next());
            let meaning = flag.map_or(Meaning::Plain, |flag| flag.meaning);
            if !matches!(meaning, Meaning::Mode(_))
                && !is_depfile(meaning)
                && word != "-pipe"
                && keep(meaning)
            {
                kept.push(word.clone());
                kept.extend(value.cloned());
            }
        }
        kept
    }

    /// The words of the assembler's command but the file that it reads.
    fn assembler_line(&self) -> Result<Vec<String>, Reason> {
        let flags = self.flags(|meaning| {
            !is_about_headers(meaning) && !matches!(meaning, Meaning::Define | Meaning::Undefine)
        });
        let key = (self.invocation.program.clone(), flags);
        let assemblers =
            self.gcc.assemblers.as_ref().expect("a stager exists only where stages are asked for");
        if let Some(known) = assemblers.known.lock().expect("no holder panics").get(&key) {
            return Ok(known.clone());
        }
        let language = match self.call.sources[0].language {
            Language::Cxx => "c++",
            _ => "c",
        };
        let answer = Process::new(&self.invocation.program)
            .arg0(self.name())
            .args(&key.1)
            .args(["-###", "-c", "-o", OUTPUT, "-x", language, "/dev/null"])
            .env_clear()
            .envs(&self.env)
            .stdin(Stdio::null())
            .output();
        let answer = answer.map_err(|error| Reason::Other(format!("`-###`: {error}")))?;
        let text = String::from_utf8(answer.stderr).map_err(|_| Reason::NotUtf8)?;
        let line = (text.len() <= MAX_ANSWER).then(|| assembler_words(&text)).flatten();
        let line = line.ok_or_else(|| Reason::Other("`-###` names no assembler".into()))?;
        assemblers.known.lock().expect("no holder panics").insert(key, line.clone());
        Ok(line)
    }
}

/// An input that another stage makes.
fn made_by(stage: &Thunk, path: &RootPath) -> Entry<Object> {
    let output = OutputRef { thunk: stage.id(), name: OutputName::from(path.as_str()) };
    Entry { object: Object::Output(output), mode: FileMode::Regular }
}

fn thunk(command: Command, inputs: BTreeMap<RootPath, Entry<Object>>, output: &RootPath) -> Thunk {
    let outputs = [(OutputName::from(output.as_str()), output.clone())].into();
    Thunk { command, inputs, outputs, harvest: Harvest::Declared, network: Network::None }
}

fn is_depfile(meaning: Meaning) -> bool {
    matches!(
        meaning,
        Meaning::Depfile(_)
            | Meaning::DepfileName
            | Meaning::DepfileTarget
            | Meaning::DepfileQuoted
            | Meaning::DepfilePhony
            | Meaning::DepfileGenerated
    )
}

fn is_about_headers(meaning: Meaning) -> bool {
    matches!(meaning, Meaning::Dir(_) | Meaning::Include | Meaning::Imacros)
}

/// Whether a warning is on that opens the source again by its name: it compares indentations as they are displayed.
fn reads_lines(flags: &[String]) -> bool {
    let silent = flags.iter().any(|flag| flag == "-w");
    let said = flags.iter().rev().find_map(|flag| match flag.as_str() {
        "-Wmisleading-indentation" | "-Werror=misleading-indentation" => Some(true),
        "-Wno-misleading-indentation" => Some(false),
        _ => None,
    });
    !silent && said.unwrap_or_else(|| flags.iter().any(|flag| flag == "-Wall"))
}

/// The last command of an answer to `-###`, if it is an assembler's, without the file that it reads.
fn assembler_words(answer: &str) -> Option<Vec<String>> {
    let commands = answer.lines().filter_map(|line| line.strip_prefix(' '));
    let mut words = commands.map(template::split).rfind(|words| {
        words.first().is_some_and(|program| program.rsplit('/').next().unwrap_or(program) == "as")
    })?;
    let read = words.pop()?;
    (read.ends_with(".s") && words.iter().any(|word| word == OUTPUT)).then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assembler_is_found_in_what_the_driver_prints() {
        let answer = "Using built-in specs.\n /usr/lib/cc1 -quiet /dev/null -o /tmp/cc1.s\nCOLLECT='-c'\n as --64 \"-a b\\\"c\" -o /ggr-output.o /tmp/cc1.s\nX=1\n";
        assert_eq!(assembler_words(answer).unwrap(), ["as", "--64", "-a b\"c", "-o", OUTPUT]);
        assert_eq!(assembler_words(" /usr/lib/cc1 x -o /tmp/cc1.s\n"), None);
    }

    #[test]
    fn warnings_that_open_the_source_are_known() {
        let check = |line: &str, expected| {
            let flags: Vec<String> = line.split(' ').map(str::to_owned).collect();
            assert_eq!(reads_lines(&flags), expected, "{line}");
        };
        check("-O2 -Wextra", false);
        check("-Wall", true);
        check("-Wall -w", false);
        check("-Wno-misleading-indentation -Wall", false);
        check("-Wno-misleading-indentation -Wmisleading-indentation", true);
    }
}
