//! Jobs in guests that really boot, are written down and restored. Needs QEMU and a kernel (`tests/setup` gets both); where
//! there are none, each test says by name that it was skipped.

mod faults;
mod harness;

use std::sync::Arc;
use std::time::Duration;

use ggr_backends::backend::Backend;
use ggr_backends::contract;
use ggr_ir::{BlobId, Outcome, OutputName};
use harness::{Place, compile, sh};

#[tokio::test]
async fn a_guest_boots_is_restored_and_keeps_the_contract() {
    let Some(mut place) = Place::new("a_guest_boots_is_restored_and_keeps_the_contract", 2) else { return };
    let jobs = contract::Jobs {
        succeeds: sh(&mut place.kit, "echo made > /work/out", &["/work/out"]),
        fails: Some(sh(&mut place.kit, "exit 3", &[])),
        lasts: Some(sh(&mut place.kit, "sleep 300", &[])),
    };
    contract::check(Arc::clone(&place.backend) as Arc<dyn Backend>, jobs).await;
    let counts = place.backend.counts();
    assert_eq!(counts.made, 1, "one boot: {counts:?}");
    assert!(counts.restored >= 2 && counts.lost >= 1, "{counts:?}");
    eprintln!("boot to snapshot {:?}, restore to answer {:?}", counts.make, counts.restore);
}

#[tokio::test]
async fn a_guest_made_ahead_has_run_a_job_before_its_first_one() {
    let Some(mut place) = Place::new("a_guest_made_ahead_has_run_a_job_before_its_first_one", 1) else {
        return;
    };
    place.backend.prepare(Duration::MAX).await.unwrap();
    place.backend.restore_one().await.unwrap();
    // What the warm-up wrote has come the way that outputs come.
    assert_eq!(place.bytes(BlobId::of(&[1])), [1]);
    let job = sh(&mut place.kit, "echo made > /work/out", &["/work/out"]);
    let attempt = place.backend.run(&job).await;
    assert!(matches!(attempt.outcome, Outcome::Reduced(_)), "{attempt:?}");
    let counts = place.backend.counts();
    assert_eq!((counts.restored, counts.lost), (1, 0), "the job took that guest: {counts:?}");
    eprintln!("the first job of a guest made ahead: {:?}", attempt.timings);
}

#[tokio::test]
async fn a_toolchain_is_added_to_a_snapshot_without_another_boot() {
    let Some(mut place) = Place::new("a_toolchain_is_added_to_a_snapshot_without_another_boot", 1) else {
        return;
    };
    place.backend.prepare(Duration::MAX).await.unwrap();
    let boot = place.backend.counts().make;
    let (job, here) = compile(&mut place.kit, "int f(int x) { return x * 5; }\n");
    let attempt = place.backend.run(&job).await;
    let Outcome::Reduced(reduction) = &attempt.outcome else { panic!("{attempt:?}") };
    assert_eq!(place.bytes(reduction.outputs[&OutputName::from("/work/out.o")].blob), here);
    let counts = place.backend.counts();
    assert_eq!((counts.made, counts.restored), (2, 1), "{counts:?}");
    eprintln!("boot {boot:?}, with the toolchain {:?} more, restore {:?}", counts.make, counts.restore);
}

#[tokio::test]
async fn a_compile_in_a_guest_gives_the_bytes_of_one_here() {
    let Some(mut place) = Place::new("a_compile_in_a_guest_gives_the_bytes_of_one_here", 1) else { return };
    let source = "int main(int argc, char **argv) { return argc * 3 + (argv[0] != 0); }\n";
    let (job, here) = compile(&mut place.kit, source);
    let attempt = place.backend.run(&job).await;
    let Outcome::Reduced(reduction) = &attempt.outcome else { panic!("{attempt:?}") };
    let output = &reduction.outputs[&OutputName::from("/work/out.o")];
    assert_eq!(place.bytes(output.blob), here, "the object file");
    eprintln!("compile in a guest: {:?}", attempt.timings);
}
