use std::time::Duration;

use super::*;

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const KEY: &str = "gcc-12";

fn learnt(idle: impl IntoIterator<Item = u64>) -> Hybrid<String> {
    let mut policy = Hybrid::new(Settings::default());
    for seconds in idle {
        policy.observe(&KEY.to_owned(), secs(seconds));
    }
    policy
}

fn pool(policy: impl Windows<String>, bound: u64) -> Pool<String, impl Windows<String>> {
    Pool::new(policy, 1, bound)
}

/// One use that starts and ends at these times.
fn used(pool: &mut Pool<String, impl Windows<String>>, start: u64, end: u64) -> Start {
    let started = pool.start(&KEY.to_owned(), secs(start));
    pool.end(&KEY.to_owned(), secs(end));
    started
}

#[test]
fn variation_is_that_of_the_formula_over_all_bins() {
    let mut histogram = Histogram::new(secs(1));
    let idle = [3, 3, 3, 4, 9, 9, 200, 239, 239];
    idle.iter().for_each(|seconds| histogram.add(secs(*seconds)));
    let mut counts = [0.0; BINS];
    idle.iter().for_each(|seconds| counts[*seconds as usize] += 1.0);
    let mean = counts.iter().sum::<f64>() / BINS as f64;
    let variance = counts.iter().map(|count| (count - mean).powi(2)).sum::<f64>() / BINS as f64;
    assert!((histogram.variation() - variance.sqrt() / mean).abs() < 1e-9);
}

#[test]
fn a_timer_is_unloaded_at_once_and_loaded_before_its_next_use() {
    let policy = learnt([1800; 20]);
    let window = policy.window(&KEY.to_owned());
    assert_eq!(policy.mode(&KEY.to_owned()), Mode::Histogram(secs(60)));
    assert_eq!(window.load_after, secs(1620));
    assert_eq!(window.keep_until, secs(1860).mul_f64(1.1));

    let mut pool = pool(policy, 4);
    used(&mut pool, 0, 1);
    assert_eq!(pool.ready(&KEY.to_owned()), 0);
    pool.advance(secs(1700));
    assert_eq!(pool.ready(&KEY.to_owned()), 1);
    assert_eq!(used(&mut pool, 1801, 1802), Start::Warm);
    assert!((pool.usage().idle_seconds - 180.0).abs() < 1.5, "{:?}", pool.usage());
}

#[test]
fn a_cold_start_takes_the_place_of_one_that_was_to_be_loaded() {
    let mut pool = pool(learnt([1800; 20]), 4);
    used(&mut pool, 0, 1);
    // Early: nothing is loaded yet.
    assert_eq!(used(&mut pool, 900, 901), Start::Cold);
    pool.advance(secs(1700));
    assert_eq!(pool.ready(&KEY.to_owned()), 0, "the load of the first place is off");
    pool.advance(secs(2600));
    assert_eq!(pool.ready(&KEY.to_owned()), 1, "that of the second is not");
}

#[test]
fn the_narrowest_histogram_that_fits_decides() {
    assert_eq!(learnt([2; 20]).mode(&KEY.to_owned()), Mode::Histogram(Duration::from_millis(250)));
    assert_eq!(learnt([300; 20]).mode(&KEY.to_owned()), Mode::Histogram(secs(5)));
}

#[test]
fn little_knowledge_and_even_spread_give_the_fallback() {
    let fallback = Window { load_after: Duration::ZERO, keep_until: Settings::default().fallback };
    for policy in [learnt([]), learnt([1800; 9]), learnt((0..240).map(|minute| minute * 60))] {
        assert_eq!(policy.mode(&KEY.to_owned()), Mode::Fallback);
        assert_eq!(policy.window(&KEY.to_owned()), fallback);
    }
}

#[test]
fn idle_times_beyond_the_range_are_forecast() {
    let policy = learnt([20_000, 20_000, 20_000, 20_000]);
    let Mode::Forecast(next) = policy.mode(&KEY.to_owned()) else { panic!("no forecast") };
    assert_eq!(next, secs(20_000));
    assert_eq!(policy.window(&KEY.to_owned()).load_after, secs(17_000));
}

#[test]
fn a_place_is_kept_for_the_window_and_no_longer() {
    let mut pool = pool(Fixed(secs(60)), 4);
    assert_eq!(used(&mut pool, 0, 1), Start::Cold);
    assert_eq!(used(&mut pool, 60, 61), Start::Warm);
    assert_eq!(pool.due(), Some(secs(121)));
    assert_eq!(used(&mut pool, 122, 123), Start::Cold);
}

#[test]
fn the_least_recently_used_makes_room() {
    let mut pool = pool(Fixed(secs(600)), 2);
    for (at, key) in ["a", "b", "c"].into_iter().enumerate() {
        pool.start(&key.to_owned(), secs(at as u64));
        pool.end(&key.to_owned(), secs(at as u64));
    }
    assert_eq!(["a", "b", "c"].map(|key| pool.ready(&key.to_owned())), [0, 1, 1]);
    assert_eq!(pool.usage().evicted, 1);
}

#[test]
fn what_the_graph_expects_is_ready_whatever_the_policy_says() {
    let mut pool = pool(Fixed(Duration::ZERO), 8);
    pool.expect(&KEY.to_owned(), 3, secs(100), secs(0));
    assert_eq!(pool.actions(), vec![Action::Load(KEY.to_owned()); 3]);
    for _ in 0..3 {
        assert_eq!(pool.start(&KEY.to_owned(), secs(1)), Start::Warm);
    }
    pool.end(&KEY.to_owned(), secs(2));
    assert_eq!(pool.ready(&KEY.to_owned()), 1, "the build wants it again");
    pool.expect(&KEY.to_owned(), 0, secs(2), secs(2));
    pool.end(&KEY.to_owned(), secs(3));
    assert_eq!(pool.ready(&KEY.to_owned()), 1, "the policy keeps none of its own accord");
    pool.advance(secs(101));
    assert_eq!(pool.idle_bytes(), 0);
}

#[test]
fn a_place_larger_than_the_bound_is_never_kept() {
    let mut pool: Pool<String, _> = Pool::new(Fixed(secs(60)), 5, 4);
    pool.expect(&KEY.to_owned(), 3, secs(100), secs(0));
    assert_eq!(used(&mut pool, 0, 1), Start::Cold);
    assert_eq!(pool.idle_bytes(), 0);
}

#[test]
fn a_trace_is_read_back_as_it_was_written() {
    let trace = Trace::bursty(3, secs(20_000), 1);
    assert!(trace.calls().len() > 100);
    // Not `assert_eq`: it would print thousands of calls.
    assert!(trace.to_string().parse::<Trace>().expect("it is a trace") == trace);
}

#[test]
fn a_line_that_is_no_call_is_named() {
    for (text, line) in
        [("a 1 2\nb 1", 2), ("a x 1", 1), ("# a\n\na 1 -1", 3), ("a 1 inf", 1), ("a 1e99 1", 1)]
    {
        assert_eq!(text.parse::<Trace>().expect_err("it is bad").line, line, "{text}");
    }
}

#[test]
fn on_timers_the_hybrid_policy_idles_less_than_any_fixed_window_as_good() {
    let trace = Trace::periodic(20, secs(1500), 0.02, secs(400_000), 7);
    let compared = compare(&trace, &Settings::default(), 1, 1000);
    let (_, equal) = compared.equal.expect("a long window is as good");
    assert!(equal.test.cold <= compared.hybrid.test.cold);
    assert!(compared.hybrid.test.idle_seconds * 2.0 < equal.test.idle_seconds, "{compared:?}");
}
