//! A bandwidth cap: when the next bytes may go.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// At most so many bytes a second in one direction, on average over the pieces that are sent.
#[derive(Debug)]
pub(crate) struct Pace {
    /// 0 for no cap.
    rate: u64,
    /// When what was let through so far has passed.
    free: Mutex<Option<Instant>>,
}

impl Pace {
    pub(crate) fn new(rate: u64) -> Self {
        Self { rate, free: Mutex::new(None) }
    }

    /// How long to wait before this many bytes may go; their turn is taken.
    pub(crate) fn take(&self, bytes: usize, now: Instant) -> Duration {
        if self.rate == 0 {
            return Duration::ZERO;
        }
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let start = free.map_or(now, |free| free.max(now));
        *free = Some(start + Duration::from_secs_f64(bytes as f64 / self.rate as f64));
        start.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_wait_for_those_before_them_and_idle_time_is_not_saved_up() {
        let (pace, start) = (Pace::new(1000), Instant::now());
        let wait = |at: u64, bytes| pace.take(bytes, start + Duration::from_millis(at)).as_millis();
        assert_eq!([wait(0, 500), wait(0, 500), wait(100, 100)], [0, 500, 900]);
        assert_eq!([wait(9000, 100), wait(9000, 1)], [0, 100]);
        assert_eq!(Pace::new(0).take(1 << 40, start), Duration::ZERO);
    }
}
