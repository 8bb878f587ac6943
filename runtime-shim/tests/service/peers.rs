//! Services that fetch from each other at a client's word, and whom they believe.

use std::net::SocketAddr;
use std::sync::Arc;

use ggr_backends::backend::Backend;
use ggr_backends::remote::{Peers, RemoteBackend};
use ggr_backends::service::Address;
use ggr_backends::store::FsStore;
use ggr_ir::protocol::service::{FromService, Hello, MAX_FRAME, ToService, VERSION, from_service, length};
use ggr_ir::protocol::worker::to_frame;
use ggr_ir::{BlobId, Entry, Mode, ObjectStore, RootPath};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{ANN, BOB, Running, Setting, eventually, reduced};

/// From so many bytes on, services fetch from each other.
const LARGE: usize = 200_000;

async fn pair() -> (Running, Running) {
    let first = Running::with(Setting { network: true, ..Setting::default() }).await;
    let peers = vec![first.address.clone()];
    let second = Running::with(Setting { network: true, peers, ..Setting::default() }).await;
    (first, second)
}

/// Asks a service to take blobs from a peer; gives what it says is missing afterwards.
async fn gather(at: &Running, token: &str, from: &Address, ids: &[BlobId]) -> Vec<BlobId> {
    let Address::Tcp(host) = &at.address else { panic!("{}", at.address) };
    let mut stream = TcpStream::connect(host.parse::<SocketAddr>().unwrap()).await.unwrap();
    let hello = Hello { version: VERSION, token: token.to_owned(), packed: false };
    stream.write_all(&to_frame(&hello)).await.unwrap();
    let request = ToService::Gather { seq: 7, from: from.to_string(), ids: ids.to_vec() };
    stream.write_all(&to_frame(&request)).await.unwrap();
    loop {
        let mut header = [0; 4];
        stream.read_exact(&mut header).await.unwrap();
        let mut frame = vec![0; length(header, MAX_FRAME).unwrap()];
        stream.read_exact(&mut frame).await.unwrap();
        match from_service(&frame).unwrap() {
            FromService::Fetched { seq: 7, missing } => return missing,
            FromService::Welcome { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_input_that_a_peer_made_is_fetched_from_there_and_not_sent_by_the_client() {
    let (first, second) = pair().await;
    let (ann, peers) = (first.client(ANN).await, Arc::<Peers>::default());
    let store = Arc::new(FsStore::new(ann.store().local_root().unwrap()));
    let at = |service: &Running| {
        RemoteBackend::connect_among(service.options(ANN), Arc::clone(&store), Arc::clone(&peers))
    };
    let (maker, reader) = (at(&first).await.unwrap(), at(&second).await.unwrap());
    let grow = "echo 0123456789abcdef > a; for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14; do cat a a > b; cat b > a; done; \
                cat a > /work/made";
    let made = maker.run(&ann.job(grow, &["/work/made"])).await;
    let id = reduced(&made).outputs.values().next().unwrap().blob;
    assert!(id.size() as usize > LARGE, "{id}");
    // The client has it no more: it can come from the peer alone.
    std::fs::remove_file(store.path(id)).unwrap();
    store.forget(id);
    let mut job = ann.job("cat /work/made", &[]);
    let thunk = Arc::make_mut(&mut job.thunk);
    thunk.inputs.insert(RootPath::new("/work/made").unwrap(), Entry { object: id, mode: Mode::Regular });
    let read = reader.run(&job).await;
    assert_eq!(reduced(&read).stdout, id, "what was printed is what was made");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_answers_each_tenant_from_its_own_store_and_only_if_the_operator_has_named_it() {
    let (first, second) = pair().await;
    let mut ann = first.client(ANN).await;
    ann.kit.bytes("/work/secret", b"ann's own", Mode::Regular).unwrap();
    reduced(&ann.sh("cat secret", &[]).await);
    let id = BlobId::of(b"ann's own");
    assert_eq!(gather(&second, BOB, &first.address, &[id]).await, [id], "bob only knows its hash");
    assert_eq!(gather(&second, ANN, &first.address, &[id]).await, []);
    // The first has not been told of the second.
    let other = BlobId::of(b"made at the second");
    let client = second.client(ANN).await;
    reduced(&client.sh("printf 'made at the second'", &[]).await);
    assert_eq!(gather(&first, ANN, &second.address, &[other]).await, [other]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_announced_is_warm_when_its_job_comes_and_status_says_why() {
    let service = Running::new().await;
    let client = service.client(ANN).await;
    let control = service.control(BOB).await;
    let program = RootPath::new("/usr/bin/dash").unwrap();
    client.backend.prepare(&program, &[]);
    let mut announced = false;
    for _ in 0..500 {
        let status = control.status().await.unwrap();
        announced =
            status.pools.iter().any(|pool| pool.program == "/usr/bin/dash" && pool.expected && pool.warm);
        if announced {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert!(announced, "{:?}", control.status().await.unwrap());
    reduced(&client.sh("true", &[]).await);
    let status = control.status().await.unwrap();
    let pool = status.pools.iter().find(|pool| pool.program == "/usr/bin/dash").unwrap();
    assert_eq!((pool.hits, pool.misses, pool.foreseen, pool.expected), (1, 0, 1, false), "{pool:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn inputs_that_were_sent_ahead_are_not_sent_again() {
    let service = Running::new().await;
    let mut client = service.client(ANN).await;
    let bytes: Vec<u8> = (0..LARGE as u32).flat_map(u32::to_le_bytes).collect();
    client.kit.bytes("/work/large", &bytes, Mode::Regular).unwrap();
    let job = client.job("cat /work/large", &[]);
    let inputs: Vec<_> = (job.thunk.inputs.values())
        .filter(|entry| entry.mode != Mode::Directory)
        .map(|entry| entry.object)
        .collect();
    client.backend.prepare(&job.thunk.command.program, &inputs);
    let there = service.tenant("ann");
    let store = FsStore::new(&there);
    let large = BlobId::of(&bytes);
    eventually("the input is there before its job", || {
        store.forget(large);
        store.contains(large).unwrap_or(false)
    })
    .await;
    let attempt = client.run(&job).await;
    assert_eq!(reduced(&attempt).stdout, large);
}
