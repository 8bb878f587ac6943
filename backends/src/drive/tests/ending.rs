//! Cancelling and stopping.

use super::*;

#[tokio::test]
async fn cancelling_all_stops_what_runs_and_answers_who_waits() {
    let (backend, driver) = start(Options::default());
    backend.script("a", [Step::Hang]);
    let a = submission("a", &[]);
    let b = submission("b", &[&a]);
    driver.submit(a.clone()).await;
    driver.submit(b.clone()).await;
    let waiting = driver.wait(b.id);
    let mut waiting = Box::pin(waiting);
    while backend.running.load(Ordering::SeqCst) == 0 {
        assert!((&mut waiting).now_or_never().is_none());
        tokio::task::yield_now().await;
    }
    driver.cancel_all().await;
    assert_eq!(*soon(waiting).await.unwrap_err(), Failure::Cancelled);
    soon(driver.idle()).await;
    let later = submission("later", &[]);
    driver.submit(later.clone()).await;
    soon(driver.wait(later.id)).await.unwrap();
    assert_eq!(backend.running.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_driver_whose_handles_are_gone_stops_what_runs() {
    let (backend, driver) = start(Options::default());
    backend.script("a", [Step::Hang]);
    driver.submit(submission("a", &[])).await;
    while backend.running.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    drop(driver);
    soon(async {
        while backend.running.load(Ordering::SeqCst) > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn after_a_shutdown_every_wait_is_answered() {
    let (backend, driver) = start(Options::default());
    backend.script("a", [Step::Hang]);
    let a = submission("a", &[]);
    driver.submit(a.clone()).await;
    let other = driver.clone();
    let waiting = tokio::spawn(async move { other.wait(a.id).await });
    soon(driver.shutdown()).await;
    let why = soon(waiting).await.unwrap().unwrap_err();
    assert!(matches!(*why, Failure::Cancelled | Failure::Stopped), "{why}");
    assert_eq!(*soon(driver.wait(ThunkId::synthetic(1))).await.unwrap_err(), Failure::Stopped);
    soon(driver.idle()).await;
}
