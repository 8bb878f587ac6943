//! Calls in stages: each stage in a root of its own, and the object that of the whole call.

use ggr_ir::{Entry, Thunk};

use super::*;
use crate::model::{FileView, Stages};

/// Lines beside those of the fused thunks: what stages are most likely to change.
const LINES: &[&str] = &[
    "gcc -c src/a.c -Iinc -O2 -g",
    "gcc -c src/a.c -Iinc -O0 -ggdb -MD -MP",
    "gcc -c src/b.c -Isys -g -gdwarf-4 -o out/b.o",
    "gcc -c src/b.c -Isys -g -gz",
    "gcc -c math.c -O2 -g -Wextra",
    "gcc -c math.c -O3 -g2 -fPIC -pthread -ffunction-sections",
    "gcc -c math.c -O2 -g -fdebug-prefix-map=/=/x -ffile-prefix-map=math=htam",
    "gcc -c math.c -g -std=c99 -pedantic -D_GNU_SOURCE",
    "gcc -c math.c -g -fopenmp -march=haswell -Wa,--noexecstack",
    "gcc -c main.c -g -include inc/b.h -include stdio.h",
    "gcc -c gen.c -g",
    "gcc -c file.c -g -O2",
    "gcc -c link/l.c -g -O1",
    "gcc -c link/deep/../l.c -g -O1 -o link/m.o",
    "gcc -c 'sp ace/t.c' -Isys -g '-DX=a b'",
    "gcc @flags.rsp -c src/a.c -g",
    "gcc -c words.c -O2 -g -Iinc",
    "g++ -c src/c.cc -O2 -g",
    "g++ -c src/c.cc -O0 -g -std=c++20 -Wextra",
    "g++ -c words.cc -g -std=c++17",
    "g++ -c words.cc -O2 -D_GLIBCXX_ASSERTIONS",
];

/// Sources with what a text could lose: comments, strings, tabs, macros over lines, line markers, counters.
const SOURCES: &str = r#"
cat > words.c <<'END'
/* head */
#include <assert.h> /* why */
#include "b.h"      // and this
#define TWICE(x)  do { x; /* inside */ \
		x; } while (0)
static const char *s = "/* no */", c = '"'; /* yes */
int w(int x)
{
	switch (x) { case 1: x++; /* fall through */
	case 2: x--; }   /* a
	long one */ TWICE(x +=	B); assert(x  !=   3);
#line 100 "other.y"
	return x + __LINE__ + __COUNTER__ + __INCLUDE_LEVEL__;
}
END
cat > words.cc <<'END'
#include <string>
/* one */
#define Q(x) #x
auto s = R"x(/* " no */)x"; /* yes */ long n = 1'000'000;
const char *f() { return __PRETTY_FUNCTION__; } auto l = [](int a) { return a + __LINE__; };
END
"#;

/// The thunk, with the stages' outputs as they were made.
fn ready(thunk: &Thunk, made: &BTreeMap<String, Vec<u8>>, view: &DiskView) -> Thunk {
    let mut thunk = thunk.clone();
    for entry in thunk.inputs.values_mut() {
        if let Object::Output(output) = &entry.object {
            let blob = view.blob_of_bytes(&made[&*output.name.0]).unwrap();
            *entry = Entry { object: Object::Blob(blob), mode: entry.mode };
        }
    }
    thunk
}

/// What the last stage makes; nothing if one fails or prints.
fn run(plan: &Plan, view: &DiskView) -> Option<Vec<u8>> {
    let mut made = BTreeMap::new();
    for (thunk, _) in &plan.thunks {
        let thunk = ready(thunk, &made, view);
        let root = Root::stage(view, &thunk.inputs);
        let command = &thunk.command;
        let mut args = command.args.clone();
        args[0] = command.program.to_string();
        let output = root.run(&args, &command.env, command.dir.as_path());
        if !output.status.success() || !output.stdout.is_empty() || !output.stderr.is_empty() {
            eprintln!("{}", String::from_utf8_lossy(&output.stderr));
            return None;
        }
        let (name, path) = thunk.outputs.iter().next().unwrap();
        made.insert(name.0.to_string(), root.file(path.as_path()).unwrap().0);
    }
    made.into_iter().find(|(name, _)| name.ends_with(".o")).map(|(_, bytes)| bytes)
}

#[test]
fn stages_make_the_object_of_the_whole_call() {
    if !can_run() {
        return;
    }
    let bench = Bench::with(Gcc::with_stages);
    prepare(bench.dir.path(), SOURCES);
    let (mut equal, mut wrong, mut silent) = (0, Vec::new(), Vec::new());
    for line in LINES.iter().chain(MODELLED) {
        let Modelled::Thunks(plan) = bench.model(line) else { panic!("{line} is not modelled") };
        if !matches!(plan.stages, Stages::Staged(_)) {
            continue;
        }
        let here = bench.here(line);
        let object = here.files.iter().find(|(path, _)| path.extension().is_some_and(|end| end == "o"));
        match (run(&plan, &bench.view), object) {
            (Some(made), Some((_, real))) if made == *real && here.stderr.is_empty() => equal += 1,
            (Some(_), _) => wrong.push(*line),
            (None, _) => silent.push(*line),
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
    // Those that print, here or in stages only: messages of the source, and what the whole call does not say.
    assert!(silent.len() < 12 && equal >= 60, "{equal} equal, these fell back: {silent:#?}");
}

#[test]
fn a_call_that_stages_may_change_stays_whole_and_says_why() {
    let bench = Bench::with(Gcc::with_stages);
    for (line, why) in [
        ("gcc -c main.c -g3", "`-g3`: macros in the debug information"),
        ("gcc -c main.c -flto", "`-flto`: objects for link-time optimization hold the command line"),
        ("gcc -c main.c math.c", "it compiles no single source"),
        ("gcc -c k.S -Iinc", "it does not go from C or C++ to an object"),
        ("gcc -c main.c -save-temps", "it leaves more than an object and a depfile"),
        (
            "gcc -c main.c -Wall",
            "`-Wmisleading-indentation` (in `-Wall`) reads the lines of the source again",
        ),
    ] {
        let Modelled::Thunks(plan) = bench.model(line) else { panic!("{line} is not modelled") };
        assert!(matches!(&plan.stages, Stages::Fused(found) if found == why), "{line}: {:?}", plan.stages);
        assert_eq!(plan.thunks.len(), 1);
    }
}

#[test]
fn a_comment_that_changes_ends_at_the_first_stage() {
    if !can_run() {
        return;
    }
    let bench = Bench::with(Gcc::with_stages);
    let header = bench.invocation("gcc").dir.join("src/a.h");
    let text = |header_text: &str| {
        std::fs::write(&header, header_text).unwrap();
        let Modelled::Thunks(plan) = bench.model("gcc -c src/a.c -Iinc -g") else { panic!("not modelled") };
        let (first, second) = (&plan.thunks[0].0, &plan.thunks[1].0);
        let made = first_text(first, &bench.view);
        ready(second, &[(first.outputs.keys().next().unwrap().0.to_string(), made)].into(), &bench.view).id()
    };
    let before = text("#define A 1 /* old words */\n#include \"b.h\"\n");
    assert_eq!(text("#define A 1 /* other words, and more */\n#include \"b.h\"\n"), before);
    assert_ne!(text("#define A 2 /* old words */\n#include \"b.h\"\n"), before);
    assert_ne!(text("/* old words */\n#define A 1\n#include \"b.h\"\n"), before);
}

fn first_text(thunk: &Thunk, view: &DiskView) -> Vec<u8> {
    let root = Root::stage(view, &thunk.inputs);
    let mut args = thunk.command.args.clone();
    args[0] = thunk.command.program.to_string();
    let output = root.run(&args, &thunk.command.env, thunk.command.dir.as_path());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    root.file(thunk.outputs.values().next().unwrap().as_path()).unwrap().0
}
