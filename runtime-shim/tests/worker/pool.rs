//! The local pool over the real worker keeps every promise of a backend.

use std::path::Path;
use std::sync::Arc;

use ggr_backends::contract::{self, Jobs};
use ggr_backends::local::{LocalBackend, LocalOptions};
use ggr_ir::{Harvest, Job, Kind, Limits};
use ggr_shim::bench::{Kit, command};

use crate::harness::{PROGRAMS, worker_program};

fn job(kit: &Kit, label: &str, script: &str, outputs: &[&str]) -> Job {
    let call = command(&["/usr/bin/dash", "-c", script], "/work");
    let thunk = kit.thunk(call, outputs, Harvest::Declared);
    Job {
        id: thunk.id(),
        thunk: Arc::new(thunk),
        limits: Limits::default(),
        kind: Kind::Other,
        label: label.to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_local_pool_keeps_the_contract_with_real_sandboxes() {
    let dir = tempfile::tempdir().unwrap();
    let mut kit = Kit::new(dir.path());
    for program in PROGRAMS {
        kit.program(Path::new(program)).unwrap();
    }
    // The pool adds `--slots N --store DIR`, and the example takes `DIR N`.
    let script = format!("exec {} \"$4\" \"$2\"", worker_program().display());
    let backend = LocalBackend::start(LocalOptions {
        command: ["/bin/sh", "-c", &script, "sh"].map(Into::into).to_vec(),
        slots: 4,
        store: dir.path().to_owned(),
        jobserver: None,
        user: None,
        bounds: None,
    });
    let jobs = Jobs {
        succeeds: job(&kit, "succeeds", "echo made > /work/made", &["/work/made"]),
        fails: Some(job(&kit, "fails", "exit 3", &[])),
        lasts: Some(job(&kit, "lasts", "sleep 300", &[])),
    };
    contract::check(Arc::new(backend.unwrap()), jobs).await;
}
