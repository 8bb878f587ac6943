//! What is done about each kind of failure: one table.
//!
//! Only failures outside the program are here. A tool that exits 1 would do so again: it is put in doubt at once.

use std::time::Duration;

use ggr_ir::InfraFailure;

/// One thing to do about a failed attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Remedy {
    /// Into the ready queue again.
    AtOnce,
    /// Into the ready queue after the base doubled for each failed try, give or take half of it, and at least as long
    /// as the service asked for.
    Backoff {
        /// The first wait.
        base: Duration,
    },
    /// Bring the missing inputs back first.
    Heal,
    /// Never on this backend again; on another one, or else give up.
    OtherBackend,
}

/// A row: what to do, how many failed tries on one backend are the last, and what to do after that one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    pub(super) remedy: Remedy,
    pub(super) tries: u8,
    pub(super) then: Remedy,
}

/// No wait between tries is longer: AWS's own advice for exponential backoff with jitter caps it, too.
const LONGEST_WAIT: Duration = Duration::from_secs(20);

const fn rule(remedy: Remedy, tries: u8, then: Remedy) -> Rule {
    Rule { remedy, tries, then }
}

const fn backoff(millis: u64) -> Remedy {
    Remedy::Backoff { base: Duration::from_millis(millis) }
}

/// The table. A failure that would repeat itself (too big, too long) is not tried again in the same place.
pub(super) fn policy(failure: &InfraFailure) -> Rule {
    match failure {
        InfraFailure::Throttled { .. } => rule(backoff(200), 12, Remedy::OtherBackend),
        InfraFailure::Unreachable(_) => rule(backoff(100), 5, Remedy::OtherBackend),
        InfraFailure::InputsMissing(_) => rule(Remedy::Heal, 3, Remedy::OtherBackend),
        InfraFailure::OutputsNotStored(_) => rule(backoff(50), 3, Remedy::OtherBackend),
        InfraFailure::WorkerDied(_) => rule(Remedy::AtOnce, 3, Remedy::OtherBackend),
        InfraFailure::Sandbox(_) => rule(Remedy::AtOnce, 2, Remedy::OtherBackend),
        InfraFailure::DeadlinePassed => rule(Remedy::OtherBackend, 1, Remedy::OtherBackend),
        InfraFailure::TooBig(_) => rule(Remedy::OtherBackend, 1, Remedy::OtherBackend),
        InfraFailure::Closed(_) => rule(Remedy::OtherBackend, 1, Remedy::OtherBackend),
    }
}

/// How long to wait before the try after `tries` failed ones; `random` is uniform in 0..=u32::MAX.
pub(super) fn wait(base: Duration, tries: u8, asked: Duration, random: u32) -> Duration {
    let grown = base.saturating_mul(1 << tries.saturating_sub(1).min(16)).min(LONGEST_WAIT);
    let jitter = 0.5 + f64::from(random) / f64::from(u32::MAX);
    asked.max(grown.mul_f64(jitter))
}

/// What the service itself asked for.
pub(super) fn asked(failure: &InfraFailure) -> Duration {
    match failure {
        InfraFailure::Throttled { after } => *after,
        _ => Duration::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_cap_and_heed_the_service() {
        let base = Duration::from_millis(100);
        let check = |tries, asked, random, expected: u64| {
            assert_eq!(
                wait(base, tries, Duration::from_millis(asked), random).as_millis(),
                u128::from(expected)
            );
        };
        check(1, 0, 0, 50);
        check(1, 0, u32::MAX, 150);
        check(3, 0, 0, 200);
        check(200, 0, 0, 10_000);
        check(1, 4_000, 0, 4_000);
    }

    #[test]
    fn every_rule_ends() {
        let failures = [
            InfraFailure::Throttled { after: Duration::ZERO },
            InfraFailure::Unreachable(String::new()),
            InfraFailure::InputsMissing(Vec::new()),
            InfraFailure::OutputsNotStored(String::new()),
            InfraFailure::WorkerDied(String::new()),
            InfraFailure::DeadlinePassed,
            InfraFailure::TooBig(String::new()),
            InfraFailure::Sandbox(String::new()),
            InfraFailure::Closed(String::new()),
        ];
        for failure in failures {
            let rule = policy(&failure);
            assert!(rule.tries >= 1, "{failure}");
            assert_eq!(rule.then, Remedy::OtherBackend, "{failure}");
        }
    }
}
