//! What comes back.

use ggr_ir::{BlobId, InfraFailure, Mode, Outcome};

use ggr_shim::bench::command;

use crate::harness::*;

#[test]
fn a_script_gives_its_outputs_and_its_streams() {
    let mut place = Place::new();
    let attempt = place.sh("echo hello; echo oops >&2; echo data > a; mkdir d; echo more > d/b");
    assert_eq!(
        place.outputs(&attempt),
        [("/work/a".into(), "data\n".into()), ("/work/d/b".into(), "more\n".into())]
    );
    assert_eq!(place.stdout(&attempt), "hello\n");
    assert_eq!(place.text(reduced(&attempt).stderr), "oops\n");
}

#[test]
fn only_declared_outputs_are_taken_when_so_told() {
    let mut place = Place::new();
    let attempt = place.declared("echo 1 > a; echo 2 > b; ln -s a l", &["/work/a"]);
    assert_eq!(place.outputs(&attempt), [("/work/a".into(), "1\n".into())]);
}

#[test]
fn a_missing_declared_output_is_named() {
    let mut place = Place::new();
    let attempt = place.declared("true", &["/work/a"]);
    assert!(unrepresentable(&attempt).contains("/work/a"));
}

#[test]
fn permission_bits_are_those_before_the_umask() {
    let mut place = Place::new();
    place.kit.bytes("/work/in", b"in", Mode::Regular).unwrap();
    place.kit.bytes("/work/tool", b"tool", Mode::Executable).unwrap();
    let attempt = place.sh("echo > a; echo > x; chmod 750 x; cp -p in copy; cp -p tool program; echo >> in");
    for (name, expected) in [("a", 0o666), ("x", 0o750), ("copy", 0o666), ("program", 0o777), ("in", 0o666)] {
        assert_eq!(permissions(&attempt, &format!("/work/{name}")), expected, "{name}");
    }
}

#[test]
fn an_output_that_was_an_input_and_is_left_alone_is_taken_as_it_is() {
    let mut place = Place::new();
    place.kit.bytes("/work/lib.a", b"archive", Mode::Regular).unwrap();
    let attempt = place.declared("exec 3<>lib.a", &["/work/lib.a"]);
    assert_eq!(place.outputs(&attempt), [("/work/lib.a".into(), "archive".into())]);
    let attempt = place.declared("true", &["/work/lib.a"]);
    assert_eq!(place.outputs(&attempt), [("/work/lib.a".into(), "archive".into())]);
    let attempt = place.declared("rm lib.a", &["/work/lib.a"]);
    assert!(unrepresentable(&attempt).contains("/work/lib.a"));
}

#[test]
fn an_input_opened_for_writing_and_not_written_is_no_output() {
    let mut place = Place::new();
    place.kit.bytes("/work/lib.a", b"archive", Mode::Regular).unwrap();
    let attempt = place.sh("exec 3<>lib.a");
    assert_eq!(place.outputs(&attempt), []);
}

#[test]
fn what_a_reduction_cannot_hold_is_said() {
    let mut place = Place::new();
    place.kit.bytes("/work/in", b"in", Mode::Regular).unwrap();
    place.kit.bytes("/work/sub/in", b"in", Mode::Regular).unwrap();
    place.kit.bytes("/work/empty", b"", Mode::Directory).unwrap();
    for (script, named) in [
        ("rm in", "removed `/work/in`"),
        ("rm -r sub; mkdir sub; echo > sub/other", "removed `/work/sub/in`"),
        ("rm -r sub", "removed `/work/sub/in`"),
        ("rm -r sub; echo > sub", "another kind"),
        ("rm in; mkdir in; echo > in/x", "another kind"),
        ("ln -s in l", "symlink at `/work/l`"),
        ("mkfifo f", "special file at `/work/f`"),
        ("mkdir -p new/deep", "empty directory at `/work/new/deep`"),
        ("rm -r empty", "removed `/work/empty`"),
        ("echo > s; chmod 4755 s", "mode 4755"),
    ] {
        let attempt = place.sh(script);
        assert!(unrepresentable(&attempt).contains(named), "{script}: {:?}", attempt.outcome);
    }
    for script in [
        "rm -r sub; mkdir sub; echo in > sub/in; ls empty",
        "echo > empty/x",
        "ln in hard",
        "rm in; echo 2 > in",
    ] {
        reduced(&place.sh(script));
    }
}

#[test]
fn temporary_files_are_ignored_unless_the_project_lives_there() {
    let mut place = Place::new();
    place.kit.bytes("/tmp/project/in", b"in", Mode::Regular).unwrap();
    let attempt = place.sh(
        "echo > /tmp/ccXYZ.s; mkdir /tmp/empty; echo 1 > /tmp/project/out; echo > /var/tmp/x; ls /dev/null",
    );
    assert_eq!(place.outputs(&attempt), [("/tmp/project/out".into(), "1\n".into())]);
}

#[test]
fn a_failing_program_gives_its_status_and_streams_and_no_outputs() {
    let mut place = Place::new();
    let failure = tool_failed(&place.sh("echo out; echo err >&2; echo > a; exit 3")).clone();
    assert_eq!((failure.code, failure.signal, failure.unrepresentable), (Some(3), None, None));
    assert_eq!((&*failure.stdout, &*failure.stderr), (&b"out\n"[..], &b"err\n"[..]));
    let failure = tool_failed(&place.sh("kill -SEGV $$")).clone();
    assert_eq!((failure.code, failure.signal), (None, Some(11)));
}

#[test]
fn missing_inputs_are_all_named() {
    let mut place = Place::new();
    let (a, b) = (BlobId::of(b"never stored"), BlobId::of(b"nor this"));
    for (path, object) in [("/work/a", a), ("/work/b", b)] {
        let entry = ggr_ir::Entry { object, mode: Mode::Regular };
        place.kit.inputs.insert(ggr_ir::RootPath::new(path).unwrap(), entry);
    }
    assert_eq!(place.sh("true").outcome, Outcome::Infra(InfraFailure::InputsMissing(vec![a, b])));
}

#[test]
fn a_program_whose_interpreter_is_missing_is_not_called_a_failure_of_the_tool() {
    let mut place = Place::new();
    place.kit.inputs.retain(|path, _| !path.as_str().contains("ld-linux"));
    let attempt = place.sh("true");
    let Outcome::Infra(InfraFailure::Sandbox(why)) = &attempt.outcome else {
        panic!("{:?}", attempt.outcome)
    };
    assert!(why.contains("interpreter"), "{why}");
}

#[test]
fn roots_are_changed_into_one_another_and_hold_nothing_else() {
    let mut place = Place::new();
    let base = place.kit.inputs.clone();
    let list = |place: &mut Place| {
        let attempt = place.sh("ls -R /work; cat /work/x 2>/dev/null; cat /work/l 2>/dev/null; true");
        place.stdout(&attempt)
    };
    place.kit.bytes("/work/x", b"one\n", Mode::Regular).unwrap();
    place.kit.bytes("/work/d/e/f", b"", Mode::Regular).unwrap();
    assert_eq!(list(&mut place), "/work:\nd\nx\n\n/work/d:\ne\n\n/work/d/e:\nf\none\n");
    place.kit.inputs = base.clone();
    place.kit.bytes("/work/x", b"two\n", Mode::Regular).unwrap();
    place.kit.bytes("/work/d", b"now a file", Mode::Regular).unwrap();
    place.kit.bytes("/work/l", b"x", Mode::Symlink).unwrap();
    assert_eq!(list(&mut place), "/work:\nd\nl\nx\ntwo\ntwo\n");
    place.kit.inputs = base;
    assert_eq!(list(&mut place), "/work:\n");
}

#[test]
fn gcc_compiles_to_the_same_bytes_and_finds_no_undeclared_header() {
    let mut place = Place::new();
    let project = place.dir.path().join("p");
    std::fs::create_dir(&project).unwrap();
    let (source, header) = (project.join("a.c"), project.join("a.h"));
    std::fs::write(
        &source,
        "#include <stdio.h>\n#include \"a.h\"\nint f(void) { return printf(\"%d\", A); }\n",
    )
    .unwrap();
    std::fs::write(&header, "#define A 1\n").unwrap();
    place.kit.gcc(&source, &["-O2"]).unwrap();
    let dir = project.to_str().unwrap();
    let plain = std::process::Command::new("gcc")
        .args(["-g", "-O2", "-c", "a.c"])
        .current_dir(&project)
        .output()
        .unwrap();
    assert!(plain.status.success());
    let compile = |place: &mut Place| {
        let call = command(&["/usr/bin/gcc", "-g", "-O2", "-c", "a.c"], dir);
        let thunk = place.kit.thunk(call, &[], ggr_ir::Harvest::Everything);
        place.last += 1;
        place.client.run(place.last, thunk, ggr_ir::Kind::Compile, ggr_ir::Limits::default()).unwrap();
        place.client.answer().unwrap().1
    };
    let attempt = compile(&mut place);
    let outputs: Vec<_> =
        reduced(&attempt).outputs.values().map(|entry| (entry.path.to_string(), entry.blob)).collect();
    let expected = BlobId::of(&std::fs::read(project.join("a.o")).unwrap());
    assert_eq!(outputs, [(format!("{dir}/a.o"), expected)]);
    assert!(attempt.timings.max_rss > 1 << 20 && !attempt.timings.cpu.is_zero(), "{:?}", attempt.timings);

    place.kit.inputs.remove(&ggr_ir::RootPath::new(header.to_str().unwrap()).unwrap());
    let failure = tool_failed(&compile(&mut place)).clone();
    assert!(String::from_utf8_lossy(&failure.stderr).contains("a.h: No such file"), "{failure:?}");
}
