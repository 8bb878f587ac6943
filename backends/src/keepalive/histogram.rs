//! Idle times of one key, counted.

use std::time::Duration;

/// How many bins: 240, as in the paper, where each is a minute.
pub const BINS: usize = 240;

/// Counts of idle times, in bins of one width; what is longer than all bins together is only counted.
#[derive(Clone, Debug)]
pub struct Histogram {
    width: Duration,
    counts: Box<[u32; BINS]>,
    /// Σ of the counts.
    within: u64,
    /// Σ of their squares.
    squares: u64,
    beyond: u64,
}

impl Histogram {
    /// An empty one with bins of this width, which is above zero.
    pub fn new(width: Duration) -> Self {
        assert!(!width.is_zero(), "a bin has a width");
        Self { width, counts: Box::new([0; BINS]), within: 0, squares: 0, beyond: 0 }
    }

    /// Counts one idle time.
    pub fn add(&mut self, idle: Duration) {
        let bin = usize::try_from(idle.as_nanos() / self.width.as_nanos()).unwrap_or(usize::MAX);
        let Some(count) = self.counts.get_mut(bin) else {
            self.beyond += 1;
            return;
        };
        self.within += 1;
        self.squares += 2 * u64::from(*count) + 1;
        *count += 1;
    }

    /// The width of a bin.
    pub fn width(&self) -> Duration {
        self.width
    }

    /// The longest idle time that falls into a bin.
    pub fn range(&self) -> Duration {
        self.width * BINS as u32
    }

    /// How many idle times were counted, those beyond the range too.
    pub fn seen(&self) -> u64 {
        self.within + self.beyond
    }

    /// Which share of them lay beyond the range, from 0 to 1.
    pub fn beyond(&self) -> f64 {
        if self.seen() == 0 { 0.0 } else { self.beyond as f64 / self.seen() as f64 }
    }

    /// The coefficient of variation of the counts, kept up by each [`add`](Self::add): O(1). High where few bins hold most:
    /// `sqrt(BINS - 1)` if one holds all, 0 if all are alike or there is nothing.
    pub fn variation(&self) -> f64 {
        if self.within == 0 {
            return 0.0;
        }
        let bins = BINS as f64;
        let mean = self.within as f64 / bins;
        (self.squares as f64 / bins - mean * mean).max(0.0).sqrt() / mean
    }

    /// The bin that holds this percentile of what lies within the range, as its two edges.
    pub fn percentile(&self, percent: u64) -> Option<(Duration, Duration)> {
        let wanted = (self.within * percent).div_ceil(100).max(1);
        let mut sum = 0;
        let bin = self.counts.iter().position(|count| {
            sum += u64::from(*count);
            sum >= wanted
        })?;
        let bin = u32::try_from(bin).expect("there are 240 bins");
        Some((self.width * bin, self.width * (bin + 1)))
    }
}
