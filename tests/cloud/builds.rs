//! Builds whose functions cannot be used: not at all, not any more, or for too much money.

use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use ggr_ir::protocol::lambda::{Answer, Traffic, encode};

use super::service::{reply, stand_in};
use super::{INFRASTRUCTURE, has, run};
use crate::twin::{Field, differences, snapshot};

fn field() -> Field {
    let field = Field::new();
    let files = [
        ("Makefile", "prog: a.o b.o\n\t$(CC) a.o b.o -o prog\n"),
        ("a.c", "int b(void);\nint main(void) { return b(); }\n"),
        ("b.c", "int b(void) { return 0; }\n"),
    ];
    field.lay(&files.map(|(name, text)| (name.to_owned(), text.to_owned())));
    field
}

/// A build with a store that functions would mount.
fn build(field: &Field, url: &str, words: &str) -> Command {
    let store = field.beside("objects");
    for shard in 0..256 {
        std::fs::create_dir_all(store.join(format!("blobs/{shard:02x}"))).unwrap();
    }
    std::fs::create_dir_all(store.join("tmp")).unwrap();
    let mut command = super::ggr(field, url, words);
    command.env("GGR_LAMBDA_STORE", store).env("GGR_LAMBDA_SLOTS", "4");
    command
}

/// What a function answers that was asked for nothing.
fn nothing() -> String {
    let answer = Answer {
        attempts: Vec::new(),
        chains: Vec::new(),
        inline: Vec::new(),
        traffic: Traffic::default(),
        served: 0,
    };
    reply(200, "", &encode(&answer))
}

fn refusal(status: u16, kind: &str, text: &str) -> String {
    reply(status, &format!("x-amzn-ErrorType: {kind}\r\n"), &format!(r#"{{"message": "{text}"}}"#))
}

/// The tree that plain make leaves.
fn plain() -> crate::twin::Tree {
    let field = field();
    assert!(field.command("make").output().unwrap().status.success());
    snapshot(&field.tree())
}

#[test]
fn a_build_that_cannot_use_lambda_does_not_start() {
    let denied = "User: u is not authorized to perform: lambda:InvokeFunction on resource: r";
    let foreign = r#"{"ggr": 99, "by": "9.1.0", "body": ""}"#;
    let told = r#"{"errorType": "ggr.Message", "errorMessage": "the message has version 1 (ggr 0.1.0), and its reader version 99 (ggr 9.1.0)"}"#;
    let cases = [
        (
            refusal(404, "ResourceNotFoundException", "Function not found"),
            "there is no function `ggr-0`",
            "`ggr lambda deploy` makes what is missing; check AWS_REGION",
        ),
        (
            refusal(403, "AccessDeniedException", denied),
            "the credentials are not allowed `lambda:InvokeFunction` on function `ggr-0`",
            "`ggr lambda policy`",
        ),
        (refusal(403, "ExpiredTokenException", "x"), "the AWS credentials have expired", "get new ones"),
        (
            reply(200, "", foreign),
            "function `ggr-0` is of another version of ggr: the message has version 99 (ggr 9.1.0), and its reader version",
            "`ggr lambda deploy` puts this version's program there",
        ),
        (
            reply(200, "X-Amz-Function-Error: Unhandled\r\n", told),
            "function `ggr-0` is of another version of ggr: the message has version 1 (ggr 0.1.0), and its reader",
            "`ggr lambda deploy` puts",
        ),
    ];
    for (answer, said, hint) in cases {
        let field = field();
        let url = stand_in(None, move |_| Some(answer.clone()));
        let (output, _, err) = run(&mut build(&field, &url, "--backend lambda make"));
        assert_eq!(output.status.code(), Some(INFRASTRUCTURE), "{err}");
        has(&err, &[&format!("ggr: error: {said}"), hint]);
        assert!(!field.tree().join("a.o").exists(), "make was not started");
    }
}

#[test]
fn a_bucket_that_is_missing_or_forbidden_is_told_before_the_build() {
    let xml =
        |code: &str| format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>m</Message></Error>");
    let cases = [
        (reply(404, "", &xml("NoSuchBucket")), "there is no bucket `ggr-test`"),
        (
            reply(403, "", &xml("AccessDenied")),
            "the credentials are not allowed `s3:ListBucket` on bucket `ggr-test`",
        ),
        (reply(301, "", &xml("PermanentRedirect")), "bucket `ggr-test` is in another region"),
    ];
    for (answer, said) in cases {
        let field = field();
        let url = stand_in(None, move |_| Some(answer.clone()));
        let mut command = super::ggr(&field, &url, "--backend lambda make");
        let (output, _, err) = run(&mut command);
        assert_eq!(output.status.code(), Some(INFRASTRUCTURE), "{err}");
        has(&err, &[&format!("ggr: error: {said}"), "hint: "]);
    }
}

#[test]
fn with_local_beside_it_the_user_is_told_and_the_build_is_made_here() {
    let field = field();
    let (output, _, err) = run(&mut build(&field, "http://127.0.0.1:9", "--backend local,lambda make"));
    assert!(output.status.success(), "{err}");
    has(
        &err,
        &["ggr: nothing is sent to Lambda: no answer to lambda:InvokeFunction (at http://127.0.0.1:9)"],
    );
    has(&err, &["(check the network, AWS_ENDPOINT_URL", "3 ran"]);
    assert_eq!(differences(&plain(), &snapshot(&field.tree())), [""; 0]);
}

#[test]
fn credentials_that_expire_during_a_build_end_what_is_sent_and_nothing_is_lost() {
    let field = field();
    let asked = AtomicUsize::new(0);
    let url = stand_in(None, move |_| {
        let first = asked.fetch_add(1, Ordering::Relaxed) == 0;
        Some(if first { nothing() } else { refusal(403, "ExpiredTokenException", "it is expired") })
    });
    let (output, _, err) = run(&mut build(&field, &url, "--backend lambda make"));
    assert!(output.status.success(), "{err}");
    has(
        &err,
        &[
            "no more thunks are sent to Lambda: the AWS credentials have expired (lambda:InvokeFunction: it is expired)",
            "; 3 thunks ran here in its stead\n",
            "0 from the cache, 3 ran",
        ],
    );
    assert_eq!(differences(&plain(), &snapshot(&field.tree())), [""; 0]);
}

#[test]
fn past_the_limit_on_costs_a_build_is_finished_here() {
    let field = field();
    let url = stand_in(None, |_| Some(nothing()));
    let (output, _, err) = run(&mut build(&field, &url, "--max-cost 0 --backend lambda make"));
    assert!(output.status.success(), "{err}");
    has(
        &err,
        &[
            "no more thunks are sent to Lambda: `--max-cost 0.00` is reached",
            "3 ran",
            "; 3 thunks ran here in its stead",
        ],
    );
    assert_eq!(differences(&plain(), &snapshot(&field.tree())), [""; 0]);
    let estimate = run(&mut field.ggr("cost")).1;
    has(&estimate, &["last build: 3 thunks, ", "on Lambda with 1769 MB, nothing cached: about $0.00"]);
}
