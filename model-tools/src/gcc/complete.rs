//! Real command lines, each run on the real tree and in a root that holds its declared inputs and nothing else: the
//! files, the messages and the exit status must be the same.

mod clang;
mod lines;
mod stages;

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use ggr_ir::Object;

use super::{Gcc, PREPROCESSOR_FAILS};
use crate::link::Linkers;
use crate::model::{Invocation, Model, Modelled, Plan, Reason};
use crate::scan::{AskCompiler, Scanner};
use crate::staging::{Root, can_run, prepare};
use crate::testing::DiskView;
use crate::toolchain::Tools;
use lines::{LOCAL, MODELLED, PRECOMPILING, TREE};

struct Bench {
    dir: tempfile::TempDir,
    view: DiskView,
    gcc: Gcc,
}

/// What a run left: exit status, standard output and error, files.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Left {
    status: Option<i32>,
    stdout: String,
    stderr: String,
    files: BTreeMap<PathBuf, Vec<u8>>,
}

impl Bench {
    fn new() -> Self {
        Self::with(|gcc| gcc)
    }

    fn with(adjust: impl FnOnce(Gcc) -> Gcc) -> Self {
        // Not below `/tmp`, of which a sandbox keeps only what was declared.
        let dir = tempfile::tempdir_in(std::env::home_dir().unwrap()).unwrap();
        prepare(dir.path(), TREE);
        let tools = Arc::new(Tools::default());
        let scanner = Arc::new(Scanner::new(Box::new(AskCompiler::default())));
        Self {
            dir,
            view: DiskView::new(),
            gcc: adjust(Gcc::new(tools, Arc::new(Linkers::default()), scanner)),
        }
    }

    fn invocation(&self, line: &str) -> Invocation {
        let printed = Command::new("sh").args(["-c", &format!("printf '%s\\n' {line}")]).output().unwrap();
        let args: Vec<String> =
            String::from_utf8(printed.stdout).unwrap().lines().map(str::to_owned).collect();
        let env: BTreeMap<String, String> =
            [("PATH", "/usr/local/bin:/usr/bin:/bin"), ("HOME", "/root"), ("LANG", "C.UTF-8")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into();
        let file = if args[0].contains('/') {
            PathBuf::from(&args[0])
        } else {
            Path::new("/usr/bin").join(&args[0])
        };
        Invocation {
            program: file.canonicalize().unwrap(),
            args,
            env,
            dir: self.dir.path().canonicalize().unwrap(),
            stderr_is_terminal: false,
        }
    }

    fn model(&self, line: &str) -> Modelled {
        self.gcc.model(&self.invocation(line), &self.view)
    }

    fn here(&self, line: &str) -> Left {
        let invocation = self.invocation(line);
        let before = files(self.dir.path());
        let output = Command::new(&invocation.program)
            .arg0(&invocation.args[0])
            .args(&invocation.args[1..])
            .current_dir(&invocation.dir)
            .env_clear()
            .envs(&invocation.env)
            .output()
            .unwrap();
        let files = new_files(self.dir.path(), &before);
        for path in files.keys() {
            std::fs::remove_file(self.dir.path().join(path)).unwrap();
        }
        left(&output, files)
    }

    fn there(&self, plan: &Plan) -> Left {
        let (thunk, _) = &plan.thunks[0];
        let root = Root::stage(&self.view, &thunk.inputs);
        let dir = root.path(thunk.command.dir.as_path());
        let before = files(&dir);
        let output = root.run(&thunk.command.args, &thunk.command.env, thunk.command.dir.as_path());
        left(&output, new_files(&dir, &before))
    }
}

fn left(output: &std::process::Output, files: BTreeMap<PathBuf, Vec<u8>>) -> Left {
    Left {
        status: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        files,
    }
}

fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(here) = dirs.pop() {
        for entry in std::fs::read_dir(&here).into_iter().flatten().flatten() {
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                dirs.push(entry.path());
            } else if kind.is_file() {
                let path = entry.path().strip_prefix(dir).unwrap().to_owned();
                found.insert(path, std::fs::read(entry.path()).unwrap());
            }
        }
    }
    found
}

fn new_files(dir: &Path, before: &BTreeMap<PathBuf, Vec<u8>>) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut after = files(dir);
    after.retain(|path, bytes| before.get(path) != Some(bytes));
    after
}

/// What differs, short enough to read.
fn difference(here: &Left, there: &Left) -> Option<String> {
    if here == there {
        return None;
    }
    let names =
        |left: &Left| left.files.keys().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" ");
    let changed: Vec<_> =
        here.files.iter().filter(|(path, bytes)| there.files.get(*path) != Some(bytes)).collect();
    Some(format!(
        "status {:?} {:?}\nfiles [{}] [{}] changed {:?}\nhere:  {}\nthere: {}",
        here.status,
        there.status,
        names(here),
        names(there),
        changed.iter().map(|(path, _)| path).collect::<Vec<_>>(),
        here.stderr,
        there.stderr,
    ))
}

/// What a deferrable plan says it leaves, against what was left.
fn check_promise(plan: &Plan, here: &Left, dir: &Path) -> Option<String> {
    if !plan.deferrable || here.status != Some(0) {
        return None;
    }
    let mut promised: Vec<PathBuf> = plan.outputs.iter().map(|output| output.path.clone()).collect();
    promised.extend(plan.written.iter().map(|(path, _)| path.clone()));
    promised.sort();
    let mut found: Vec<PathBuf> = here.files.keys().map(|path| dir.join(path)).collect();
    found.sort();
    if promised != found {
        return Some(format!("promised {promised:?}, left {found:?}"));
    }
    let wrong = plan.written.iter().find(|(path, text)| here.files[path.strip_prefix(dir).unwrap()] != *text);
    wrong.map(|(path, text)| format!("{}: {}", path.display(), String::from_utf8_lossy(text)))
}

#[test]
fn a_root_of_the_inputs_gives_what_the_real_tree_gives() {
    assert!(MODELLED.len() >= 150, "{}", MODELLED.len());
    check_roots(MODELLED, Left::clone);
}

#[test]
fn a_precompiled_header_is_made_of_the_inputs() {
    let named_only = |left: &Left| {
        let mut left = left.clone();
        let is_precompiled = |path: &Path| path.extension().is_some_and(|suffix| suffix == "gch");
        // GCC writes addresses into it.
        left.files.iter_mut().filter(|(path, _)| is_precompiled(path)).for_each(|(_, bytes)| bytes.clear());
        left
    };
    check_roots(PRECOMPILING, named_only);
}

/// Models each line, and runs it in a root of its inputs and on the real tree. What `compared` gives of the two must be the
/// same.
fn check_roots(lines: &[&str], compared: impl Fn(&Left) -> Left) {
    if !can_run() {
        return;
    }
    let bench = Bench::new();
    let dir = bench.dir.path().canonicalize().unwrap();
    let mut wrong = Vec::new();
    for line in lines {
        let plan = match bench.model(line) {
            Modelled::Thunks(plan) => plan,
            other => {
                wrong.push(format!("{line}\n{other:?}"));
                continue;
            }
        };
        let there = bench.there(&plan);
        let here = bench.here(line);
        let found =
            difference(&compared(&here), &compared(&there)).or_else(|| check_promise(&plan, &here, &dir));
        wrong.extend(found.map(|text| format!("{line}\n{text}")));
    }
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), lines.len(), wrong.join("\n---\n"));
}

#[test]
fn what_no_thunk_can_hold_runs_here() {
    let bench = Bench::new();
    for (line, expected) in LOCAL {
        match bench.model(line) {
            Modelled::RunHere(reason) => assert_eq!(reason.to_string(), *expected, "{line}"),
            Modelled::Thunks(plan) if plan.fails => assert_eq!(*expected, PREPROCESSOR_FAILS, "{line}"),
            other => panic!("{line}: {other:?}"),
        }
    }
}

#[test]
fn calls_that_leave_just_what_they_name_are_deferrable() {
    let bench = Bench::new();
    let deferrable = |line: &str| match bench.model(line) {
        Modelled::Thunks(plan) => plan.deferrable,
        other => panic!("{line}: {other:?}"),
    };
    for line in
        ["gcc -c main.c", "gcc -S main.c -o out/x.s", "gcc -c src/a.c -Iinc -MD -MF deps/x.d", "gcc -c h.s"]
    {
        assert!(deferrable(line), "{line}");
    }
    for line in
        ["gcc -E main.c -o x.i", "gcc main.c", "gcc -c main.c -save-temps", "gcc -c main.c -fstack-usage"]
    {
        assert!(!deferrable(line), "{line}");
    }
}

#[test]
fn a_source_that_is_a_placeholder_is_forced() {
    let bench = Bench::new();
    let output = ggr_ir::OutputRef { thunk: ggr_ir::ThunkId::synthetic(1), name: "x".into() };
    let path = bench.invocation("gcc").dir.join("made.c");
    std::fs::write(&path, ggr_ir::placeholder::bytes(&output)).unwrap();
    assert!(matches!(bench.model("gcc -c made.c"), Modelled::Force(paths) if paths == [path.clone()]));
}

#[test]
fn equal_calls_are_equal_thunks() {
    let bench = Bench::new();
    let inputs = |line: &str| match bench.model(line) {
        Modelled::Thunks(plan) => plan.thunks[0].0.clone(),
        other => panic!("{line}: {other:?}"),
    };
    let (one, two) = (inputs("gcc -c src/a.c -Iinc"), inputs("gcc -c src/a.c -Iinc"));
    assert_eq!(one.id(), two.id());
    assert!(one.inputs.values().all(|entry| matches!(entry.object, Object::Blob(_))));
}

#[test]
fn a_source_that_reads_the_clock_is_not_remembered() {
    let bench = Bench::new();
    let dir = bench.invocation("gcc").dir;
    std::fs::write(dir.join("clock.c"), "const char *t = __TIME__;\n").unwrap();
    std::fs::write(dir.join("inc.c"), "asm(\".incbin \\\"main.c\\\"\");\n").unwrap();
    assert!(matches!(bench.model("gcc -c clock.c"), Modelled::Thunks(plan) if !plan.cacheable));
    assert!(matches!(bench.model("gcc -c inc.c"), Modelled::RunHere(Reason::Other(_))));
}

fn micros(time: rustix::time::Timespec) -> i64 {
    time.tv_sec * 1_000_000 + time.tv_nsec / 1000
}

/// Prints what a warm call costs: `cargo test --release -p ggr-models warm_calls -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn warm_calls_are_modelled_by_the_thousand() {
    let bench = Bench::new();
    for line in [
        "gcc -c main.c -o out/m.o",
        "gcc -c math.c -O2 -g -Iinc -MD -o out/m.o",
        "g++ -c src/c.cc -O2 -g -o out/c.o",
    ] {
        let invocation = bench.invocation(line);
        let count = std::env::var("COUNT").map_or(300, |count| count.parse().unwrap());
        let mut inputs = 0;
        let cpu = || rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        let mut before = cpu();
        for turn in 0..=count {
            let started = std::time::Instant::now();
            match bench.gcc.model(&invocation, &bench.view) {
                Modelled::Thunks(plan) => inputs = plan.thunks[0].0.inputs.len(),
                other => panic!("{line}: {other:?}"),
            }
            if turn == 0 {
                eprintln!("{line}: first {:?}", started.elapsed());
                before = cpu();
            }
        }
        eprintln!(
            "{line}: {inputs} inputs, {} µs of processor time each",
            (micros(cpu()) - micros(before)) / count
        );
    }
}
