//! Faults: something is killed, interrupted, spoilt or full. Nothing is lost, the next command is right, and no process and
//! no placeholder is left behind.

mod store;

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::twin::{Field, Tree, differences, ggr, placeholders, skipped, snapshot};

/// Runs a command and lists what it left behind.
const REAPER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/harness/reap.py");

/// How many sources the program has; each takes gcc about a tenth of a second.
const SOURCES: usize = 6;

/// How many random moments are tried for SIGINT.
const MOMENTS: u32 = 20;

/// The longest that any one command here may take; a hang is a failure.
const LIMIT: Duration = Duration::from_secs(120);

/// How often a state is looked at that a test waits for.
const TICK: Duration = Duration::from_millis(2);

/// A program of a few sources, each with enough in it to be compiling for a while.
fn sources() -> Vec<(String, String)> {
    let objects: Vec<_> = (0..SOURCES).map(|n| format!("s{n}.o")).collect();
    let makefile =
        format!("CFLAGS = -O2 -g\nprog: {0}\n\t$(CC) {0} -o prog\n{0}: all.h\n", objects.join(" "));
    let mut files = vec![("Makefile".into(), makefile), ("all.h".into(), "#include <stdio.h>\n".into())];
    for n in 0..SOURCES {
        let mut text =
            format!("#include \"all.h\"\n{}", if n == 0 { "int main(void) { return 0; }\n" } else { "" });
        for f in 0..50 {
            text += &format!(
                "int f{n}_{f}(int *v, int n) {{ int s = {f}; for (int i = 0; i < n; i++) {{ s += v[i] * {n}; \
                 if (s % 7 == {f} % 7) v[i] ^= s; else printf(\"%d\", s); }} return s; }}\n"
            );
        }
        files.push((format!("s{n}.c"), text));
    }
    files
}

/// What plain make builds of it in this field, since debug info names the directory; the field is laid anew after it.
fn expected(field: &Field) -> Tree {
    field.lay(&sources());
    let output = field.command("make").arg("-j2").output().expect("make can be run");
    assert!(output.status.success());
    let tree = snapshot(&field.tree());
    field.clear();
    field.lay(&sources());
    tree
}

/// A build that is under way, watched by `reap.py`.
struct Running {
    reaper: Child,
    pid: Pid,
    left: PathBuf,
}

impl Running {
    fn start(field: &Field, words: &str) -> Self {
        let (pid_file, left) = (field.beside("pid"), field.beside("left"));
        let _ = fs::remove_file(&pid_file);
        let mut command = field.command("python3");
        command.arg("-B").arg(REAPER).arg(&pid_file).arg(&left).arg(ggr()).args(words.split(' '));
        let reaper =
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("python3 is installed");
        wait_for("the build's process", || pid_file.exists());
        let text = fs::read_to_string(&pid_file).expect("it was just there");
        let pid = text.parse().ok().and_then(Pid::from_raw).expect("reap.py writes a process id");
        Self { reaper, pid, left }
    }

    /// Sends a signal to `ggr` alone.
    fn kill(&self, signal: Signal) {
        // It may have ended by itself.
        let _ = kill_process(self.pid, signal);
    }

    /// Sends a signal to the build's process group, as a terminal does.
    fn interrupt(&self, signal: Signal) {
        let _ = kill_process_group(self.pid, signal);
    }

    /// Waits for the end; the exit code, and the processes that it left behind.
    fn end(mut self) -> (Option<i32>, String) {
        let mut status = None;
        wait_for("the end of the build", || {
            status = self.reaper.try_wait().expect("it is our child");
            status.is_some()
        });
        let left = fs::read_to_string(&self.left).expect("reap.py writes it before it ends");
        (status.and_then(|status| status.code()), left)
    }

    /// The first process of the build that this holds for, by its id and command line.
    fn descendant(&self, mut wanted: impl FnMut(&Process) -> bool) -> Option<Pid> {
        let all = processes();
        let mut below = vec![self.pid.as_raw_nonzero().get()];
        while let Some(parent) = below.pop() {
            for process in all.iter().filter(|process| process.parent == parent) {
                if wanted(process) {
                    return Pid::from_raw(process.pid);
                }
                below.push(process.pid);
            }
        }
        None
    }
}

/// A process as /proc shows it.
struct Process {
    pid: i32,
    parent: i32,
    parent_name: String,
    words: Vec<String>,
}

fn processes() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let name =
        |pid: i32| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned();
    let process = |pid: i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
        let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let words =
            line.split(|&byte| byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
        Some(Process { pid, parent, parent_name: name(parent), words })
    };
    entries.flatten().filter_map(|entry| process(entry.file_name().to_str()?.parse().ok()?)).collect()
}

/// Waits until something holds; fails after [`LIMIT`].
fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < deadline, "{what} did not come within {} s", LIMIT.as_secs());
        std::thread::sleep(TICK);
    }
}

/// Waits until the first compile has begun to show in the tree, or the build is over.
fn wait_for_first_object(field: &Field) {
    wait_for("the first object file", || (0..SOURCES).any(|n| field.tree().join(format!("s{n}.o")).exists()));
}

fn run(command: &mut Command) -> Output {
    command.output().expect("the command can be run")
}

/// After a fault: no placeholder lies in the tree, and the next build is as plain make's.
fn check_next(field: &Field, expected: &Tree, next: &mut Command) {
    let tree = snapshot(&field.tree());
    assert!(placeholders(&tree).is_empty(), "placeholders were left: {:?}", placeholders(&tree));
    let output = run(next);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(differences(expected, &snapshot(&field.tree())), Vec::<String>::new());
}

/// Builds, kills something when the first object shows, and checks what is left and the next build.
fn check_killed(hit: impl Fn(&Running)) -> Option<i32> {
    let field = Field::new();
    let expected = expected(&field);
    let running = Running::start(&field, "make -j2");
    wait_for_first_object(&field);
    hit(&running);
    let (code, left) = running.end();
    assert_eq!(left, "", "processes were left behind");
    check_next(&field, &expected, &mut field.ggr("make -j2"));
    code
}

#[test]
fn a_killed_coordinator_leaves_nothing_behind() {
    check_killed(|running| running.kill(Signal::KILL));
}

#[test]
fn a_terminated_coordinator_leaves_nothing_behind() {
    check_killed(|running| running.kill(Signal::TERM));
}

#[test]
fn a_hangup_leaves_nothing_behind() {
    check_killed(|running| running.interrupt(Signal::HUP));
}

#[test]
fn a_killed_worker_does_no_harm() {
    let code = check_killed(|running| {
        let is_worker = |process: &Process| process.words.iter().any(|word| word.contains("worker"));
        let mut worker = None;
        // It starts with the first thunk, which is a moment after the first placeholder.
        wait_for("a worker", || {
            worker = running.descendant(is_worker);
            worker.is_some()
        });
        let _ = kill_process(worker.expect("it was waited for"), Signal::KILL);
    });
    assert_eq!(code, Some(0), "the thunk is run again");
}

#[test]
fn a_killed_launcher_fails_its_recipe_at_most() {
    let field = Field::new();
    let expected = expected(&field);
    // A script in between, so that the launcher waits for the compile.
    field.lay(&[(
        "cc.py".into(),
        "#!/usr/bin/python3\nimport subprocess, sys\nsys.exit(subprocess.call(['gcc'] + sys.argv[1:]))\n"
            .into(),
    )]);
    let running = Running::start(&field, "make -j2 CC=./cc.py");
    let mut launcher = None;
    wait_for("a launcher", || {
        // The script runs under capture: its process is called as its interpreter.
        launcher = running.descendant(|process| process.parent_name.starts_with("python"));
        launcher.is_some()
    });
    let _ = kill_process(launcher.expect("it was waited for"), Signal::KILL);
    let (_, left) = running.end();
    assert_eq!(left, "", "processes were left behind");
    fs::remove_file(field.tree().join("cc.py")).expect("it was laid there");
    check_next(&field, &expected, &mut field.ggr("make -j2"));
}

#[test]
fn an_interrupt_at_any_moment_leaves_a_tree_that_make_goes_on_with() {
    let field = Field::new();
    let expected = expected(&field);
    let start = Instant::now();
    let output = run(&mut field.ggr("make -j2"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let whole = start.elapsed();
    for moment in 0..MOMENTS {
        field.clear();
        field.lay(&sources());
        let running = Running::start(&field, "make -j2");
        // Spread over the whole build by the golden ratio, so that no two are near each other.
        let part = f64::from(moment).mul_add(0.618_034, 0.1).fract();
        std::thread::sleep(whole.mul_f64(part));
        running.interrupt(Signal::INT);
        let (code, left) = running.end();
        assert_eq!(left, "", "moment {moment} ({part:.2} of the build): processes were left behind");
        assert!(matches!(code, Some(0 | 2 | 130)), "moment {moment}: exit code {code:?}");
        // Plain make and ggr must both be able to go on.
        let mut next = if moment % 2 == 0 { field.command("make") } else { field.ggr("make") };
        check_next(&field, &expected, &mut next);
    }
}

#[test]
fn two_builds_in_one_tree_do_not_disturb_each_other() {
    let field = Field::new();
    let expected = expected(&field);
    let odd: Vec<_> = (0..SOURCES).filter(|n| n % 2 == 1).map(|n| format!("s{n}.o")).collect();
    let even: Vec<_> = (0..SOURCES).filter(|n| n % 2 == 0).map(|n| format!("s{n}.o")).collect();
    let start = |goals: &[String]| {
        let mut command = field.ggr("make -j2");
        command.args(goals).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("ggr can be run")
    };
    for child in [start(&odd), start(&even)] {
        let output = child.wait_with_output().expect("it is our child");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    check_next(&field, &expected, &mut field.ggr("make"));
}

/// A small file system over the tree, taken away in the end.
struct Small<'a>(&'a Field);

impl<'a> Small<'a> {
    fn mount(field: &'a Field) -> Option<Self> {
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", "size=256k", "ggr-test"]).arg(field.tree());
        command.output().ok()?.status.success().then_some(Self(field))
    }

    fn grow(&self) {
        let mut command = Command::new("mount");
        command.args(["-o", "remount,size=2g"]).arg(self.0.tree());
        assert!(run(&mut command).status.success());
    }
}

impl Drop for Small<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.tree()).status();
    }
}

#[test]
fn a_full_disk_is_said_and_the_next_build_is_right() {
    let field = Field::new();
    let expected = expected(&field);
    let Some(small) = Small::mount(&field) else {
        return skipped("faults::a_full_disk_is_said_and_the_next_build_is_right", "cannot mount a tmpfs");
    };
    field.lay(&sources());
    let running = Running::start(&field, "make -j2");
    let (code, left) = running.end();
    assert_eq!(left, "", "processes were left behind");
    assert_ne!(code, Some(0), "256 KiB do not hold this program");
    small.grow();
    check_next(&field, &expected, &mut field.ggr("make -j2"));
}

#[test]
fn the_reaper_of_these_tests_sees_a_process_that_is_left() {
    let field = Field::new();
    field.lay(&[("leave.sh".into(), "#!/bin/sh\nsetsid sleep 60 >/dev/null 2>&1 &\n".into())]);
    let (pid_file, left) = (field.beside("pid"), field.beside("left"));
    let mut command = field.command("python3");
    run(command.arg("-B").arg(REAPER).arg(&pid_file).arg(&left).arg("./leave.sh"));
    assert!(fs::read_to_string(&left).expect("it was written").contains("sleep 60"));
}
