//! A trace through a pool, on a virtual clock.

use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use super::{Fixed, Hybrid, Mode, Pool, Settings, Start, Trace, Usage, Window, Windows};

/// Sums over a part of a trace.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
pub struct Half {
    /// Starts that found no place ready.
    pub cold: u64,
    /// All starts.
    pub calls: u64,
    /// Idle places times seconds.
    pub idle_seconds: f64,
}

impl Half {
    /// The share of starts that were cold, from 0 to 1.
    pub fn cold_rate(&self) -> f64 {
        if self.calls == 0 { 0.0 } else { self.cold as f64 / self.calls as f64 }
    }

    fn between(before: Usage, after: Usage) -> Self {
        let cold = after.cold - before.cold;
        Self {
            cold,
            calls: cold + after.warm - before.warm,
            idle_seconds: after.idle_seconds - before.idle_seconds,
        }
    }
}

/// What a policy did with a trace.
#[derive(Clone, Copy, Debug)]
pub struct Replayed {
    /// The first half of the time: what a policy learns from before it is judged.
    pub training: Half,
    /// The second half. (The policy goes on learning.)
    pub test: Half,
    /// The largest memory of idle places at any moment, in bytes.
    pub peak_bytes: u64,
}

/// Replays with a policy; places of so many bytes, under a bound.
pub fn replay(trace: &Trace, policy: impl Windows<String>, each: u64, bound: u64) -> Replayed {
    run(trace, policy, each, bound).0
}

fn run<P: Windows<String>>(trace: &Trace, policy: P, each: u64, bound: u64) -> (Replayed, P) {
    let mut pool = Pool::new(policy, each, bound);
    let mut running: BinaryHeap<Reverse<(Duration, &str)>> = BinaryHeap::new();
    let middle = match trace.calls() {
        [first, .., last] => first.start + (last.start - first.start) / 2,
        _ => Duration::ZERO,
    };
    let (mut trained, mut peak) = (None, 0);
    let end_until =
        |pool: &mut Pool<_, _>, running: &mut BinaryHeap<Reverse<(Duration, &str)>>, now, peak: &mut u64| {
            while let Some(Reverse((at, _))) = running.peek()
                && *at <= now
            {
                let Some(Reverse((at, key))) = running.pop() else { break };
                pool.end(&key.to_owned(), at);
                *peak = pool.idle_bytes().max(*peak);
            }
        };
    for call in trace.calls() {
        if trained.is_none() && call.start > middle {
            end_until(&mut pool, &mut running, middle, &mut peak);
            pool.advance(middle);
            trained = Some(pool.usage());
        }
        end_until(&mut pool, &mut running, call.start, &mut peak);
        let _: Start = pool.start(&call.key, call.start);
        // Loads made on the way are seen here at the latest.
        peak = pool.idle_bytes().max(peak);
        pool.actions();
        running.push(Reverse((call.start + call.duration, &call.key)));
    }
    // Windows that are open at the last arrival are cut there, for every policy alike.
    let (trained, all) = (trained.unwrap_or_default(), pool.usage());
    let replayed = Replayed {
        training: Half::between(Usage::default(), trained),
        test: Half::between(trained, all),
        peak_bytes: peak,
    };
    (replayed, pool.into_policy())
}

/// The hybrid policy beside fixed windows.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// Some fixed windows, ascending.
    pub fixed: Vec<(Duration, Replayed)>,
    /// The hybrid policy.
    pub hybrid: Replayed,
    /// The shortest fixed window (to a second) whose cold rate in the test half is at most the hybrid's, found with knowledge
    /// of that half: the best that a fixed window could do. None if no window up to two days is as good.
    pub equal: Option<(Duration, Replayed)>,
    /// How many keys ended with a histogram, with a forecast, and with the fallback.
    pub modes: [usize; 3],
    /// What one decision took (learning an idle time, or naming a window): the mean, in nanoseconds of the real clock.
    pub decision_ns: f64,
}

/// The fixed windows of the table.
const WINDOWS: [u64; 8] = [10, 60, 300, 600, 1200, 3600, 7200, 14400];

/// The longest fixed window that is tried, in seconds.
const LONGEST: u64 = 172_800;

/// Replays with all of them.
pub fn compare(trace: &Trace, settings: &Settings, each: u64, bound: u64) -> Comparison {
    let fixed = |seconds| {
        let window = Duration::from_secs(seconds);
        (window, replay(trace, Fixed(window), each, bound))
    };
    let timed =
        Timed { inner: Hybrid::new(settings.clone()), spent: Cell::default(), asked: Cell::default() };
    let (hybrid, timed) = run(trace, timed, each, bound);
    let good = |seconds: u64| fixed(seconds).1.test.cold <= hybrid.test.cold;
    // Below the bound a longer window is never colder; where the bound evicts, this is still some window that is as good.
    let equal = good(LONGEST).then(|| {
        let (mut bad, mut enough) = (0, LONGEST);
        while enough - bad > 1 {
            let middle = bad.midpoint(enough);
            if good(middle) { enough = middle } else { bad = middle }
        }
        fixed(enough)
    });
    let mut keys: Vec<_> = trace.calls().iter().map(|call| &call.key).collect();
    keys.sort_unstable();
    keys.dedup();
    let mut modes = [0; 3];
    for key in keys {
        modes[match timed.inner.mode(key) {
            Mode::Histogram(_) => 0,
            Mode::Forecast(_) => 1,
            Mode::Fallback => 2,
        }] += 1;
    }
    let decision_ns = timed.spent.get().as_nanos() as f64 / timed.asked.get().max(1) as f64;
    Comparison { fixed: WINDOWS.map(fixed).to_vec(), hybrid, equal, modes, decision_ns }
}

/// A policy with a stopwatch.
struct Timed<P> {
    inner: P,
    spent: Cell<Duration>,
    asked: Cell<u64>,
}

impl<P> Timed<P> {
    fn count(&self, begun: Instant) {
        self.spent.set(self.spent.get() + begun.elapsed());
        self.asked.set(self.asked.get() + 1);
    }
}

impl<K, P: Windows<K>> Windows<K> for Timed<P> {
    fn observe(&mut self, key: &K, idle: Duration) {
        let begun = Instant::now();
        self.inner.observe(key, idle);
        self.count(begun);
    }

    fn window(&self, key: &K) -> Window {
        let begun = Instant::now();
        let window = self.inner.window(key);
        self.count(begun);
        window
    }
}
