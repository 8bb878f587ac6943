//! Placeholders that anybody may read: what recipes do with a file that has not been made yet, one test each.

use crate::twin::Twin;

const RULES: &str = "\
.RECIPEPREFIX = >
CFLAGS = -O2 -g -Wall
all: out
a.o: a.c a.h
> $(CC) $(CFLAGS) -c a.c -o a.o
b.o: b.c a.h
> $(CC) $(CFLAGS) -c b.c -o b.o
prog: a.o b.o
> $(CC) a.o b.o -o prog
out: a.o b.o prog
";

/// Two sources, a header and a Makefile whose last rule has this recipe.
fn program(recipe: &str) -> Twin {
    let recipe: String = recipe.lines().map(|line| format!("> {line}\n")).collect();
    Twin::new()
        .file("a.h", "int twice(int);\n")
        .file("a.c", "#include \"a.h\"\nint twice(int x) { return 2 * x; }\n")
        .file("b.c", "#include <stdio.h>\n#include \"a.h\"\nint main(void) { return !printf(\"%d\\n\", twice(21)); }\n")
        .file("Makefile", &format!("{RULES}{recipe}"))
}

/// Builds with this recipe, and checks that a following make finds as much to do as after plain make.
fn check(recipe: &str) {
    program(recipe).build("make -j4").plain("make -q").same();
}

/// Compiles and does something at once, all in one recipe, with no rule in between.
fn check_alone(recipe: &str) {
    let recipe: String = recipe.lines().map(|line| format!("> {line}\n")).collect();
    Twin::new()
        .file("a.c", "int a(void) { return 1; }\n")
        .file("b.c", "int b(void) { return 2; }\nint more = 3;\n")
        .file("Makefile", &format!(".RECIPEPREFIX = >\nall:\n{recipe}"))
        .build("make")
        .same();
}

#[test]
fn a_built_program_runs_in_a_recipe() {
    check("./prog > out");
}

#[test]
fn a_built_generator_makes_a_header_that_is_compiled_next() {
    Twin::new()
        .file("gen.c", "#include <stdio.h>\nint main(void) { return !puts(\"#define ANSWER 42\"); }\n")
        .file("a.c", "#include \"table.h\"\nint answer = ANSWER;\n")
        .file(
            "Makefile",
            "a.o: a.c table.h\n\t$(CC) -c a.c\ntable.h: gen\n\t./gen > $@\ngen: gen.c\n\t$(CC) gen.c -o gen\n",
        )
        .build("make -j4")
        .plain("make -q")
        .same();
}

#[test]
fn cat_reads_real_bytes() {
    check("cat a.o b.o prog > out");
}

#[test]
fn cp_copies_real_bytes_and_modes() {
    check("cp prog copy\ncp a.o out");
}

#[test]
fn mv_moves_what_will_be_made() {
    check("$(CC) -c a.c -o a.tmp\nmv a.tmp out");
}

#[test]
fn a_moved_directory_still_gets_its_files() {
    check("mkdir d\n$(CC) -c a.c -o d/a.o\nmv d e\ncat e/a.o > out");
}

#[test]
fn a_hard_link_gives_real_bytes_under_both_names() {
    check("ln a.o other.o\ncat other.o > out");
}

#[test]
fn a_symlink_leads_to_real_bytes() {
    check("ln -s a.o other.o\nsha256sum other.o > out");
}

#[test]
fn install_strips_a_real_program() {
    check("install -s -m 750 prog out");
}

#[test]
fn tar_packs_real_bytes() {
    check("tar --mtime=@0 -cf out a.o b.o prog");
}

#[test]
fn sha256sum_reads_real_bytes() {
    check("sha256sum a.o b.o prog > out");
}

#[test]
fn test_s_sees_a_file_that_is_not_empty() {
    check("test -s a.o && test -x prog && test ! -x a.o && echo yes > out");
}

#[test]
fn test_s_sees_an_output_that_is_empty() {
    check_alone("$(CC) -E -P -x c /dev/null -o e.i\nif test -s e.i; then echo full; else echo empty; fi");
}

#[test]
fn test_s_sees_that_a_section_s_bytes_are_none() {
    let copy = "objcopy -O binary -j .bss b.o b.bin\nif test -s b.bin; then echo full; else echo empty; fi";
    check_alone(&format!("$(CC) -c b.c -o b.o\n{copy}"));
}

#[test]
fn stat_sees_the_real_size() {
    check("stat -c '%s %A %n' a.o b.o prog > out");
}

#[test]
fn programs_that_look_at_sizes_see_the_real_ones() {
    for recipe in [
        "find . -name a.o -printf '%s\\n'",
        "du -b a.o",
        "stat -c %s a.o",
        "ls -s --block-size=1 a.o | cut -d ' ' -f 2",
        "mkdir sub && cd sub && ls -s --block-size=1 .. | grep a.o",
        "mkdir sub && ln a.o sub/b.o && ls -s --block-size=1 sub",
        "mkdir sub && ln -s ../a.o sub/b.o && ls -Ls --block-size=1 sub",
        "/usr/bin/test -s a.o && echo yes",
        "env [ -s a.o ] && echo yes",
        "find . -name a.o -size -200c",
        "tar cf - a.o | tar tvf - | tr -s ' ' | cut -d ' ' -f 3",
    ] {
        check_alone(&format!("$(CC) -c a.c -o a.o\n{recipe}"));
    }
}

#[test]
fn objcopy_and_strip_work_on_real_programs() {
    check(
        "objcopy --only-keep-debug prog prog.debug\nstrip -o prog.stripped prog\nobjcopy -O binary -j .text a.o out",
    );
}

#[test]
fn strip_in_place_keeps_the_stripped_program() {
    check("strip prog\ncp prog out\nstrip -g a.o");
}

#[test]
fn nm_size_and_readelf_print_of_real_objects() {
    check("nm a.o\nsize prog\nreadelf -S b.o\nobjdump -d a.o > out");
}

#[test]
fn python_reads_real_bytes() {
    check("python3 -c 'import sys; sys.stdout.buffer.write(open(\"a.o\", \"rb\").read())' > out");
}

#[test]
fn mmap_sees_real_bytes() {
    let script = "import mmap, sys; f = open(\"prog\", \"rb\"); sys.stdout.buffer.write(mmap.mmap(f.fileno(), 0, prot=1))";
    check(&format!("python3 -c '{script}' > out"));
}

#[test]
fn a_static_reader_with_raw_system_calls_reads_real_bytes() {
    let reader = "
        static long call(long n, long a, long b, long c) {
            long r;
            __asm__ volatile(\"syscall\" : \"=a\"(r) : \"a\"(n), \"D\"(a), \"S\"(b), \"d\"(c) : \"rcx\", \"r11\", \"memory\");
            return r;
        }
        void _start(void) {
            static char bytes[65536];
            long from = call(2, (long)\"a.o\", 0, 0), n;
            while ((n = call(0, from, (long)bytes, sizeof bytes)) > 0) call(1, 1, (long)bytes, n);
            call(231, 0, 0, 0);
        }";
    program("./reader > out")
        .file("reader.c", reader)
        .plain("gcc -static -nostdlib -o reader reader.c")
        .build("make -j4")
        .same();
}

#[test]
fn a_reader_with_32_bit_system_calls_reads_real_bytes() {
    // The kernel tells such calls apart by how they are made, not by the program. Static, so that addresses are short.
    let reader = "
        static int call(int n, int a, int b, int c) {
            int r;
            __asm__ volatile(\"int $0x80\" : \"=a\"(r) : \"a\"(n), \"b\"(a), \"c\"(b), \"d\"(c) : \"memory\");
            return r;
        }
        static char bytes[65536], name[] = \"a.o\";
        void _start(void) {
            int from = call(5, (int)(long)name, 0, 0), n;
            while ((n = call(3, from, (int)(long)bytes, sizeof bytes)) > 0) call(4, 1, (int)(long)bytes, n);
            call(252, from < 0, 0, 0);
        }";
    Twin::new()
        .file("read.c", reader)
        .file("a.c", "int a(void) { return 1; }\n")
        .file(
            "Makefile",
            "all: read\n\t$(CC) -c a.c\n\t./read > out\n\tcmp a.o out\nread: read.c\n\
             \t$(CC) -O1 -static -no-pie -nostdlib -ffreestanding read.c -o read\n",
        )
        .build("make")
        .same();
}

#[test]
fn a_reader_by_descriptor_reads_real_bytes() {
    let script = "import os, sys; d = os.open(\".\", os.O_PATH); f = os.open(\"a.o\", os.O_PATH, dir_fd=d); \
                  sys.stdout.buffer.write(open(\"/proc/self/fd/%d\" % f, \"rb\").read())";
    check(&format!("python3 -c '{script}' > out"));
}

#[test]
fn a_mode_set_before_the_file_is_made_stays() {
    check("chmod 600 a.o\nchmod 511 prog\n./prog > out");
}

#[test]
fn a_time_set_before_the_file_is_made_stays() {
    program("touch -d @1000000000 a.o\ntouch -r a.o b.o\ntouch out")
        .build("make -j4")
        .plain("stat -c '%Y %n' a.o b.o")
        .same();
}

#[test]
fn a_file_removed_before_it_is_made_does_not_come_back() {
    check_alone("$(CC) -c a.c -o a.o\nrm a.o");
}

#[test]
fn an_output_written_twice_holds_the_second() {
    check_alone("$(CC) -c a.c -o x.o\n$(CC) -c b.c -o x.o");
}

#[test]
fn bytes_appended_to_an_output_come_after_it() {
    check_alone("$(CC) -c a.c -o a.o\necho more >> a.o");
}

#[test]
fn an_output_truncated_by_another_stays_as_that_left_it() {
    check_alone("$(CC) -c a.c -o a.o\necho mine > a.o\n$(CC) -c b.c -o b.o\n: > b.o");
}

#[test]
fn bytes_patched_into_an_output_stay() {
    check_alone("$(CC) -c a.c -o a.o\nprintf XYZ | dd of=a.o bs=1 seek=9 conv=notrunc status=none");
}

#[test]
fn a_source_changed_after_its_compile_changes_only_the_next() {
    check_alone("$(CC) -c a.c -o a1.o\necho 'int later;' >> a.c\n$(CC) -c a.c -o a2.o\nrm a.c");
}

#[test]
fn a_header_rewritten_between_two_compiles_is_seen_by_the_second() {
    check_alone(
        "echo '#define N 1' > n.h\n$(CC) -include n.h -c a.c -o a1.o\necho '#define a renamed' > n.h\n$(CC) -include n.h -c a.c -o a2.o\nrm n.h",
    );
}

#[test]
fn an_archive_is_read_and_changed_by_other_tools() {
    check(
        "ar rcs lib.a a.o b.o\nar t lib.a\nar d lib.a b.o\nranlib lib.a\ncat lib.a > out\n$(CC) b.o lib.a -o again",
    );
}

#[test]
fn a_compiler_in_a_pipe_gives_and_takes_real_bytes() {
    check("$(CC) -S a.c -o - | $(CC) -x assembler -c - -o piped.o\n$(CC) -E b.c | grep -v '^#' > out");
}

#[test]
fn a_compiler_in_a_substitution_gives_real_text() {
    check("echo `$(CC) -dumpversion` `$(CC) -print-file-name=libc.so` > out");
}

#[test]
fn comparing_times_in_a_recipe_sees_the_order_of_the_calls() {
    check("sleep 0.02\n$(CC) -c a.c -o newer.o\ntest newer.o -nt a.o && cmp newer.o a.o; echo $$? > out");
}

#[test]
fn a_file_that_had_to_be_made_here_keeps_the_time_of_its_call() {
    // No sandbox may leave as much as an object file, so the compiler runs here, after `stamp` was made.
    Twin::new()
        .file("ggr.toml", "output-limit = \"1K\"\n")
        .file("a.c", "#include <stdio.h>\nint a(void) { return puts(\"a\"); }\n")
        .file("Makefile", "stamp: a.o\n\ttouch stamp\na.o: a.c\n\t$(CC) -g -c a.c\n")
        .build("make")
        .plain("make -q")
        .same();
}

#[test]
fn what_had_to_be_made_here_after_all_is_made_once_more_if_that_fails() {
    // ar reads the file that it is to make, which is a placeholder: the build is run again.
    Twin::new()
        .file("ggr.toml", "output-limit = \"1K\"\n")
        .file("a.c", "#include <stdio.h>\nint a(void) { return puts(\"a\"); }\n")
        .file(
            "Makefile",
            "ARFLAGS = rcs\nlib.a: a.o\n\t@$(AR) $(ARFLAGS) lib.a a.o\na.o: a.c\n\t@$(CC) -g -c a.c\n",
        )
        .build("make")
        .plain("make -q")
        .same();
}

#[test]
fn make_q_is_content_afterwards_with_and_without_ggr() {
    program("cp prog out").build("make -j4").build("make -q").plain("make -q").build("make").same();
}

#[test]
fn touching_one_header_rebuilds_what_make_would_and_no_more() {
    let outcome = program("cp prog out")
        .file("c.c", "int c;\n")
        .file("more.mk", "include Makefile\nall: c.o\n")
        .build("make -f more.mk")
        .plain("sleep 0.02; touch a.h")
        .build("make -f more.mk")
        .plain("make -f more.mk -q")
        .same();
    assert!(!outcome.stdout(2).contains("c.c"), "c.c does not include the header:\n{}", outcome.stdout(2));
}
