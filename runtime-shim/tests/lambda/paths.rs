//! What a program sees of its root, and what it does not see of the machine.

use ggr_ir::{Harvest, Mode, ObjectStore};

use crate::harness::*;

#[test]
fn a_program_is_shown_the_paths_that_it_has_at_home() {
    let Some(mut function) = Function::start("a_program_is_shown_the_paths_that_it_has_at_home") else {
        return;
    };
    function.kit.bytes("/work/link", b"/work/deep/file", Mode::Symlink).unwrap();
    function.kit.bytes("/work/up", b"../../../../etc/motd", Mode::Symlink).unwrap();
    function.kit.bytes("/work/deep/file", b"found\n", Mode::Regular).unwrap();
    function.kit.bytes("/etc/motd", b"hello\n", Mode::Regular).unwrap();
    let script = "pwd -P; /usr/bin/pwd; readlink link /proc/self/exe /proc/self/cwd; cat link up; \
                  cd deep; /usr/bin/pwd; cat ../../../../etc/motd; cat /../etc/motd; readlink -f ../link; ls /";
    let expected = "/work\n/work\n/work/deep/file\n/usr/bin/readlink\n/work\nfound\nhello\n\
                    /work/deep\nhello\nhello\n/work/deep/file\n";
    let said = function.said(script);
    assert!(said.starts_with(expected), "{said}");
    assert!(said[expected.len()..].lines().any(|line| line == "work"), "{said}");
}

#[test]
fn nothing_of_the_machine_can_be_opened() {
    let Some(function) = Function::start("nothing_of_the_machine_can_be_opened") else { return };
    let script = "for path in /var/task/bootstrap /../var/task/bootstrap ../../../../../var/task/bootstrap \
                  /proc/self/root/var/task/bootstrap /proc/../var/task/bootstrap //var/task/bootstrap; \
                  do test -e $path && echo \"$path is there\"; cat $path && echo \"$path opens\"; done 2>/dev/null; \
                  /var/task/bootstrap 2>/dev/null || echo $?; env | /usr/bin/cat";
    assert_eq!(function.said(script), "127\nPATH=/usr/bin\nPWD=/work\n");
}

#[test]
fn a_thunk_cannot_look_into_the_process_that_has_the_credentials() {
    let Some(function) = Function::start("a_thunk_cannot_look_into_the_process_that_has_the_credentials")
    else {
        return;
    };
    let script = "cd /proc; for pid in [0-9]*; do case $(cat $pid/comm) in bootstrap) \
                  for file in environ mem maps fd root/tmp cwd/x; do ls $pid/$file/ && echo seen; cat $pid/$file; done;; \
                  esac; done 2>/dev/null; echo done; env";
    let said = function.said(script);
    assert!(said.starts_with("done\n"), "{said}");
    assert!(!said.contains("AWS"), "{said}");
}

#[test]
fn scripts_and_programs_in_the_root_are_executed() {
    let Some(mut function) = Function::start("scripts_and_programs_in_the_root_are_executed") else { return };
    let script = b"#! /usr/bin/dash -e\necho \"$0 $#: $1 $2\"\n";
    function.kit.bytes("/work/script", script, Mode::Executable).unwrap();
    function.kit.bytes("/work/outer", b"#!/work/script one\n", Mode::Executable).unwrap();
    function.kit.bytes("/work/plain", b"echo no line\n", Mode::Regular).unwrap();
    let said = function.said("./script a 'b c'; /work/outer x; ./plain || echo $?; exec ./script");
    assert_eq!(said, "./script 2: a b c\n/work/script 3: one /work/outer\n126\n./script 0:  \n");
}

#[test]
fn an_input_that_is_changed_changes_for_its_own_thunk_only() {
    let Some(mut function) = Function::start("an_input_that_is_changed_changes_for_its_own_thunk_only")
    else {
        return;
    };
    function.kit.bytes("/work/file", b"as it was\n", Mode::Regular).unwrap();
    let attempt = function.sh("test -w file && echo more >> file", &["/work/file"], Harvest::Declared);
    let entry = reduced(&attempt).outputs.values().next().unwrap().clone();
    assert_eq!(function.store().get_bytes(entry.blob).unwrap(), b"as it was\nmore\n");
    assert_eq!(entry.permissions, 0o666);
    for change in ["chmod 600 file", "echo x > file", "rm file; echo x > file", "cp /usr/bin/dash file"] {
        function.sh(&format!("cd /work; {change}"), &[], Harvest::Declared);
        assert_eq!(function.said("cat file; ls -l file | head -c 10"), "as it was\n-r--r--r--", "{change}");
    }
}

#[test]
fn what_a_reduction_cannot_hold_is_told() {
    let Some(mut function) = Function::start("what_a_reduction_cannot_hold_is_told") else { return };
    function.kit.bytes("/work/file", b"x", Mode::Regular).unwrap();
    for (script, why) in [
        ("rm file", "it removed `/work/file`"),
        ("mkdir new", "it made an empty directory at `/work/new`"),
        ("ln -s file new", "it made something that is no plain file at `/work/new`"),
        ("rm file; mkdir file; echo > file/x", "it put another kind of file at `/work/file`"),
    ] {
        let attempt = function.sh(script, &[], Harvest::Everything);
        assert_eq!(failed(&attempt).unrepresentable.as_deref(), Some(why), "{script}");
    }
    let attempt =
        function.sh("cat file > new; cat file > file2; mkdir d; cat file > d/x", &[], Harvest::Everything);
    let names: Vec<&str> = reduced(&attempt).outputs.values().map(|entry| entry.path.as_str()).collect();
    assert_eq!(names, ["/work/d/x", "/work/file2", "/work/new"]);
}
