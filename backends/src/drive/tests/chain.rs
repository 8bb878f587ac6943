//! Thunks that go with the one before them.

use super::*;
use crate::durations::{Durations, SizeClass};

/// Options by which these labels are known to take so many milliseconds.
fn known(labels: &[(&str, u64)]) -> Options {
    let mut durations = Durations::default();
    for (label, millis) in labels {
        durations.learn(label, Kind::Other, SizeClass::of(0), Duration::from_millis(*millis));
    }
    Options { durations: Some(Arc::new(Mutex::new(durations))), ..Options::default() }
}

/// Starts a driver over a backend that runs chains.
fn chaining(options: Options) -> (Arc<Scripted>, DriverHandle) {
    let backend = Arc::new(Scripted { chains: true, ..Scripted::default() });
    (backend.clone(), Driver::spawn(vec![backend], options))
}

/// Builds these, and gives the chains that went out, as `a+b`, and what came of it.
async fn build(options: Options, scripts: &[(&str, Step)], all: &[&Submission]) -> (Vec<String>, Counts) {
    let (backend, driver) = chaining(options);
    for (label, step) in scripts {
        backend.script(label, [step.clone(), Step::Reduce]);
    }
    for submission in all {
        driver.submit((*submission).clone()).await;
    }
    soon(driver.idle()).await;
    let counts = *driver.counts().borrow();
    let mut given = backend.given();
    given.sort();
    (given, counts)
}

#[tokio::test]
async fn a_chain_of_short_thunks_goes_out_at_once_and_each_result_is_recorded() {
    let cache = Arc::new(Memory::default());
    let (a, b, c) = {
        let a = submission("a", &[]);
        let b = submission("b", &[&a]);
        let c = submission("c", &[&b]);
        (a, b, c)
    };
    let options = Options { cache: Some(cache.clone()), ..known(&[("b", 100), ("c", 100)]) };
    let (backend, driver) = chaining(options);
    for submission in [&a, &b, &c] {
        driver.submit(submission.clone()).await;
    }
    let made = soon(driver.wait(c.id)).await.unwrap();
    assert_eq!((made.origin, made.outputs[0].1.blob), (Origin::Backend, BlobId::of(b"/c")));
    assert_eq!(backend.given(), ["a+b+c"]);
    let counts = *driver.counts().borrow();
    assert_eq!((counts.ran, counts.chained, counts.cached), (3, 2, 0));
    soon(driver.shutdown()).await;
    let ready = |thunk: &Thunk, blob: &'static [u8]| thunk.resolve(|_| Some(BlobId::of(blob))).unwrap().id();
    let expected = BTreeSet::from([a.id, ready(&b.thunk, b"/a"), ready(&c.thunk, b"/b")]);
    assert_eq!(cache.records.lock().unwrap().keys().copied().collect::<BTreeSet<_>>(), expected);
}

#[tokio::test]
async fn what_is_long_unknown_shared_or_waits_for_others_too_goes_by_itself() {
    let short = || known(&[("b", 100), ("c", 200)]);
    let a = submission("a", &[]);
    let (b, c, d) = (submission("b", &[&a]), submission("c", &[&a]), submission("d", &[&a]));
    let (other, both) = (submission("other", &[]), submission("b", &[&a, &submission("other", &[])]));
    let behind = submission("c", &[&b]);
    let check = async |options, all: &[&Submission], expected: &[&str], chained| {
        let (chains, counts) = build(options, &[], all).await;
        assert_eq!(
            (chains, counts.chained, counts.ran),
            (expected.iter().map(|c| (*c).to_owned()).collect(), chained, all.len() as u64)
        );
    };
    check(known(&[("b", 300)]), &[&a, &b], &["a", "b"], 0).await;
    check(short(), &[&a, &d], &["a", "d"], 0).await;
    check(short(), &[&a, &b, &c], &["a", "b", "c"], 0).await;
    check(short(), &[&a, &other, &both], &["a", "b", "other"], 0).await;
    // Each is short enough, but not both together.
    check(short(), &[&a, &b, &behind], &["a+b", "c"], 1).await;
}

#[tokio::test]
async fn what_did_not_come_of_a_chain_or_was_made_of_something_else_is_started() {
    let a = submission("a", &[]);
    let b = submission("b", &[&a]);
    let short = || known(&[("b", 100)]);
    for step in [Step::Fail, Step::Lie, Step::Forge, Step::Infra(InfraFailure::DeadlinePassed)] {
        let (chains, counts) = build(short(), &[("b", step.clone())], &[&a, &b]).await;
        assert_eq!(
            (chains, counts.ran, counts.chained),
            (vec!["a+b".to_owned(), "b".to_owned()], 2, 0),
            "{step:?}"
        );
    }
    let (chains, counts) =
        build(short(), &[("a", Step::Infra(InfraFailure::WorkerDied(String::new())))], &[&a, &b]).await;
    assert_eq!((chains, counts.ran), (vec!["a+b".to_owned(), "a+b".to_owned()], 2));
}

#[tokio::test]
async fn a_result_that_somebody_waits_for_is_not_held_up() {
    let a = Submission { urgency: Urgency::Awaited, ..submission("a", &[]) };
    let b = submission("b", &[&a]);
    let (chains, _) = build(known(&[("b", 100)]), &[], &[&a, &b]).await;
    assert_eq!(chains, ["a", "b"]);
    let awaited = Submission { urgency: Urgency::Awaited, ..b };
    let (chains, _) = build(known(&[("b", 100)]), &[], &[&a, &awaited]).await;
    assert_eq!(chains, ["a+b"]);
}
