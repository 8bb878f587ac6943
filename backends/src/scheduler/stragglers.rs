//! When an attempt counts as a straggler: learned online for each kind of work.
//!
//! The rule is that of MapReduce's backup tasks (Dean and Ghemawat, 2004, §3.6) with a learned threshold: what is kept for each
//! kind is by how much attempts exceed what was expected of them. Where durations are remembered that is little, and a
//! straggler is found when it has taken a quarter longer; where nothing is known, it is the spread of the durations themselves.
//! The first of many that were started together are the quickest, and say nothing of the others: nothing is called late before
//! as many attempts of the kind have ended as still run (Spark waits for three quarters of a stage).
//!
//! While other work waits for the slots, a duplicate must save slots: it does if what is left to the straggler is twice what a new
//! attempt takes (Mantri, Ananthanarayanan et al., OSDI '10, §5.2), and an attempt that is late by some time is, by Lindy's rule,
//! likely to take as long again.

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
const SHORTEST: Duration = Duration::from_millis(500);

const KINDS: usize = 7;

#[derive(Debug)]
struct Samples {
    /// By how much attempts took longer than estimated.
    window: [u32; WINDOW],
    count: usize,
    /// Attempts in flight.
    running: usize,
    /// Enough have ended to judge the others.
    known: bool,
    p95: Ticks,
}

/// When an attempt is late. Both are counted from its start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Late {
    /// From here on a duplicate is worth an idle slot.
    pub(super) idle: Duration,
    /// From here on it is worth a slot that others wait for.
    pub(super) busy: Duration,
}

/// How far finished attempts exceeded their estimates, by kind.
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
        Self(std::array::from_fn(|_| Samples {
            window: [0; WINDOW],
            count: 0,
            running: 0,
            known: false,
            p95: Ticks(0),
        }))
    }
}

impl Stragglers {
    /// An attempt has been started.
    pub(super) fn started(&mut self, kind: Kind) {
        self.0[row(kind)].running += 1;
    }

    /// An attempt has ended, however.
    pub(super) fn ended(&mut self, kind: Kind) {
        self.0[row(kind)].running -= 1;
    }

    /// Learns from an attempt that reduced. True when this sample was the one that made the kind known.
    pub(super) fn learn(&mut self, kind: Kind, estimate: Ticks, took: Duration) -> bool {
        let samples = &mut self.0[row(kind)];
        samples.window[samples.count % WINDOW] = Ticks::of(took).0.saturating_sub(estimate.0);
        samples.count += 1;
        let becomes_known = !samples.known && samples.count >= ENOUGH.max(samples.running);
        samples.known |= becomes_known;
        if becomes_known || (samples.known && samples.count.is_multiple_of(EVERY)) {
            let mut sorted = samples.window;
            let sorted = &mut sorted[..samples.count.min(WINDOW)];
            sorted.sort_unstable();
            samples.p95 = Ticks(sorted[(sorted.len() * 95).div_ceil(100) - 1]);
        }
        becomes_known
    }

    /// When an attempt of this kind and estimate is late; nothing while that is not known.
    pub(super) fn late(&self, kind: Kind, estimate: Ticks) -> Option<Late> {
        let samples = &self.0[row(kind)];
        let (estimate, over) = (estimate.duration(), samples.p95.duration());
        let idle = ((estimate + over) * 5 / 4).max(SHORTEST);
        let busy = ((estimate + over) * 2).max(idle);
        samples.known.then_some(Late { idle, busy })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(stragglers: &Stragglers, kind: Kind, estimate: u64) -> Option<f64> {
        stragglers.late(kind, Ticks::of(Duration::from_secs(estimate))).map(|late| late.idle.as_secs_f64())
    }

    fn learn(stragglers: &mut Stragglers, estimate: u64, took: u64) -> bool {
        let estimate = Ticks::of(Duration::from_secs(estimate));
        stragglers.learn(Kind::Compile, estimate, Duration::from_secs(took))
    }

    #[test]
    fn lateness_is_known_after_ten_samples() {
        let mut stragglers = Stragglers::default();
        for i in 0..10 {
            assert_eq!(seconds(&stragglers, Kind::Compile, 2), None, "{i}");
            assert_eq!(learn(&mut stragglers, 2, 2), i == 9);
        }
        assert_eq!(seconds(&stragglers, Kind::Compile, 2), Some(2.5));
        assert_eq!(seconds(&stragglers, Kind::Link, 2), None);
    }

    #[test]
    fn the_first_of_many_that_run_say_nothing_of_the_others() {
        let mut stragglers = Stragglers::default();
        (0..40).for_each(|_| stragglers.started(Kind::Compile));
        for ended in 1..=20 {
            stragglers.ended(Kind::Compile);
            assert_eq!(learn(&mut stragglers, 2, 2), ended == 20, "{ended}");
            assert_eq!(seconds(&stragglers, Kind::Compile, 2).is_some(), ended == 20, "{ended}");
        }
        // Known is known, whatever is started then.
        (0..400).for_each(|_| stragglers.started(Kind::Compile));
        assert_eq!(seconds(&stragglers, Kind::Compile, 2), Some(2.5));
    }

    #[test]
    fn a_node_that_is_known_to_be_slow_gets_its_time() {
        let mut stragglers = Stragglers::default();
        for _ in 0..10 {
            learn(&mut stragglers, 1, 1);
        }
        assert_eq!(seconds(&stragglers, Kind::Compile, 0), Some(SHORTEST.as_secs_f64()));
        assert_eq!(seconds(&stragglers, Kind::Compile, 30), Some(37.5));
        let late = stragglers.late(Kind::Compile, Ticks::of(Duration::from_secs(30)));
        assert_eq!(late.map(|late| late.busy), Some(Duration::from_secs(60)));
    }

    #[test]
    fn where_estimates_are_poor_more_time_is_given() {
        let mut stragglers = Stragglers::default();
        for took in 0..20 {
            learn(&mut stragglers, 1, 1 + took / 2);
        }
        // The slowest of the first sixteen took seven seconds longer.
        assert_eq!(seconds(&stragglers, Kind::Compile, 2), Some((2.0 + 7.0) * 1.25));
    }

    #[test]
    fn one_outlier_in_a_hundred_does_not_move_the_percentile() {
        let mut stragglers = Stragglers::default();
        for i in 0..64 {
            learn(&mut stragglers, 3, if i == 30 { 1000 } else { 4 });
        }
        assert_eq!(seconds(&stragglers, Kind::Compile, 2), Some(3.75));
    }
}
