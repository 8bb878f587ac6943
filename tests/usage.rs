//! What a user sees of `ggr` itself: exit codes, errors, and commands around a build.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Output};

use crate::twin::{Field, NOBODY, Twin, differences, ggr, placeholders, skipped, snapshot};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A field with one source and a Makefile.
fn field() -> Field {
    let field = Field::new();
    lay(&field);
    field
}

fn lay(field: &Field) {
    let files = [
        ("a.c", "#include \"a.h\"\nint main(void) { return A; }\n"),
        ("a.h", "#define A 0\n"),
        ("Makefile", "prog: a.o\n\t$(CC) a.o -o prog\na.o: a.c a.h\n"),
    ];
    field.lay(&files.map(|(path, text)| (path.into(), text.into())));
}

fn run(command: &mut Command) -> Output {
    command.output().expect("ggr can be run")
}

/// Runs `ggr` with these words; checks the exit code, and that standard error holds each of these texts.
fn check(field: &Field, words: &str, code: i32, says: &[&str]) -> Output {
    let output = run(&mut field.ggr(words));
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "ggr {words}: {errors}");
    for part in says {
        assert!(errors.contains(part), "ggr {words}: `{part}` is not in: {errors}");
    }
    output
}

#[test]
fn the_builds_exit_code_comes_through() {
    let field = field();
    for code in [0, 1, 7, 255] {
        let output = run(field.ggr("sh -c").arg(format!("exit {code}")));
        assert_eq!(output.status.code(), Some(code));
    }
}

#[test]
fn a_build_ended_by_a_signal_exits_as_shells_say_it() {
    let output = run(field().ggr("sh -c").arg("kill -9 $$"));
    assert_eq!(output.status.code(), Some(128 + 9));
}

#[test]
fn a_missing_command_is_named() {
    check(&field(), "no-such-command x", 127, &["ggr: ", "no-such-command"]);
}

#[test]
fn a_command_that_cannot_run_is_named() {
    check(&field(), "./a.c", 126, &["ggr: ", "./a.c"]);
}

#[test]
fn a_wrong_option_is_a_usage_error() {
    check(&field(), "--no-such-option make", 123, &["--no-such-option"]);
    check(&field(), "", 123, &["Usage"]);
}

#[test]
fn help_version_completions_and_man_go_to_standard_output() {
    let field = field();
    for (words, part) in [
        ("--help", "Usage"),
        ("--version", "ggr "),
        ("completions bash", "ggr"),
        ("man", ".TH"),
        ("config", "slots"),
    ] {
        let output = check(&field, words, 0, &[]);
        assert!(text(&output.stdout).contains(part), "ggr {words}");
    }
}

#[test]
fn a_mistake_in_the_configuration_is_shown_by_line_and_key() {
    let field = field();
    fs::write(field.tree().join("ggr.toml"), "# ours\nslotz = 3\n").expect("the file can be written");
    check(&field, "make", 120, &["ggr.toml:2", "slotz"]);
    fs::write(field.tree().join("ggr.toml"), "slots = \"many\"\n").expect("the file can be written");
    check(&field, "make", 120, &["ggr.toml:1", "slots", "many"]);
    fs::write(field.tree().join("ggr.toml"), "slots = = 3\n").expect("the file can be written");
    check(&field, "make", 120, &["ggr.toml:1"]);
    assert!(!field.tree().join("prog").exists(), "nothing is built with a wrong configuration");
}

#[test]
fn a_repository_of_a_newer_version_is_left_alone() {
    let field = field();
    check(&field, "make", 0, &[]);
    let version = field.tree().join(".ggr/version");
    fs::write(&version, "ggr repository 999\n").expect("the file can be written");
    check(&field, "make", 118, &["999"]);
    assert_eq!(fs::read_to_string(&version).expect("it is still there"), "ggr repository 999\n");
}

#[test]
fn a_repository_that_cannot_be_one_is_an_error() {
    let field = field();
    fs::write(field.tree().join(".ggr"), "a file\n").expect("the file can be written");
    check(&field, "make", 121, &[".ggr"]);
}

#[test]
fn a_store_that_cannot_be_read_is_an_error_and_nothing_is_lost() {
    let field = field();
    let make = || run(&mut field.as_user("make"));
    assert_eq!(make().status.code(), Some(0));
    let (blobs, prog) = (field.tree().join(".ggr/blobs"), field.tree().join("prog"));
    let made = fs::read(&prog).expect("the build made it");
    fs::remove_file(&prog).expect("the build made it");
    let close = |mode| fs::set_permissions(&blobs, fs::Permissions::from_mode(mode)).expect("it is there");
    close(0);
    let output = make();
    let errors = text(&output.stderr);
    close(0o755);
    assert_eq!(output.status.code(), Some(121), "{errors}");
    assert!(errors.contains(".ggr/blobs"), "{errors}");
    assert_eq!(make().status.code(), Some(0));
    assert!(fs::read(&prog).expect("the build made it") == made);
}

#[test]
fn an_id_that_does_not_exist_is_named() {
    let field = field();
    check(&field, "make", 0, &[]);
    let id = format!("T{}", "0".repeat(64));
    let output = run(&mut field.ggr(&format!("show {id}")));
    assert!(matches!(output.status.code(), Some(116 | 117)), "{}", text(&output.stderr));
    check(&field, "show not-there", 116, &["not-there"]);
}

#[test]
fn quiet_prints_nothing_of_its_own() {
    let field = field();
    let output = check(&field, "--quiet make -s", 0, &[]);
    assert_eq!((text(&output.stdout), text(&output.stderr)), (String::new(), String::new()));
}

#[test]
fn events_traces_and_compile_commands_are_json() {
    let field = field();
    check(&field, "--compile-commands=cc.json --trace-out=trace.json --json=events.json make", 0, &[]);
    let read = |name: &str| fs::read_to_string(field.tree().join(name)).expect("the report was written");
    let commands: serde_json::Value = serde_json::from_str(&read("cc.json")).expect("it is JSON");
    assert_eq!(commands[0]["file"].as_str().map(|file| file.ends_with("a.c")), Some(true), "{commands}");
    serde_json::from_str::<serde_json::Value>(&read("trace.json")).expect("it is JSON");
    let events = read("events.json");
    assert!(!events.is_empty());
    for line in events.lines() {
        serde_json::from_str::<serde_json::Value>(line).expect("each line is JSON");
    }
}

/// A tool of the user's whose output is another each time.
const CLOCK: &str = "[[tool]]\nname = \"clock\"\noutputs = [\"*\"]\nprograms = [\"/usr/bin/date\"]\n";

#[test]
fn verify_rate_finds_a_tool_that_makes_other_bytes_each_time() {
    let field = Field::new();
    let tool = field.tree().join("bin");
    field.lay(&[
        ("ggr.toml".into(), CLOCK.into()),
        ("bin/clock".into(), "#!/bin/sh\nexec /usr/bin/date +%N > \"$1\"\n".into()),
        ("a.c".into(), "int a;\n".into()),
        ("Makefile".into(), "all:\n\tclock out\n\t$(CC) -c a.c\n".into()),
    ]);
    let path = format!("{}:/usr/bin:/bin", tool.display());
    let make = |words: &str| text(&run(field.ggr(words).env("PATH", &path)).stderr);
    let said = make("--verify-rate 1 make");
    assert!(said.contains("is not deterministic: two runs differ in"), "{said}");
    assert_eq!(said.matches("is not deterministic").count(), 1, "gcc is: {said}");
    fs::remove_dir_all(field.tree().join(".ggr")).expect("the build made it");
    let said = make("--verify-rate 0 make");
    assert!(!said.contains("is not deterministic"), "{said}");
}

#[test]
fn a_tool_and_a_thunk_get_the_network_that_is_said_and_have_another_id_for_it() {
    let field = Field::new();
    let tool = |network: &str| {
        format!("[[tool]]\nname = \"nets\"\noutputs = [\"*\"]\nprograms = [\"/usr/bin/cat\"]\n{network}")
    };
    field.lay(&[
        ("ggr.toml".into(), tool("")),
        ("bin/nets".into(), "#!/bin/sh\nexec /usr/bin/cat /proc/net/dev > \"$1\"\n".into()),
        ("Makefile".into(), "all:\n\tnets out\n".into()),
    ]);
    let path = format!("{}:/usr/bin:/bin", field.tree().join("bin").display());
    let seen = || {
        run(field.ggr("make").env("PATH", &path));
        fs::read_to_string(field.tree().join("out")).expect("the build made it").contains("eth0")
    };
    assert!(!seen());
    field.lay(&[("ggr.toml".into(), tool("network = \"own\"\n"))]);
    // What was made without is not taken for what is made with it.
    assert!(seen());
    field.lay(&[("ggr.toml".into(), tool("network = \"host\"\n"))]);
    let said = text(&run(field.ggr("make").env("PATH", &path)).stderr);
    assert!(said.contains("ggr.toml:5: `network` is `none`, `tenant` or `own`, not `host`"), "{said}");
    fs::remove_file(field.tree().join("ggr.toml")).expect("it was just written");

    let create = |words: &str| {
        let line = format!("thunk create --program /usr/bin/cat {words} -- /proc/net/dev");
        text(&run(&mut field.ggr(&line)).stdout).trim().to_owned()
    };
    let [plain, none, own] = ["", "--network none", "--network own"].map(create);
    assert!(plain.starts_with('T') && plain == none && plain != own, "{plain} {none} {own}");
    let json = text(&run(&mut field.ggr(&format!("show {own}"))).stdout);
    assert!(json.contains("\"network\": \"own\""), "{json}");
    let said = text(&run(&mut field.ggr("thunk create --program /usr/bin/cat --network host")).stderr);
    assert!(said.contains("--network") && said.contains("`none`, `tenant` or `own`"), "{said}");
}

#[test]
fn a_build_collects_what_is_over_the_limit_once_an_hour() {
    let field = field();
    check(&field, "--max-cache 1K make", 0, &[]);
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(3601);
    // What was used within the last quarter of an hour is kept whatever the limit.
    let age = |path: &Path| {
        fs::File::options()
            .write(true)
            .open(path)
            .and_then(|file| file.set_modified(long_ago))
            .expect("it is there");
    };
    for entry in walkdir::WalkDir::new(field.tree().join(".ggr/reductions")) {
        let entry = entry.expect("nobody changes it");
        if entry.file_type().is_file() {
            age(entry.path());
        }
    }
    fs::write(field.tree().join("a.h"), "#define A 1\n").expect("it is ours");
    let output = check(&field, "--max-cache 1K make", 0, &[]);
    assert!(!text(&output.stderr).contains("not used for longest"), "{}", text(&output.stderr));
    age(&field.tree().join(".ggr/memo/collected"));
    fs::write(field.tree().join("a.h"), "#define A 2\n").expect("it is ours");
    check(&field, "--max-cache 1K make", 0, &["from the cache, what was not used for longest"]);
    fs::remove_file(field.tree().join("prog")).expect("it was built");
    check(&field, "make", 0, &[]);
    assert_eq!(field.command("./prog").status().expect("it is a program").code(), Some(2));
}

#[test]
fn bench_measures_the_scheduler_and_sandboxes() {
    let field = Field::new();
    let output = check(&field, "bench scale 20000 --json", 0, &[]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    assert_eq!(report["thunks"], 20_000);
    assert!(report["per_second"].as_f64().is_some_and(|rate| rate > 1000.0), "{report}");
    let output = check(&field, "bench sleep 20 0.2 --json", 0, &[]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    let seconds = report["seconds"].as_f64().expect("it is a number");
    // One after the other they would sleep for four seconds.
    assert!((0.2..3.9).contains(&seconds), "{report}");
}

#[test]
fn a_jobserver_that_cannot_be_used_is_told_once() {
    let field = field();
    let mut command = field.ggr("make");
    command.env("MAKEFLAGS", " -j2 --jobserver-auth=77,78");
    let output = run(&mut command);
    let said = text(&output.stderr);
    // make says it as well.
    let lines = said.lines().filter(|line| line.starts_with("ggr: ") && line.contains("jobserver"));
    assert_eq!(lines.count(), 1, "{said}");
}

#[test]
fn a_build_after_a_trace_leaves_no_placeholder() {
    let field = Field::new();
    let files = [
        ("Makefile", "prog: a.o b.o\n\t$(CC) a.o b.o -o prog\n"),
        ("a.c", "int main(void) { return 0; }\n"),
        ("b.c", "int b;\n"),
    ];
    let files = files.map(|(name, text)| (name.to_owned(), text.to_owned()));
    field.lay(&files);
    assert!(field.command("make").status().expect("make can be run").success());
    let expected = snapshot(&field.tree());
    field.clear();
    field.lay(&files);
    check(&field, "trace make", 0, &["3 placeholders are left"]);
    check(&field, "make", 0, &["3 were made real and 0 removed"]);
    assert_eq!(differences(&expected, &snapshot(&field.tree())), Vec::<String>::new());
    // What was traced cannot be made, which only the next build finds out.
    field.lay(&[("b.c".to_owned(), "int b = none;\n".to_owned())]);
    fs::remove_file(field.tree().join("b.o")).expect("it was built");
    check(&field, "trace make", 0, &["2 placeholders are left"]);
    check(&field, "make", 2, &["0 were made real and 2 removed", "none"]);
    assert!(placeholders(&snapshot(&field.tree())).is_empty());
    field.lay(&files);
    check(&field, "make", 0, &[]);
    assert_eq!(differences(&expected, &snapshot(&field.tree())), Vec::<String>::new());
}

#[test]
fn trace_leaves_placeholders_and_force_makes_them() {
    let field = field();
    run(&mut field.command("make"));
    let expected = snapshot(&field.tree());
    field.clear();
    lay(&field);
    check(&field, "trace make", 0, &[]);
    let traced = snapshot(&field.tree());
    assert!(!placeholders(&traced).is_empty(), "trace made everything");
    check(&field, "show prog", 0, &[]);
    check(&field, "graph", 0, &[]);
    check(&field, "force", 0, &[]);
    assert_eq!(differences(&expected, &snapshot(&field.tree())), Vec::<String>::new());
}

#[test]
fn a_placeholder_whose_thunk_is_gone_is_a_clear_error() {
    let field = field();
    check(&field, "trace make", 0, &[]);
    let thunks = field.tree().join(".ggr/thunks");
    fs::remove_dir_all(&thunks).expect("trace wrote thunks");
    fs::create_dir(&thunks).expect("it was just removed");
    check(&field, "force prog", 117, &["prog"]);
}

#[test]
fn commands_about_a_finished_build_answer() {
    let field = field();
    check(&field, "make", 0, &[]);
    for words in ["stats", "verify", "gc", "why prog", "show prog", "graph", "collect"] {
        check(&field, words, 0, &[]);
    }
    let output = run(&mut field.ggr("doctor"));
    assert!(matches!(output.status.code(), Some(0 | 1)), "{}", text(&output.stderr));
}

#[test]
fn ggr_inside_ggr_changes_nothing() {
    let ggr = ggr();
    let script = format!("#!/bin/sh\n[ -n \"$NESTED\" ] && exec {} --quiet make\nexec make\n", ggr.display());
    let twin = || {
        let twin = Twin::new().file("a.c", "int main(void) { return 0; }\n").file("Makefile", "a:\n");
        twin.file("again.sh", &script).build("./again.sh")
    };
    twin().same();
    twin().variable("NESTED", "1").same();
}

#[test]
fn an_ordinary_user_gets_the_same() {
    if !rustix::process::geteuid().is_root() {
        return skipped("usage::an_ordinary_user_gets_the_same", "not root, so every other test shows it");
    }
    let field = field();
    run(&mut field.command("make"));
    let expected = snapshot(&field.tree());
    field.clear();
    lay(&field);
    let program = field.give_away(NOBODY, &ggr());
    let output = run(field.command(program).args(["make", "-j2"]).uid(NOBODY).gid(NOBODY));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(differences(&expected, &snapshot(&field.tree())), Vec::<String>::new());
}
