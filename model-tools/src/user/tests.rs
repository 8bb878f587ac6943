//! Tests of user models: descriptions, command lines, and a script that runs in a root of its inputs.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use ggr_ir::{Limits, Network, ToolLimits};

use super::describe::UserTool;
use super::line::{self, Argument};
use super::*;
use crate::staging::{Root, can_run};
use crate::testing::DiskView;

const PROTOC: &str = r#"
jobs = 3

[[tool]]
name = "protoc"
inputs = ["*.proto"]
outputs = ["*.pb"]
input_flags = ["-I:dir:*.proto", "--descriptor_set_in"]
output_flags = ["--cpp_out:dir", "-o", "--state:update"]
value_flags = ["--plugin"]
flags = ["--experimental_*", "-v"]
env = ["PROTOC_DEBUG"]
"#;

fn tool(text: &str) -> UserTool {
    UserTool::read_all(Path::new("/p/ggr.toml"), text).unwrap().remove(0)
}

fn mistake(text: &str) -> String {
    UserTool::read_all(Path::new("ggr.toml"), text).unwrap_err().to_string()
}

#[test]
fn a_mistake_is_named_with_its_line_and_key() {
    let check = |text: &str, line: &str, key: &str| {
        let said = mistake(text);
        assert!(said.starts_with(line) && said.contains(key), "{said}");
    };
    check("[[tool]]\nname = \"a\"\ninput = []\n", "ggr.toml:3: ", "`input`");
    check("[[tool]]\ninputs = []\n", "ggr.toml:1: ", "`name`");
    check("[[tool]]\nname = \"/a\"\n", "ggr.toml:2: ", "`name`");
    check("[[tool]]\nname = \"a\"\nenv = 3\n", "ggr.toml:3: ", "expected a sequence");
    check("[[tool]]\nname = \"a\"\nflags = [\n\"-v\",\n\"x\"]\n", "ggr.toml:5: ", "`flags`");
    check("[[tool]]\nname = \"a\"\ninput_flags = [\"-I:tree\"]\n", "ggr.toml:3: ", "`input_flags`");
    check("[[tool]]\nname = \"a\"\ninput_flags = [\"-I:update\"]\n", "ggr.toml:3: ", "`input_flags`");
    check("[[tool]]\nname = \"a\"\nenv = [\"A=1\"]\n", "ggr.toml:3: ", "`env`");
    check("[[tool]]\nname = \"a\"\n[[tool]]\nname = \"a\"\n", "ggr.toml:4: ", "twice");
    check(
        "[[tool]]\nname = \"a\"\nnetwork = \"host\"\n",
        "ggr.toml:3: ",
        "`network` is `none`, `tenant` or `own`, not `host`",
    );
    check("[[tool]]\nname = \"a\"\ntime_limit = \"5 days\"\n", "ggr.toml:3: ", "`time_limit`");
    check("[[tool]]\nname = \"a\"\n\nmemory_limit = \"much\"\n", "ggr.toml:4: ", "`memory_limit`");
    check("[[tool]]\nname = \"a\"\nprocess_limit = \"many\"\n", "ggr.toml:3: ", "u64");
    check("[[tool]\n", "ggr.toml:1: ", "");
}

#[test]
fn other_keys_of_the_file_are_somebody_else_s() {
    assert_eq!(UserTool::read_all(Path::new("ggr.toml"), "slots = 2\n[backend]\nx = 1\n"), Ok(Vec::new()));
    assert_eq!(tool(PROTOC).name(), "protoc");
}

#[test]
fn a_network_and_bounds_are_those_of_the_description() {
    let plain = tool("[[tool]]\nname = \"a\"\n");
    assert_eq!((plain.network, plain.limits), (Network::None, ToolLimits::default()));
    let text = "[[tool]]\nname = \"a\"\nnetwork = \"own\"\ntime_limit = \"5m\"\nmemory_limit = \"2G\"\n\
                output_limit = \"1M\"\nprocess_limit = 64\n";
    let bound = tool(text);
    assert_eq!(bound.network, Network::Own);
    let limits = Limits { wall: Duration::from_secs(1), ..Limits::default() };
    let limits = bound.limits.over(limits);
    assert_eq!(
        limits,
        Limits { wall: Duration::from_secs(300), memory: 2 << 30, output: 1 << 20, processes: 64, ..limits }
    );
    assert_eq!(plain.limits.over(limits), limits);
}

#[test]
fn a_command_line_is_read_by_the_description() {
    let tool = tool(PROTOC);
    let read =
        |text: &str| line::read(&tool, &text.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    let dir = |name: &str| Argument::ReadsDir(name.into(), Some("*.proto".into()));
    assert_eq!(
        read("-Iinc -I . -v --experimental_x --plugin=p --cpp_out=gen -o a.bin --state s a.proto out.pb")
            .unwrap(),
        [
            dir("inc"),
            dir("."),
            Argument::WritesDir("gen".into()),
            Argument::Writes("a.bin".into()),
            Argument::Updates("s".into()),
            Argument::Reads("a.proto".into()),
            Argument::Writes("out.pb".into()),
        ]
    );
    assert_eq!(read("-- -x.proto").unwrap(), [Argument::Reads("-x.proto".into())]);
    for unknown in ["--verbose", "a.txt", "-o", "-x"] {
        assert_eq!(read(unknown), Err(Reason::UnknownFlag(unknown.into())));
    }
    assert_eq!(read("-"), Err(Reason::ReadsStdin));
}

#[test]
fn a_script_runs_in_a_root_of_its_inputs() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().canonicalize().unwrap();
    for sub in ["bin", "inc/deep", "share", "gen"] {
        fs::create_dir_all(dir.join(sub)).unwrap();
    }
    let script = "#!/usr/bin/env sh\ncat share/one inc/deep/a.inc \"$4\" > \"$3/out.txt\"\necho $GEN_MODE >> \"$3/out.txt\"\n";
    fs::write(dir.join("bin/gen-1"), script).unwrap();
    fs::set_permissions(dir.join("bin/gen-1"), fs::Permissions::from_mode(0o755)).unwrap();
    for (name, text) in
        [("inc/deep/a.inc", "a\n"), ("inc/b.txt", "b\n"), ("share/one", "1\n"), ("x.in", "x\n")]
    {
        fs::write(dir.join(name), text).unwrap();
    }
    let text = "[[tool]]\nname = \"gen-1\"\ninputs = [\"*.in\"]\ninput_flags = [\"-I:dir:*.inc\"]\n\
                output_flags = [\"--out:dir\"]\nextra_dirs = [\"share\"]\nprograms = [\"cat\"]\nenv = [\"GEN_MODE\"]\n";
    let tool = UserTool::read_all(&dir.join("ggr.toml"), text).unwrap().remove(0);
    let path = format!("/nowhere:{}:/usr/bin:/bin", dir.join("bin").display());
    let env = [("PATH", path.as_str()), ("GEN_MODE", "fast"), ("HOME", "/root")];
    let invocation = Invocation {
        program: dir.join("bin/gen-1"),
        args: ["gen-1", "-Iinc", "--out", "gen", "x.in"].map(str::to_owned).into(),
        env: env.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        dir: dir.clone(),
        stderr_is_terminal: false,
    };
    let view = DiskView::new();
    let model = tool.model(Arc::new(Tools::default()));
    let Modelled::Thunks(plan) = model.model(&invocation, &view) else { panic!("it has a model") };
    let (thunk, _) = &plan.thunks[0];
    assert!(!plan.deferrable && plan.cacheable);
    assert_eq!(plan.label, "gen-1 x.in");
    let names: Vec<&str> =
        thunk.inputs.keys().filter_map(|path| path.as_str().strip_prefix(dir.to_str()?)).collect();
    assert!(names.contains(&"/inc/deep/a.inc") && !names.contains(&"/inc/b.txt"), "{names:?}");
    let expected: BTreeMap<String, String> =
        [("GEN_MODE", "fast".to_owned()), ("PATH", path.replacen("/nowhere:", "", 1))]
            .map(|(name, value)| (name.to_owned(), value))
            .into();
    assert_eq!(thunk.command.env.get("GEN_MODE"), expected.get("GEN_MODE"));
    assert!(!thunk.command.env.contains_key("HOME"));
    if !can_run() {
        return;
    }
    let root = Root::stage(&view, &thunk.inputs);
    let output = root.run(&thunk.command.args, &thunk.command.env, &dir);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(root.file(&dir.join("gen/out.txt")).unwrap().0, b"1\na\nx\nfast\n");
}
