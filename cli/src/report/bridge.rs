//! The scheduler's own events, as ours.
//!
//! The coordinator reports what only it knows: calls, `Traced` with the files that a thunk's outputs go to, hits that never
//! reached the scheduler, and what ran here. The rest comes from here.

use ggr_backends::drive::{BuildEvent, Origin};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::event::Event;
use super::reporter::Reporter;

/// Passes the scheduler's events on until there are no more. When events come faster than sinks take them, some are lost,
/// and the user is told how many.
pub(crate) async fn forward(mut from: Receiver<BuildEvent>, to: Reporter) {
    let mut lost = 0;
    loop {
        match from.recv().await {
            Ok(event) => {
                if let Some(event) = translate(event) {
                    to.report(&event);
                }
            }
            Err(RecvError::Lagged(n)) => lost += n,
            Err(RecvError::Closed) => break,
        }
    }
    if lost > 0 {
        to.report(&Event::Note { text: format!("{lost} events came too fast to be counted") });
    }
}

/// Nothing for what the coordinator reports itself.
fn translate(event: BuildEvent) -> Option<Event> {
    Some(match event {
        BuildEvent::Traced { .. } => return None,
        BuildEvent::Ready { id } => Event::Ready { thunk: id },
        BuildEvent::Started { id, label, backend, duplicate } => {
            Event::Started { thunk: id, label, backend, duplicate }
        }
        BuildEvent::Retried { id, label, failure, .. } => {
            Event::Retried { thunk: id, label, why: failure.to_string() }
        }
        BuildEvent::Finished { id, label, origin, attempt, .. } => match (origin, attempt) {
            (Origin::Cache, _) => Event::CacheHit { thunk: id, label },
            (_, Some(attempt)) => {
                Event::Finished { thunk: id, worker: attempt.worker, label, timings: attempt.timings }
            }
            (_, None) => return None,
        },
        BuildEvent::Doubted { id, label, failure } => {
            Event::Doubted { thunk: id, label, why: failure.to_string() }
        }
        BuildEvent::Failed { id, label, failure } => {
            Event::Failed { thunk: id, label, why: failure.to_string() }
        }
        BuildEvent::Notice(text) => Event::Note { text },
    })
}
