//! Lambda from the user's side: `ggr lambda` against moto, and what AWS's refusals become.

mod builds;
mod service;

use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

use crate::twin::{Field, skipped};
use service::{Moto, reply, stand_in};

/// Exit code of failures outside the build.
const INFRASTRUCTURE: i32 = 122;

/// A field, and a small static program that says of itself what the functions' program says.
fn field() -> (Field, PathBuf) {
    let field = Field::new();
    let program = program(&field, ggr_ir::protocol::lambda::MARK);
    (field, program)
}

fn program(field: &Field, mark: &str) -> PathBuf {
    let (source, program) = (field.beside("bootstrap.c"), field.beside("bootstrap"));
    let text = format!("char mark[] = {mark:?};\nint main(void) {{ return mark[0] == 0; }}\n");
    std::fs::write(&source, text).unwrap();
    let gcc = Command::new("gcc").arg("-static").arg(&source).arg("-o").arg(&program).status();
    assert!(gcc.unwrap().success());
    program
}

/// A command with credentials, at a service.
fn ggr(field: &Field, url: &str, words: &str) -> Command {
    let mut command = field.ggr(words);
    command
        .env("AWS_ENDPOINT_URL", url)
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_REGION", "us-east-1")
        .env("GGR_LAMBDA_STORE", "s3://ggr-test/team")
        .env("GGR_LAMBDA_SLOTS", "1500");
    command
}

fn run(command: &mut Command) -> (Output, String, String) {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    (output, out, err)
}

fn deploy(field: &Field, url: &str, program: &PathBuf) -> Command {
    let mut command = ggr(field, url, "lambda deploy --expire-days 7 --bootstrap");
    command.arg(program);
    command
}

/// Standard output of a command that has to succeed.
fn passes(command: &mut Command) -> String {
    let (output, out, err) = run(command);
    assert!(output.status.success(), "{command:?}: {out}{err}");
    out
}

fn has(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(text.contains(line), "no `{line}` in:\n{text}");
    }
}

/// What `ggr lambda status --json` says.
fn status(field: &Field, url: &str) -> Value {
    serde_json::from_str(&passes(&mut ggr(field, url, "lambda status --json"))).unwrap()
}

#[test]
fn functions_role_and_bucket_are_made_once_changed_shown_and_removed() {
    let name = "functions_role_and_bucket_are_made_once_changed_shown_and_removed";
    let Some(moto) = Moto::start() else { return skipped(name, "no moto_server; tests/setup installs it") };
    let (field, program) = field();
    let url = moto.url();
    let made = passes(&mut deploy(&field, &url, &program));
    has(
        &made,
        &[
            "bucket `ggr-test`: made in us-east-1\n",
            "what is below `team/v1/` is removed after 7 days\n",
            "role `ggr-role`: made, with the smallest policy\n",
            "function `ggr-0`: made: ggr ",
            "function `ggr-1`: made: ggr ",
            "1769 MB of memory, 512 MB of /tmp, 900 s\n",
            "while nothing is built: functions and role cost nothing; the bucket costs ",
        ],
    );
    // Another program than ours says what there is.
    let (code, listed) = moto.ask("lambda", "GET", "/2015-03-31/functions/ggr-1", "");
    let function: Value = serde_json::from_str(&listed).unwrap();
    let config = &function["Configuration"];
    assert_eq!(code, 200, "{listed}");
    assert_eq!((&config["Runtime"], &config["Handler"]), (&"provided.al2023".into(), &"bootstrap".into()));
    assert_eq!(
        (&config["MemorySize"], &config["Timeout"], &config["EphemeralStorage"]["Size"]),
        (&1769.into(), &900.into(), &512.into())
    );
    assert_eq!(function["Tags"]["ggr"], ggr_ir::protocol::lambda::GGR);
    let (_, rules) = moto.ask("s3", "GET", "/ggr-test?lifecycle", "");
    has(&rules, &["<Prefix>team/v1/</Prefix>", "<Days>7</Days>"]);

    let again = passes(&mut deploy(&field, &url, &program));
    has(
        &again,
        &[
            "bucket `ggr-test`: was there\n",
            "rule was set",
            "role `ggr-role`: was there\n",
            "function `ggr-0`: was as it should be\n",
            "function `ggr-1`: was as it should be\n",
        ],
    );
    let changed = passes(deploy(&field, &url, &program).env("GGR_LAMBDA_MEMORY", "2048"));
    has(&changed, &["function `ggr-0`: changed: 2048 MB of memory\n"]);

    let shown = status(&field, &url);
    let function = &shown["status"]["functions"][0];
    assert_eq!((&function["name"], &function["memory_mb"]), (&"ggr-0".into(), &2048.into()), "{shown}");
    assert_eq!(function["ggr"], ggr_ir::protocol::lambda::GGR);
    assert_eq!(shown["status"]["bucket"]["expire_days"], 7);
    has(&passes(&mut ggr(&field, &url, "lambda status")), &["function `ggr-1`: ", "MB of /tmp, 900 s\n"]);

    assert_eq!(moto.ask("s3", "PUT", "/ggr-test/team/v1/x", "object").0, 200);
    let removed = passes(&mut ggr(&field, &url, "lambda destroy"));
    has(
        &removed,
        &["function `ggr-0`: removed\n", "function `ggr-1`: removed\n", "role `ggr-role`: removed\n"],
    );
    has(&removed, &["bucket `ggr-test`: left, as it is not empty"]);
    let shown = status(&field, &url);
    assert_eq!(shown["status"]["missing"], serde_json::json!(["ggr-0", "ggr-1"]));
    assert_eq!(
        (&shown["status"]["bucket"]["there"], &shown["status"]["role"]["arn"]),
        (&true.into(), &Value::Null)
    );
    let removed = passes(&mut ggr(&field, &url, "lambda destroy --bucket-contents"));
    assert_eq!(removed, "bucket `ggr-test`: removed\n");
    assert_eq!(moto.ask("s3", "GET", "/ggr-test", "").0, 404);
}

#[test]
fn what_ggr_did_not_make_is_left_alone_and_a_failure_names_what_there_is() {
    let name = "what_ggr_did_not_make_is_left_alone_and_a_failure_names_what_there_is";
    let Some(moto) = Moto::start() else { return skipped(name, "no moto_server; tests/setup installs it") };
    let (field, program) = field();
    assert_eq!(moto.ask("s3", "PUT", "/ggr-test", "").0, 200);
    // A policy that lets a user make everything but functions.
    let url = stand_in(Some(&moto), |line| {
        let text = r#"{"Message": "User: arn:aws:iam::1:user/u is not authorized to perform: lambda:CreateFunction on resource: ggr-0"}"#;
        let denied = || reply(403, "x-amzn-ErrorType: AccessDeniedException\r\n", text);
        line.starts_with("POST /2015-03-31/functions ").then(denied)
    });
    let (output, out, err) = run(&mut deploy(&field, &url, &program));
    assert_eq!(output.status.code(), Some(INFRASTRUCTURE), "{out}{err}");
    has(&out, &["bucket `ggr-test`: was there\n", "role `ggr-role`: made"]);
    has(
        &err,
        &[
            "ggr: error: the credentials are not allowed `lambda:CreateFunction` on function `ggr-0`",
            "what there is now: bucket `ggr-test`, role `ggr-role`\n",
            "hint: `ggr lambda policy` prints the smallest policies",
        ],
    );
    // Goes on from there when it is allowed.
    let url = moto.url();
    has(
        &passes(&mut deploy(&field, &url, &program)),
        &["role `ggr-role`: was there\n", "function `ggr-0`: made"],
    );

    let (_, function) = moto.ask("lambda", "GET", "/2015-03-31/functions/ggr-0", "");
    let function: Value = serde_json::from_str(&function).unwrap();
    let arn = function["Configuration"]["FunctionArn"].as_str().unwrap();
    assert_eq!(moto.ask("lambda", "DELETE", &format!("/2017-03-31/tags/{arn}?tagKeys=ggr"), "").0, 204);
    let (output, _, err) = run(&mut deploy(&field, &url, &program));
    assert_eq!(output.status.code(), Some(INFRASTRUCTURE));
    has(&err, &["function `ggr-0`: it is there and does not carry ggr's tag, so it is left alone"]);
    let removed = passes(&mut ggr(&field, &url, "lambda destroy --bucket-contents"));
    has(
        &removed,
        &[
            "function `ggr-0`: left, as it does not carry ggr's tag\n",
            "function `ggr-1`: removed\n",
            "bucket `ggr-test`: left, as ggr did not make it\n",
        ],
    );
    assert_eq!(moto.ask("s3", "GET", "/ggr-test", "").0, 200);
}

#[test]
fn a_program_that_functions_cannot_run_is_not_deployed() {
    let field = Field::new();
    let check = |path: &PathBuf, expected: &str| {
        let (output, _, err) = run(&mut deploy(&field, "http://127.0.0.1:9", path));
        assert_eq!(output.status.code(), Some(123), "{err}");
        has(&err, &[expected, "hint: `tests/bootstrap` builds the functions' program"]);
    };
    check(&crate::twin::ggr(), "is linked dynamically: its libraries are not on Lambda");
    check(&program(&field, "something else"), "is not ggr's program for functions");
    check(
        &program(&field, "ggr-function-program:0.0.1:0\n"),
        "is of ggr 0.0.1 with messages of version 0, and this is ggr",
    );
    check(&field.beside("nothing"), "cannot be read");
}

#[test]
fn the_smallest_policies_are_printed_without_asking_anybody() {
    let field = Field::new();
    let text = passes(field.ggr("lambda policy --json").env("GGR_LAMBDA_STORE", "s3://ggr-test/team"));
    let policies: Value = serde_json::from_str(&text).unwrap();
    let function = &policies["function"]["Statement"][0];
    assert_eq!(function["Resource"][0], "arn:aws:s3:::ggr-test/team/v1/*");
    assert_eq!(policies["build"]["Statement"][0]["Action"][0], "lambda:InvokeFunction");
    for policy in ["function", "build", "deploy"] {
        for statement in policies[policy]["Statement"].as_array().unwrap() {
            assert!(
                !statement["Action"].to_string().contains('*'),
                "{policy}: no action is a wildcard: {statement}"
            );
        }
    }
    let same = passes(&mut field.ggr("lambda deploy --print-policies"));
    has(&same, &["# The functions' role: what it may do", "\"iam:PassRole\""]);
}

/// A refusal of the service: status, the error's name, its text, what ggr says, and its hint.
const REFUSALS: [(u16, &str, &str, &str, &str); 4] = [
    (
        403,
        "ExpiredTokenException",
        "The security token included in the request is expired",
        "the AWS credentials have expired (lambda:ListFunctions: The security token included in the request is expired)",
        "get new ones, as with `aws sso login`",
    ),
    (
        403,
        "UnrecognizedClientException",
        "The security token included in the request is invalid.",
        "AWS does not take these credentials (lambda:ListFunctions: ",
        "check AWS_PROFILE",
    ),
    (
        403,
        "AccessDeniedException",
        "User: arn:aws:iam::1:user/u is not authorized to perform: lambda:ListFunctions on resource: *",
        "the credentials are not allowed `lambda:ListFunctions` on function `ggr-*`",
        "`ggr lambda policy` prints",
    ),
    (
        403,
        "InvalidSignatureException",
        "Signature expired: 20260101T000000Z is now earlier than 20260102T000000Z",
        "AWS does not take these credentials (lambda:ListFunctions: Signature expired",
        "check AWS_PROFILE",
    ),
];

#[test]
fn each_refusal_of_aws_says_what_is_to_be_done() {
    let field = Field::new();
    for (status, kind, text, said, hint) in REFUSALS {
        let url = stand_in(None, move |_| {
            Some(reply(
                status,
                &format!("x-amzn-ErrorType: {kind}\r\n"),
                &format!(r#"{{"message": "{text}"}}"#),
            ))
        });
        let (output, _, err) = run(&mut ggr(&field, &url, "lambda status"));
        assert_eq!(output.status.code(), Some(INFRASTRUCTURE), "{kind}: {err}");
        has(&err, &[&format!("ggr: error: {said}"), &format!("hint: {hint}")]);
    }
}

#[test]
fn missing_credentials_region_or_service_are_told() {
    let field = Field::new();
    let check = |change: fn(&mut Command), said: &str, hint: &str| {
        let mut command = ggr(&field, "http://127.0.0.1:9", "lambda status");
        change(&mut command);
        let (output, _, err) = run(&mut command);
        assert_eq!(output.status.code(), Some(INFRASTRUCTURE), "{err}");
        has(&err, &[said, hint]);
    };
    check(
        |command| {
            command.env_remove("AWS_ACCESS_KEY_ID");
        },
        "ggr: error: there are no AWS credentials: ",
        "hint: set AWS_ACCESS_KEY_ID",
    );
    check(
        |command| {
            command.env_remove("AWS_REGION").env_remove("AWS_ENDPOINT_URL");
        },
        "ggr: error: no AWS region is set",
        "hint: set AWS_REGION",
    );
    check(
        |_| {},
        "ggr: error: no answer to lambda:ListFunctions (at http://127.0.0.1:9): ",
        "hint: check the network, AWS_ENDPOINT_URL",
    );
}
