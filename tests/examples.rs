//! Each example's `run.sh` does what its README says, in a copy of the example.

use std::fs;
use std::path::Path;

use crate::s3;
use crate::twin::{Field, ggr};

/// Runs one example; its standard output must hold this line.
fn check(name: &str, line: &str) {
    check_with(name, line, &[]);
}

/// The same with these variables.
fn check_with(name: &str, line: &str, variables: &[(&str, &str)]) {
    let field = Field::new();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name);
    for entry in walkdir::WalkDir::new(&source) {
        let entry = entry.expect("the example can be read");
        let target =
            field.tree().join(entry.path().strip_prefix(&source).expect("the walk stays below its root"));
        if entry.file_type().is_dir() {
            fs::create_dir_all(target).expect("directories can be made");
        } else {
            fs::copy(entry.path(), target).expect("the file can be copied");
        }
    }
    let output = field
        .command("./run.sh")
        .env("GGR", ggr())
        .envs(variables.iter().copied())
        .output()
        .expect("the example can be run");
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{name}: {said}{errors}");
    assert!(said.lines().any(|l| l == line), "{name}: no line `{line}` in: {said}");
}

#[test]
fn an_unmodified_makefile() {
    check("make", "hello, ggr");
}

#[test]
fn one_compiler_call_at_a_time() {
    check("cc", "hello, cc");
}

#[test]
fn cmake_and_ninja() {
    check("cmake-ninja", "hello, ninja");
}

#[test]
fn thunks_at_a_service() {
    check("worker", "hello, worker");
}

#[test]
fn what_ggr_knows_of_a_build() {
    check("explore", "hello, graph");
}

#[test]
fn a_teams_cache_in_ci() {
    let Some(server) = s3::s3s("a_teams_cache_in_ci") else { return };
    let variables = [
        ("AWS_ENDPOINT_URL", server.endpoint()),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("GGR_STORE", "s3://team/ci"),
    ];
    check_with("team-cache", "hello, team", &variables);
}
