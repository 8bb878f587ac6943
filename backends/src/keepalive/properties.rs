use std::time::Duration;

use proptest::prelude::*;

use super::*;

/// What can happen to a pool.
#[derive(Clone, Debug)]
enum Step {
    Start(u8),
    End(u8),
    Expect(u8, usize, u64),
    Wait,
}

fn steps() -> impl Strategy<Value = Vec<(Step, u64)>> {
    let step = prop_oneof![
        4 => (0..4u8).prop_map(Step::Start),
        4 => (0..4u8).prop_map(Step::End),
        1 => (0..4u8, 0..9usize, 0..5000u64).prop_map(|(key, count, later)| Step::Expect(key, count, later)),
        1 => Just(Step::Wait),
    ];
    proptest::collection::vec((step, 0..3000u64), 0..300)
}

/// Carries out steps; checks after each what must always hold. Returns the ends that were taken.
fn run(policy: impl Windows<u8>, steps: &[(Step, u64)], each: u64, bound: u64) -> Result<(), TestCaseError> {
    let mut pool = Pool::new(policy, each, bound);
    let (mut now, mut busy) = (Duration::ZERO, [0i64; 4]);
    // What a caller that obeys the actions would hold idle.
    let mut held = [0i64; 4];
    let mut idle_before = 0.0;
    for (step, later) in steps {
        now += Duration::from_millis(*later);
        match *step {
            Step::Start(key) => {
                let warm = pool.start(&key, now) == Start::Warm;
                busy[usize::from(key)] += 1;
                held[usize::from(key)] -= i64::from(warm);
            }
            Step::End(key) if busy[usize::from(key)] > 0 => {
                busy[usize::from(key)] -= 1;
                held[usize::from(key)] += 1;
                pool.end(&key, now);
            }
            Step::Expect(key, count, later) => {
                pool.expect(&key, count, now + Duration::from_millis(later), now);
            }
            Step::End(_) | Step::Wait => pool.advance(now),
        }
        for action in pool.actions() {
            match action {
                Action::Load(key) => held[usize::from(key)] += 1,
                Action::Unload(key) => held[usize::from(key)] -= 1,
            }
        }
        prop_assert!(pool.idle_bytes() <= bound, "{} of {bound} bytes", pool.idle_bytes());
        for key in 0..4u8 {
            prop_assert_eq!(pool.ready(&key) as i64, held[usize::from(key)], "actions and state agree");
        }
        prop_assert!(pool.due().is_none_or(|due| due > now), "nothing that is due is left");
        let idle = pool.usage().idle_seconds;
        prop_assert!(idle + 1e-6 >= idle_before, "idle time does not run backwards");
        idle_before = idle;
    }
    // Everything has an end: when nobody comes any more, nothing is kept.
    while let Some(due) = pool.due() {
        pool.advance(due);
    }
    prop_assert_eq!(pool.idle_bytes(), 0);
    Ok(())
}

proptest! {
    #[test]
    fn idle_memory_is_bounded_and_everything_ends(steps in steps(), each in 1..5u64, bound in 0..20u64) {
        run(Hybrid::new(Settings { enough: 3, ..Settings::default() }), &steps, each, bound)?;
        run(Fixed(Duration::from_secs(2)), &steps, each, bound)?;
    }

    #[test]
    fn a_window_is_sane_for_any_series(idle in proptest::collection::vec(0..10_000_000u64, 0..200)) {
        let mut policy = Hybrid::new(Settings::default());
        for milliseconds in idle {
            policy.observe(&(), Duration::from_millis(milliseconds));
            let window = policy.window(&());
            prop_assert!(window.load_after <= window.keep_until, "{window:?}");
        }
    }

    #[test]
    fn percentiles_do_not_fall(idle in proptest::collection::vec(0..300u64, 1..200)) {
        let mut histogram = Histogram::new(Duration::from_secs(1));
        idle.iter().for_each(|seconds| histogram.add(Duration::from_secs(*seconds)));
        let edges: Vec<_> = (0..=100).map(|percent| histogram.percentile(percent)).collect();
        prop_assert!(edges.is_sorted());
        prop_assert_eq!(histogram.seen(), idle.len() as u64);
    }
}
