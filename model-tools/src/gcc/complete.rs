//! Real command lines, each run on the real tree and in a root that holds its declared inputs and nothing else: the
//! files, the messages and the exit status must be the same.

mod clang;
mod stages;

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use ggr_ir::Object;

use super::Gcc;
use crate::link::Linkers;
use crate::model::{Invocation, Model, Modelled, Plan, Reason};
use crate::scan::{AskCompiler, Scanner};
use crate::staging::{Root, can_run, prepare};
use crate::testing::DiskView;
use crate::toolchain::Tools;

/// The files that the command lines speak of.
const TREE: &str = r#"
mkdir -p src inc sys 'sp ace' out deps empty real/deep
ln -s real link
printf '#include "a.h"\n#include <stdio.h>\nint f(int x) { return x + A; }\n' > src/a.c
printf '#define A 1\n#include "b.h"\n' > src/a.h
printf '#define B 2\n' > inc/b.h
printf '#include <stddef.h>\n#include <s.h>\nint g(int x) { return x * S; }\n' > src/b.c
printf '#define S 3\n' > sys/s.h
printf '#include <vector>\n#include <string>\n#include <map>\nstd::string f(const std::vector<int>& v) { return std::to_string(v.size()); }\n' > src/c.cc
printf 'int main(void) { return 0; }\n' > main.c
printf 'int main(void) { int unused; return undefined_thing; }\n' > bad.c
printf 'int f(int x) { int unused; if (x = 1) return 2; }\n' > warn.c
printf '#line 3 "g.y"\nint f(int x) { int unused; return 0; }\n' > gen.c
printf 'one\ntwo\nthree unused\nfour\n' > g.y
printf '\t.text\n\t.globl h\nh:\tret\n' > h.s
printf '#include "b.h"\n\t.text\n\t.globl h\nh:\tmov $B, %%eax\n\tret\n\t.section .note.GNU-stack\n' > k.S
printf '#include "../inc/b.h"\n#include "deep/x.h"\nint y = X + B;\n' > real/l.c
printf '#define X 4\n' > real/deep/x.h
printf '# 1 "main.c"\nint main(void) { int unused; return 0; }\n' > pre.i
printf '# 1 "main.cc"\nint main() { return 0; }\n' > pre.ii
printf '#if __has_include("b.h")\nint b = 1;\n#endif\n#if __has_include("none.h")\nint n;\n#endif\n' > probe.c
printf -- '-O2 -DFROM_FILE=1\n-I inc "-DQ=\\"q\\""\n' > flags.rsp
printf 'int z;\n' > 'sp ace/z z.c'
printf '#include "s.h"\nint s = S;\n' > 'sp ace/t.c'
printf 'int t(void) { return __LINE__; }\nconst char *n = __FILE__;\n' > file.c
printf '#ifdef __OPTIMIZE__\n#include "b.h"\n#else\n#include "s.h"\n#endif\nint o;\n' > cond.c
printf '#include <math.h>\n#include <pthread.h>\n#include <immintrin.h>\ndouble m(double x) { return sqrt(x); }\n' > math.c
"#;

/// Each is modelled, and leaves the same here and there.
const MODELLED: &[&str] = &[
    "gcc -c main.c",
    "gcc -c main.c -o out/m.o",
    "gcc -c main.c -oout/m.o",
    "cc -c main.c",
    "/usr/bin/gcc -c main.c",
    "gcc-12 -c main.c",
    "x86_64-linux-gnu-gcc-12 -c main.c",
    "gcc -c src/a.c -Iinc",
    "gcc -c src/a.c -I inc -I empty -I nowhere",
    "gcc -c src/a.c -Iinc -Wmissing-include-dirs -Inowhere",
    "gcc -c src/a.c -iquote inc -g",
    "gcc -c src/a.c -isystem inc -O2 -g",
    "gcc -c src/a.c -idirafter inc -O2 -g3",
    "gcc -c src/a.c -Iinc -Isys/../inc -g -O1",
    "gcc -c src/a.c -Isrc/../inc/. -ggdb",
    "gcc -c src/b.c -Isys -std=c99 -pedantic -Wall -Wextra",
    "gcc -c src/b.c -isystem sys -std=gnu11 -fPIC",
    "gcc -c src/b.c -Isys -O3 -march=haswell -mtune=skylake",
    "gcc -c src/b.c -Isys -m32",
    "gcc -c src/a.c src/b.c main.c -Iinc -Isys",
    "gcc -c src/a.c src/b.c -Iinc -Isys -MD",
    "gcc -S main.c",
    "gcc -S main.c -o out/m.s -O2",
    "gcc -S main.c -fverbose-asm",
    "gcc -S -masm=intel main.c -o out/i.s",
    "gcc -E main.c -o out/m.i",
    "gcc -E src/a.c -Iinc",
    "gcc -E -P src/a.c -Iinc",
    "gcc -E -dM src/a.c -Iinc",
    "gcc -E -dD src/a.c -Iinc -o out/d.i",
    "gcc -E -C -H src/a.c -Iinc",
    "cpp src/a.c -Iinc",
    "cpp -dM main.c",
    "g++ -E src/c.cc -o out/c.ii",
    "g++ -c src/c.cc",
    "g++ -c src/c.cc -std=c++20 -O2 -g -o out/c.o",
    "g++ -c src/c.cc -std=c++11 -fno-exceptions -fno-rtti -MMD",
    "c++ -c src/c.cc -Wall -MD -MF deps/c.d -MT x.o",
    "g++ -c main.c",
    "gcc -c src/c.cc",
    "gcc -x c++ -c main.c",
    "gcc -x c -c src/a.c -Iinc -x none main.c",
    "gcc -xc -c g.y -fsyntax-only",
    "gcc -c h.s",
    "gcc -c h.s -o out/h.o -g",
    "gcc -c h.s -Wa,--noexecstack -Wa,--fatal-warnings",
    "gcc -c k.S -Iinc",
    "gcc -c k.S -Iinc -MD -MP -g -o out/k.o",
    "gcc -x assembler-with-cpp -c h.s",
    "gcc -S h.s -c main.c",
    "gcc -c pre.i",
    "gcc -c pre.i -Wall",
    "g++ -c pre.ii -O2",
    "gcc -c -x cpp-output pre.i",
    "gcc -c src/a.c -Iinc -MD",
    "gcc -c src/a.c -Iinc -MMD",
    "gcc -c src/a.c -Iinc -MD -o out/a.o",
    "gcc -c src/a.c -Iinc -MMD -MP -MF deps/a.d -o out/a.o",
    "gcc -c src/a.c -Iinc -MD -MT one -MQ two$ -MF deps/a.d -o out/a.o",
    "gcc -c src/a.c -Iinc -MT out/a.o -MD -MP -MF deps/.a.Tpo -c -o out/a.o src/a.c -fsyntax-only",
    "gcc -Iinc -MT a.lo -MD -MP -MF deps/a.Tpo -c src/a.c -fPIC -DPIC -o out/a.o",
    "gcc -Wp,-MMD,deps/.a.o.d -Iinc -c -o out/a.o src/a.c",
    "gcc -Wp,-MD,deps/a.d -Iinc -c -o out/a.o src/a.c",
    "gcc -c src/a.c -Iinc -MD -MF /dev/null",
    "gcc -S src/a.c -Iinc -MD -o out/a.s",
    "gcc -E src/a.c -Iinc -MD -o out/a.i",
    "gcc -M src/a.c -Iinc",
    "gcc -MM src/a.c -Iinc",
    "gcc -MM src/a.c -Iinc -MT 'x.o x.d' -MF deps/x.d",
    "gcc -M src/b.c -MG",
    "gcc -c src/b.c -Isys -MD -MG",
    "gcc @flags.rsp -c src/a.c",
    "gcc -c src/a.c @flags.rsp",
    "gcc -c 'sp ace/z z.c'",
    "gcc -c 'sp ace/z z.c' -MD -o 'out/z z.o'",
    "gcc -c 'sp ace/t.c' -Isys '-DX=a b'",
    "gcc -c link/l.c",
    "gcc -c link/l.c -g -MD",
    "gcc -c link/deep/../l.c -g",
    "gcc -c ./main.c -o ./out/../out/m.o",
    "gcc -c main.c -o link/m.o",
    "gcc -c warn.c",
    "gcc -c warn.c -Wall -Wextra",
    "gcc -c warn.c -Wall -fdiagnostics-color=always",
    "gcc -c warn.c -Wall -fno-diagnostics-show-caret",
    "gcc -c warn.c -Wall -fdiagnostics-format=json",
    "gcc -c warn.c -w",
    "gcc -c gen.c -Wall",
    "gcc -c gen.c -Wall -g",
    "gcc -c bad.c",
    "gcc -c bad.c main.c",
    "gcc -c warn.c -Werror -Wall",
    "gcc -c main.c -Wno-what-is-this",
    "gcc -c warn.c -Wno-what-is-this -Wall",
    "gcc -fsyntax-only warn.c -Wall",
    "gcc -c probe.c -Iinc",
    "gcc -c probe.c",
    "gcc -c cond.c -O2 -Iinc -Isys -MD",
    "gcc -c cond.c -O0 -Iinc -Isys -MD",
    "gcc -c file.c -g -fdebug-prefix-map=/=/x",
    "gcc -c file.c -ffile-prefix-map=file=elif",
    "gcc -c file.c -fmacro-prefix-map=f=g -frandom-seed=7",
    "gcc -c math.c -O2 -mavx2 -ffast-math",
    "gcc -c math.c -O2 -fopenmp -pthread",
    "gcc -c math.c -Os -ffunction-sections -fdata-sections",
    "gcc -c math.c -fstack-protector-strong -D_FORTIFY_SOURCE=2 -O2 -fcf-protection",
    "gcc -c math.c -flto -O2 -frandom-seed=1",
    "gcc -c math.c -flto -ffat-lto-objects -frandom-seed=1",
    "gcc -c math.c -pipe -O1",
    "gcc -c math.c -O2 -march=native",
    "gcc -c math.c -O2 -mtune=native -mno-avx",
    "gcc -S math.c -O3 -march=native -mavx2",
    "gcc -c math.c -fsanitize=undefined",
    "gcc -c math.c -fsanitize=address -g",
    "gcc -c math.c -pg",
    "gcc -c math.c --param=max-inline-insns-single=5 -O2",
    "gcc -c math.c --param max-inline-insns-single=5 -O2",
    "gcc -c math.c -fprofile-generate -frandom-seed=1",
    "gcc -c main.c -include inc/b.h -MD",
    "gcc -c main.c -imacros inc/b.h -MD",
    "gcc -c main.c -include b.h -Iinc",
    "gcc -c main.c -include stdio.h -include src/a.h -Iinc",
    "gcc -c main.c -nostdinc",
    "gcc -c src/b.c -Isys -nostdinc -isystem /usr/lib/gcc/x86_64-linux-gnu/12/include",
    "gcc -c main.c -DA -DB=1 '-DC(x)=x' -UA -D D -U B",
    "gcc -c main.c -DS=\\\"text\\\"",
    "gcc -c main.c -ansi -trigraphs",
    "gcc -c main.c -undef",
    "gcc -c main.c -g -gdwarf-4 -gz",
    "gcc -c main.c -g -gsplit-dwarf",
    "gcc -c main.c -g -gsplit-dwarf -o out/m.o",
    "gcc -c main.c -fstack-usage",
    "gcc -c main.c -fstack-usage -o out/m.o",
    "gcc -c main.c -fcallgraph-info",
    "gcc -c main.c --coverage -frandom-seed=1 -o out/m.o",
    "gcc -c main.c -ftest-coverage -frandom-seed=1",
    "gcc -c main.c -save-temps",
    "gcc -c main.c -save-temps=obj -o out/m.o",
    "gcc -c src/a.c -Iinc -save-temps -g",
    "gcc -c main.c -fdump-tree-optimized -O2 -fdump-noaddr",
    "gcc -c main.c -dumpdir out/x- -dumpbase q.c -fstack-usage",
    "gcc -c main.c -dA",
    "gcc -c main.c -da",
    "gcc -c main.c -aux-info out/protos",
    "gcc -c main.c --sysroot=/",
    "gcc -c main.c -Xassembler --noexecstack",
    "gcc -c main.c -no-integrated-cpp",
    "gcc -c main.c -no-canonical-prefixes",
    "gcc -c main.c -finput-charset=UTF-8 -fexec-charset=UTF-8",
    "gcc -c main.c -Wl,-z,now -L/nowhere",
    "gcc main.c -o out/prog",
    "gcc main.c",
    "gcc main.c src/a.c src/b.c -Iinc -Isys -o out/prog -O2 -g",
    "gcc main.c k.S -Iinc -o out/prog -MD",
    "gcc main.c math.c -lm -lpthread -o out/prog",
    "gcc main.c -static -o out/prog",
    "gcc math.c -shared -fPIC -o out/libm.so -lm",
    "gcc main.c -flto -O2 -frandom-seed=1 -o out/prog",
    "g++ src/c.cc main.c -o out/prog",
    "gcc main.c -g -gsplit-dwarf -o out/prog",
    "gcc main.c -save-temps -o out/prog",
    "gcc -nostdlib -r main.c math.c -o out/both.o",
    "gcc bad.c -o out/prog",
];

/// Each runs here.
const LOCAL: &[(&str, &str)] = &[
    ("gcc -c missing.c", "`missing.c` is missing"),
    ("gcc -c main.c -o nowhere/m.o", "`nowhere/m.o` is missing"),
    ("gcc -c main.c -o /dev/null", "it writes to `/dev/null`, which is no regular file"),
    ("gcc --version", "it only asks for information"),
    ("gcc -dumpmachine", "it only asks for information"),
    ("gcc -print-prog-name=ld", "it only asks for information"),
    ("gcc -c main.c -fbogus", "unknown flag `-fbogus`"),
    ("gcc -E -", "it reads standard input"),
    ("gcc -c inc/b.h", "`inc/b.h` is to be precompiled"),
    ("gcc -c main.c -c -o main.c", "`main.c` is both source and output"),
    ("gcc -c main.c math.c -o out/x.o", "`out/x.o` is written twice"),
    ("gcc -c src/a.c -I- -Iinc", "the preprocessor fails"),
    ("gcc -c @nothing.c", "`@nothing.c` is missing"),
    ("gcc -c main.c -fno-stack-usage", "unknown flag `-fno-stack-usage`"),
    ("gcc -c src/a.c", "the preprocessor fails"),
    ("gcc -c main.c -march=native -g", "flag `-march=native` is run here"),
    ("gcc -wrapper env -c main.c", "flag `-wrapper` is run here"),
    ("gcc -c main.c -fprofile-use", "flag `-fprofile-use` is run here"),
];

struct Bench {
    dir: tempfile::TempDir,
    view: DiskView,
    gcc: Gcc,
}

/// What a run left: exit status, standard output and error, files.
#[derive(PartialEq, Eq, Debug)]
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
    check_roots(MODELLED);
}

/// Models each line, and runs it in a root of its inputs and on the real tree.
fn check_roots(lines: &[&str]) {
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
        let found = difference(&here, &there).or_else(|| check_promise(&plan, &here, &dir));
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
