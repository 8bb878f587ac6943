//! The scanner against the real compiler. The long runs are in `tests/scan/run`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use ggr_ir::{BlobId, OutputName, OutputRef, ThunkId, placeholder};

use super::*;
use crate::model::{FileView, Found};
use crate::testing::DiskView;

mod quick;
mod tree;

use tree::{GCC, Tree, has_compiler};

/// A unit in which the condition includes `yes.h`, or else `no.h`.
fn conditional(condition: &str) -> String {
    format!("#if {condition}\n#include \"yes.h\"\n#else\n#include \"no.h\"\n#endif\n")
}

#[test]
fn conditions_come_to_what_gcc_says() {
    if !has_compiler() {
        return;
    }
    let tree = Tree::new(&[("yes.h", ""), ("no.h", ""), ("d/sub.h", "")]);
    let prologue = "#define F(x) ((x) + 1)\n#define V(f, ...) f(__VA_ARGS__)\n#define CAT(a, b) a ## b\n\
                    #define ONE 1\n#define HDR <stdio.h>\n#define SELF SELF + 1\n#define EMPTY\n";
    let conditions = [
        "F(1) == 2",
        "V(F, 2) == 3",
        "CAT(O, NE)",
        "F (CAT(1, 0)) == 11",
        "defined F && !defined(G)",
        "-1 > 0u",
        "(-1 >> 1) == -1",
        "1 ? 2 : (1 / 0)",
        "0 && (1 / 0)",
        "'\\n' == 10 && 'a' == 97",
        "0x10 + 010 + 0b1 == 25",
        "__has_include(\"d/sub.h\") && !__has_include(<nope.h>)",
        "__has_include(HDR)",
        "__has_attribute(noreturn) && !__has_attribute(no_such_thing)",
        "SELF == 1",
        "EMPTY ONE EMPTY",
        "__LINE__ == 8",
        "__INCLUDE_LEVEL__",
        "18446744073709551615u == -1",
        "(2 || 3) != 1",
    ];
    let program: String = conditions.iter().map(|condition| conditional(condition)).collect();
    for (at, condition) in conditions.iter().enumerate() {
        tree.write("a.c", &format!("{prologue}{}", conditional(condition)));
        tree.write(&format!("a{at}.c"), &format!("{prologue}{}", conditional(condition)));
        tree.check(&format!("a{at}.c"), &[]);
    }
    tree.write("all.cc", &format!("{prologue}{program}"));
    tree.check("all.cc", &["-std=c++20"]);
}

#[test]
fn text_that_looks_like_directives_is_passed_over() {
    if !has_compiler() {
        return;
    }
    let text = "/* \n#include \"nope.h\"\n*/ #include \"yes.h\"\n\
                const char *a = \"/*\"; // \\\n#include \"nope.h\"\n\
                const char *r = R\"x(\n#include \"nope.h\"\n)\" )x\";\n\
                #if 0\nit's\n#include \"nope.h\"\n#endif\n\
                #def\\\nine X 1\n#ifdef X\n#include \"d/sub.h\"\n#endif\n";
    let tree = Tree::new(&[("a.c", text), ("yes.h", ""), ("d/sub.h", "")]);
    tree.check("a.c", &[]);
    tree.write(
        "b.cc",
        "int n = 1'000; // '\n#include \"yes.h\"\nauto s = R\"(\\\n#if 1)\";\n#include \"d/sub.h\"\n",
    );
    tree.check("b.cc", &["-std=c++17"]);
    tree.write("c.c", "??=include \"yes.h\"\r\n%:include \"d/sub.h\"\r\n");
    tree.check("c.c", &["-std=c99"]);
    tree.write("d.S", "# don't /* worry\n# if 1\n#include \"yes.h\"\n# endif\n");
    tree.check("d.S", &[]);
}

#[test]
fn directories_are_searched_in_gcc_s_order() {
    if !has_compiler() {
        return;
    }
    let next = "#if __has_include(\"own.h\")\n#include \"own.h\"\n#endif\n#if __has_include_next(\"x.h\")\n#include_next \"x.h\"\n#endif\n";
    let mut files = vec![("a.c", "#include \"x.h\"\n#include <x.h>\n#include \"d1/x.h\"\n".to_owned())];
    files.extend(["d1/x.h", "d2/x.h", "d3/x.h", "x.h"].map(|name| (name, next.to_owned())));
    files.extend(["d1/own.h", "d2/own.h", "own.h"].map(|name| (name, String::new())));
    files.push(("d9/end.h", String::new()));
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let tree = Tree::new(&files);
    symlink("d2", tree.path().join("d4")).expect("a link can be made");
    let vectors: &[&[&str]] = &[
        &["-I d1", "-I d2"],
        &["-I d2", "-iquote d1", "-isystem d3"],
        &["-I d1", "-isystem d1", "-I d2"],
        &["-I d4", "-I d2", "-I d3", "-idirafter d1", "-idirafter d9"],
        &["-I d1", "-I-", "-I d2", "-I .", "-I d3"],
        &["-isystem d1", "-idirafter d2", "-idirafter d9", "-I nowhere", "-I ."],
        &["-I d1/../d2", "-I ./d1", "-include d2/x.h"],
    ];
    for flags in vectors {
        tree.check("a.c", flags);
    }
}

#[test]
fn files_that_are_read_once_only_are_listed_once() {
    if !has_compiler() {
        return;
    }
    let main = "#include \"once.h\"\n#include \"./once.h\"\n#include \"guard.h\"\n#include \"d/../guard.h\"\n\
                #import \"plain.h\"\n#import \"plain.h\"\n#include \"loop.h\"\n";
    let tree = Tree::new(&[
        ("a.c", main),
        ("once.h", "#pragma once\n#include \"d/sub.h\"\n"),
        ("guard.h", "#ifndef G\n#define G\n#include \"d/sub.h\"\n#endif\n"),
        ("plain.h", "#include \"d/sub.h\"\n"),
        ("loop.h", "#if __INCLUDE_LEVEL__ < 5\n#include \"loop.h\"\n#endif\n"),
        ("d/sub.h", ""),
    ]);
    tree.check("a.c", &[]);
}

#[test]
fn includes_are_computed() {
    if !has_compiler() {
        return;
    }
    let main = "#define STR(x) #x\n#define XSTR(x) STR(x)\n#define NAME d/sub\n#include XSTR(NAME.h)\n\
                #define ANGLE(a, b) <a/b##1>\n#include ANGLE(d,sub)\n#define Q \"yes.h\"\n#include Q /* x */\n\
                #ifndef AGAIN\n#define AGAIN\n#include __FILE__\n#endif\n";
    let tree = Tree::new(&[("a.c", main), ("d/sub.h", ""), ("d/sub1", ""), ("yes.h", "")]);
    tree.check("a.c", &["-I ."]);
}

#[test]
fn real_headers_are_scanned_as_gcc_scans_them() {
    if !has_compiler() {
        return;
    }
    let tree = Tree::new(&[]);
    let c = [
        "stdio.h",
        "stdlib.h",
        "pthread.h",
        "signal.h",
        "netinet/in.h",
        "immintrin.h",
        "math.h",
        "stdatomic.h",
    ];
    tree.write("c.c", &c.map(|name| format!("#include <{name}>\n")).concat());
    tree.check("c.c", &["-O2", "-D _GNU_SOURCE", "-D _FORTIFY_SOURCE=2"]);
    tree.check("c.c", &["-std=c99"]);
    let cxx =
        ["algorithm", "functional", "iostream", "map", "memory", "ranges", "regex", "thread", "variant"];
    tree.write("x.cc", &cxx.map(|name| format!("#include <{name}>\n")).concat());
    tree.check("x.cc", &["-std=c++20"]);
}

#[test]
fn depfiles_equal_gcc_s() {
    if !has_compiler() {
        return;
    }
    let tree = Tree::new(&[
        ("a b.c", "#include <stdio.h>\n#include \"x#1.h\"\n"),
        ("x#1.h", "#include \"$y.h\"\n"),
        ("$y.h", ""),
    ]);
    let request = tree.request(GCC, "a b.c", &[]);
    let scan = tree.scanner.scan(&request, &tree.files).expect("the scanner is sure");
    for (user_only, mode) in [(false, "-M"), (true, "-MM")] {
        for phony in [false, true] {
            let targets = [Target::Verbatim("$(o) x".into()), Target::Quoted("a$ b.o".into())];
            let ours = depfile(&scan, &targets, &DepfileOptions { user_only, phony });
            let mut more = vec![mode, "-MT", "$(o) x", "-MQ", "a$ b.o"];
            more.extend(phony.then_some("-MP"));
            let real = tree.real(&request, &[], &more);
            assert_eq!(String::from_utf8_lossy(&ours), String::from_utf8_lossy(&real), "{more:?}");
        }
    }
}

#[test]
fn a_remembered_scan_sees_every_change() {
    if !has_compiler() {
        return;
    }
    let tree = Tree::new(&[("a.c", "#include \"x.h\"\n#include <y.h>\n"), ("x.h", ""), ("d2/y.h", "")]);
    let flags = ["-I d1", "-I d2"];
    tree.check("a.c", &flags);
    tree.write("x.h", "#include \"z.h\"\n");
    tree.write("z.h", "");
    tree.check("a.c", &flags);
    fs::create_dir(tree.path().join("d1")).expect("a directory can be made");
    tree.check("a.c", &flags);
    tree.write("d1/y.h", "int y;\n");
    tree.check("a.c", &flags);
    fs::remove_file(tree.path().join("d1/y.h")).expect("it was there");
    symlink("later.h", tree.path().join("d1/y.h")).expect("a link can be made");
    tree.check("a.c", &flags);
    tree.write("d1/later.h", "");
    tree.check("a.c", &flags);
    fs::rename(tree.path().join("d2"), tree.path().join("d3")).expect("a directory can be renamed");
    tree.check("a.c", &flags);
    symlink("d3", tree.path().join("d2")).expect("a link can be made");
    tree.check("a.c", &flags);
    fs::remove_dir_all(tree.path().join("d1")).expect("it was there");
    symlink("d3", tree.path().join("d1")).expect("a link can be made");
    tree.check("a.c", &flags);
}

/// A view that stamps files by their bytes, and in which perhaps none can be read: what is not remembered cannot be found
/// out then.
struct Stamped {
    disk: DiskView,
    readable: bool,
}

impl Stamped {
    fn new(readable: bool) -> Stamped {
        Stamped { disk: DiskView::new(), readable }
    }
}

impl FileView for Stamped {
    fn find(&self, path: &Path) -> Found {
        self.disk.find(path)
    }

    fn link_target(&self, path: &Path) -> Option<std::path::PathBuf> {
        self.disk.link_target(path)
    }

    fn read(&self, path: &Path) -> std::io::Result<Arc<[u8]>> {
        if self.readable { self.disk.read(path) } else { Err(std::io::ErrorKind::Unsupported.into()) }
    }

    fn blob(&self, path: &Path) -> std::io::Result<(BlobId, bool)> {
        self.disk.blob(path)
    }

    fn blob_of_bytes(&self, bytes: &[u8]) -> std::io::Result<BlobId> {
        self.disk.blob_of_bytes(bytes)
    }

    fn stamp(&self, path: &Path) -> Option<u64> {
        let hash = BlobId::of(&fs::read(path).ok()?).hash();
        hash.as_bytes().first_chunk().map(|start| u64::from_le_bytes(*start))
    }
}

#[test]
fn a_remembered_scan_holds_for_a_copy_of_the_tree() {
    if !has_compiler() {
        return;
    }
    let source = "#include <x.h>\n#include <stdio.h>\n";
    let tree = Tree::new(&[("w/a.c", source), ("w/d2/x.h", ""), ("w/d1/y.h", "")]);
    let request =
        || ScanRequest { dir: tree.path().join("w"), ..tree.request(GCC, "a.c", &["-I d1", "-I d2"]) };
    let first = tree.scanner.scan(&request(), &Stamped::new(true));
    let kept = tree.path().join("cache");
    tree.scanner.save(&kept).expect("a cache can be written");
    let copied = Command::new("cp").arg("-a").args([tree.path().join("w"), tree.path().join("v")]).status();
    assert!(copied.expect("`cp` starts").success());
    fs::remove_dir_all(tree.path().join("w")).expect("it was there");
    fs::rename(tree.path().join("v"), tree.path().join("w")).expect("a directory can be renamed");
    let again = Scanner::load(Box::new(NoCompiler), &kept);
    let files = Stamped::new(false);
    assert_eq!(again.scan(&request(), &files), first);
    // The two directories become one: GCC would pass over the second.
    fs::remove_dir_all(tree.path().join("w/d1")).expect("it was there");
    symlink("d2", tree.path().join("w/d1")).expect("a link can be made");
    assert!(again.scan(&request(), &files).is_err(), "it has to be looked at again, and cannot");
}

#[test]
fn scans_are_kept_from_one_process_to_the_next() {
    if !has_compiler() {
        return;
    }
    let tree = Tree::new(&[("a.c", "#include \"x.h\"\n"), ("x.h", "#include <stdlib.h>\n")]);
    let first = tree.scan("a.c").expect("the scanner is sure");
    let kept = tree.path().join("cache");
    tree.scanner.save(&kept).expect("a cache can be written");
    let again = Scanner::load(Box::new(NoCompiler), &kept);
    let request = tree.request(GCC, "a.c", &[]);
    assert_eq!(again.scan(&request, &tree.files), Ok(Arc::clone(&first)));
    assert_eq!(again.scan_afresh(&request, &tree.files), Ok(first), "the compiler's facts are kept too");
    tree.write("x.h", "");
    assert_eq!(again.scan(&request, &tree.files).expect("the scanner is sure").deps.len(), 3);

    let good = fs::read(&kept).expect("it was written");
    for at in [0, 8, 20, good.len() / 2, good.len() - 1] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(&kept, bad).expect("a file can be written");
        let cold = Scanner::load(Box::new(NoCompiler), &kept);
        let cold = cold.scan(&request, &tree.files);
        assert!(matches!(cold, Err(ScanMiss::NotSure(_))), "a damaged cache is no cache: {cold:?}");
    }
}

/// A compiler that cannot be asked.
struct NoCompiler;

impl CompilerFacts for NoCompiler {
    fn facts(&self, _: &Compiler, _: &Path) -> std::io::Result<Facts> {
        Err(std::io::ErrorKind::NotFound.into())
    }

    fn features(&self, _: &Compiler, _: &Path, _: &[String]) -> std::io::Result<Vec<i64>> {
        Err(std::io::ErrorKind::NotFound.into())
    }
}

#[test]
fn a_placeholder_must_become_real() {
    if !has_compiler() {
        return;
    }
    let tree = Tree::new(&[("a.c", "#include \"made.h\"\n")]);
    let name = OutputName::from("made.h");
    let output = OutputRef { thunk: ThunkId::synthetic(1), name };
    fs::write(tree.path().join("made.h"), placeholder::bytes(&output)).expect("a file can be written");
    assert_eq!(tree.scan("a.c"), Err(ScanMiss::NeedReal(tree.path().join("made.h"))));
    tree.write("made.h", "#include <stddef.h>\n");
    tree.check("a.c", &[]);
}

#[test]
fn words_that_matter_are_found_outside_of_comments() {
    if !has_compiler() {
        return;
    }
    let tree = Tree::new(&[
        ("time.c", "const char *d = __DATE__;\n"),
        ("comment.c", "/* __DATE__ */ int x; // __TIME__\n"),
        ("incbin.c", "__asm__(\".incbin \\\"x\\\"\");\n"),
    ]);
    let traits = |source| tree.scan(source).map(|scan| (scan.uses_time, scan.has_incbin));
    assert_eq!(traits("time.c"), Ok((true, false)));
    assert_eq!(traits("comment.c"), Ok((false, false)));
    assert_eq!(traits("incbin.c"), Ok((false, true)));
}

#[test]
fn a_unit_that_fails_is_told_with_what_it_read_and_a_header_that_appears_is_seen() {
    if !has_compiler() {
        return;
    }
    let tree = Tree::new(&[
        ("a.h", ""),
        ("b.h", ""),
        ("error.c", "#include \"a.h\"\n#error no\n#include \"b.h\"\n"),
        ("missing.c", "#include \"a.h\"\n#include \"nowhere.h\"\n#include \"b.h\"\n"),
        ("deep.c", "#include \"missing.c\"\nint x;\n"),
        ("fine.c", "#if 0\n#error no\n#include \"nowhere.h\"\n#endif\n"),
    ]);
    let read = |source: &str| {
        let scan = tree.scan(source).unwrap();
        let names = scan.deps.iter().filter(|dep| !dep.system).map(|dep| dep.path.clone());
        (scan.fails, names.collect::<Vec<_>>())
    };
    let check = |source: &str, fails: bool, expected: &[&str]| {
        let names = expected.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(read(source), (fails, names), "{source}");
    };
    check("error.c", true, &["error.c", "a.h", "b.h"]);
    check("missing.c", true, &["missing.c", "a.h"]);
    check("deep.c", true, &["deep.c", "missing.c", "a.h"]);
    check("fine.c", false, &["fine.c"]);
    tree.write("nowhere.h", "");
    check("missing.c", false, &["missing.c", "a.h", "nowhere.h", "b.h"]);
}

#[test]
fn what_cannot_be_told_is_not_guessed() {
    if !has_compiler() {
        return;
    }
    let sources = [
        "#if __COUNTER__\n#endif\n",
        "#if 1 +\n#endif\n",
        "#if #machine(x)\n#endif\n",
        "#define P(x) _Pragma(#x)\nP(push_macro(\"A\"))\n",
        "_Pragma(\"once\")\n",
        "#if 1\n",
        "# 1 \"x.c\" 3\n",
        "const char *s = \"a\"R\"x(\n#define D 1\n //)x\";\n",
        "0e+R\"x(\n#define D 1\n //)x\"\n",
    ];
    let tree = Tree::new(&[]);
    for (at, text) in sources.iter().enumerate() {
        let name = format!("a{at}.c");
        tree.write(&name, text);
        let answer = tree.scan(&name);
        assert!(matches!(answer, Err(ScanMiss::NotSure(_))), "{text}: {answer:?}");
    }
    let harmless =
        "#define W(x) _Pragma(#x)\nW(GCC diagnostic push)\n#if 0\n#error no\n#if (\n#endif\n#endif\n";
    tree.write("fine.c", harmless);
    tree.check("fine.c", &[]);
}
