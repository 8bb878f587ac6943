//! What an invocation costs.

use std::time::Duration;

use ggr_ir::protocol::lambda::Answer;

/// Prices in US dollars. The defaults are those of us-east-1, x86, in 2025 (aws.amazon.com/lambda/pricing, s3/pricing).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Price {
    /// For a GB of memory over one second.
    pub gb_second: f64,
    /// For one invocation.
    pub request: f64,
    /// For one object that is stored, and for a listing.
    pub put: f64,
    /// For one object that is fetched.
    pub get: f64,
    /// For a GB that leaves AWS. What functions and the bucket exchange in one region costs nothing.
    pub out_gb: f64,
}

impl Default for Price {
    fn default() -> Self {
        Self {
            gb_second: 0.000_016_666_7,
            request: 0.000_000_2,
            put: 0.000_005,
            get: 0.000_000_4,
            out_gb: 0.09,
        }
    }
}

impl Price {
    /// The cost of one invocation, in dollars. It counts from the call to the answer, which is a little more than what is
    /// billed; one without an answer may have run to its end, and is counted too.
    pub(super) fn of(&self, memory_mb: u32, took: Duration, answer: Option<&Answer>) -> f64 {
        let traffic = answer.map_or(0.0, |answer| {
            answer.traffic.fetched as f64 * self.get + answer.traffic.stored as f64 * self.put
        });
        self.compute(memory_mb, took) + self.request + traffic
    }

    /// What so much time in a function costs, in dollars.
    pub fn compute(&self, memory_mb: u32, took: Duration) -> f64 {
        f64::from(memory_mb) / 1024.0 * took.as_secs_f64() * self.gb_second
    }
}
