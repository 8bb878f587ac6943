//! The backend against a service that says what a test tells it to. (Real functions: `tests/lambda`.)

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_lambda::Client;
use aws_sdk_lambda::config::retry::RetryConfig;
use aws_sdk_lambda::config::{BehaviorVersion, Credentials, Region};
use ggr_ir::protocol::lambda::{Answer, Inline, Traffic, encode};
use ggr_ir::{
    Attempt, BlobId, Command, Harvest, InfraFailure, Kind, Limits, Outcome, ReadyThunk, Reduction, RootPath,
    Thunk, Timings,
};

use super::*;

/// A service that gives each connection the next of these replies, the last one for ever.
fn service(replies: Vec<String>) -> Connection {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let reply = replies[number.min(replies.len() - 1)].clone();
            std::thread::spawn(move || answer_one(stream.unwrap(), &reply));
        }
    });
    let http = aws_smithy_http_client::Builder::new().build_http();
    let config = aws_sdk_lambda::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(http)
        .credentials_provider(credentials())
        .region(Region::new("us-east-1"))
        .retry_config(RetryConfig::disabled())
        .endpoint_url(endpoint)
        .build();
    Connection::of(Client::from_conf(config))
}

fn credentials() -> Credentials {
    Credentials::builder().access_key_id("test").secret_access_key("test").provider_name("tests").build()
}

fn answer_one(mut stream: TcpStream, reply: &str) {
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    // To the end of the body, which the length in the head says.
    loop {
        let text = String::from_utf8_lossy(&seen).to_ascii_lowercase();
        if let Some(head) = text.find("\r\n\r\n") {
            let length = text.split("content-length:").nth(1).and_then(|rest| rest.lines().next());
            let length: usize = length.map_or(0, |length| length.trim().parse().unwrap());
            if seen.len() >= head + 4 + length {
                break;
            }
        }
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(read) => seen.extend_from_slice(&buffer[..read]),
        }
    }
    if reply == "silence" {
        std::thread::sleep(Duration::from_secs(60));
    }
    let _ = stream.write_all(reply.as_bytes());
}

/// A job that reads nothing.
fn job() -> Job {
    let path = |text: &str| RootPath::new(text).unwrap();
    let command =
        Command { program: path("/bin/x"), args: Vec::new(), env: Default::default(), dir: path("/") };
    let thunk = ReadyThunk {
        command,
        inputs: Default::default(),
        outputs: Default::default(),
        harvest: Harvest::Declared,
        network: ggr_ir::Network::None,
    };
    Job {
        id: thunk.id(),
        thunk: Arc::new(thunk),
        limits: Limits::default(),
        kind: Kind::Other,
        label: "x".to_owned(),
    }
}

fn reply(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n{body}", body.len())
}

fn options(connection: Connection, dir: &std::path::Path, function_limit: Duration) -> LambdaOptions {
    LambdaOptions {
        connection,
        functions: vec!["f".to_owned()],
        slots: 4,
        local: Arc::new(FsStore::new(dir)),
        remote: None,
        memory_mb: 1769,
        function_limit,
        price: Price::default(),
        max_cost: None,
        expected: Box::new(|_| None),
        notice: Box::new(|_| ()),
    }
}

fn backend(connection: Connection, function_limit: Duration) -> (tempfile::TempDir, LambdaBackend) {
    let dir = tempfile::tempdir().unwrap();
    let backend = LambdaBackend::new(options(connection, dir.path(), function_limit));
    (dir, backend)
}

async fn outcome(replies: Vec<String>) -> Outcome {
    let (_dir, backend) = backend(service(replies), Duration::from_secs(900));
    backend.run(&job()).await.outcome
}

async fn check(reply: String, expected: fn(&InfraFailure) -> bool) {
    match outcome(vec![reply.clone()]).await {
        Outcome::Infra(failure) => assert!(expected(&failure), "{reply:?}: {failure:?}"),
        other => panic!("{reply:?}: {other:?}"),
    }
}

#[tokio::test]
async fn each_refusal_of_the_service_has_its_kind() {
    let throttled = r#"{"Reason": "ConcurrentInvocationLimitExceeded", "message": "Rate Exceeded."}"#;
    let head = "x-amzn-ErrorType: TooManyRequestsException\r\n";
    check(reply("429 Too Many Requests", head, throttled), |f| matches!(f, InfraFailure::Throttled { .. }))
        .await;
    check(reply("502 Bad Gateway", "", "<html>"), |f| matches!(f, InfraFailure::Unreachable(_))).await;
    let head = "x-amzn-ErrorType: ServiceException\r\n";
    check(reply("500 Internal Server Error", head, "{}"), |f| matches!(f, InfraFailure::Unreachable(_)))
        .await;
    let head = "x-amzn-ErrorType: ResourceNotFoundException\r\n";
    check(
        reply("404 Not Found", head, "{}"),
        |f| matches!(f, InfraFailure::Closed(text) if text.contains("there is no function")),
    )
    .await;
    let head = "x-amzn-ErrorType: RequestTooLargeException\r\n";
    check(reply("413 Payload Too Large", head, "{}"), |f| matches!(f, InfraFailure::TooBig(_))).await;
}

#[tokio::test]
async fn each_failure_of_a_function_has_its_kind() {
    let failed = |text: &str| {
        let body = format!(r#"{{"errorType": "x", "errorMessage": "{text}"}}"#);
        reply("200 OK", "X-Amz-Function-Error: Unhandled\r\n", &body)
    };
    check(failed("2026-01-01 Task timed out after 900.00 seconds"), |f| *f == InfraFailure::DeadlinePassed)
        .await;
    check(failed("RequestId: 1 Error: Runtime exited with error: signal: killed"), |f| {
        matches!(f, InfraFailure::TooBig(_))
    })
    .await;
    check(failed("RequestId: 1 Error: Runtime exited with error: exit status 1"), |f| {
        matches!(f, InfraFailure::WorkerDied(_))
    })
    .await;
    let body = r#"{"errorType": "ggr.Message", "errorMessage": "the message has version 2"}"#;
    check(
        reply("200 OK", "X-Amz-Function-Error: Unhandled\r\n", body),
        |f| matches!(f, InfraFailure::Closed(text) if text.ends_with("is of another version of ggr: the message has version 2")),
    )
    .await;
}

#[tokio::test]
async fn an_answer_that_is_cut_off_foreign_or_of_another_version_is_not_believed() {
    let whole = reply("200 OK", "", &encode(&answer()));
    check(whole[..whole.len() - 30].to_owned(), |f| matches!(f, InfraFailure::WorkerDied(_))).await;
    check(reply("200 OK", "", "null"), |f| matches!(f, InfraFailure::WorkerDied(_))).await;
    check(
        reply("200 OK", "", r#"{"ggr": 99}"#),
        |f| matches!(f, InfraFailure::Closed(text) if text.contains("another version")),
    )
    .await;
    check(reply("200 OK", "", &encode(&Answer { attempts: Vec::new(), ..answer() })), |f| {
        matches!(f, InfraFailure::WorkerDied(_))
    })
    .await;
}

#[tokio::test]
async fn a_service_that_is_not_there_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let http = aws_smithy_http_client::Builder::new().build_http();
    let config = aws_sdk_lambda::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(http)
        .credentials_provider(credentials())
        .region(Region::new("us-east-1"))
        .endpoint_url(format!("http://{address}"))
        .build();
    let connection = Connection::of(Client::from_conf(config));
    let (_dir, backend) = backend(connection, Duration::from_secs(900));
    let outcome = backend.run(&job()).await.outcome;
    assert!(matches!(outcome, Outcome::Infra(InfraFailure::Unreachable(_))), "{outcome:?}");
}

fn answer() -> Answer {
    let empty = BlobId::of(b"");
    let reduction = Reduction {
        outputs: Default::default(),
        stdout: BlobId::of(b"said\n"),
        stderr: empty,
        duration_us: 7,
    };
    let timings = Timings { ran: Duration::from_millis(7), ..Timings::default() };
    Answer {
        attempts: vec![Attempt {
            outcome: Outcome::Reduced(reduction),
            timings,
            cost_microdollars: 0,
            worker: 0,
        }],
        chains: Vec::new(),
        inline: vec![Inline { id: BlobId::of(b"said\n"), bytes: b"said\n".to_vec() }],
        traffic: Traffic { fetched: 3, ..Traffic::default() },
        served: 1,
    }
}

#[tokio::test]
async fn what_a_function_made_is_here_when_the_attempt_ends_and_has_its_price() {
    let (_dir, backend) =
        backend(service(vec![reply("200 OK", "", &encode(&answer()))]), Duration::from_secs(900));
    let attempt = backend.run(&job()).await;
    let Outcome::Reduced(reduction) = &attempt.outcome else { panic!("{attempt:?}") };
    assert_eq!(backend.sender.options.local.get_bytes(reduction.stdout).unwrap(), b"said\n");
    assert_eq!(backend.sender.options.local.get_bytes(reduction.stderr).unwrap(), b"");
    assert_eq!(attempt.timings.ran, Duration::from_millis(7));
    assert!(attempt.cost_microdollars >= 2, "an invocation and three fetches: {attempt:?}");
}

#[tokio::test]
async fn an_output_with_other_bytes_than_its_name_says_is_not_taken() {
    let mut forged = answer();
    forged.inline[0].bytes = b"sayd\n".to_vec();
    let outcome = outcome(vec![reply("200 OK", "", &encode(&forged))]).await;
    assert!(matches!(outcome, Outcome::Infra(InfraFailure::OutputsNotStored(_))), "{outcome:?}");
}

/// A backend that takes each job for a short one.
fn quick(connection: Connection, slots: usize) -> (tempfile::TempDir, LambdaBackend) {
    let dir = tempfile::tempdir().unwrap();
    let backend = LambdaBackend::new(LambdaOptions {
        slots,
        expected: Box::new(|_| Some(Duration::from_millis(5))),
        ..options(connection, dir.path(), Duration::from_secs(900))
    });
    (dir, backend)
}

#[tokio::test]
async fn short_jobs_that_are_ready_together_share_an_invocation() {
    let one = answer().attempts.pop().unwrap();
    let both = Answer { attempts: vec![one.clone(), one], ..answer() };
    let (_dir, backend) = quick(service(vec![reply("200 OK", "", &encode(&both))]), 4);
    let (first, second) = (job(), job());
    let (first, second) = tokio::join!(backend.run(&first), backend.run(&second));
    assert!(matches!(first.outcome, Outcome::Reduced(_)), "{first:?}");
    assert!(matches!(second.outcome, Outcome::Reduced(_)), "{second:?}");
    let spending = backend.spending();
    assert_eq!((spending.invocations, spending.thunks, spending.in_vain), (1, 2, 0));
    assert!(first.cost_microdollars + second.cost_microdollars >= 2, "both bear their share");
}

#[tokio::test]
async fn short_jobs_that_take_all_slots_go_alone() {
    let one = || reply("200 OK", "", &encode(&answer()));
    let (_dir, backend) = quick(service(vec![one(), one()]), 2);
    let (first, second) = (job(), job());
    let (first, second) = tokio::join!(backend.run(&first), backend.run(&second));
    assert!(matches!(first.outcome, Outcome::Reduced(_)), "{first:?}");
    assert!(matches!(second.outcome, Outcome::Reduced(_)), "{second:?}");
    assert_eq!((backend.spending().invocations, backend.spending().thunks), (2, 2));
}

/// The same job again, as one that waits for another.
fn follower() -> Follower {
    let Job { thunk, limits, kind, label, .. } = job();
    let thunk = Thunk {
        command: thunk.command.clone(),
        inputs: Default::default(),
        outputs: Default::default(),
        harvest: thunk.harvest,
        network: thunk.network,
    };
    Follower { thunk: Arc::new(thunk), limits, kind, label }
}

#[tokio::test]
async fn a_chain_takes_one_invocation_and_what_did_not_reduce_is_not_handed_on() {
    let one = answer().attempts.pop().unwrap();
    let failed = Attempt { outcome: Outcome::Infra(InfraFailure::DeadlinePassed), ..one.clone() };
    let [first, second] = [one, failed].map(|attempt| Followed { id: job().id, attempt });
    let chain = Answer { chains: vec![vec![first, second]], ..answer() };
    let (_dir, backend) = quick(service(vec![reply("200 OK", "", &encode(&chain))]), 4);
    let (attempt, chain) = backend.run_chain(&job(), &[follower(), follower()]).await;
    assert!(matches!(attempt.outcome, Outcome::Reduced(_)), "{attempt:?}");
    assert_eq!((chain.len(), chain[0].id), (1, job().id));
    assert!(matches!(chain[0].attempt.outcome, Outcome::Reduced(_)), "{chain:?}");
    assert_eq!((backend.spending().invocations, backend.spending().thunks), (1, 3));
}

#[tokio::test]
async fn forged_outputs_behind_a_job_are_not_handed_on() {
    let mut forged = answer().attempts.pop().unwrap();
    let Outcome::Reduced(reduction) = &mut forged.outcome else { unreachable!("it has reduced") };
    reduction.stdout = BlobId::of(b"sayd\n");
    let chain = Answer { chains: vec![vec![Followed { id: job().id, attempt: forged }]], ..answer() };
    let (_dir, backend) = quick(service(vec![reply("200 OK", "", &encode(&chain))]), 4);
    let (attempt, chain) = backend.run_chain(&job(), &[follower()]).await;
    assert!(matches!(attempt.outcome, Outcome::Reduced(_)), "{attempt:?}");
    assert!(chain.is_empty(), "{chain:?}");
}

#[tokio::test]
async fn a_job_whose_chain_died_goes_alone() {
    let died = r#"{"errorType": "x", "errorMessage": "RequestId: 1 Error: Runtime exited with error: signal: killed"}"#;
    let died = reply("200 OK", "X-Amz-Function-Error: Unhandled\r\n", died);
    let (_dir, backend) = quick(service(vec![died, reply("200 OK", "", &encode(&answer()))]), 4);
    let (attempt, _) = backend.run_chain(&job(), &[follower()]).await;
    assert!(matches!(attempt.outcome, Outcome::Infra(InfraFailure::WorkerDied(_))), "{attempt:?}");
    let (attempt, chain) = backend.run_chain(&job(), &[follower()]).await;
    assert!(matches!(attempt.outcome, Outcome::Reduced(_)), "{attempt:?}");
    assert!(chain.is_empty());
    assert_eq!(backend.spending().thunks, 3, "two, and then one");
}

#[tokio::test]
async fn jobs_whose_shared_invocation_failed_go_alone() {
    let died = r#"{"errorType": "x", "errorMessage": "RequestId: 1 Error: Runtime exited with error: signal: killed"}"#;
    let died = reply("200 OK", "X-Amz-Function-Error: Unhandled\r\n", died);
    let (_dir, backend) = quick(service(vec![died, reply("200 OK", "", &encode(&answer()))]), 4);
    let (first, second) = (job(), job());
    let (one, two) = tokio::join!(backend.run(&first), backend.run(&second));
    for attempt in [one, two] {
        assert!(matches!(attempt.outcome, Outcome::Infra(InfraFailure::WorkerDied(_))), "{attempt:?}");
    }
    let (one, two) = tokio::join!(backend.run(&first), backend.run(&second));
    for attempt in [one, two] {
        assert!(matches!(attempt.outcome, Outcome::Reduced(_)), "{attempt:?}");
    }
    assert_eq!((backend.spending().invocations, backend.spending().in_vain), (3, 1));
}

#[tokio::test]
async fn one_of_those_that_share_an_invocation_may_be_cancelled() {
    let one = answer().attempts.pop().unwrap();
    let both = Answer { attempts: vec![one.clone(), one], ..answer() };
    let alone = reply("200 OK", "", &encode(&answer()));
    let (_dir, backend) = quick(service(vec![alone, reply("200 OK", "", &encode(&both))]), 4);
    let (first, second) = (job(), job());
    let mut first = backend.run(&first);
    // It is in line, and gone before the invocation begins.
    assert!((&mut first).now_or_never().is_none());
    drop(first);
    let second = backend.run(&second).await;
    assert!(matches!(second.outcome, Outcome::Reduced(_)), "{second:?}");
    assert_eq!(backend.spending().thunks, 1);
}

#[tokio::test]
async fn a_refusal_that_stays_closes_the_backend() {
    let head = "x-amzn-ErrorType: AccessDeniedException\r\n";
    let denied = reply("403 Forbidden", head, r#"{"Message": "no"}"#);
    let (_dir, backend) = backend(service(vec![denied]), Duration::from_secs(900));
    assert!(backend.accepts(&job()).is_ok());
    let attempt = backend.run(&job()).await;
    assert!(matches!(attempt.outcome, Outcome::Infra(InfraFailure::Closed(_))), "{attempt:?}");
    assert!(
        matches!(backend.accepts(&job()), Err(Refusal::Unsupported(why)) if why.contains("lambda:InvokeFunction"))
    );
    let _ = backend.run(&job()).await;
    assert_eq!(backend.spending().invocations, 1, "nothing more is asked");
}
