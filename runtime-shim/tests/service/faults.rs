//! What goes wrong between a client and its service.

use std::time::Duration;

use ggr_backends::backend::Backend;
use ggr_backends::service::Address;
use ggr_ir::protocol::service::{self as wire, Hello};
use ggr_ir::protocol::worker::to_frame;
use ggr_ir::{InfraFailure, Outcome};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::{ANN, Client, LIMIT, Running, Setting, eventually, reduced};

fn networked() -> Setting {
    Setting { network: true, ..Setting::default() }
}

fn host(address: &Address) -> String {
    address.to_string().trim_start_matches("http://").to_owned()
}

fn running(marker: &str) -> bool {
    std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        std::fs::read(entry.path().join("cmdline"))
            .is_ok_and(|line| line.windows(marker.len()).any(|part| part == marker.as_bytes()))
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_frame_of_the_protocol_ends_its_connection_and_harms_nobody() {
    let service = Running::with(networked()).await;
    let client = service.client(ANN).await;
    let hello = to_frame(&Hello { version: wire::VERSION, token: ANN.into(), packed: false });
    let long = (wire::MAX_FRAME + 1).to_le_bytes();
    let other = to_frame(&Hello { version: 99, token: ANN.into(), packed: false });
    let mut bad = [&hello[..], b"\x03\0\0\0\xff\xff\xff"].concat();
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &long, &other, &[&hello[..], &long].concat(), &bad] {
        let mut stream = TcpStream::connect(host(&service.address)).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut said = Vec::new();
        tokio::time::timeout(LIMIT, stream.read_to_end(&mut said)).await.expect("it is hung up on").unwrap();
        assert!(!said.is_empty(), "and told why");
    }
    // One that says nothing more keeps nobody from being served.
    bad.truncate(hello.len());
    let mut silent = TcpStream::connect(host(&service.address)).await.unwrap();
    silent.write_all(&bad).await.unwrap();
    assert_eq!(client.stdout(&client.sh("echo served", &[]).await), "served\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_takes_its_jobs_with_it() {
    let service = Running::with(networked()).await;
    let client = service.client(ANN).await;
    let job = client.job("sleep 4441", &[]);
    let run = |job: &ggr_ir::Job| {
        let (backend, job) = (client.backend.clone(), job.clone());
        tokio::spawn(async move { backend.run(&job).await })
    };
    let dropped = run(&job);
    eventually("it runs", || running("sleep\u{0}4441")).await;
    dropped.abort();
    eventually("a dropped job ends", || !running("sleep\u{0}4441")).await;
    let again = run(&job);
    eventually("it runs again", || running("sleep\u{0}4441")).await;
    again.abort();
    drop(client);
    eventually("its connection takes it along", || !running("sleep\u{0}4441")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_started_again_is_found_again() {
    let service = Running::with(networked()).await;
    let client = service.client(ANN).await;
    let job = client.job("sleep 4442", &[]);
    let lost = tokio::spawn({
        let (backend, job) = (client.backend.clone(), job.clone());
        async move { backend.run(&job).await }
    });
    eventually("it runs", || running("sleep\u{0}4442")).await;
    service.task.abort();
    let lost = tokio::time::timeout(LIMIT, lost).await.unwrap().unwrap();
    assert!(matches!(lost.outcome, Outcome::Infra(InfraFailure::WorkerDied(_))), "{lost:?}");
    let again = Running::at(service.dir, Address::Tcp(host(&service.address)), networked()).await;
    assert_eq!(client.stdout(&client.sh("echo back", &[]).await), "back\n");
    drop(again);
}

/// Passes bytes both ways until it is told to swallow them.
async fn link(to: String) -> (Address, tokio::sync::watch::Sender<bool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Address::Tcp(listener.local_addr().unwrap().to_string());
    let (cut, watch) = tokio::sync::watch::channel(false);
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let Ok(far) = TcpStream::connect(&to).await else { return };
            let (near_in, near_out) = near.into_split();
            let (far_in, far_out) = far.into_split();
            tokio::spawn(pass(near_in, far_out, watch.clone()));
            tokio::spawn(pass(far_in, near_out, watch.clone()));
        }
    });
    (address, cut)
}

async fn pass(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    cut: tokio::sync::watch::Receiver<bool>,
) {
    let mut bytes = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        if !*cut.borrow() && to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unplugged_service_fails_its_jobs_in_time_and_is_back_when_it_is_plugged_in() {
    let service = Running::with(networked()).await;
    let (address, cut) = link(host(&service.address)).await;
    let patience = Duration::from_secs(2);
    let options = ggr_backends::remote::RemoteOptions { address, patience, ..service.options(ANN) };
    let client = Client::connect(options).await.unwrap();
    reduced(&client.sh("true", &[]).await);
    let job = client.job("sleep 4443", &[]);
    let lost = tokio::spawn({
        let (backend, job) = (client.backend.clone(), job.clone());
        async move { backend.run(&job).await }
    });
    eventually("it runs", || running("sleep\u{0}4443")).await;
    cut.send_replace(true);
    let lost = tokio::time::timeout(LIMIT, lost).await.unwrap().unwrap();
    let InfraFailure::WorkerDied(why) = (match lost.outcome {
        Outcome::Infra(failure) => failure,
        other => panic!("{other:?}"),
    }) else {
        panic!("the job's worker died")
    };
    assert!(why.contains("nothing was heard"), "{why}");
    let away = client.sh("true", &[]).await;
    assert!(matches!(away.outcome, Outcome::Infra(InfraFailure::Unreachable(_))), "{away:?}");
    cut.send_replace(false);
    let mut back = false;
    for _ in 0..10 {
        back = matches!(client.sh("true", &[]).await.outcome, Outcome::Reduced(_));
        if back {
            break;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert!(back, "it is used again");
}
