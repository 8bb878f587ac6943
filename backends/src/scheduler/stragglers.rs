//! When an attempt counts as a straggler: learned online for each kind of work.
//!
//! The rule is that of MapReduce's backup tasks (Dean and Ghemawat, 2004, §3.6) with a learned threshold: twice the 95th
//! percentile of the same kind, and not less than twice what this very node was expected to take.

use std::time::Duration;

use ggr_ir::Kind;

use super::node::Ticks;

/// How many of the latest durations are kept for each kind.
const WINDOW: usize = 64;

/// With fewer samples nothing is called a straggler.
const ENOUGH: usize = 10;

/// The percentile is computed again after so many samples: sorting 64 numbers each time would cost more than all the rest.
const EVERY: usize = 8;

/// Under this nothing is a straggler: starting a duplicate takes about as long in the slowest backend (a cold Lambda).
const SHORTEST: Duration = Duration::from_secs(1);

const KINDS: usize = 7;

#[derive(Debug)]
struct Samples {
    window: [u32; WINDOW],
    count: usize,
    p95: Ticks,
}

/// Durations of finished attempts, by kind.
#[derive(Debug)]
pub(super) struct Stragglers([Samples; KINDS]);

fn row(kind: Kind) -> usize {
    match kind {
        Kind::Preprocess => 0,
        Kind::Compile => 1,
        Kind::Assemble => 2,
        Kind::Archive => 3,
        Kind::Link => 4,
        Kind::Binutils => 5,
        Kind::Other => 6,
    }
}

impl Default for Stragglers {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Samples { window: [0; WINDOW], count: 0, p95: Ticks(0) }))
    }
}

impl Stragglers {
    /// Learns from an attempt that reduced. True when this sample was the one that made the kind known.
    pub(super) fn learn(&mut self, kind: Kind, took: Duration) -> bool {
        let samples = &mut self.0[row(kind)];
        samples.window[samples.count % WINDOW] = Ticks::of(took).0;
        samples.count += 1;
        if samples.count == ENOUGH || (samples.count > ENOUGH && samples.count.is_multiple_of(EVERY)) {
            let mut sorted = samples.window;
            let sorted = &mut sorted[..samples.count.min(WINDOW)];
            sorted.sort_unstable();
            samples.p95 = Ticks(sorted[(sorted.len() * 95).div_ceil(100) - 1]);
        }
        samples.count == ENOUGH
    }

    /// How long an attempt of this kind may run before it is a straggler; nothing while that is not known.
    pub(super) fn threshold(&self, kind: Kind, estimate: Ticks) -> Option<Duration> {
        let samples = &self.0[row(kind)];
        let usual = samples.p95.max(estimate).duration();
        (samples.count >= ENOUGH).then(|| (usual * 2).max(SHORTEST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threshold_is_known_after_ten_samples() {
        let mut stragglers = Stragglers::default();
        for i in 0..10 {
            assert_eq!(stragglers.threshold(Kind::Compile, Ticks(1)), None, "{i}");
            assert_eq!(stragglers.learn(Kind::Compile, Duration::from_secs(2)), i == 9);
        }
        assert_eq!(stragglers.threshold(Kind::Compile, Ticks(1)), Some(Duration::from_secs(4)));
        assert_eq!(stragglers.threshold(Kind::Link, Ticks(1)), None);
    }

    #[test]
    fn a_node_that_is_known_to_be_slow_gets_its_time() {
        let mut stragglers = Stragglers::default();
        for _ in 0..10 {
            let _ = stragglers.learn(Kind::Compile, Duration::from_millis(1));
        }
        assert_eq!(stragglers.threshold(Kind::Compile, Ticks(1)), Some(SHORTEST));
        let slow = Ticks::of(Duration::from_secs(30));
        assert_eq!(stragglers.threshold(Kind::Compile, slow), Some(Duration::from_secs(60)));
    }

    #[test]
    fn one_outlier_in_a_hundred_does_not_move_the_percentile() {
        let mut stragglers = Stragglers::default();
        for i in 0..64 {
            let _ = stragglers.learn(Kind::Link, Duration::from_secs(if i == 30 { 1000 } else { 3 }));
        }
        assert_eq!(stragglers.threshold(Kind::Link, Ticks(1)), Some(Duration::from_secs(6)));
    }
}
