//! When to stop asking a bucket that does not answer.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::store::s3::{S3Error, Trouble};

/// So many passing failures in a row, each after the SDK's own retries, and nothing more is asked in this build.
const PATIENCE: u32 = 3;

/// Reading or writing, until it fails for good. What is lasting (no permission, expired credentials, nobody there) is
/// believed at once.
#[derive(Default)]
pub(super) struct Trip {
    failures: AtomicU32,
    why: OnceLock<S3Error>,
}

impl Trip {
    /// Why nothing more is asked, if that is so.
    pub(super) fn why(&self) -> Option<&S3Error> {
        self.why.get()
    }

    /// A request came through.
    pub(super) fn passed(&self) {
        self.failures.store(0, Ordering::Relaxed);
    }

    /// A request failed. Says whether this was the last one, once. An object that has gone is no failure of the bucket.
    pub(super) fn failed(&self, error: &S3Error) -> bool {
        if error.trouble == Trouble::Gone {
            return false;
        }
        let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        (error.trouble.is_lasting() || failures >= PATIENCE) && self.why.set(error.clone()).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lasts_is_believed_at_once_and_what_passes_the_third_time_in_a_row() {
        let error = |trouble| S3Error::of(trouble, "s3:GetObject");
        let trip = Trip::default();
        assert!(!trip.failed(&error(Trouble::Gone)));
        assert!(!trip.failed(&error(Trouble::Busy)) && !trip.failed(&error(Trouble::Cut)));
        trip.passed();
        assert!(!trip.failed(&error(Trouble::Busy)) && !trip.failed(&error(Trouble::Busy)));
        assert!(trip.failed(&error(Trouble::Busy)), "three in a row");
        assert!(!trip.failed(&error(Trouble::Busy)), "said once");
        let trip = Trip::default();
        assert!(trip.failed(&error(Trouble::Expired)));
        assert_eq!(trip.why().unwrap().trouble, Trouble::Expired);
    }
}
