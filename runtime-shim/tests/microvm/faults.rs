//! What goes wrong in a guest costs that guest, and the next job is served.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use ggr_backends::backend::Backend;
use ggr_ir::{Attempt, InfraFailure, Limits, Outcome};

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{Place, limited, sh};

fn infra(attempt: &Attempt) -> &InfraFailure {
    let Outcome::Infra(failure) = &attempt.outcome else { panic!("{attempt:?}") };
    failure
}

async fn serves(place: &mut Place) {
    let job = sh(&mut place.kit, "echo again > /work/again", &["/work/again"]);
    let attempt = place.backend.run(&job).await;
    assert!(matches!(attempt.outcome, Outcome::Reduced(_)), "the next job is served: {attempt:?}");
}

/// The QEMUs of this place: other tests of this process have theirs, which are none of our business.
fn guests(place: &Path) -> Vec<i32> {
    let me = std::process::id();
    let children = std::fs::read_dir(format!("/proc/{me}/task")).unwrap().flatten();
    let children = children.flat_map(|task| {
        let text = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
        text.split_whitespace().map(|pid| pid.parse::<i32>().unwrap()).collect::<Vec<_>>()
    });
    // A guest's memory is a file of its place, named on the command line.
    let place = place.as_os_str().as_bytes();
    let ours = |pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.windows(place.len()).any(|part| part == place)
    };
    children.filter(ours).collect()
}

#[tokio::test]
async fn a_guest_that_is_killed_or_hangs_or_has_no_memory_costs_itself_alone() {
    let test = "a_guest_that_is_killed_or_hangs_or_has_no_memory_costs_itself_alone";
    let Some(mut place) = Place::new(test, 1) else { return };
    serves(&mut place).await;

    let lasts = sh(&mut place.kit, "sleep 300", &[]);
    for signal in [Signal::KILL, Signal::STOP] {
        let at = place.path().to_owned();
        let struck = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let guests = guests(&at);
            assert_eq!(guests.len(), 1, "one slot, one guest");
            for pid in guests {
                kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
            }
        };
        let (attempt, ()) = tokio::join!(place.backend.run(&lasts), struck);
        assert!(matches!(infra(&attempt), InfraFailure::WorkerDied(_)), "{signal:?}: {attempt:?}");
        serves(&mut place).await;
    }

    // Takes memory until there is none: `tail` keeps a line that never ends.
    let hungry = sh(&mut place.kit, "head -c 2000000000 /dev/zero | tail", &[]);
    let attempt = place.backend.run(&hungry).await;
    assert!(matches!(infra(&attempt), InfraFailure::TooBig(_)), "{attempt:?}");
    serves(&mut place).await;

    let limits = Limits { wall: Duration::from_secs(1), ..Limits::default() };
    let long = limited(&mut place.kit, "sleep 301", &[], limits);
    let attempt = place.backend.run(&long).await;
    assert!(matches!(infra(&attempt), InfraFailure::DeadlinePassed), "{attempt:?}");
    serves(&mut place).await;

    let at = place.path().to_owned();
    drop(place);
    let limit = Instant::now() + Duration::from_secs(10);
    while !guests(&at).is_empty() {
        assert!(Instant::now() < limit, "a guest outlives its pool");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
