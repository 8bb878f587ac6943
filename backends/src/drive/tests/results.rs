//! Results: where they come from and who gets them.

use super::*;

#[tokio::test]
async fn a_thunk_runs_on_what_its_dependencies_made() {
    let (backend, driver) = start(Options::default());
    let a = submission("a", &[]);
    let b = submission("b", &[&a]);
    driver.submit(a.clone()).await;
    driver.submit(b.clone()).await;
    let made = soon(driver.wait(b.id)).await.unwrap();
    assert_eq!(made.output(&"/b".into()).unwrap().blob, BlobId::of(b"/b"));
    assert_eq!(made.output(&"/a".into()), None);
    assert_eq!(made.origin, Origin::Backend);
    assert_eq!(backend.ran(), ["a", "b"]);
    soon(driver.idle()).await;
    let counts = *driver.counts().borrow();
    assert_eq!((counts.traced, counts.ran, counts.open, counts.cost_microdollars), (2, 2, 0, 2));
}

#[tokio::test]
async fn a_result_is_recorded_under_the_ready_id_and_found_the_next_time() {
    let cache = Arc::new(Memory::default());
    let options = || Options { cache: Some(cache.clone()), ..Options::default() };
    let (a, b) = {
        let a = submission("a", &[]);
        let b = submission("b", &[&a]);
        (a, b)
    };
    for round in 0..2 {
        let (backend, driver) = start(options());
        driver.submit(a.clone()).await;
        driver.submit(b.clone()).await;
        let made = soon(driver.wait(b.id)).await.unwrap();
        soon(driver.shutdown()).await;
        assert_eq!(backend.ran().len(), if round == 0 { 2 } else { 0 });
        assert_eq!(made.origin, if round == 0 { Origin::Backend } else { Origin::Cache });
    }
    let ready = b.thunk.resolve(|_| Some(BlobId::of(b"/a"))).unwrap();
    let recorded: BTreeSet<_> = cache.records.lock().unwrap().keys().copied().collect();
    assert_eq!(recorded, BTreeSet::from([a.id, ready.id()]));
}

/// A cache whose results are far away, and come when the gate opens; some do not come at all.
struct Distant {
    near: Memory,
    gate: Mutex<std::sync::mpsc::Receiver<()>>,
    lost: BTreeSet<ThunkId>,
}

impl ReductionCache for Distant {
    fn get(&self, id: ThunkId) -> Option<Reduction> {
        self.gate.lock().unwrap().recv().expect("the test opens the gate");
        self.near.get(id).filter(|_| !self.lost.contains(&id))
    }

    fn look(&self, id: ThunkId) -> Lookup {
        if self.near.records.lock().unwrap().contains_key(&id) { Lookup::Far } else { Lookup::Miss }
    }

    fn put(&self, _: ThunkId, _: &Reduction) -> Result<(), StoreError> {
        Ok(())
    }
}

#[tokio::test]
async fn a_result_that_is_far_away_is_fetched_while_others_run() {
    let (there, lost, other) = (submission("there", &[]), submission("lost", &[]), submission("other", &[]));
    let after = submission("after", &[&there]);
    let near = Memory::default();
    for thunk in [&there, &lost] {
        near.put(thunk.id, &reduction(&thunk.thunk.outputs)).unwrap();
    }
    let (open, gate) = std::sync::mpsc::channel();
    let cache = Distant { near, gate: Mutex::new(gate), lost: BTreeSet::from([lost.id]) };
    let (backend, driver) = start(Options { cache: Some(Arc::new(cache)), ..Options::default() });
    for thunk in [&there, &lost, &after, &other] {
        driver.submit(thunk.clone()).await;
    }
    soon(driver.wait(other.id)).await.unwrap();
    assert_eq!(backend.ran(), ["other"]);
    (0..2).for_each(|_| open.send(()).unwrap());
    assert_eq!(soon(driver.wait(there.id)).await.unwrap().origin, Origin::Cache);
    assert_eq!(soon(driver.wait(lost.id)).await.unwrap().origin, Origin::Backend);
    assert_eq!(soon(driver.wait(after.id)).await.unwrap().origin, Origin::Backend);
    soon(driver.shutdown()).await;
}

#[tokio::test]
async fn a_thunk_that_is_given_up_while_its_result_is_fetched_stays_given_up() {
    let there = submission("there", &[]);
    let near = Memory::default();
    near.put(there.id, &reduction(&there.thunk.outputs)).unwrap();
    let (open, gate) = std::sync::mpsc::channel();
    let cache = Distant { near, gate: Mutex::new(gate), lost: BTreeSet::new() };
    let (backend, driver) = start(Options { cache: Some(Arc::new(cache)), ..Options::default() });
    driver.submit(there.clone()).await;
    driver.cancel(there.id).await;
    assert!(matches!(*soon(driver.wait(there.id)).await.unwrap_err(), Failure::Cancelled));
    open.send(()).unwrap();
    soon(driver.shutdown()).await;
    assert!(backend.ran().is_empty());
}

#[tokio::test]
async fn what_is_not_cacheable_is_neither_looked_up_nor_recorded() {
    let cache = Arc::new(Memory::default());
    let (_, driver) = start(Options { cache: Some(cache.clone()), ..Options::default() });
    let a = Submission { cacheable: false, ..submission("a", &[]) };
    driver.submit(a.clone()).await;
    soon(driver.wait(a.id)).await.unwrap();
    soon(driver.shutdown()).await;
    assert!(cache.records.lock().unwrap().is_empty());
    assert_eq!(cache.looked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn who_waits_is_served_before_who_only_follows() {
    let (backend, driver) = start(Options::default());
    let block: Vec<_> = (0..SLOTS).map(|i| submission(&format!("block{i}"), &[])).collect();
    for thunk in &block {
        backend.script(&thunk.label, [Step::Hang]);
        driver.submit(thunk.clone()).await;
    }
    soon(driver.counts().wait_for(|counts| counts.running == SLOTS as u64)).await.unwrap();
    let long = Submission { estimate: Some(Duration::from_secs(100)), ..submission("long", &[]) };
    let short = Submission { estimate: Some(Duration::from_secs(1)), ..submission("short", &[]) };
    driver.submit(long.clone()).await;
    driver.submit(short.clone()).await;
    let (follows, waits) = (driver.follow(long.id), driver.wait(short.id));
    let (mut follows, mut waits) = (Box::pin(follows), Box::pin(waits));
    assert!((&mut follows).now_or_never().is_none() && (&mut waits).now_or_never().is_none());
    driver.cancel(block[0].id).await;
    soon(waits).await.unwrap();
    soon(follows).await.unwrap();
    assert_eq!(backend.ran()[SLOTS..], ["short", "long"]);
    soon(driver.shutdown()).await;
}

/// More thunks than are kept unpacked.
#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_is_traced_before_anything_runs_ends_all_the_same() {
    let report = crate::bench::scale_held(3 * PACK_OVER as u64).await;
    assert_eq!(report.thunks, 3 * PACK_OVER as u64);
}

#[tokio::test]
async fn durations_are_learned_from_what_ran() {
    let durations = Arc::new(Mutex::new(crate::durations::Durations::default()));
    let (_, driver) = start(Options { durations: Some(durations.clone()), ..Options::default() });
    let a = submission("a", &[]);
    driver.submit(a.clone()).await;
    soon(driver.wait(a.id)).await.unwrap();
    let estimate = durations.lock().unwrap().estimate("a", Kind::Other, crate::durations::SizeClass::of(0));
    assert_eq!(estimate, Some(Duration::from_millis(1)));
}

#[tokio::test]
async fn the_null_backend_keeps_the_contract() {
    let thunk = submission("a", &[]).thunk.resolve(|_| None).unwrap();
    let succeeds = Job {
        id: thunk.id(),
        thunk: Arc::new(thunk),
        limits: Limits::default(),
        kind: Kind::Other,
        label: "a".to_owned(),
    };
    let jobs = crate::contract::Jobs { succeeds, fails: None, lasts: None };
    crate::contract::check(Arc::new(crate::null::NullBackend::new(8)), jobs).await;
}
