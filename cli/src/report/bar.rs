//! The status line's text.
//!
//! Not `indicatif`: its `suspend` draws again whatever the last byte of the other output was, which would overwrite an
//! unfinished line of the build; what is left to do is one line of text.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::event::Event;
use super::reporter::{Sink, SinkError};
use super::summary::seconds;
use super::tally::Tally;

/// Counts for the thread that draws.
#[derive(Clone, Default)]
pub(crate) struct Bar {
    counted: Arc<Mutex<Counted>>,
}

#[derive(Default)]
struct Counted {
    tally: Tally,
    /// When the reporter's clock read zero, as far as the last event tells.
    start: Option<Instant>,
}

impl Bar {
    /// The line as it is now; empty before the first call.
    pub(crate) fn text(&self, now: Instant) -> String {
        let counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        match counted.start {
            Some(start) => line(&counted.tally, now.saturating_duration_since(start)),
            None => String::new(),
        }
    }
}

/// The line at this time after the reporter's start.
fn line(tally: &Tally, now: Duration) -> String {
    if tally.traced + tally.calls == 0 {
        return String::new();
    }
    let mut text = format!(
        "ggr {} │ traced {} ready {} running {} cached {} done {}",
        clock(now),
        tally.traced,
        tally.ready,
        tally.running.len(),
        tally.hits,
        tally.done()
    );
    if tally.ran_here() > 0 {
        text.push_str(&format!(" here {}", tally.ran_here()));
    }
    if let Some((label, since)) = tally.longest_running() {
        text.push_str(&format!(" │ {label} {}", seconds(now.saturating_sub(since))));
    }
    text
}

impl Sink for Bar {
    fn take(&mut self, at: Duration, event: &Event) {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        counted.start = Instant::now().checked_sub(at);
        counted.tally.take(at, event);
    }

    fn end(&mut self) -> Result<(), SinkError> {
        Ok(())
    }
}

/// Elapsed time in a fixed width for the first hour.
fn clock(now: Duration) -> String {
    format!("{:02}:{:02}", now.as_secs() / 60, now.as_secs() % 60)
}

#[cfg(test)]
mod tests {
    use ggr_ir::ThunkId;

    use super::*;

    #[test]
    fn the_line_names_what_runs_longest() {
        let mut tally = Tally::default();
        let at = Duration::from_secs;
        assert_eq!(line(&tally, at(1)), "");
        for (n, name) in [(1, "gcc slow.o"), (2, "gcc quick.o")] {
            let (thunk, label) = (ThunkId::synthetic(n), Arc::<str>::from(name));
            tally.take(
                at(n),
                &Event::Traced {
                    thunk,
                    label: label.clone(),
                    waits_for: vec![],
                    outputs: vec![],
                    fused: None,
                },
            );
            tally.take(at(n), &Event::Ready { thunk });
            tally.take(at(n), &Event::Started { thunk, label, backend: "local".into(), duplicate: false });
        }
        assert_eq!(
            line(&tally, at(65)),
            "ggr 01:05 │ traced 2 ready 0 running 2 cached 0 done 0 │ gcc slow.o 64.0 s"
        );
    }
}
