//! Thunks that do not simply succeed.

use super::*;

#[tokio::test]
async fn a_thunk_in_doubt_holds_its_dependants_until_the_caller_has_run_it() {
    let (options, mut doubts) = asking();
    let (backend, driver) = start(options);
    backend.script("a", [Step::Fail]);
    let a = submission("a", &[]);
    let b = submission("b", &[&a]);
    driver.submit(a.clone()).await;
    driver.submit(b.clone()).await;
    let doubt = soon(doubts.recv()).await.unwrap();
    assert_eq!(doubt.id, a.id);
    assert!(matches!(*doubt.failure, Failure::Tool(_)));
    let verdict = soon(driver.verdict(a.id)).await.unwrap_err();
    assert_eq!(verdict, doubt.failure);
    assert_eq!(driver.counts().borrow().doubted, 1);

    driver.resolve_externally(a.id, reduction(&a.thunk.outputs)).await;
    assert_eq!(soon(driver.wait(a.id)).await.unwrap().origin, Origin::External);
    soon(driver.wait(b.id)).await.unwrap();
    assert_eq!(backend.ran(), ["a", "b"]);
}

#[tokio::test]
async fn a_verdict_comes_with_the_doubt_and_a_wait_with_the_answer() {
    let (options, mut doubts) = asking();
    let (backend, driver) = start(options);
    backend.script("a", [Step::Fail]);
    let a = submission("a", &[]);
    driver.submit(a.clone()).await;
    let (verdict, wait) = (driver.verdict(a.id), driver.wait(a.id));
    let mut wait = Box::pin(wait);
    assert!((&mut wait).now_or_never().is_none());
    soon(verdict).await.unwrap_err();
    soon(doubts.recv()).await.unwrap();
    assert!((&mut wait).now_or_never().is_none());
    driver.confirm_failure(a.id).await;
    assert!(matches!(*soon(wait).await.unwrap_err(), Failure::Tool(_)));
}

#[tokio::test]
async fn a_confirmed_failure_poisons_its_dependants_by_name() {
    let (options, mut doubts) = asking();
    let (backend, driver) = start(options);
    backend.script("a", [Step::Fail]);
    let a = submission("a", &[]);
    let b = submission("b", &[&a]);
    driver.submit(a.clone()).await;
    driver.submit(b.clone()).await;
    soon(doubts.recv()).await.unwrap();
    driver.confirm_failure(a.id).await;
    let why = soon(driver.wait(b.id)).await.unwrap_err();
    assert_eq!(*why, Failure::Poisoned { by: a.id, label: "a".into() });
    soon(driver.idle()).await;
}

#[tokio::test]
async fn a_failure_that_nobody_looks_into_is_believed() {
    let (backend, driver) = start(Options::default());
    backend.script("a", [Step::Fail]);
    let a = submission("a", &[]);
    driver.submit(a.clone()).await;
    assert!(matches!(*soon(driver.wait(a.id)).await.unwrap_err(), Failure::Tool(_)));
}

#[tokio::test]
async fn a_thunk_that_failed_may_be_submitted_again() {
    let (backend, driver) = start(Options::default());
    backend.script("a", [Step::Fail, Step::Reduce]);
    let a = submission("a", &[]);
    driver.submit(a.clone()).await;
    soon(driver.wait(a.id)).await.unwrap_err();
    driver.submit(a.clone()).await;
    soon(driver.wait(a.id)).await.unwrap();
    driver.submit(a.clone()).await;
    soon(driver.idle()).await;
    assert_eq!(backend.ran().len(), 2, "a thunk that is done is not run again");
}

#[tokio::test]
async fn a_dead_worker_s_job_is_run_again_and_that_is_told() {
    let (backend, driver) = start(Options::default());
    backend.script("a", [Step::Infra(InfraFailure::WorkerDied("x".to_owned())), Step::Reduce]);
    let mut events = driver.events();
    let a = submission("a", &[]);
    driver.submit(a.clone()).await;
    soon(driver.wait(a.id)).await.unwrap();
    let mut told = Vec::new();
    while let Ok(event) = events.try_recv() {
        told.push(match event {
            BuildEvent::Traced { .. } => "traced",
            BuildEvent::Ready { .. } => "ready",
            BuildEvent::Started { .. } => "started",
            BuildEvent::Retried { .. } => "retried",
            BuildEvent::Finished { attempt: Some(_), .. } => "finished",
            _ => "?",
        });
    }
    assert_eq!(told, ["traced", "ready", "started", "retried", "started", "finished"]);
}

#[tokio::test]
async fn an_answer_without_the_declared_outputs_is_not_believed() {
    let (backend, driver) = start(Options::default());
    backend.script("a", [Step::Lie, Step::Reduce]);
    let a = submission("a", &[]);
    driver.submit(a.clone()).await;
    soon(driver.wait(a.id)).await.unwrap();
    assert_eq!(backend.ran(), ["a", "a"]);
}

#[tokio::test]
async fn missing_inputs_are_brought_back_by_the_caller() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let heal: Heal = {
        let asked = asked.clone();
        Arc::new(move |job, blobs| {
            assert_eq!(job.label, "a");
            asked.lock().unwrap().extend(blobs);
            std::future::ready(Ok(())).boxed()
        })
    };
    let (backend, driver) = start(Options { heal: Some(heal), ..Options::default() });
    let blob = BlobId::of(b"gone");
    backend.script("a", [Step::Infra(InfraFailure::InputsMissing(vec![blob])), Step::Reduce]);
    let a = submission("a", &[]);
    driver.submit(a.clone()).await;
    soon(driver.wait(a.id)).await.unwrap();
    assert_eq!(*asked.lock().unwrap(), [blob]);
}

#[tokio::test]
async fn inputs_that_nobody_can_bring_back_are_a_failure() {
    let (backend, driver) = start(Options::default());
    backend.script("a", [Step::Infra(InfraFailure::InputsMissing(vec![]))]);
    let a = submission("a", &[]);
    driver.submit(a.clone()).await;
    let why = soon(driver.wait(a.id)).await.unwrap_err();
    assert!(why.to_string().contains("could not be restored"), "{why}");
}

#[tokio::test]
async fn a_job_that_no_backend_takes_says_what_each_said() {
    let (_, driver) = start(Options::default());
    let a = submission("refused", &[]);
    driver.submit(a.clone()).await;
    let why = soon(driver.wait(a.id)).await.unwrap_err();
    assert_eq!(why.to_string(), "no backend takes it; `scripted`: it cannot do this: the script says so");
}

#[tokio::test]
async fn an_input_that_nothing_makes_is_named() {
    let (_, driver) = start(Options::default());
    let never = submission("never", &[]);
    let b = submission("b", &[&never]);
    driver.submit(b.clone()).await;
    let why = soon(driver.wait(b.id)).await.unwrap_err();
    assert!(matches!(&*why, Failure::InputUnknown(output) if output.thunk == never.id), "{why}");
    assert_eq!(*soon(driver.wait(never.id)).await.unwrap_err(), Failure::Unknown(never.id));
}
