//! Never worse than gcc: 200 random command lines, sensible and silly, through `ggr` and plainly.
//!
//! Equal must be the exit code, standard output, standard error and every file written. Where plain gcc itself does not do
//! the same twice, that output is not compared.

use std::collections::BTreeSet;
use std::os::unix::fs::FileTypeExt;
use std::path::PathBuf;
use std::process::{Command, Output};

use crate::twin::{Field, Tree, differences, ggr, skipped, snapshot, without_ggr};

/// How many command lines.
const LINES: usize = 200;

/// How many for Clang.
const CLANG_LINES: usize = 60;

/// The seed: every run tests the same lines.
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// The files that the lines name, and what is in them.
const FILES: &[(&str, &str)] = &[
    ("a.c", "#include \"h.h\"\n#include <stddef.h>\nint a(int x) { return x + N; }\n"),
    (
        "main.c",
        "#include \"h.h\"\nint a(int);\nint main(int c, char **v) { (void)v; return a(c) - N - 1; }\n",
    ),
    ("warn.c", "int f(int x) { int unused; if (x = 2) return 1; }\n"),
    ("bad.c", "#include \"h.h\"\nint g( { return; }\n"),
    ("lost.c", "#include \"not-there.h\"\n"),
    (
        "time.c",
        "#include \"h.h\"\n#ifdef NAMED\nconst char *name = __FILE__;\n#endif\nint line = __LINE__;\n",
    ),
    ("x.S", "#include \"h.h\"\n.globl x\nx: .long N\n.section .note.GNU-stack,\"\",@progbits\n"),
    ("y.s", ".globl y\ny: .long 2\n.section .note.GNU-stack,\"\",@progbits\n"),
    (
        "p.cc",
        "#include \"h.h\"\nstruct S { int f() const { return N; } };\nint p(const S &s) { return s.f(); }\n",
    ),
    ("i.i", "int i(void) { return 9; }\n"),
    ("empty.c", ""),
    ("sub/a.c", "#include \"../h.h\"\nstatic int also = N;\n"),
    ("h.h", "#ifndef H_H\n#define H_H\n#define N 7\n#endif\n"),
    ("inc/h.h", "#define N 8\n"),
    ("args", "-DN2=3 -O1 \"-DQ='a b'\"\n"),
    ("notes.txt", "not a source\n"),
];

/// What a line names as its inputs. The last few do not exist, or are no input.
const INPUTS: &[&str] = &[
    "a.c",
    "a.c",
    "a.c",
    "main.c",
    "main.c",
    "a.c main.c",
    "main.c a.c y.s",
    "warn.c",
    "bad.c",
    "lost.c",
    "time.c",
    "x.S",
    "y.s",
    "p.cc",
    "i.i",
    "empty.c",
    "sub/a.c",
    "./a.c",
    "a.c sub/a.c",
    "missing.c",
    "missing.o",
    "notes.txt",
    "sub",
    "",
    "-x c a.c -x none y.s",
    "-x c++ a.c",
    "-x c notes.txt",
    "-x c /dev/null",
    "-",
    "-x c -",
];

/// What the line asks for.
const GOALS: &[&str] = &[
    "-c",
    "-c",
    "-c",
    "-c",
    "-c",
    "-S",
    "-E",
    "",
    "",
    "-M",
    "-MM",
    "-fsyntax-only",
    "-c -S",
    "-r",
    "-shared -fPIC",
    "-dM -E",
];

/// Where the output goes.
const OUTPUTS: &[&str] = &[
    "",
    "",
    "",
    "-o out.o",
    "-o out.o",
    "-oout",
    "-o sub/out.o",
    "-o nowhere/out.o",
    "-o sub",
    "-o -",
    "-o /dev/null",
    "-dumpdir d- -dumpbase base",
    "-o",
];

/// Flags, sensible and not.
const FLAGS: &[&str] = &[
    "-O0",
    "-O1",
    "-O2",
    "-O3",
    "-Os",
    "-Ofast",
    "-Og",
    "-O9",
    "-g",
    "-g3",
    "-ggdb",
    "-g0",
    "-gsplit-dwarf",
    "-gdwarf-4",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wno-all",
    "-w",
    "-pedantic",
    "-Wnot-a-warning",
    "-Wno-not-a-warning",
    "-std=c99",
    "-std=gnu17",
    "-std=c++17",
    "-std=nonsense",
    "-ansi",
    "-DNAMED",
    "-DN=5",
    "-D",
    "-UN",
    "-Iinc",
    "-I inc",
    "-Inowhere",
    "-iquote inc",
    "-isystem inc",
    "-idirafter inc",
    "-include h.h",
    "-include missing.h",
    "-imacros h.h",
    "-nostdinc",
    "-H",
    "-MD",
    "-MMD",
    "-MD -MF deps",
    "-MMD -MP -MT target",
    "-MD -MQ $x",
    "-MF alone",
    "-MG",
    "-Wp,-MD,wp.d",
    "-Wp,-DN3",
    "-fPIC",
    "-fpie",
    "-no-pie",
    "-pie",
    "-static",
    "-shared",
    "-nostdlib",
    "-lm",
    "-lnot-there",
    "-L.",
    "-Wl,--as-needed",
    "-Wl,-Map=map",
    "-Wl,--no-such",
    "-Wa,-al",
    "-Wa,-adhln=listing",
    "-Wa,--no-such",
    "-march=native",
    "-march=x86-64-v2",
    "-march=nonsense",
    "-m32",
    "-m64",
    "-mavx",
    "-pthread",
    "-fopenmp",
    "-flto -frandom-seed=1",
    "-ffat-lto-objects",
    "-save-temps",
    "-save-temps=obj",
    "-fstack-usage",
    "-fdump-tree-optimized",
    "-fdump-rtl-final",
    "--coverage -frandom-seed=1",
    "-fverbose-asm",
    "-fno-such-thing",
    "-fcallgraph-info",
    "-pipe",
    "-v",
    "-###",
    "--version",
    "-dumpversion",
    "-print-search-dirs",
    "-print-prog-name=cc1",
    "--help",
    "-C",
    "-P",
    "-traditional-cpp",
    "-undef",
    "-fpreprocessed",
    "-ftrapv",
    "-fsanitize=undefined",
    "-fdiagnostics-color=always",
    "-fdiagnostics-format=json",
    "-fmax-errors=1",
    "-fdebug-prefix-map=/tmp=/x",
    "-ffile-prefix-map=/=/y",
    "-fmacro-prefix-map=a=b",
    "-specs=missing.specs",
    "-B.",
    "-wrapper env",
    "-fuse-ld=bfd",
    "-fuse-ld=nothing",
    "-T missing.ld",
    "-Xlinker --gc-sections",
    "-Xassembler -L",
    "-s",
    "@args",
    "@missing",
    "-aux-info proto",
    "-fno-asm",
    "-x",
    "-time=",
    "-funroll-loops",
    "-fprofile-use",
    "--param=nonsense=1",
    "--sysroot=/",
    "-idirafter",
    "-fplugin=missing",
    "-pass-exit-codes",
    "-ftabstop=4",
    "-fworking-directory",
    "-o second",
    "-g1",
    "-gz",
    "-ffunction-sections -fdata-sections",
    "-fstack-protector-strong",
    "-fvisibility=hidden",
    "-fprofile-generate",
    "-fsanitize=address",
    "-flto=2 -frandom-seed=1",
    "-fuse-ld=gold",
    "-rdynamic",
    "-static-libgcc",
    "-nostartfiles",
    "-Wl,-soname,lib.so.1",
    "-Wl,-rpath,/x",
    "-Wl,-z,now -Wl,--build-id=sha1",
    "-Wp,-MMD,wp2.d",
    "-MMD -MT a -MT b",
    "-dD",
    "-dA",
    "-fdirectives-only",
    "-trigraphs",
    "-finput-charset=latin1",
    "-fopt-info-all=opt.txt",
    "-fdump-ipa-cgraph",
    "-fdump-passes",
    "-frecord-gcc-switches",
    "-mtune=native",
    "-fcf-protection=full",
    "-dumpdir sub/",
    "-auxbase other",
    "-Q",
];

/// xorshift64*, so that the lines do not depend on any crate's version.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let mixed = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        usize::try_from(mixed).expect("32 bits fit") % bound
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }
}

/// The arguments of one random line.
fn random_line(random: &mut Random) -> Vec<String> {
    let mut parts = vec![random.pick(GOALS)];
    for _ in 0..random.below(5) {
        parts.push(random.pick(FLAGS));
    }
    parts.push(random.pick(INPUTS));
    parts.push(random.pick(OUTPUTS));
    if random.below(4) == 0 {
        parts.push(random.pick(FLAGS));
    }
    parts.iter().flat_map(|part| part.split_whitespace()).map(Into::into).collect()
}

/// What one line did.
struct Effect {
    output: Output,
    tree: Tree,
}

fn effect(field: &Field, mut command: Command, line: &[String]) -> Effect {
    field.clear();
    field.lay(&FILES.iter().map(|&(path, text)| (path.into(), text.into())).collect::<Vec<_>>());
    let mut output = command.args(line).output().expect("the command can be run");
    if line.iter().any(|flag| flag == "-Q") {
        // Rows of seconds, percents and kibibytes: which there are, too, is never the same twice.
        let lines = output.stderr.split_inclusive(|sign| *sign == b'\n');
        let is_row =
            |line: &[u8]| line.contains(&b'%') || line.contains(&b'{') || line.starts_with(b" TOTAL ");
        output.stderr = lines.filter(|line| !is_row(line)).flatten().copied().collect();
    }
    Effect { output, tree: snapshot(&field.tree()) }
}

/// All that differs, by name, so that what differs between two plain runs can be taken away.
fn faults(one: &Effect, two: &Effect) -> Vec<(PathBuf, String)> {
    let mut faults = Vec::new();
    if one.output.status != two.output.status {
        faults.push(("exit".into(), format!("{} instead of {}", two.output.status, one.output.status)));
    }
    let streams = [
        ("stdout", &one.output.stdout, &two.output.stdout),
        ("stderr", &one.output.stderr, &two.output.stderr),
    ];
    for (name, one, two) in streams {
        let (one, two) = (without_names(&without_ggr(one)), without_names(&without_ggr(two)));
        if one != two {
            faults.push((name.into(), format!("{name} is\n{two}\ninstead of\n{one}")));
        }
    }
    let named = differences(&one.tree, &two.tree).into_iter();
    faults.extend(named.map(|line| (line.split(':').next().unwrap_or_default().into(), line)));
    faults
}

/// Text without the random part of temporary names: `/tmp/ccAbCdEf.o` is `/tmp/cc.o`.
fn without_names(text: &str) -> String {
    let mut parts = text.split("/tmp/cc");
    let mut clean = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        clean.push_str("/tmp/cc");
        clean.push_str(part.trim_start_matches(|sign: char| sign.is_ascii_alphanumeric()));
    }
    clean
}

/// Who compiles, and how ggr is asked to.
struct Way {
    compiler: &'static str,
    prefix: &'static [&'static str],
    /// How many command lines.
    lines: usize,
}

/// Runs one line both ways; what is wrong with it.
fn check(field: &Field, way: &Way, line: &[String]) -> Option<String> {
    let plain = || effect(field, field.command(way.compiler), line);
    let expected = plain();
    let mut behind = field.command(ggr());
    behind.args(way.prefix).arg(way.compiler);
    let mut found = faults(&expected, &effect(field, behind, line));
    if !found.is_empty() {
        let unstable: BTreeSet<_> = faults(&expected, &plain()).into_iter().map(|(name, _)| name).collect();
        found.retain(|(name, _)| !unstable.contains(name));
    }
    let found: Vec<_> = found.into_iter().map(|(_, fault)| fault).collect();
    (!found.is_empty()).then(|| format!("{} {}\n{}", way.compiler, line.join(" "), found.join("\n")))
}

fn check_all(way: &Way, field: &Field) {
    let mut random = Random(SEED);
    let lines = (0..way.lines).map(|_| random_line(&mut random));
    let wrong: Vec<_> = lines.filter_map(|line| check(field, way, &line)).collect();
    let null = std::fs::metadata("/dev/null").expect("it is there").file_type();
    assert!(null.is_char_device(), "a line with `-o /dev/null` replaced the device");
    assert!(wrong.is_empty(), "{} of {} lines differ:\n\n{}", wrong.len(), way.lines, wrong.join("\n\n"));
}

#[test]
fn random_lines_through_ggr_cc_are_as_plain_gcc() {
    // Here also files that only the compiler knows of (dumps, `.gcno`, `.dwo`) come out of thunks.
    check_all(&Way { compiler: "gcc", prefix: &["cc"], lines: LINES }, &Field::outside_of_tmp());
}

#[test]
fn random_lines_as_whole_builds_are_as_plain_gcc() {
    check_all(&Way { compiler: "gcc", prefix: &[], lines: LINES }, &Field::new());
}

#[test]
fn random_lines_in_stages_are_as_plain_gcc() {
    check_all(&Way { compiler: "gcc", prefix: &["--stages", "staged", "cc"], lines: LINES }, &Field::new());
}

#[test]
fn random_lines_through_ggr_cc_are_as_plain_clang() {
    if !std::path::Path::new("/usr/bin/clang").exists() {
        skipped(
            "random_lines_through_ggr_cc_are_as_plain_clang",
            "clang is not installed, and tests/setup leaves its 500 MB out",
        );
        return;
    }
    check_all(&Way { compiler: "clang", prefix: &["cc"], lines: CLANG_LINES }, &Field::new());
}
