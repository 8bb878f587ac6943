//! Clang's calls, as GCC's; where it is installed.

use super::*;

/// Each is modelled, and leaves the same here and there.
const LINES: &[&str] = &[
    "clang -c main.c",
    "clang -c main.c -o out/m.o",
    "clang-14 -c main.c -O2 -g",
    "/usr/bin/clang -c src/a.c -Iinc -O2 -g -o out/a.o",
    "clang -c src/a.c -I inc -MD",
    "clang -c src/a.c -Iinc -MMD -MP -MF deps/a.d -o out/a.o",
    "clang -c src/a.c -Iinc -MD -MT one -MQ two$ -MF deps/a.d -o out/a.o",
    "clang -Iinc -MT a.lo -MD -MP -MF deps/a.Tpo -c src/a.c -fPIC -DPIC -o out/a.o",
    "clang -M src/a.c -Iinc",
    "clang -MM src/a.c -Iinc -MF deps/x.d",
    "clang -E src/a.c -Iinc",
    "clang -E src/a.c -Iinc -o out/a.i",
    "clang -E -dM main.c",
    "clang -S main.c -O2",
    "clang -S main.c -o out/m.s -g",
    "clang -fsyntax-only warn.c -Wall",
    "clang -c warn.c -Weverything",
    "clang -c warn.c -Wall -fcolor-diagnostics",
    "clang -c warn.c -Wall -Werror",
    "clang -c bad.c",
    "clang -c bad.c main.c",
    "clang -c main.c -Wno-what-is-this",
    "clang -c main.c -Wbogus",
    "clang -c gen.c -Wall -g",
    "clang -c src/b.c -isystem sys -std=gnu11 -fPIC",
    "clang -c src/b.c -Isys -O3 -march=haswell",
    "clang -c src/b.c -Isys -std=c99 -pedantic -Wall -Wextra",
    "clang -c src/a.c src/b.c main.c -Iinc -Isys",
    "clang @flags.rsp -c src/a.c",
    "clang -c 'sp ace/t.c' -Isys '-DX=a b' -MD",
    "clang -c link/deep/../l.c -g",
    "clang -c math.c -O2 -g",
    "clang -c math.c -O2 -ffast-math -fvectorize",
    "clang -c math.c -O2 -fopenmp",
    "clang -c math.c -O2 -pthread -ffunction-sections -fdata-sections",
    "clang -c math.c -fstack-protector-strong -D_FORTIFY_SOURCE=2 -O2",
    "clang -c math.c -g -gline-tables-only",
    "clang -c math.c -g -gdwarf-4 -fstandalone-debug",
    "clang -c math.c -flto -O2",
    "clang -c math.c -flto=thin -O2",
    "clang -c math.c -fsanitize=undefined",
    "clang -c math.c -fsanitize=address -g",
    "clang -c math.c -fprofile-instr-generate -fcoverage-mapping",
    "clang -c math.c -Qunused-arguments -Wl,-z,now",
    "clang -c main.c -g -gsplit-dwarf -o out/m.o",
    "clang -c main.c --coverage -o out/m.o",
    "clang -c main.c -save-temps -g",
    "clang -c main.c -include inc/b.h -MD",
    "clang -c main.c -no-integrated-cpp",
    "clang -c file.c -g -fdebug-prefix-map=/=/x -ffile-prefix-map=file=elif",
    "clang -c h.s",
    "clang -c k.S -Iinc -MD -g -o out/k.o",
    "clang -c h.s -fno-integrated-as",
    "clang -c pre.i -Wall",
    "clang -x c++ -c main.c -O1",
    "clang++ -c src/c.cc",
    "clang++ -c src/c.cc -std=c++20 -O2 -g -o out/c.o -MD",
    "clang++ -c src/c.cc -fno-exceptions -fno-rtti -MMD",
    "clang++ -c main.c",
    "clang main.c -o out/prog",
    "clang main.c src/a.c src/b.c -Iinc -Isys -o out/prog -O2 -g",
    "clang main.c math.c -lm -lpthread -o out/prog",
    "clang math.c -shared -fPIC -o out/libm.so -lm",
    "clang main.c -static -o out/prog",
    "clang++ src/c.cc main.c -o out/prog",
    "clang bad.c -o out/prog",
];

/// Each runs here.
const LOCAL: &[(&str, &str)] = &[
    ("clang --version", "it only asks for information"),
    ("clang -c main.c -fbogus", "unknown flag `-fbogus`"),
    ("clang -c main.c -march=native", "flag `native` is run here"),
    ("clang -c main.c -Xclang -ast-dump", "unknown flag `-Xclang`"),
    ("clang -c inc/b.h", "`inc/b.h` is to be precompiled"),
    ("clang -S k.S -Iinc -o out/k.s", "assembler text is only preprocessed"),
    ("clang -S -emit-llvm main.c", "flag `-emit-llvm` is run here"),
    ("clang -c src/a.c", "the preprocessor fails"),
];

fn is_installed(test: &str) -> bool {
    let installed = Path::new("/usr/bin/clang").exists();
    if !installed {
        eprintln!("SKIPPED {test}: clang is not installed");
    }
    installed
}

#[test]
fn clang_in_a_root_of_the_inputs_gives_what_the_real_tree_gives() {
    if is_installed("clang_in_a_root_of_the_inputs_gives_what_the_real_tree_gives") {
        assert!(LINES.len() >= 60, "{}", LINES.len());
        check_roots(LINES, Left::clone);
    }
}

#[test]
fn what_no_thunk_of_clang_can_hold_runs_here() {
    if is_installed("what_no_thunk_of_clang_can_hold_runs_here") {
        let bench = Bench::new();
        for (line, expected) in LOCAL {
            match bench.model(line) {
                Modelled::RunHere(reason) => assert_eq!(reason.to_string(), *expected, "{line}"),
                other => panic!("{line}: {other:?}"),
            }
        }
    }
}
