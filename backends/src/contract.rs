//! The promises of [`Backend`], as a test that any implementation can be put to.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use ggr_ir::{Attempt, Job, Outcome};

use crate::backend::Backend;

/// Nothing in the contract takes longer on a working backend.
const LIMIT: Duration = Duration::from_secs(60);

/// The jobs to test with; their inputs are in the backend's store.
#[derive(Debug, Clone)]
pub struct Jobs {
    /// It succeeds, within a second or so.
    pub succeeds: Job,
    /// Its program fails. None where no program is run.
    pub fails: Option<Job>,
    /// It would take minutes. None where nothing takes long.
    pub lasts: Option<Job>,
}

/// Checks every promise. For tests.
///
/// # Panics
/// Says which promise is broken.
pub async fn check(backend: Arc<dyn Backend>, jobs: Jobs) {
    assert!(backend.slots() >= 1, "a backend has a slot");
    assert!(!backend.name().is_empty(), "a backend has a name");
    assert_eq!(backend.accepts(&jobs.succeeds), Ok(()), "it takes a plain job");

    let first = run(&*backend, &jobs.succeeds).await;
    let Outcome::Reduced(first) = first.outcome else { panic!("a job that succeeds is reduced: {first:?}") };
    for (name, path) in &jobs.succeeds.thunk.outputs {
        let entry = first.outputs.get(name).unwrap_or_else(|| panic!("the output `{path}` is there"));
        assert_eq!(entry.path, *path, "an output has the path that the thunk says");
    }

    let many = backend.slots().min(64) * 2;
    let both = join_all((0..many).map(|_| run(&*backend, &jobs.succeeds))).await;
    for again in both {
        let Outcome::Reduced(again) = again.outcome else {
            panic!("running a job twice is harmless: {again:?}")
        };
        assert_eq!(again.outputs, first.outputs, "a job gives the same bytes each time");
    }

    if let Some(fails) = &jobs.fails {
        let failed = run(&*backend, fails).await;
        assert!(matches!(failed.outcome, Outcome::ToolFailed(_)), "a failing program is said so: {failed:?}");
    }
    if let Some(lasts) = &jobs.lasts {
        for _ in 0..backend.slots().min(4) {
            let short = tokio::time::timeout(Duration::from_millis(200), backend.run(lasts)).await;
            assert!(short.is_err(), "a job that takes minutes is not done at once: {short:?}");
        }
        let after = run(&*backend, &jobs.succeeds).await;
        assert!(
            matches!(after.outcome, Outcome::Reduced(_)),
            "dropping the future gives the slot back: {after:?}"
        );
    }
}

async fn run(backend: &dyn Backend, job: &Job) -> Attempt {
    tokio::time::timeout(LIMIT, backend.run(job)).await.expect("every start gets a finish")
}
