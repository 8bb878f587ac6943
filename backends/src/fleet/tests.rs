use std::time::Duration;

use ggr_ir::Kind;
use proptest::prelude::*;

use super::*;

fn task(us: u64, deps: &[u32]) -> Task {
    Task { label: String::new(), kind: Kind::Compile, us, deps: deps.to_vec() }
}

fn graph(tasks: &[(u64, &[u32])]) -> Graph {
    Graph::new(tasks.iter().map(|(us, deps)| task(*us, deps)).collect()).expect("it is in order")
}

const DIAMOND: [(u64, &[u32]); 4] =
    [(1_000_000, &[]), (2_000_000, &[0]), (5_000_000, &[0]), (500_000, &[1, 2])];

#[test]
fn bounds_are_the_work_shared_or_the_longest_chain() {
    let diamond = graph(&DIAMOND);
    assert_eq!(diamond.work(), Duration::from_millis(8500));
    assert_eq!(diamond.critical_path(), Duration::from_millis(6500));
    assert_eq!(diamond.bound(1), Duration::from_millis(8500));
    assert_eq!(diamond.bound(100), Duration::from_millis(6500));
    assert_eq!(diamond.strict_bound(100, |_| Duration::ZERO), Duration::from_millis(6500));
    assert_eq!(diamond.strict_bound(1, |_| Duration::from_millis(100)), Duration::from_millis(8900));
    // Twenty seconds on two workers, and then a chain of ten: no schedule is shorter than twenty.
    let mut tasks: Vec<Task> = (0..20).map(|_| task(1_000_000, &[])).collect();
    tasks.push(task(10_000_000, &(0..20).collect::<Vec<_>>()));
    let narrow = Graph::new(tasks).expect("it is in order");
    assert_eq!(narrow.bound(2), Duration::from_secs(15));
    assert_eq!(narrow.strict_bound(2, |_| Duration::ZERO), Duration::from_secs(20));
    assert!((diamond.share_above(Duration::from_secs(2)) - 7.0 / 8.5).abs() < 1e-9);
}

#[test]
fn an_ideal_cloud_reaches_the_bound_of_a_chain_and_of_one_worker() {
    let diamond = graph(&DIAMOND);
    for workers in [1, 2, 100] {
        let ran = simulate(&diamond, &Cloud::ideal(), workers, 1);
        assert_eq!(ran.makespan, diamond.bound(workers), "{workers} workers");
        assert_eq!((ran.attempts, ran.duplicates, ran.throttled), (4, 0, 0));
    }
}

#[test]
fn what_is_short_shares_an_invocation_and_goes_behind_what_it_waits_for() {
    let times = |millis| Spread::new(millis, 0.0);
    let cloud =
        Cloud { together: true, cold: times(500), fetch: times(20), store: times(15), ..Cloud::ideal() };
    // The third is too long for the chain: it has an invocation of its own, in an environment that is warm.
    let chain = graph(&[(300_000, &[]), (100_000, &[0]), (200_000, &[1])]);
    let ran = simulate(&chain, &cloud, 8, 1);
    assert_eq!((ran.invocations, ran.attempts, ran.chained, ran.cold), (2, 2, 1, 1));
    assert_eq!(ran.makespan, Duration::from_millis(500 + 35 + 300 + 100 + 15 + 35 + 200));
    assert_eq!(chain.floor(&cloud, 8), Duration::from_millis(500 + 35 + 300 + 100 + 15 + 200 + 15));
    let ran = simulate(&chain, &Cloud { together: false, ..cloud.clone() }, 8, 1);
    assert_eq!((ran.invocations, ran.chained), (3, 0));
    // Twelve of ten milliseconds fill an invocation, and four are left over; 2 ms is the wait for company.
    let short = Graph::new((0..16).map(|_| task(10_000, &[])).collect()).expect("nothing waits");
    let ran = simulate(&short, &cloud, 64, 1);
    assert_eq!((ran.invocations, ran.attempts, ran.cold), (2, 16, 2));
    assert_eq!(ran.makespan, Duration::from_millis(2 + 500 + 12 * (35 + 10)));
}

#[test]
fn the_ramp_lets_environments_in_by_the_period() {
    // 30 thunks of a minute, 10 new environments each 10 s: the last third starts after 20 s.
    let wide = Graph::new((0..30).map(|_| task(60_000_000, &[])).collect()).expect("nothing waits");
    let cloud = Cloud { functions: 1, ramp: 10, ..Cloud::ideal() };
    let ran = simulate(&wide, &cloud, 30, 1);
    assert!(ran.makespan >= Duration::from_secs(80), "{ran:?}");
    assert!(ran.throttled > 0);
    assert_eq!((ran.cold, ran.here), (30, 0), "nothing is given up while it is only throttled");
    let enough = simulate(&wide, &Cloud { functions: 3, ..cloud }, 30, 1);
    assert_eq!(enough.makespan, Duration::from_secs(60));
}

#[test]
fn a_straggler_is_overtaken_by_its_duplicate() {
    let mut tasks: Vec<Task> = (0..200).map(|_| task(2_000_000, &[])).collect();
    tasks.push(task(1_000_000, &(0..200).collect::<Vec<_>>()));
    let wide = Graph::new(tasks).expect("it is in order");
    let cloud = Cloud { stragglers: 0.05, slower: [20.0, 20.0], ..Cloud::ideal() };
    let (mut duplicates, mut slowest) = (0, Duration::ZERO);
    for seed in 0..20 {
        let ran = simulate(&wide, &cloud, 300, seed);
        duplicates += ran.duplicates;
        slowest = slowest.max(ran.makespan);
    }
    assert!(duplicates > 100, "{duplicates}");
    // A duplicate of a duplicate is not made: two stragglers at one thunk are bad luck, one in four hundred.
    assert!(slowest < Duration::from_secs(80), "{slowest:?}");
}

#[test]
fn a_graph_is_read_back_and_a_bad_one_is_refused_by_name() {
    let diamond = graph(&DIAMOND);
    let json = diamond.to_json().to_string();
    assert_eq!(Graph::read(json.as_bytes()).expect("it was written"), diamond);
    let packed = zstd::encode_all(json.as_bytes(), 3).expect("memory can be packed");
    assert_eq!(Graph::read(&packed).expect("it was written"), diamond);

    let newer = json.replace("\"ggr_graph\":1", "\"ggr_graph\":2");
    assert!(matches!(Graph::read(newer.as_bytes()), Err(BadGraph::Version(2))));
    assert!(matches!(Graph::read(b"{}"), Err(BadGraph::Json(_))));
    assert!(matches!(Graph::read(&packed[..20]), Err(BadGraph::Packed(_))));
    let order = Graph::new(vec![task(1, &[]), task(1, &[1])]);
    assert!(matches!(order, Err(BadGraph::Order { task: 1, dep: 1 })));
}

#[test]
fn recorded_and_generated_graphs_are_what_they_claim() {
    let chromium = Graph::chromium(1);
    assert_eq!(chromium.tasks().len(), 90_000);
    let hours = chromium.work().as_secs_f64() / 3600.0;
    assert!((15.0..20.0).contains(&hours), "{hours}");
    assert!(chromium.share_above(Duration::from_millis(100)) > 0.98);
    for (name, recorded) in [("git", Graph::git()), ("redis", Graph::redis())] {
        assert!(recorded.tasks().len() > 100, "{name}");
        assert!(
            recorded.tasks().iter().any(|task| task.kind == Kind::Link && !task.deps.is_empty()),
            "{name}"
        );
    }
}

/// Tasks that wait for some of the eight before them.
fn graphs() -> impl Strategy<Value = Graph> {
    let task = (1..3_000_000u64, prop::collection::vec(1..9u32, 0..4));
    prop::collection::vec(task, 1..60).prop_map(|tasks| {
        let tasks = (0u32..).zip(tasks).map(|(at, (us, back))| {
            let deps = back.iter().filter_map(|back| at.checked_sub(*back)).collect();
            Task { label: String::new(), kind: Kind::Compile, us, deps }
        });
        Graph::new(tasks.collect()).expect("it is in order")
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    /// Graham's bound (1969): no list schedule takes longer than the work shared and the longest chain together.
    #[test]
    fn an_ideal_cloud_keeps_within_grahams_bound(graph in graphs(), workers in 1..20u32) {
        let ran = simulate(&graph, &Cloud::ideal(), workers, 1);
        prop_assert!(ran.makespan >= graph.strict_bound(workers, |_| Duration::ZERO));
        prop_assert!(ran.makespan <= graph.work() / workers + graph.critical_path() + Duration::from_micros(1));
    }

    #[test]
    fn every_build_ends_above_its_bound_and_the_same_seed_gives_the_same(
        graph in graphs(), workers in 1..20u32, seed in any::<u64>(), ramp in 1..30u32,
    ) {
        let cloud = Cloud { ramp, stragglers: 0.3, traced_per_second: 100.0, ..Cloud::default() };
        let ran = simulate(&graph, &cloud, workers, seed);
        prop_assert!(ran.makespan >= graph.bound(workers));
        prop_assert_eq!(simulate(&graph, &cloud, workers, seed), ran);
    }
}
