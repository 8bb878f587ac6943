//! `ggr bench locality`: what it is worth to send a thunk to where its inputs are.

mod field;
mod project;
mod relay;

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Context;
use crate::config::ByteSize;
use crate::error::Error;
use crate::report::seconds;
use field::{Field, Moved};
use project::Project;

/// Build a generated program at several services, each behind a link of its own, once for each way to place thunks (needs root)
///
/// The coordinator and each service are in network namespaces of their own, with links of so many Mbit/s (tc's tbf) and a
/// relay that holds all bytes back for the delay, as many kernels have no netem. Before the clock starts, each service has
/// got the toolchain. A wait is from a thunk's turn at a service to its inputs being in its root.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// How many services
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(2..=8))]
    workers: u32,
    /// How many thunks each runs side by side
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=16))]
    worker_slots: u32,
    /// How many sources are compiled
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(2..=3000))]
    units: u32,
    /// How many sources share a header of their own, and an archive
    #[arg(long, default_value_t = 25, value_parser = clap::value_parser!(u32).range(1..=300))]
    module: u32,
    /// Size of a module's header, in KiB
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=4096))]
    header: u32,
    /// How long each link holds bytes back, in ms
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(0..=1000))]
    delay: u64,
    /// What each link carries, in Mbit/s
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rate: u32,
    /// Services start without the toolchain, and its way there counts
    #[arg(long)]
    cold: bool,
}

/// A way to place thunks, and what goes over the links.
struct Way {
    name: &'static str,
    placement: &'static str,
    packed: bool,
}

/// In the order of the table. The first is what the others are compared with: each transfer whole, to any service.
const WAYS: [Way; 4] = [
    Way { name: "random, not packed", placement: "random", packed: false },
    Way { name: "random", placement: "random", packed: true },
    Way { name: "sticky", placement: "sticky", packed: true },
    Way { name: "push", placement: "push", packed: true },
];

/// Waits that are shown one by one: a hundredth of the thunks.
const LONGEST: usize = 3;

/// What a thunk waited for its inputs.
struct Wait {
    label: String,
    all: Duration,
    /// Of that, until the service had what it lacked.
    moved: Duration,
}

impl Wait {
    /// Of the end of a thunk, as the log tells it.
    fn of(event: &Value) -> Option<Self> {
        let time = |field: &str| event[field].as_u64().map(Duration::from_micros);
        let label = event["label"].as_str().unwrap_or_default().to_owned();
        Some(Self { label, all: time("staged_us")?, moved: time("moved_us")? })
    }
}

/// What one way came to.
struct Row {
    way: &'static Way,
    took: Duration,
    moved: Moved,
    /// The shortest first.
    waits: Vec<Wait>,
    thunks: usize,
}

impl Row {
    /// Of the waits, by what of them counts.
    fn percentile(&self, of: usize, part: impl Fn(&Wait) -> Duration) -> Duration {
        let mut all: Vec<_> = self.waits.iter().map(part).collect();
        all.sort_unstable();
        all.get(all.len().saturating_sub(1) * of / 100).copied().unwrap_or_default()
    }

    fn wait(&self, of: usize) -> Duration {
        self.percentile(of, |wait| wait.all)
    }

    fn wait_for_bytes(&self, of: usize) -> Duration {
        self.percentile(of, |wait| wait.moved)
    }
}

/// Measures.
pub(crate) fn run(context: &Context, args: &Args) -> Result<ExitCode, Error> {
    let failed = |source| Error::Host { doing: "build at services in networks of their own".into(), source };
    let rows = measure(context, args).map_err(failed)?;
    if context.json.is_some() {
        context.print_json(&json!(rows.iter().map(as_json).collect::<Vec<_>>()))?;
    } else {
        context.print(&table(args, &rows))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn measure(context: &Context, args: &Args) -> io::Result<Vec<Row>> {
    if !rustix::process::geteuid().is_root() {
        return Err(io::Error::other("network namespaces and their links need root"));
    }
    // Not in `/tmp`, where files that no model names are not looked for; tenants with user ids of their own pass through it.
    let dir = tempfile::Builder::new().prefix("ggr-locality-").tempdir_in("/var/tmp")?;
    fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let project = Project::new(dir.path().join("tree"), args.units, args.module, args.header)?;
    let plain = project.plain()?;
    let mut rows = Vec::new();
    for (number, way) in WAYS.iter().enumerate() {
        context.note(&format!("{}: {} services, {} units", way.name, args.workers, args.units));
        let field = Field::new(&dir.path().join(number.to_string()), args)?;
        if !args.cold {
            field.warm(&project)?;
        }
        rows.push(build(&field, &project, way)?);
        project.check(&plain).map_err(|e| io::Error::other(format!("{}: {e}", way.name)))?;
    }
    Ok(rows)
}

fn build(field: &Field, project: &Project, way: &'static Way) -> io::Result<Row> {
    project.lay()?;
    let before = field.moved()?;
    let began = Instant::now();
    let log = field.build(project, way, "build")?;
    let took = began.elapsed();
    let moved = field.moved()?.since(before);
    let text = fs::read_to_string(log)?;
    let ended: Vec<Value> = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|event| event["event"] == "finished")
        .collect();
    let mut waits: Vec<_> = ended.iter().filter_map(Wait::of).collect();
    waits.sort_unstable_by_key(|wait| wait.all);
    Ok(Row { way, took, moved, waits, thunks: ended.len() })
}

fn as_json(row: &Row) -> Value {
    let longest = row.waits.iter().rev().take(LONGEST).map(|wait| {
        json!({
            "label": wait.label,
            "wait_us": wait.all.as_micros() as u64,
            "moved_us": wait.moved.as_micros() as u64,
        })
    });
    json!({
        "placement": row.way.placement,
        "packed": row.way.packed,
        "seconds": row.took.as_secs_f64(),
        "thunks": row.thunks,
        "bytes": row.moved.all(),
        "bytes_to_services": row.moved.sent,
        "bytes_home": row.moved.home,
        "bytes_between_services": row.moved.between(),
        "wait_p50_us": row.wait(50).as_micros() as u64,
        "wait_p99_us": row.wait(99).as_micros() as u64,
        "moved_p50_us": row.wait_for_bytes(50).as_micros() as u64,
        "moved_p99_us": row.wait_for_bytes(99).as_micros() as u64,
        "longest": longest.collect::<Vec<_>>(),
    })
}

fn table(args: &Args, rows: &[Row]) -> String {
    let mut text = format!(
        "{} services with {} slots each, {} units; links of {} Mbit/s (tbf), {} ms each way (relay){}\n",
        args.workers,
        args.worker_slots,
        args.units,
        args.rate,
        args.delay,
        if args.cold { "; toolchains included" } else { "" }
    );
    let _ = writeln!(
        text,
        "{:<18} {:>8} {:>10} {:>12} {:>10} {:>10} {:>6} {:>10} {:>10} {:>18}",
        "",
        "time",
        "bytes",
        "to services",
        "home",
        "between",
        "fewer",
        "wait p50",
        "wait p99",
        "for bytes alone"
    );
    let whole = rows.first().map_or(0, |row| row.moved.all());
    for row in rows {
        let ms = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1000.0);
        let _ = writeln!(
            text,
            "{:<18} {:>8} {:>10} {:>12} {:>10} {:>10} {:>6} {:>10} {:>10} {:>18}",
            row.way.name,
            seconds(row.took),
            ByteSize(row.moved.all()).to_string(),
            ByteSize(row.moved.sent).to_string(),
            ByteSize(row.moved.home).to_string(),
            ByteSize(row.moved.between()).to_string(),
            format!("{:.1} x", whole as f64 / row.moved.all().max(1) as f64),
            ms(row.wait(50)),
            ms(row.wait(99)),
            format!("{}, {}", ms(row.wait_for_bytes(50)), ms(row.wait_for_bytes(99))),
        );
    }
    text.push_str("\nThe longest waits, and what of them was for bytes:\n");
    for row in rows {
        let ms = |time: Duration| format!("{:.0}", time.as_secs_f64() * 1000.0);
        let shown = row.waits.iter().rev().take(LONGEST);
        let shown = shown.map(|wait| format!("{} {} ({}) ms", wait.label, ms(wait.all), ms(wait.moved)));
        let _ = writeln!(text, "{:<18} {}", row.way.name, shown.collect::<Vec<_>>().join("; "));
    }
    text
}
