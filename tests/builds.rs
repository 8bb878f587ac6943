//! Builds of every shape: however the compiler is named and whoever calls it, `ggr` gives what the plain build gives.

use crate::twin::{Field, Twin};

const MAIN: &str = "#include \"util.h\"\nint main(void) { return util(0); }\n";
const UTIL: &str = "#include \"util.h\"\nint util(int x) { return x; }\n";

fn program(makefile: &str) -> Twin {
    Twin::new()
        .file("util.h", "int util(int);\n")
        .file("util.c", UTIL)
        .file("main.c", MAIN)
        .file("Makefile", &format!(".RECIPEPREFIX = >\n{makefile}"))
}

const SIMPLE: &str = "prog: main.o util.o\n> $(CC) $^ -o $@\nmain.o util.o: util.h\n";

/// A Makefile that compiles and links with a compiler named in this way.
fn check_name(compiler: &str) {
    program(&format!("CC = {compiler}\n{SIMPLE}")).build("make -j2").plain("make -q && ./prog").same();
}

#[test]
fn a_build_without_parallel_jobs() {
    program(SIMPLE).build("make").plain("make -q").same();
}

#[test]
fn a_build_with_eight_jobs() {
    program(SIMPLE).build("make -j8 --output-sync=none -s").plain("make -q").same();
}

#[test]
fn a_compiler_by_absolute_path() {
    check_name("/usr/bin/gcc");
}

#[test]
fn a_compiler_by_version() {
    check_name("gcc-12");
}

#[test]
fn a_compiler_by_triplet() {
    check_name("x86_64-linux-gnu-gcc");
}

#[test]
fn a_compiler_by_triplet_and_version() {
    check_name("/usr/bin/x86_64-linux-gnu-gcc-12");
}

#[test]
fn a_compiler_by_its_old_name() {
    check_name("c99");
}

#[test]
fn a_compiler_for_cpp_used_for_c() {
    check_name("g++ -x c");
}

#[test]
fn a_compiler_in_an_empty_environment() {
    check_name("env -i PATH=/usr/bin gcc");
}

#[test]
fn a_compiler_by_absolute_path_in_an_empty_environment() {
    check_name("env -i /usr/bin/gcc");
}

#[test]
fn a_compiler_behind_a_script() {
    let script = "#!/bin/sh\n# Like libtool: prints what it does, and looks at what came of it.\n\
                  echo \"script: $*\"\n\"$@\" || exit\ntest -s main.o || test -s util.o\n";
    program(&format!("CC = ./script gcc\n{SIMPLE}"))
        .file("script", script)
        .build("make -j2")
        .plain("make -q")
        .same();
}

#[test]
fn a_compiler_behind_a_symlink_in_the_tree() {
    program(&format!("CC = ./tools/mycc\n{SIMPLE}"))
        .plain("mkdir tools && ln -s /usr/bin/gcc tools/mycc")
        .build("make -j2")
        .same();
}

#[test]
fn a_compiler_called_by_python() {
    let script = "#!/usr/bin/python3\nimport subprocess, sys\nfor name in 'main', 'util':\n    \
                  subprocess.check_call(['gcc', '-O2', '-c', name + '.c'])\n    \
                  print(len(open(name + '.o', 'rb').read()), flush=True)\n\
                  subprocess.check_call(['gcc', 'main.o', 'util.o', '-o', 'prog'])\n";
    program("").file("build.py", script).build("./build.py").plain("./prog").same();
}

#[test]
fn the_tool_itself_as_the_whole_build() {
    program("").build("gcc -O2 main.c util.c -o prog").plain("./prog").same();
}

#[test]
fn a_libtool_build_of_a_shared_library() {
    let rules = "prog: main.lo libutil.la\n> libtool --tag=CC --mode=link gcc main.lo libutil.la -o $@\n\
                 libutil.la: util.lo\n> libtool --tag=CC --mode=link gcc -rpath /nowhere util.lo -o $@\n\
                 %.lo: %.c util.h\n> libtool --tag=CC --mode=compile gcc -O2 -c $< -o $@\n";
    program(rules).build("make -j2").plain("make -q; ls .libs").same();
}

#[test]
fn recursive_make_shares_its_jobs() {
    let rules = "all:\n> +$(MAKE) -C sub\n> $(MAKE) prog\nprog: main.o util.o sub/sub.o\n> $(CC) $^ -o $@\n";
    program(rules)
        .file("sub/Makefile", "sub.o: sub.c ../util.h\n")
        .file("sub/sub.c", "#include \"../util.h\"\nint sub(void) { return util(1); }\n")
        .build("make -j2")
        .plain("make -q prog")
        .same();
}

#[test]
fn a_failing_compile_gives_gccs_message_and_makes_exit_code() {
    let outcome = program("prog: main.o bad.o util.o\n> $(CC) $^ -o $@\n")
        .file("bad.c", "int bad(void) { return undeclared; }\n")
        .build("make")
        .same_failure();
    assert_eq!(outcome.steps[0].status.code(), Some(2));
    assert!(String::from_utf8_lossy(&outcome.steps[0].stderr).contains("'undeclared' undeclared"));
}

#[test]
fn make_k_builds_the_rest() {
    let outcome = program("all: bad.o main.o worse.o util.o prog\nprog: main.o util.o\n> $(CC) $^ -o $@\n")
        .file("bad.c", "#error no\n")
        .file("worse.c", "int int int;\n")
        .build("make -k")
        .plain("./prog")
        .same_failure();
    assert_eq!(outcome.steps[0].status.code(), Some(2));
}

#[test]
fn a_failing_link_gives_lds_message() {
    program("prog: main.o\n> $(CC) $^ -o $@\n").build("make").same_failure();
}

#[test]
fn a_failure_that_the_recipe_ignores_changes_nothing() {
    program("prog: main.o util.o\n> -$(CC) -c missing.c\n> $(CC) -c bad.c || echo expected\n> $(CC) main.o util.o -o $@\n")
        .file("bad.c", "#error no\n")
        .build("make")
        .plain("make -q")
        .same();
}

#[test]
fn warnings_are_printed_once() {
    let outcome = program("CFLAGS = -Wall\nwarn.o: warn.c\n")
        .file("warn.c", "int f(void) { int unused; return 0; }\n")
        .build("make")
        .plain("rm warn.o")
        .build("make")
        .same();
    for step in [0, 2] {
        let text = String::from_utf8_lossy(&outcome.steps[step].stderr).into_owned();
        assert_eq!(text.matches("[-Wunused-variable]").count(), 1, "step {step}:\n{text}");
    }
}

#[test]
fn a_header_generated_during_the_build_is_found() {
    let rules = "prog: main.o util.o\n> $(CC) $^ -o $@\nmain.o: gen/config.h\nmain.o: CFLAGS = -include gen/config.h -Igen\n\
                 gen/config.h:\n> mkdir -p gen && echo '#define main main' > $@\n";
    program(rules).build("make -j4").plain("make -q").same();
}

#[test]
fn dependencies_included_by_the_makefile_are_remade() {
    let rules = "prog: main.o util.o\n> $(CC) $^ -o $@\n%.d: %.c\n> $(CC) -MM -MT $*.o -MF $@ $<\n-include main.d util.d\n";
    program(rules)
        .build("make -j2")
        .plain("sleep 0.02; touch util.h")
        .build("make -j2")
        .plain("make -q")
        .same();
}

#[test]
fn depfiles_are_the_same_bytes_and_there_at_once() {
    program(
        "all:\n> $(CC) -MD -c main.c\n> cat main.d\n> $(CC) -MMD -MP -MF deps/u.d -MT u.o -MQ '$$x' -c util.c -o util.o\n\
         > cat deps/u.d\n> $(CC) -Wp,-MD,main.dep -c main.c -o main2.o\n> $(CC) -Wp,-MMD,w.d -MP -c util.c -o w.o\n> cat w.d main.dep\n\
         > $(CC) -M main.c > m.d\n> $(CC) -MM -MG -MF mm.d missing.c main.c; true\n",
    )
    .plain("mkdir deps")
    .build("make")
    .same();
}

#[test]
fn several_sources_in_one_call() {
    program("all:\n> gcc -g -O2 main.c util.c -o prog\n> gcc -g -c main.c util.c\n> gcc -save-temps -g main.c util.c -o saved\n")
        .build("make")
        .same();
}

#[test]
fn response_files_are_read() {
    program("prog: main.c util.c args\n> gcc @args -o prog\n")
        .file("args", "-O2 -DX='a b' \"-DY=\\\"q\\\"\" @more\n")
        .file("more", "main.c util.c\n")
        .build("make")
        .plain("make -q && ./prog")
        .same();
}

#[test]
fn static_shared_pie_and_lto_links() {
    program(
        "all:\n> gcc -O2 -fPIC -c main.c util.c\n> gcc -shared -Wl,-soname,libutil.so.1 -o libutil.so.1 util.o\n\
         > ln -s libutil.so.1 libutil.so\n> gcc main.o -L. -lutil -Wl,-rpath,. -o dynamic && ./dynamic\n\
         > gcc -static main.o util.o -o static && ./static\n> gcc -no-pie main.o util.o -o nopie\n> ar rcT thin.a util.o\n\
         > gcc main.o thin.a -o thin\n> gcc -O2 -flto -frandom-seed=x main.c util.c -o lto && ./lto\n",
    )
    .build("make")
    .same();
}

#[test]
fn an_include_in_the_assembler_is_read() {
    program("all: data.o blob.o\ndata.o: data.s\n> as data.s -o data.o\n")
        .file("data.s", ".include \"part.s\"\n.section .rodata\n.incbin \"blob.bin\"\n")
        .file("part.s", ".globl part\npart: .long 1\n")
        .file("blob.S", "#define FILE \"blob.bin\"\n.incbin FILE\n")
        .file("blob.bin", "raw bytes\n")
        .build("make")
        .plain("make -q")
        .same();
}

#[test]
fn a_precompiled_header_is_used() {
    program("all: main.o\nmain.o: util.h.gch\n> $(CC) -H -include util.h -c main.c\nutil.h.gch: util.h\n> $(CC) util.h\n")
        .build("make")
        // gcc 12 writes addresses into it: two plain builds differ.
        .plain("make -q && rm util.h.gch")
        .same();
}

#[test]
fn a_header_that_appears_later_is_seen() {
    program("all:\n> gcc -Ifirst -Isecond -c main.c -o main.o\n")
        .file("second/late.h", "int which = 2;\n")
        .file("main.c", "#include \"late.h\"\n#if __has_include(\"other.h\")\nint other;\n#endif\n")
        .plain("mkdir first")
        .build("make")
        .plain("cp main.o one.o; echo 'int which = 11111;' > first/late.h; echo > other.h")
        .build("make")
        .same();
}

#[test]
fn the_umask_decides_the_modes() {
    program(SIMPLE).file("build.sh", "#!/bin/sh\numask 077\nmake\n").build("./build.sh").same();
    program("prog: main.o util.o\n> umask 027; $(CC) $^ -o $@\nmain.o:\n> umask 077; $(CC) -c main.c\n")
        .build("make")
        .same();
}

#[test]
fn a_ninja_build() {
    let rules = "rule cc\n command = gcc -MD -MF $out.d -c $in -o $out\n depfile = $out.d\n deps = gcc\n\
                 rule link\n command = gcc $in -o $out\n\
                 build main.o: cc main.c\nbuild util.o: cc util.c\nbuild prog: link main.o util.o\n";
    program("")
        .file("build.ninja", rules)
        .build("ninja -j1 -v")
        .plain("./prog; ninja -n; rm .ninja_log .ninja_deps")
        .same();
}

#[test]
fn a_cmake_build() {
    program("")
        .file(
            "CMakeLists.txt",
            "cmake_minimum_required(VERSION 3.20)\nproject(p C)\nadd_executable(prog main.c util.c)\n",
        )
        .build("cmake -S . -B build -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo")
        .build("cmake --build build -j1")
        .plain("build/prog; ninja -C build -n; cp build/prog p; rm -r build")
        .same();
}

#[test]
fn standard_input_reaches_the_compiler() {
    program("all:\n> echo 'int x;' | gcc -x c -c - -o x.o\n> printf 'int y;' | gcc -x c -E - > y.i\n")
        .build("make")
        .same();
}

#[test]
fn a_build_in_a_path_with_blanks_and_signs() {
    program("all:\n> cd 'a b' && gcc -g -c \"c d'é.c\" && gcc -MD -c \"c d'é.c\" -o \"o#.o\"\n")
        .file("a b/c d'é.c", "#include \"h h.h\"\nint x = H;\n")
        .file("a b/h h.h", "#define H 1\n")
        .build("make")
        .same();
}

/// A call that fails: what it printed, and the events of its run.
fn failing(field: &Field, command: &str) -> (String, Vec<String>) {
    let plain = field.command("sh").args(["-c", command]).output().unwrap();
    let ggr = field.ggr("-q --json=events sh -c").arg(command).output().unwrap();
    assert_eq!(ggr.status, plain.status, "{command}");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(
        (text(&ggr.stdout), text(&ggr.stderr)),
        (text(&plain.stdout), text(&plain.stderr)),
        "{command}"
    );
    let log = std::fs::read_to_string(field.tree().join("events")).unwrap();
    let events = log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let names = events.filter_map(|event| Some(event["event"].as_str()?.to_owned())).collect();
    (text(&ggr.stderr), names)
}

#[test]
fn a_failure_is_said_again_while_all_that_the_call_reads_is_the_same() {
    let field = Field::new();
    let write = |name: &str, text: &str| std::fs::write(field.tree().join(name), text).unwrap();
    write("missing.c", "#include \"later.h\"\nint x;\n");
    write("error.c", "#error this way or that\n");
    write("wrong.c", "int f(void) { return y; }\n");
    write("link.c", "int g(void);\nint main(void) { return g(); }\n");
    for command in [
        "gcc -c missing.c",
        "gcc -MM missing.c error.c",
        "gcc -MM error.c 2>&1",
        "gcc -c wrong.c",
        "gcc -c link.c && gcc link.o -o link",
    ] {
        let (first, _) = failing(&field, command);
        assert!(first.contains("error") || command.ends_with("2>&1"), "{command}: {first}");
        let (again, events) = failing(&field, command);
        assert_eq!(again, first, "{command}");
        let ran = events.iter().filter(|event| ["started", "ran_here"].contains(&event.as_str())).count();
        assert_eq!(ran, 0, "{command}: {events:?}");
        assert!(events.iter().any(|event| event == "cache_hit"), "{command}: {events:?}");
    }
    write("later.h", "");
    write("wrong.c", "int y;\nint f(void) { return y; }\n");
    for command in ["gcc -c missing.c", "gcc -c wrong.c"] {
        let output = field.ggr("-q sh -c").arg(command).output().unwrap();
        assert!(output.status.success(), "{command}: {output:?}");
    }
}

#[test]
fn dependencies_of_many_sources_are_listed_side_by_side() {
    let field = Field::new();
    let write = |name: &str, text: &str| std::fs::write(field.tree().join(name), text).unwrap();
    write("a.h", "#include <stddef.h>\n");
    for number in 0..14 {
        let missing = if number % 5 == 3 { "#include \"later.h\"\n" } else { "" };
        write(&format!("{number:02}.c"), &format!("#include \"a.h\"\n{missing}int v{number};\n"));
    }
    for (command, apart) in [
        ("gcc -MM *.c > deps", true),
        ("gcc -M *.c", true),
        ("gcc -MM -MT x *.c 2>&1", true),
        ("gcc -MM 0*.c none.c", false),
        ("gcc -MM -x c *.c", false),
        ("gcc -MM -MF deps *.c", false),
    ] {
        failing(&field, command);
        let listed = || std::fs::read(field.tree().join("deps")).ok();
        let log = std::fs::read_to_string(field.tree().join("events")).unwrap();
        assert_eq!(log.contains("parts side by side"), apart, "{command}: {log}");
        let by_ggr = listed();
        assert_eq!(field.command("sh").args(["-c", command]).status().unwrap().code(), Some(1));
        assert_eq!(by_ggr, listed(), "{command}");
    }
}

#[test]
fn a_failure_leaves_an_old_object_as_gcc_does() {
    let field = Field::new();
    std::fs::write(field.tree().join("a.c"), "int f(void) { return y; }\n").unwrap();
    let object = field.tree().join("a.o");
    std::fs::write(&object, "old").unwrap();
    failing(&field, "gcc -c a.c");
    let left = std::fs::read_to_string(&object).ok();
    std::fs::remove_file(&object).ok();
    failing(&field, "gcc -c a.c");
    for round in 0..3 {
        std::fs::write(&object, "old").unwrap();
        let output = field.ggr("-q gcc -c a.c").output().unwrap();
        assert_eq!(output.status.code(), Some(1), "round {round}");
        assert_eq!(std::fs::read_to_string(&object).ok(), left, "round {round}");
    }
}
