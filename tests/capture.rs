//! Programs without a model: what they read and wrote is recorded, and an unchanged second run is a repetition. Real programs
//! throughout; a line in the file `log`, outside of the build's eyes, would change nothing, so what ran is read from ggr's
//! own summary.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Output, Stdio};

use crate::twin::{Field, Twin};

/// A field with these files.
fn field(files: &[(&str, &str)]) -> Field {
    let field = Field::new();
    let files: Vec<_> = files.iter().map(|(path, text)| ((*path).into(), (*text).into())).collect();
    field.lay(&files);
    field
}

/// How many programs a build repeated and how many it recorded, by its summary.
fn counts(output: &Output) -> (usize, usize) {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let Some(line) = text.lines().find(|line| line.contains("captured program")) else { return (0, 0) };
    let numbers: Vec<usize> =
        line.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok()).collect();
    (numbers[1], numbers[2])
}

fn make(field: &Field) -> Output {
    let output = field.ggr("make").output().expect("ggr can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

fn read(field: &Field, path: &str) -> String {
    fs::read_to_string(field.tree().join(path)).expect("the build made it")
}

fn remove(field: &Field, path: &str) {
    fs::remove_file(field.tree().join(path)).expect("the build made it");
}

fn write(field: &Field, path: &str, text: &str) {
    fs::write(field.tree().join(path), text).expect("the tree can be written");
}

/// Builds, removes `out`, builds again: the second time nothing may run, and the bytes are the same.
fn is_repeated(files: &[(&str, &str)]) {
    let field = field(files);
    let first = make(&field);
    assert_eq!(counts(&first), (0, 1), "{}", String::from_utf8_lossy(&first.stderr));
    let made = read(&field, "out");
    remove(&field, "out");
    let second = make(&field);
    assert_eq!(counts(&second), (1, 0), "{}", String::from_utf8_lossy(&second.stderr));
    assert_eq!(read(&field, "out"), made);
}

/// Builds, changes something, builds again: the program must run again. Gives the field.
fn runs_again(files: &[(&str, &str)], change: impl FnOnce(&Path)) -> Field {
    let field = field(files);
    assert_eq!(counts(&make(&field)), (0, 1));
    remove(&field, "out");
    change(&field.tree());
    assert_eq!(counts(&make(&field)), (0, 1));
    field
}

/// Builds twice: neither run may be remembered.
fn is_not_remembered(files: &[(&str, &str)], reason: &str) {
    let field = field(files);
    for _ in 0..2 {
        let output = make(&field);
        assert_eq!(counts(&output), (0, 0));
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(text.contains(reason), "{text}");
        remove(&field, "out");
    }
}

const M4: [(&str, &str); 3] = [
    ("Makefile", "out: a.m4 b.m4\n\tm4 -I . a.m4 > $@\n"),
    ("a.m4", "include(`b.m4')hello NAME\n"),
    ("b.m4", "define(`NAME', `world')"),
];

#[test]
fn an_unchanged_second_run_is_repeated() {
    is_repeated(&M4);
    is_repeated(&[
        ("Makefile", "out: a.pl\n\tperl a.pl\n"),
        ("a.pl", "open(my $o, '>', 'out') or die; print $o \"made by $0\\n\"; close $o;\n"),
    ]);
    is_repeated(&[
        ("Makefile", "out: a.py\n\t/usr/bin/python3 a.py a.py\n"),
        (
            "a.py",
            "import sys, os\nopen('out.tmp', 'w').write(open(sys.argv[1]).read() * 2)\nos.rename('out.tmp', 'out')\n",
        ),
    ]);
}

#[test]
fn bison_and_flex_give_the_bytes_of_the_plain_build() {
    let grammar = "%{\nint yylex(void); void yyerror(const char *s) { (void)s; }\n%}\n%token A\n%%\ns: A | s A;\n%%\nint main(void) { return yyparse(); }\n";
    let scanner = "%option noyywrap nounput noinput\n%%\na return 258;\n.|\\n ;\n%%\n";
    Twin::new()
        .file("p.y", grammar)
        .file("l.l", scanner)
        .file(
            "Makefile",
            "prog: p.tab.c l.c\n\t$(CC) -o $@ p.tab.c l.c\np.tab.c: p.y\n\tbison -d p.y\nl.c: l.l\n\tflex -o $@ l.l\n",
        )
        .build("make")
        .plain("rm -f prog p.tab.c p.tab.h l.c")
        .build("make")
        .plain("make -q && ./prog < /dev/null; echo $?")
        .same();
}

#[test]
fn a_changed_input_is_seen() {
    let field = runs_again(&M4, |tree| fs::write(tree.join("b.m4"), "define(`NAME', `moon')").unwrap());
    assert_eq!(read(&field, "out"), "hello moon\n");
    // And the first input again: both runs are remembered.
    write(&field, "b.m4", "define(`NAME', `world')");
    assert_eq!(counts(&make(&field)), (1, 0));
    assert_eq!(read(&field, "out"), "hello world\n");
}

#[test]
fn a_file_that_appears_where_it_was_looked_for_in_vain_is_seen() {
    let files = [
        ("Makefile", "out: main.m4\n\tm4 -I first -I second main.m4 > $@\n"),
        ("main.m4", "include(`x.m4')\n"),
        ("first/keep", ""),
        ("second/x.m4", "second"),
    ];
    let field = runs_again(&files, |tree| fs::write(tree.join("first/x.m4"), "first").unwrap());
    assert_eq!(read(&field, "out"), "first\n");
}

#[test]
fn a_changed_directory_listing_is_seen() {
    let files = [
        ("Makefile", "out: a.pl\n\tperl a.pl > $@\n"),
        ("a.pl", "opendir(my $d, 'dir'); print join(' ', sort grep { !/^\\./ } readdir $d), \"\\n\";\n"),
        ("dir/one", ""),
    ];
    let field = runs_again(&files, |tree| fs::write(tree.join("dir/two"), "").unwrap());
    assert_eq!(read(&field, "out"), "one two\n");
}

#[test]
fn a_changed_mode_and_a_changed_variable_are_seen() {
    let files = [
        ("Makefile", "out: a.pl\n\tperl a.pl > $@\n"),
        ("a.pl", "print -x 'tool' ? 'yes' : 'no';\n"),
        ("tool", "x"),
    ];
    let field = runs_again(&files, |tree| {
        fs::set_permissions(tree.join("tool"), fs::Permissions::from_mode(0o755)).unwrap();
    });
    assert_eq!(read(&field, "out"), "yes");
    remove(&field, "out");
    let output = field.ggr("make").env("COLOUR", "red").output().unwrap();
    assert_eq!(counts(&output), (0, 1));
}

#[test]
fn children_belong_to_the_run() {
    let files = [
        ("Makefile", "out: a.pl in\n\tperl a.pl\n"),
        ("a.pl", "system('sed s/a/b/ in > out') == 0 or die; system('sh', '-c', 'wc -c < in >> out');\n"),
        ("in", "banana\n"),
    ];
    is_repeated(&files);
    let field = runs_again(&files, |tree| fs::write(tree.join("in"), "ananas\n").unwrap());
    assert_eq!(read(&field, "out"), "bnanas\n7\n");
}

#[test]
fn what_is_printed_is_printed_again_where_it_was() {
    let field = field(&[
        ("Makefile", "all:\n\t@perl a.pl\n\t@perl a.pl > out 2>&1\n"),
        ("a.pl", "$| = 1; print \"one\\n\"; print STDERR \"two\\n\"; print \"three\\n\";\n"),
    ]);
    let first = make(&field);
    let made = read(&field, "out");
    assert_eq!(made, "one\ntwo\nthree\n");
    let second = make(&field);
    assert_eq!(counts(&second), (2, 0));
    assert_eq!(read(&field, "out"), made);
    assert_eq!(String::from_utf8_lossy(&second.stdout), String::from_utf8_lossy(&first.stdout));
    assert!(String::from_utf8_lossy(&second.stderr).contains("two\n"));
}

#[test]
fn a_file_on_standard_input_counts_and_is_read_to_where_it_was() {
    let files = [
        ("Makefile", "out: in\n\tm4 < in > $@\n\t(perl -e '$$_ = <STDIN>'; wc -c) < in >> $@\n"),
        ("in", "define(`X', `y')X\n"),
    ];
    Twin::new()
        .file(files[0].0, files[0].1)
        .file(files[1].0, files[1].1)
        .build("make")
        .plain("rm out")
        .build("make")
        .same();
}

#[test]
fn a_failing_program_gives_its_own_code_and_message_each_time() {
    let twin = Twin::new()
        .file("Makefile", "out:\n\tperl a.pl\n")
        .file("a.pl", "open(my $o, '>', 'half'); print $o 'x'; close $o; print STDERR \"no\\n\"; exit 7;\n")
        .build("make")
        .build("make");
    twin.same();
}

#[test]
fn a_program_that_kills_itself_ends_by_its_signal() {
    Twin::new().file("Makefile", "out:\n\tperl -e 'kill 9, $$$$'\n").build("make").same();
}

#[test]
fn what_cannot_be_repeated_is_not_remembered() {
    is_not_remembered(
        &[(
            "Makefile",
            "out:\n\tperl -e 'use Socket; socket(my $$s, PF_INET, SOCK_STREAM, 0); print 1' > $@\n",
        )],
        "it opens a socket",
    );
    is_not_remembered(
        &[("Makefile", "out:\n\t/usr/bin/python3 -c 'import os; print(os.urandom(8).hex())' > $@\n")],
        "it asks for random bytes",
    );
    is_not_remembered(
        &[("Makefile", "out:\n\t/usr/bin/python3 -c 'print(open(\"/dev/urandom\", \"rb\").read(4))' > $@\n")],
        "it reads random bytes",
    );
    is_not_remembered(
        &[("Makefile", "out:\n\techo hello | perl -e 'print <STDIN>' > $@\n")],
        "it reads its standard input",
    );
    is_not_remembered(
        &[("Makefile", "out:\n\tperl -e 'if (!fork) { sleep 1; exit } print 1' > $@\n")],
        "it leaves processes behind",
    );
}

#[test]
fn a_temporary_file_with_a_random_name_is_no_hindrance_unless_it_stays() {
    is_repeated(&[
        ("Makefile", "out: a.po\n\tmsgfmt -o a.mo a.po && base64 a.mo > $@ && rm a.mo\n"),
        (
            "a.po",
            "msgid \"\"\nmsgstr \"Content-Type: text/plain; charset=UTF-8\\n\"\n\nmsgid \"a\"\nmsgstr \"b\"\n",
        ),
    ]);
    let makes = "import os; n = os.urandom(8).hex(); open(n, 'x').write('text');";
    is_repeated(&[("Makefile", &format!("out:\n\t/usr/bin/python3 -c \"{makes} os.rename(n, 'out')\"\n"))]);
    is_not_remembered(
        &[("Makefile", &format!("out:\n\t/usr/bin/python3 -c \"{makes} open('out', 'w')\"\n"))],
        "it asks for random bytes",
    );
}

#[test]
fn standard_input_counts_only_for_who_uses_it() {
    let build = |files: &[(&str, &str)], stdin: [Stdio; 2]| {
        let field = field(files);
        stdin.map(|stdin| {
            let output = field.ggr("make").stdin(stdin).output().expect("ggr can be run");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            remove(&field, "out");
            counts(&output)
        })
    };
    assert_eq!(build(&M4, [Stdio::null(), Stdio::piped()]), [(0, 1), (1, 0)]);
    assert_eq!(build(&M4, [Stdio::piped(), Stdio::null()]), [(0, 1), (1, 0)]);
    let asks = [("Makefile", "out:\n\tperl -e 'print -p STDIN ? 1 : 0' > $@\n")];
    assert_eq!(build(&asks, [Stdio::null(), Stdio::null()]), [(0, 1), (1, 0)]);
    assert_eq!(build(&asks, [Stdio::null(), Stdio::piped()]), [(0, 1), (0, 1)]);
    let reads = [("Makefile", "out:\n\tperl -e 'print <STDIN>, 1' > $@\n")];
    assert_eq!(build(&reads, [Stdio::null(), Stdio::null()]), [(0, 1), (1, 0)]);
    assert_eq!(build(&reads, [Stdio::null(), Stdio::piped()]), [(0, 1), (0, 0)]);
}

#[test]
fn the_size_of_what_is_not_made_yet_is_real() {
    Twin::new()
        .file("a.c", "int a(void) { return 1; }\n")
        .file(
            "a.py",
            "import os\nopen('out', 'w').write(f\"{os.stat('a.o').st_size} {os.path.getsize('b.o')}\\n\")\n",
        )
        .file("Makefile", "out: a.o b.o a.py\n\t/usr/bin/python3 a.py\n%.o: a.c\n\t$(CC) -c a.c -o $@\n")
        .build("make -j2")
        .same();
}

#[test]
fn a_script_that_calls_the_compiler_is_left_to_its_calls() {
    let field = field(&[
        ("Makefile", "out: a.pl a.c\n\tperl a.pl\n"),
        ("a.pl", "system('gcc -c a.c -o out') == 0 or die;\n"),
        ("a.c", "int a;\n"),
    ]);
    for build in 0..3 {
        let output = make(&field);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(counts(&output), (0, 0), "{text}");
        assert!(text.contains("it runs x86_64-linux-gnu-gcc"), "{text}");
        assert_eq!(text.contains("1 from the cache"), build > 0, "{text}");
        remove(&field, "out");
    }
}

#[test]
fn files_removed_renamed_and_made_are_so_again() {
    let script = "mkdir 'd'; open(my $o, '>', 'd/x'); print $o 1; close $o; chmod 0750, 'd/x'; rename 'd/x', 'd/y'; \
                  symlink 'd/y', 'out'; unlink 'old'; open($o, '>>', 'log'); print $o \"line\\n\"; close $o;\n";
    Twin::new()
        .file("Makefile", "out: a.pl\n\tperl a.pl\n")
        .file("a.pl", script)
        .file("old", "x")
        .file("log", "first\n")
        .build("make")
        .plain("rm -r d out; echo x > old; echo first > log")
        .build("make")
        .same();
}

#[test]
fn a_killed_run_leaves_no_process_and_nothing_wrong() {
    let field = field(&[
        ("Makefile", "out: a.pl\n\tperl a.pl\n"),
        (
            "a.pl",
            "open(my $o, '>', 'out') or die; $o->autoflush; print $o 'half'; open(my $p, '>', 'started'); close $p; sleep 30 if -e 'slow'; print $o ' whole';\n",
        ),
        ("slow", ""),
    ]);
    let mut build = field.ggr("make").spawn().unwrap();
    let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !field.tree().join("started").exists() {
        assert!(std::time::Instant::now() < until, "the program does not start");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    rustix::process::kill_process(rustix::process::Pid::from_child(&build), rustix::process::Signal::INT)
        .unwrap();
    assert!(!build.wait().unwrap().success());
    let perl = |entry: &fs::DirEntry| {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let dir = fs::read_link(entry.path().join("cwd")).unwrap_or_default();
        line.starts_with(b"perl\0") && dir == field.tree()
    };
    // A killed process is there until the kernel has taken it down.
    while fs::read_dir("/proc").unwrap().flatten().any(|entry| perl(&entry)) {
        assert!(std::time::Instant::now() < until, "the program goes on");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    remove(&field, "slow");
    let _ = fs::remove_file(field.tree().join("out"));
    make(&field);
    assert_eq!(read(&field, "out"), "half whole");
}

#[test]
fn capture_can_be_switched_off_and_extended() {
    let field = field(&[("Makefile", "out: in\n\tm4 in > $@\n\tod -c in >> $@\n"), ("in", "x\n")]);
    let run = |setting: &str| {
        let output = field.ggr(&format!("--capture {setting} make -B")).output().unwrap();
        assert!(output.status.success());
        counts(&output)
    };
    assert_eq!(run("off"), (0, 0));
    assert_eq!(run("auto"), (0, 1));
    assert_eq!(run("auto,od"), (1, 1));
    assert_eq!(run("od"), (1, 0));
}

#[test]
fn an_ordinary_users_programs_are_captured_too() {
    let field = field(&[
        ("Makefile", "out: a.m4 a.pl in\n\tm4 a.m4 > $@\n\tperl a.pl\n"),
        ("a.m4", "hello\n"),
        (
            "a.pl",
            "system('python3 -c \"print(open(\\'in\\').read())\" >> out; wc -c < in >> out') == 0 or die;\n",
        ),
        ("in", "text"),
    ]);
    let build = || {
        let output = field.as_user("make").output().expect("ggr can be run");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        counts(&output)
    };
    assert_eq!(build(), (0, 2));
    let made = read(&field, "out");
    assert_eq!(made, "hello\ntext\n4\n");
    remove(&field, "out");
    assert_eq!(build(), (2, 0));
    assert_eq!(read(&field, "out"), made);
    remove(&field, "out");
    write(&field, "in", "other");
    assert_eq!(build(), (1, 1));
    assert_eq!(read(&field, "out"), "hello\nother\n5\n");
}

/// Writes a file that make takes for newer than the other: one clock tick may see both.
fn write_newer(field: &Field, path: &str, text: &str, than: &str) {
    let time = |path: &str| field.tree().join(path).metadata().and_then(|meta| meta.modified()).unwrap();
    loop {
        write(field, path, text);
        if time(path) > time(than) {
            return;
        }
    }
}

/// A generator that copies a file in capitals, and the rules for it.
const GENERATOR: [(&str, &str); 3] = [
    ("Makefile", "out: gen in\n\t./gen in > $@\ngen: gen.c\n\t$(CC) $(CFLAGS) -o $@ gen.c\n"),
    (
        "gen.c",
        "#include <ctype.h>\n#include <stdio.h>\nint main(int n, char **v) { FILE *f = fopen(v[1], \"r\"); int c;\n\
         while ((c = fgetc(f)) != EOF) putchar(toupper(c));\nreturn n != 2; }\n",
    ),
    ("in", "hello\n"),
];

#[test]
fn a_generator_that_the_project_built_is_repeated() {
    for flags in ["make", "make CFLAGS=-static"] {
        let field = field(&GENERATOR);
        let build = || {
            let output = field.ggr(flags).output().expect("ggr can be run");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            counts(&output)
        };
        assert_eq!(build(), (0, 1), "{flags}");
        remove(&field, "out");
        assert_eq!(build(), (1, 0), "{flags}");
        assert_eq!(read(&field, "out"), "HELLO\n");
        write_newer(&field, "in", "other\n", "out");
        assert_eq!(build(), (0, 1));
        assert_eq!(read(&field, "out"), "OTHER\n");
        // Another generator is another program.
        write(&field, "gen.c", &GENERATOR[1].1.replace("toupper", "tolower"));
        assert_eq!(build(), (0, 1));
        assert_eq!(read(&field, "out"), "other\n");
    }
}

#[test]
fn an_ordinary_users_generator_is_repeated() {
    let field = field(&GENERATOR);
    let build = || counts(&field.as_user("make").output().expect("ggr can be run"));
    assert_eq!(build(), (0, 1));
    remove(&field, "out");
    assert_eq!(build(), (1, 0));
    assert_eq!(read(&field, "out"), "HELLO\n");
}

#[test]
fn a_test_that_the_project_built_runs_each_time() {
    let field = field(&[
        ("Makefile", "check: t\n\t@./t\nt: t.c\n\t@$(CC) -o $@ t.c\n"),
        ("t.c", "#include <stdio.h>\nint main(void) { return puts(\"passed\") < 0; }\n"),
    ]);
    for _ in 0..2 {
        let output = make(&field);
        assert_eq!(counts(&output), (0, 0));
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(text.contains("t: it leaves nothing"), "{text}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "passed\n");
    }
}

#[test]
fn a_diverted_program_sees_what_it_would_see() {
    let shows = "#include <signal.h>\n#include <stdio.h>\n#include <string.h>\n#include <sys/stat.h>\n#include <unistd.h>\n\
                 extern char **environ;\nint main(int n, char **v) {\n  char exe[4096] = {0}, dir[4096];\n\
                 for (int i = 0; i < n; i++) printf(\"[%s]\", v[i]);\n\
                 for (char **e = environ; *e; e++) if (strncmp(*e, \"GGR_\", 4)) puts(*e);\n\
                 if (readlink(\"/proc/self/exe\", exe, 4095) > 0) puts(exe);\n\
                 printf(\"%s %o %d\\n\", getcwd(dir, 4096), umask(0), signal(SIGTERM, SIG_DFL) == SIG_IGN);\n\
                 fflush(stdout);\n  if (n > 2) raise(SIGKILL);\n  return n; }\n";
    let makefile = "all: prog fixed\n\t-./prog > one\n\t-(umask 77; trap '' TERM; ./prog '' > two)\n\t-env -i A=1 ./prog > three\n\
                    \t-./prog 'a b' \"$$(seq 2000)\" > four\n\t-cd sub && ../fixed > ../five\n\
                    \t-python3 -c 'import subprocess; print(subprocess.call([\"./prog\", \"x\"]))' > six\n\
                    \t-./broken\n\t-./prog </dev/null >seven & wait\n\
                    prog: prog.c\n\t$(CC) -o $@ prog.c\nfixed: prog.c\n\t$(CC) -static -o $@ prog.c\n";
    Twin::new()
        .file("prog.c", shows)
        .file("Makefile", makefile)
        .file("sub/keep", "")
        .plain("printf '\\177ELF\\002 no program' > broken; chmod +x broken")
        .build("make")
        .plain("rm -f one two three four five six seven")
        .build("make")
        .same();
}

#[test]
fn with_all_any_program_is_repeated() {
    let field = field(&[
        ("Makefile", "out: in gen.sh\n\tcksum in > $@\n\t./gen.sh in >> $@\n"),
        ("gen.sh", "#!/bin/sh\nsum=$(sha1sum < $1)\necho \"$sum\"\n"),
        ("in", "x\n"),
    ]);
    let build = |setting: &str| {
        let output = field.ggr(&format!("--capture {setting} make -B")).output().expect("ggr can be run");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        counts(&output)
    };
    assert_eq!(build("auto"), (0, 0));
    let made = read(&field, "out");
    assert_eq!(build("all"), (0, 2));
    assert_eq!(build("all"), (2, 0));
    assert_eq!(read(&field, "out"), made);
    write(&field, "in", "y\n");
    assert_eq!(build("all"), (0, 2));
    assert_ne!(read(&field, "out"), made);
}

#[test]
fn with_all_a_build_leaves_what_it_leaves_without() {
    Twin::new()
        .file("configure", "#!/bin/sh\necho 'int main(void) { return 0; }' > conftest.c\ngcc conftest.c -o conftest && ./conftest && echo yes > config\nrm -f conftest*\n")
        .file("a.c", "#include <stdio.h>\nint main(void) { return !printf(\"%d\\n\", A); }\n")
        .file("Makefile", "all: prog list\nprog: a.c a.h\n\t$(CC) -include a.h a.c -o $@\na.h: config\n\techo '#define A 3' | tee $@ | sed s/3/4/ > a.h.txt\nlist: prog\n\tnm prog | grep -c main > $@; ./prog >> $@; tar cf x.tar --mtime=@0 list; xz -k x.tar\n")
        .variable("GGR_CAPTURE", "all")
        .build("./configure")
        .build("make -j2")
        .plain("rm -f prog list x.tar*")
        .build("make -j2")
        .same();
}
