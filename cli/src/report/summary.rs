//! The summary at the end: at most one screen, on standard error.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

use super::event::Event;
use super::reporter::{Sink, SinkError};
use super::tally::Tally;

/// How many reasons for running here are listed; the rest are counted together.
const REASONS: usize = 5;

/// How many thunks of the critical path are named.
const PATH: usize = 4;

/// Prints the summary when the build has ended.
#[derive(Default)]
pub(crate) struct Summary {
    tally: Tally,
}

impl Sink for Summary {
    fn take(&mut self, at: Duration, event: &Event) {
        self.tally.take(at, event);
    }

    fn end(&mut self) -> Result<(), SinkError> {
        let text = render(&self.tally);
        // Standard error may be closed; then there is nobody to tell.
        let _ = std::io::stderr().write_all(text.as_bytes());
        Ok(())
    }
}

/// The summary's text: empty if ggr had nothing to do.
pub(crate) fn render(tally: &Tally) -> String {
    let mut text = String::new();
    for note in &tally.notes {
        line(&mut text, note);
    }
    if tally.traced == 0 && tally.here.is_empty() && tally.captured + tally.repeated == 0 {
        return text;
    }
    line(&mut text, &counts(tally));
    if tally.captured + tally.repeated > 0 {
        let programs = plural(tally.captured + tally.repeated, "captured program");
        line(&mut text, &format!("{programs}: {} from the cache, {} ran", tally.repeated, tally.captured));
    }
    if let Some(shared) = &tally.shared {
        line(&mut text, shared);
    }
    line(&mut text, &times(tally));
    if let Some(overlap) = overlap(tally) {
        line(&mut text, &overlap);
    }
    for reason in reasons(tally) {
        line(&mut text, &reason);
    }
    text
}

fn line(text: &mut String, line: &str) {
    writeln!(text, "ggr: {line}").expect("writing to a string does not fail");
}

fn counts(tally: &Tally) -> String {
    let mut parts = vec![format!("{} from the cache", tally.hits), format!("{} ran", tally.ran)];
    let rest = tally.traced.saturating_sub(tally.done() + tally.failed + tally.doubted);
    for (count, what) in [
        (tally.failed, "failed"),
        (tally.doubted, "failed in the sandbox first"),
        (tally.retried, "retried"),
        (tally.duplicated, "run twice as stragglers"),
        (rest, "not made"),
    ] {
        if count > 0 {
            parts.push(format!("{count} {what}"));
        }
    }
    format!("{}: {}", plural(tally.traced, "thunk"), parts.join(", "))
}

fn times(tally: &Tally) -> String {
    let wall = tally.last;
    let mut text = format!("{} wall, {} work", seconds(wall), seconds(tally.work));
    if wall > Duration::ZERO && tally.work > Duration::ZERO {
        let ratio = tally.work.as_secs_f64() / wall.as_secs_f64();
        write!(text, " ({ratio:.1} side by side)").expect("writing to a string does not fail");
    }
    let (total, path) = tally.critical_path();
    if total > Duration::ZERO {
        let shown = path.iter().rev().take(PATH).rev().map(|label| &**label).collect::<Vec<_>>().join(" > ");
        let more = if path.len() > PATH { "… > " } else { "" };
        write!(text, ", critical path {}: {more}{shown}", seconds(total))
            .expect("writing to a string does not fail");
    }
    text
}

/// How far work and the build's command ran side by side.
fn overlap(tally: &Tally) -> Option<String> {
    let (before, ended) = (tally.calls_before?, tally.traced_at?);
    Some(format!(
        "first thunk started after {before} of {} calls; command {}, rest {}",
        tally.calls,
        seconds(ended.saturating_sub(tally.began)),
        seconds(tally.last.saturating_sub(ended))
    ))
}

/// The reasons, most frequent first.
fn reasons(tally: &Tally) -> Vec<String> {
    if tally.here.is_empty() {
        return Vec::new();
    }
    let mut sorted: Vec<_> = tally.here.iter().collect();
    sorted.sort_by_key(|(reason, count)| (std::cmp::Reverse(**count), *reason));
    let mut lines = vec![format!("{} ran here:", plural(tally.ran_here(), "call"))];
    lines.extend(sorted.iter().take(REASONS).map(|(reason, count)| format!("  {count:>5} × {reason}")));
    let rest: usize = sorted.iter().skip(REASONS).map(|(_, count)| **count).sum();
    if rest > 0 {
        lines.push(format!("  {rest:>5} × other reasons (`ggr why FILE` names each)"));
    }
    lines
}

fn plural(count: usize, word: &str) -> String {
    format!("{count} {word}{}", if count == 1 { "" } else { "s" })
}

/// A duration for people: `0.004 s`, `3.2 s`, `12m05s`.
pub(crate) fn seconds(duration: Duration) -> String {
    let s = duration.as_secs_f64();
    match s {
        _ if s < 0.0995 => format!("{s:.3} s"),
        _ if s < 99.95 => format!("{s:.1} s"),
        _ => format!("{}m{:02}s", duration.as_secs() / 60, duration.as_secs() % 60),
    }
}

#[cfg(test)]
mod tests {
    use ggr_ir::{ThunkId, Timings};

    use super::*;

    fn traced(n: u64, waits_for: &[u64], label: &str) -> Event {
        Event::Traced {
            thunk: ThunkId::synthetic(n),
            label: label.into(),
            waits_for: waits_for.iter().map(|n| ThunkId::synthetic(*n)).collect(),
            outputs: vec![],
            fused: None,
        }
    }

    fn finished(n: u64, label: &str, ran_ms: u64) -> Event {
        let timings = Timings { ran: Duration::from_millis(ran_ms), ..Timings::default() };
        Event::Finished { thunk: ThunkId::synthetic(n), worker: 0, label: label.into(), timings }
    }

    fn here(reason: &str) -> Event {
        Event::RanHere {
            label: "x".into(),
            reason: reason.into(),
            took: Duration::from_millis(100),
            outputs: vec![],
        }
    }

    fn check(events: &[Event], wall: Duration, expected: &str) {
        let mut tally = Tally::default();
        events.iter().for_each(|event| tally.take(wall, event));
        assert_eq!(render(&tally), expected);
    }

    #[test]
    fn a_build_that_did_nothing_says_nothing() {
        check(&[Event::BuildEnded { code: 0 }], Duration::from_secs(1), "");
    }

    #[test]
    fn thunks_times_and_reasons_are_summed() {
        let hit = Event::CacheHit { thunk: ThunkId::synthetic(2), label: "gcc b.o".into() };
        let events = [
            traced(1, &[], "gcc a.o"),
            traced(2, &[], "gcc b.o"),
            traced(3, &[1, 2], "gcc prog"),
            finished(1, "gcc a.o", 1500),
            hit,
            finished(3, "gcc prog", 300),
            here("no model for `bison`"),
            here("it only asks for information"),
            here("it only asks for information"),
        ];
        check(
            &events,
            Duration::from_secs(2),
            "ggr: 3 thunks: 1 from the cache, 2 ran\n\
             ggr: 2.0 s wall, 2.1 s work (1.1 side by side), critical path 1.8 s: gcc a.o > gcc prog\n\
             ggr: 3 calls ran here:\n\
             ggr:       2 × it only asks for information\n\
             ggr:       1 × no model for `bison`\n",
        );
    }

    #[test]
    fn the_overlap_of_command_and_thunks_is_shown() {
        let call = || {
            Event::Called(std::sync::Arc::new(super::super::Call {
                args: vec!["gcc".into()],
                dir: "/".into(),
            }))
        };
        let started = Event::Started {
            thunk: ThunkId::synthetic(1),
            label: "a".into(),
            backend: "local".into(),
            duplicate: false,
        };
        let mut tally = Tally::default();
        let events = [
            (1, Event::BuildStarted { command: vec![], slots: 1 }),
            (1, call()),
            (1, traced(1, &[], "a")),
            (1, started),
            (2, call()),
            (3, Event::CommandEnded),
            (8, finished(1, "a", 1)),
        ];
        events.iter().for_each(|(at, event)| tally.take(Duration::from_secs(*at), event));
        assert_eq!(
            overlap(&tally).as_deref(),
            Some("first thunk started after 1 of 2 calls; command 2.0 s, rest 5.0 s")
        );
    }

    #[test]
    fn durations_read_well() {
        let check = |ms: u64, expected: &str| assert_eq!(seconds(Duration::from_millis(ms)), expected);
        check(4, "0.004 s");
        check(99, "0.099 s");
        check(3_240, "3.2 s");
        check(725_000, "12m05s");
    }
}
