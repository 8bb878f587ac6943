//! Tenants: who gets in, and what one can see of another.

use std::os::unix::fs::MetadataExt;

use ggr_backends::service::Sharing;
use ggr_ir::{BlobId, Entry, InfraFailure, Job, Mode, Outcome, RootPath};

use crate::harness::{ANN, BOB, Client, Running, Setting, reduced, skipped};

async fn networked(sharing: Sharing) -> Running {
    Running::with(Setting { network: true, sharing, ..Setting::default() }).await
}

/// A job that reads a blob which this client does not have.
fn reading(client: &Client, id: BlobId) -> Job {
    let mut job = client.job("cat /work/guessed", &[]);
    let thunk = std::sync::Arc::make_mut(&mut job.thunk);
    thunk.inputs.insert(RootPath::new("/work/guessed").unwrap(), Entry { object: id, mode: Mode::Regular });
    job
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_in_without_the_right_token() {
    let service = networked(Sharing::Apart).await;
    for wrong in ["", "ann", &ANN[1..], &format!("{ANN}x"), &"x".repeat(1024)] {
        let refused = Client::connect(service.options(wrong)).await.err().unwrap();
        assert!(refused.contains("token"), "{refused}");
    }
    reduced(&service.client(ANN).await.sh("true", &[]).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn knowing_a_hash_gives_no_right_to_read_it() {
    let service = networked(Sharing::Apart).await;
    let (mut ann, bob) = (service.client(ANN).await, service.client(BOB).await);
    ann.kit.bytes("/work/secret", b"secret", Mode::Regular).unwrap();
    let made = ann.sh("cat secret secret > /work/made", &["/work/made"]).await;
    let output = reduced(&made).outputs.values().next().unwrap().blob;
    for id in [BlobId::of(b"secret"), output] {
        let tried = bob.run(&reading(&bob, id)).await;
        assert_eq!(tried.outcome, Outcome::Infra(InfraFailure::InputsMissing(vec![id])));
        assert!(!bob.store().contains(id).unwrap());
    }
    // Ann may, of course.
    assert_eq!(ann.stdout(&ann.run(&reading(&ann, output)).await), "secretsecret");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_shared_by_choice_is_read_by_all() {
    let service = networked(Sharing::Shared).await;
    let (mut ann, bob) = (service.client(ANN).await, service.client(BOB).await);
    ann.kit.bytes("/work/open", b"open", Mode::Regular).unwrap();
    reduced(&ann.sh("cat open", &[]).await);
    assert_eq!(bob.stdout(&bob.run(&reading(&bob, BlobId::of(b"open"))).await), "open");
}

/// One slot, and a tenant whose twelve builds always have a thunk waiting for it: the other's thunk waits for one or two of
/// those, not for all.
#[tokio::test(flavor = "multi_thread")]
async fn a_tenants_one_thunk_does_not_wait_for_all_of_anothers() {
    const BUILDS: u64 = 12;
    let service = Running::with(Setting { network: true, slots: 1, ..Setting::default() }).await;
    let bob = service.client(BOB).await;
    // Its place is warm then.
    reduced(&bob.sh("true", &[]).await);
    let mut builds = tokio::task::JoinSet::new();
    for _ in 0..BUILDS {
        let ann = service.client(ANN).await;
        builds.spawn(async move {
            loop {
                reduced(&ann.sh("sleep 0.2", &[]).await);
            }
        });
    }
    let control = service.control(BOB).await;
    let mut before = control.status().await.unwrap();
    while u64::from(before.waiting) < BUILDS - 1 {
        assert!(builds.try_join_next().is_none(), "a build of ann's has ended");
        before = control.status().await.unwrap();
    }
    reduced(&bob.sh("true", &[]).await);
    let after = control.status().await.unwrap();
    // His own, the one that ran, the one whose turn came first, and as many that ended while messages were on their way.
    let between = after.answered - before.answered;
    assert!(between <= 5, "{between} of {BUILDS}");
    builds.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_tenant_runs_as_a_user_of_its_own_where_the_service_is_root() {
    if !rustix::process::geteuid().is_root() {
        return skipped("each_tenant_runs_as_a_user_of_its_own_where_the_service_is_root", "needs root");
    }
    let service = networked(Sharing::Apart).await;
    let (ann, bob) = (service.client(ANN).await, service.client(BOB).await);
    let mut users = Vec::new();
    for (name, client) in [("ann", &ann), ("bob", &bob)] {
        let attempt = client.sh("id -u; id -g; echo x > /work/made", &["/work/made"]).await;
        let said = client.stdout(&attempt);
        let user: u32 = said.lines().next().unwrap().parse().unwrap();
        assert_eq!(said, format!("{user}\n{user}\n"));
        let output = reduced(&attempt).outputs.values().next().unwrap().blob;
        let theirs = ggr_backends::store::FsStore::new(&service.tenant(name));
        // What the service has written for it, and what its worker has.
        let input = client.kit.inputs.values().find(|entry| entry.mode == Mode::Executable).unwrap().object;
        for id in [input, output] {
            assert_eq!(theirs.path(id).metadata().unwrap().uid(), user, "{id}");
        }
        assert_eq!(service.tenant(name).metadata().unwrap().mode() & 0o777, 0o700);
        users.push(user);
    }
    assert!(users[0] != users[1] && !users.contains(&0), "{users:?}");
}
