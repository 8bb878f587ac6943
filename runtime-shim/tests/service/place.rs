//! A service is a place like any other: its client keeps a backend's promises, over a Unix socket, TCP and TLS.

use std::path::Path;
use std::process::Command;

use ggr_backends::contract::{self, Jobs};
use ggr_backends::service::Address;
use ggr_ir::{BlobId, Mode, ObjectStore};

use crate::harness::{ANN, BOB, Client, LIMIT, Running, Setting, eventually, reduced, skipped};

#[tokio::test(flavor = "multi_thread")]
async fn a_service_keeps_the_contract_of_a_backend() {
    let service = Running::new().await;
    let client = service.client("").await;
    let jobs = Jobs {
        succeeds: client.job("echo made > /work/made", &["/work/made"]),
        fails: Some(client.job("exit 3", &[])),
        lasts: Some(client.job("sleep 300", &[])),
    };
    contract::check(client.backend, jobs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_output_stays_with_the_service_for_the_next_thunk() {
    let service = Running::new().await;
    let mut client = service.client("").await;
    let large = "0123456789abcdef".repeat(100_000);
    client.kit.bytes("/work/in", large.as_bytes(), Mode::Regular).unwrap();
    let made = client.sh("cat in in > /work/made; echo said", &["/work/made"]).await;
    let blob = reduced(&made).outputs.values().next().unwrap().blob;
    assert_eq!(client.stdout(&made), "said\n");
    assert_eq!(client.text(blob), large.repeat(2));
    let theirs = ggr_backends::store::FsStore::new(&service.tenant("local"));
    assert_eq!(theirs.missing(&[blob]).unwrap(), []);
    // Gone from here, it is still an input: nobody has to send it.
    let job = {
        let mut next = client.job("cat old > /work/new", &["/work/new"]);
        let thunk = std::sync::Arc::make_mut(&mut next.thunk);
        let entry = ggr_ir::Entry { object: blob, mode: Mode::Regular };
        thunk.inputs.insert(ggr_ir::RootPath::new("/work/old").unwrap(), entry);
        next
    };
    std::fs::remove_file(client.store().path(blob)).unwrap();
    client.store().forget(blob);
    let next = client.run(&job).await;
    assert_eq!(reduced(&next).outputs.values().next().unwrap().blob, blob);
    assert_eq!(client.text(blob), large.repeat(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_the_service_has_lost_is_sent_again() {
    let service = Running::new().await;
    let mut client = service.client("").await;
    client.kit.bytes("/work/in", b"in", Mode::Regular).unwrap();
    assert_eq!(client.stdout(&client.sh("cat in", &[]).await), "in");
    let theirs = ggr_backends::store::FsStore::new(&service.tenant("local"));
    std::fs::remove_file(theirs.path(BlobId::of(b"in"))).unwrap();
    // At another path: the old one still stands in a prepared root.
    client.kit.bytes("/work/again", b"in", Mode::Regular).unwrap();
    assert_eq!(client.stdout(&client.sh("cat again", &[]).await), "in");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_over_tls_takes_those_who_know_its_certificate() {
    let keys = tempfile::tempdir().unwrap();
    let (certificate, key) = (keys.path().join("cert.pem"), keys.path().join("key.pem"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .args(["-days", "2", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output();
    let Ok(made) = made else {
        return skipped("a_service_over_tls_takes_those_who_know_its_certificate", "no openssl");
    };
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let setting =
        Setting { network: true, certificate: Some((certificate.clone(), key)), ..Setting::default() };
    let service = Running::with(setting).await;
    assert!(matches!(service.address, Address::Tls(_)), "{}", service.address);
    let mut options = service.options(ANN);
    let refused = Client::connect(options.clone()).await.err().unwrap();
    assert!(refused.contains("worker-ca"), "{refused}");
    options.authority = Some(certificate);
    let client = Client::connect(options.clone()).await.unwrap();
    assert_eq!(client.stdout(&client.sh("echo tls", &[]).await), "tls\n");
    let other = Path::new("/etc/ssl/certs/ca-certificates.crt");
    if other.exists() {
        options.authority = Some(other.into());
        assert!(Client::connect(options).await.is_err(), "another authority's certificates do not do");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_service_finishes_what_runs_refuses_the_rest_and_ends() {
    let service = Running::with(Setting { network: true, ..Setting::default() }).await;
    let (client, control) = (service.client(ANN).await, service.control(BOB).await);
    let refused = service.control(ANN).await.drain().await.unwrap_err().to_string();
    assert!(refused.contains("operator"), "{refused}");
    let job = client.job("sleep 1.5; echo done", &[]);
    let running = tokio::spawn({
        let (backend, job) = (client.backend.clone(), job.clone());
        async move { ggr_backends::Backend::run(&*backend, &job).await }
    });
    let busy = async {
        while control.status().await.unwrap().running == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LIMIT, busy).await.unwrap();
    service.stopper.drain();
    let late = client.sh("echo late", &[]).await;
    assert!(format!("{:?}", late.outcome).contains("takes no more jobs"), "{late:?}");
    assert_eq!(client.stdout(&running.await.unwrap()), "done\n");
    tokio::time::timeout(LIMIT, service.task).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn status_says_what_is_warm_and_a_place_that_was_warmed_is_a_hit() {
    let service = Running::with(Setting { network: true, ..Setting::default() }).await;
    let (ann, bob) = (service.client(ANN).await, service.control(BOB).await);
    service.control(ANN).await.warm("/usr/bin/dash").await.unwrap();
    reduced(&ann.sh("echo", &[]).await);
    let seen = bob.status().await.unwrap();
    let pool = seen.pools.iter().find(|pool| pool.program == "/usr/bin/dash").unwrap();
    assert_eq!((pool.tenant.as_str(), pool.warm, pool.hits, pool.misses), ("ann", true, 1, 0));
    assert_eq!((pool.mode.as_str(), seen.slots, seen.answered), ("fallback", 4, 1));
    assert!(seen.idle_bytes > 0 && seen.idle_bytes <= seen.memory, "{seen:?}");
    // Who is no operator sees his own.
    let carl = service.control(ANN).await.status().await.unwrap();
    assert!(carl.pools.iter().all(|pool| pool.tenant == "ann"));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_memory_for_idle_places_none_is_kept_and_jobs_run_all_the_same() {
    let service = Running::with(Setting { memory: 1 << 20, ..Setting::default() }).await;
    let (client, control) = (service.client("").await, service.control("").await);
    for word in ["one", "two"] {
        assert_eq!(client.stdout(&client.sh(&format!("echo {word}"), &[]).await), format!("{word}\n"));
    }
    let seen = control.status().await.unwrap();
    assert_eq!(seen.idle_bytes, 0);
    assert!(seen.pools.iter().all(|pool| !pool.warm && pool.hits == 0), "{seen:?}");
    let no_room = control.warm("/usr/bin/dash").await.unwrap_err().to_string();
    assert!(no_room.contains("--memory"), "{no_room}");
    let sandboxes = service.tenant("local").join("sandboxes");
    eventually("workers that are not kept leave nothing", || {
        std::fs::read_dir(&sandboxes).unwrap().flatten().all(|entry| !entry.path().is_dir())
    })
    .await;
}
