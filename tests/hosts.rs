//! Machines that allow less: no namespaces, no mounts, no watching of system calls. A build does with less, says what that
//! means, and leaves what plain make leaves.

use std::process::{Command, Output};

use crate::twin::{Field, NOBODY, differences, ggr, placeholders, snapshot};

/// Runs a command where namespaces, mounts and, if asked for, seccomp(2) are refused by the kernel.
const FORBID: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/harness/forbid.py");

/// A program whose link waits for its compiles, with a script in between for one of them.
fn sources() -> Vec<(String, String)> {
    let makefile = "CFLAGS = -O2 -g\nprog: a.o b.o lib.a\n\t$(CC) a.o b.o lib.a -o prog\nlib.a: c.o\n\tar rc lib.a c.o\n\
                    a.o: a.c\n\t$(CC) $(CFLAGS) -c a.c\nc.o: c.c\n\tsh ./cc.sh c.c\n";
    let files = [
        ("Makefile", makefile),
        (
            "a.c",
            "#include <stdio.h>\nint b(void), c(void);\nint main(void) { return !printf(\"%d\\n\", b() + c()); }\n",
        ),
        ("b.c", "int b(void) { return 1; }\n"),
        ("c.c", "int c(void) { int unused; return 2; }\n"),
        ("cc.sh", "if gcc -Wall -c \"$1\"; then :; fi\n"),
    ];
    files.map(|(name, text)| (name.to_owned(), text.to_owned())).to_vec()
}

/// A command behind `forbid.py`, as whom it lets in.
fn forbidden(field: &Field, words: &str) -> Command {
    let is_root = rustix::process::geteuid().is_root();
    let program = if is_root { field.give_away(NOBODY, &ggr()) } else { ggr() };
    let mut command = field.command("python3");
    command.arg("-B").arg(FORBID);
    for word in words.split(' ') {
        if word == "GGR" {
            command.arg(&program)
        } else {
            command.arg(word)
        };
    }
    command
}

fn run(command: &mut Command) -> (Output, String) {
    let output = command.output().expect("the command can be run");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output, said)
}

/// Builds plainly and with ggr under the same restrictions; what ggr said of itself.
fn check(options: &str, make: &str) -> String {
    let field = Field::new();
    field.lay(&sources());
    let (plain, _) = run(field.command("make").args(make.split(' ').skip(1)));
    assert!(plain.status.success());
    let expected = snapshot(&field.tree());
    field.clear();
    field.lay(&sources());
    let (output, said) = run(&mut forbidden(&field, &format!("{options}{make}")));
    assert!(output.status.success(), "{said}");
    let got = snapshot(&field.tree());
    assert_eq!(differences(&expected, &got), Vec::<String>::new(), "{said}");
    assert!(placeholders(&got).is_empty());
    assert_eq!(String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&plain.stdout));
    assert_eq!(said.matches("unused variable").count(), 1, "{said}");
    said
}

/// Whether ggr took calls for thunks, which it cannot without catching them.
fn caught(said: &str) -> bool {
    said.lines().any(|line| line.starts_with("ggr: ") && line.contains(" thunks: "))
}

#[test]
fn without_namespaces_tools_are_caught_through_path() {
    let said = check("GGR ", "make -j2");
    assert!(caught(&said), "{said}");
    assert!(said.contains("through `PATH` only"), "{said}");
    assert!(!said.contains("not caught"), "{said}");
    assert!(!said.contains("in the sandbox"), "{said}");
}

#[test]
fn what_is_called_past_path_is_counted() {
    let said = check("GGR --intercept path --isolation plain ", "make CC=/usr/bin/gcc");
    // Two compiles and a link; what the compiler itself calls may be counted too.
    assert!(said.contains("-gcc-12` was called past `PATH` and not caught, 3 times"), "{said}");
}

#[test]
fn without_a_watch_every_call_waits() {
    let said = check("--seccomp GGR ", "make -j2");
    assert!(caught(&said), "{said}");
    assert!(said.contains("every call waits"), "{said}");
}

#[test]
fn with_interception_off_the_build_runs_as_it_is() {
    let said = check("--seccomp GGR --intercept off ", "make -j2");
    assert!(!caught(&said), "{said}");
}

#[test]
fn mounts_that_were_asked_for_and_refused_are_an_error() {
    let field = Field::new();
    field.lay(&sources());
    let (output, said) = run(&mut forbidden(&field, "GGR --intercept mount make"));
    assert_eq!(output.status.code(), Some(119), "{said}");
    assert!(said.contains("cannot be caught by mounts") && said.contains("hint: "), "{said}");
}

#[test]
fn doctor_says_what_such_a_machine_gets() {
    let field = Field::new();
    let (output, _) = run(&mut forbidden(&field, "GGR doctor"));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("--intercept path") && said.contains("--isolation plain"), "{said}");
}

#[test]
fn links_and_plain_isolation_work_where_more_would_too() {
    let field = Field::new();
    field.lay(&sources());
    let (plain, _) = run(&mut field.command("make"));
    assert!(plain.status.success());
    let expected = snapshot(&field.tree());
    for words in [
        "--intercept path make",
        "--isolation plain make",
        "--intercept path --isolation plain --mode wait make -j2",
    ] {
        field.clear();
        field.lay(&sources());
        let (output, said) = run(&mut field.ggr(words));
        assert!(output.status.success() && caught(&said), "{words}: {said}");
        assert_eq!(differences(&expected, &snapshot(&field.tree())), Vec::<String>::new(), "{words}: {said}");
    }
}

#[test]
fn an_ordinary_user_runs_here_what_has_no_thunk() {
    let field = Field::new();
    let makefile = "all: x\n\tgcc --version\n\tgcc -fno-such-option -c x.c -o y.o || echo refused\nx: x.c\n\tgcc x.c -o x\n";
    let files = [("Makefile", makefile), ("x.c", "int main(void) { return 0; }\n")];
    let files = files.map(|(name, text)| (name.to_owned(), text.to_owned())).to_vec();
    field.lay(&files);
    let (plain, complaint) = run(&mut field.command("make"));
    assert!(plain.status.success(), "{complaint}");
    let expected = snapshot(&field.tree());
    field.clear();
    field.lay(&files);
    let (output, said) = run(&mut field.as_user("make"));
    assert!(output.status.success(), "{said}");
    assert!(!said.contains("Permission denied"), "{said}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&plain.stdout));
    assert_eq!(differences(&expected, &snapshot(&field.tree())), Vec::<String>::new(), "{said}");
}
