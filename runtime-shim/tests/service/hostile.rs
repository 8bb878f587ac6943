//! Thunks that mean harm, at a service: the next one is served, and nothing is left of them.

use std::time::Duration;

use ggr_ir::{InfraFailure, Outcome};

use crate::harness::{ANN, BOB, Running, Setting, eventually, skipped};

#[tokio::test(flavor = "multi_thread")]
async fn hostile_thunks_end_as_their_kind_of_failure_and_the_next_one_is_served() {
    let service = Running::with(Setting { network: true, ..Setting::default() }).await;
    let (ann, bob) = (service.client(ANN).await, service.client(BOB).await);
    let harm = [
        // A fork bomb, bounded in depth so that a machine under test stays usable.
        ("b() { if [ $1 -gt 0 ]; then b $(($1-1)) & b $(($1-1)) & fi; sleep 4451; }; b 6", "time limit"),
        // Fills its disk.
        ("while :; do echo 0123456789abcdef0123456789abcdef; done > /work/full", "TooBig"),
        ("while :; do echo 0123456789abcdef0123456789abcdef; done", "TooBig"),
        // Leads its output elsewhere.
        ("ln -s /etc/passwd /work/out", "unrepresentable: Some"),
        // Looks at and signals what is not its own.
        ("kill -9 -1; kill -9 1; cat /proc/1/environ && exit 7; exit 3", "code: Some(3)"),
        ("echo > /dev/tcp; echo x > /proc/sys/kernel/hostname; cat /etc/shadow || exit 4", "code: Some(4)"),
    ];
    for (script, expected) in harm {
        let mut job = ann.job(script, &["/work/out"]);
        (job.limits.wall, job.limits.output) = (Duration::from_millis(1500), 4 << 20);
        let ended = ann.run(&job).await.outcome;
        let said = match &ended {
            Outcome::Infra(InfraFailure::DeadlinePassed) => "time limit".to_owned(),
            other => format!("{other:?}"),
        };
        assert!(said.contains(expected), "{script}: {said}");
        for (name, client) in [("ann", &ann), ("bob", &bob)] {
            assert_eq!(
                client.stdout(&client.sh("echo served", &[]).await),
                "served\n",
                "{name}, after {script}"
            );
        }
    }
    let lines = || {
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        processes.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok()).collect::<Vec<_>>()
    };
    let marker = &b"sleep\x004451"[..];
    let bombs =
        || lines().iter().filter(|line| line.windows(marker.len()).any(|part| part == marker)).count();
    eventually("no process of a bomb is left", || bombs() == 0).await;
}

/// Whether a control group of this name is anywhere.
fn group_exists(name: &str) -> bool {
    let mut dirs = vec![std::path::PathBuf::from("/sys/fs/cgroup")];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if entry.file_name() == name {
                    return true;
                }
                dirs.push(entry.path());
            }
        }
    }
    false
}

#[tokio::test(flavor = "multi_thread")]
async fn sandboxes_stand_in_a_control_group_that_goes_with_their_worker() {
    let service = Running::with(Setting { network: true, memory: 1 << 20, ..Setting::default() }).await;
    let client = service.client(ANN).await;
    let said = client.stdout(&client.sh("cat /proc/self/cgroup", &[]).await);
    let group =
        said.lines().filter_map(|line| line.rsplit('/').next()).find(|name| name.starts_with("ggr-worker-"));
    let Some(group) = group else {
        return skipped(
            "sandboxes_stand_in_a_control_group_that_goes_with_their_worker",
            "none can be made here",
        );
    };
    // Its place is not kept, as there is no memory for idle ones.
    eventually("the group goes with its worker", || !group_exists(group)).await;
}
