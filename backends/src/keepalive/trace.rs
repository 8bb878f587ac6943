//! Arrivals, from a file or made up.

use std::fmt::Write as _;
use std::str::FromStr;
use std::time::Duration;

use crate::dice::Dice;

/// One use of a key.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Call {
    /// When it starts, since the start of the trace.
    pub start: Duration,
    /// What it needs warm.
    pub key: String,
    /// How long it runs.
    pub duration: Duration,
}

/// Calls, ordered by their start.
///
/// As text: a line `key start duration` each, times in seconds with a fraction; lines that begin with `#` and empty ones
/// are skipped; at most [`MAX_CALLS`](Self::MAX_CALLS) lines.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Trace {
    calls: Vec<Call>,
}

/// A line that is no call.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct BadTrace {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong.
    pub what: &'static str,
}

impl Trace {
    /// The bound on a file's calls.
    pub const MAX_CALLS: usize = 10_000_000;

    /// Sorts them.
    pub fn new(mut calls: Vec<Call>) -> Self {
        calls.sort_unstable();
        Self { calls }
    }

    /// In order.
    pub fn calls(&self) -> &[Call] {
        &self.calls
    }

    /// Timers: each of `keys` keys is used every `period` (key n every `period * (1 + n % 4)`), for a second, give or take a
    /// share `jitter` of the period; for `length` in all.
    pub fn periodic(keys: u32, period: Duration, jitter: f64, length: Duration, seed: u64) -> Self {
        let mut dice = Dice(seed);
        let mut calls = Vec::new();
        for key in 0..keys {
            let period = period * (1 + key % 4);
            let mut at = period.mul_f64(dice.unit());
            while at < length {
                let late = period.mul_f64(jitter * dice.unit());
                calls.push(Call { start: at + late, key: format!("timer-{key}"), duration: SECOND });
                at += period;
            }
        }
        Self::new(calls)
    }

    /// Builds: each of `keys` keys (a project's toolchain) has sessions, with a pause of heavy-tailed length between them (median
    /// an hour), of 1 to 12 builds some minutes apart, each a burst of 5 to 200 calls of 0.05 to 2 s on 8 places.
    pub fn bursty(keys: u32, length: Duration, seed: u64) -> Self {
        let mut dice = Dice(seed);
        let mut calls = Vec::new();
        for key in 0..keys {
            let mut at = Duration::from_secs(3600).mul_f64(dice.unit());
            while at < length {
                for _ in 0..=dice.below(12) {
                    at = burst(&mut dice, &mut calls, key, at);
                    // Edit, then build: exponential, 3 minutes on average.
                    at += Duration::from_secs(180).mul_f64(-dice.unit().ln());
                }
                // Pareto with exponent 1: the next session is in an hour, or tomorrow.
                at += Duration::from_secs(1800).mul_f64((1.0 / dice.unit()).min(100.0));
            }
        }
        calls.retain(|call| call.start < length);
        Self::new(calls)
    }
}

const SECOND: Duration = Duration::from_secs(1);

fn burst(dice: &mut Dice, calls: &mut Vec<Call>, key: u32, begins: Duration) -> Duration {
    let mut places = [begins; 8];
    for _ in 0..5 + dice.below(196) {
        let duration = Duration::from_millis(50 + dice.below(1951));
        let place = places.iter_mut().min().expect("there are 8");
        calls.push(Call { start: *place, key: format!("project-{key}"), duration });
        // make needs a moment between two calls.
        *place += duration + Duration::from_millis(1 + dice.below(20));
    }
    places.into_iter().max().expect("there are 8")
}

impl FromStr for Trace {
    type Err = BadTrace;

    fn from_str(text: &str) -> Result<Self, BadTrace> {
        let mut calls = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let bad = |what| BadTrace { line: at + 1, what };
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            if calls.len() == Self::MAX_CALLS {
                return Err(bad("more calls than are taken"));
            }
            let fields: Vec<_> = line.split_whitespace().collect();
            let [key, start, duration] = fields[..] else {
                return Err(bad("not `key start duration`"));
            };
            // A century is beyond every trace, and far from overflow.
            let time = |text: &str| {
                let seconds = text.parse().ok().filter(|seconds| (0.0..3.2e9).contains(seconds))?;
                Some(Duration::from_secs_f64(seconds))
            };
            let start = time(start).ok_or(bad("the start is not a number of seconds"))?;
            let duration = time(duration).ok_or(bad("the duration is not a number of seconds"))?;
            calls.push(Call { start, key: key.to_owned(), duration });
        }
        Ok(Self::new(calls))
    }
}

impl std::fmt::Display for Trace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = String::new();
        for Call { start, key, duration } in &self.calls {
            let _ = writeln!(text, "{key} {:.9} {:.9}", start.as_secs_f64(), duration.as_secs_f64());
        }
        f.write_str(&text)
    }
}
