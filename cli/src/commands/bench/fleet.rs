//! `ggr bench fleet`: the scheduler over a simulated cloud, on a virtual clock.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use ggr_backends::fleet::{BadGraph, Cloud, Graph, Ran, Task, simulate};
use ggr_ir::Kind;
use serde::Deserialize;
use serde_json::json;

use crate::commands::Context;
use crate::error::Error;
use crate::report::seconds;

/// Run a build's graph on a simulated fleet of functions: makespan against the lower bound
///
/// The real scheduler decides; the cloud (cold starts, Lambda's ramp, transfers, stragglers) and the clock are made up. A graph is
/// `git`, `redis` (recorded), `chromium` (generated, 90,000 thunks), a file that `--print` wrote, or the log of a build that
/// ran everything, `ggr --json=FILE make`. The bound is max(work / workers, critical path); `worst` is the largest ratio of
/// any seed. `floor` is what this cloud leaves of the bound: the first attempt of each worker starts cold, each thunk has its
/// transfers (the means of both; none fetches that might run behind what it waits for), and what has a chain behind it must be
/// done before that; `to floor` is the ratio to it. Short thunks share invocations and follow each other as on Lambda.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The graph; may be a list
    #[arg(long, value_delimiter = ',', default_value = "git,redis,chromium")]
    graph: Vec<PathBuf>,
    /// How many attempts run side by side; may be a list
    #[arg(long, value_delimiter = ',', default_value = "8,64,512,1000,2000,4000,8000",
        value_parser = clap::value_parser!(u32).range(1..=100_000))]
    workers: Vec<u32>,
    /// Where chance starts from; may be a list: the table then has the medians
    #[arg(long, value_delimiter = ',', default_value = "1,2,3,4,5")]
    seed: Vec<u64>,
    /// How many functions the attempts go to in turn [default: one for each 1,000 workers]
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    functions: u32,
    /// How many thunks a second make calls for [default: all are known at the start]
    #[arg(long)]
    traced: Option<f64>,
    /// Each thunk in an invocation of its own, without company or chain
    #[arg(long)]
    alone: bool,
    /// No attempt straggles
    #[arg(long)]
    calm: bool,
    /// Print the graph instead of running it
    #[arg(long)]
    print: bool,
}

/// What the seeds came to on so many workers.
struct Row {
    workers: u32,
    bound: Duration,
    /// What can be hoped for in this cloud.
    floor: Duration,
    /// By makespan.
    runs: Vec<Ran>,
    work: Duration,
}

/// Simulates.
pub(crate) fn run(context: &Context, args: &Args) -> Result<ExitCode, Error> {
    let mut cloud = Cloud { functions: args.functions, together: !args.alone, ..Cloud::default() };
    if args.calm {
        cloud.stragglers = 0.0;
    }
    if let Some(rate) = args.traced {
        if rate.is_nan() || rate <= 0.0 {
            return Err(Error::Usage {
                message: format!("`--traced {rate}`: a build that traces nothing does not end"),
                hint: "give a number above 0, as 3000".to_owned(),
            });
        }
        cloud.traced_per_second = rate;
    }
    let mut tables = Vec::new();
    for name in &args.graph {
        let graph = named(name)?;
        if args.print {
            context.print_json(&graph.to_json())?;
            continue;
        }
        let rows: Vec<Row> = args.workers.iter().map(|w| row(&graph, &cloud, *w, &args.seed)).collect();
        if context.json.is_none() {
            context.print(&table(name, &graph, &rows))?;
        }
        tables.push(as_json(name, &graph, &rows));
    }
    if context.json.is_some() && !args.print {
        context.print_json(&json!(tables))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn named(name: &Path) -> Result<Graph, Error> {
    match name.to_str() {
        Some("git") => Ok(Graph::git()),
        Some("redis") => Ok(Graph::redis()),
        Some("chromium") => Ok(Graph::chromium(1)),
        _ => read(name),
    }
}

fn read(path: &Path) -> Result<Graph, Error> {
    let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
    let graph = match std::str::from_utf8(&bytes) {
        Ok(text) if text.contains("\"event\":") => recorded(text),
        _ => Graph::read(&bytes),
    };
    let bad = |bad: BadGraph| {
        Error::Usage {
        message: format!("`{}` is no graph: {bad}", path.display()),
        hint: "a graph is `git`, `redis`, `chromium`, what `--print` wrote, or the log of `ggr --json=FILE make`"
            .to_owned(),
    }
    };
    graph.map_err(bad)
}

/// A line of ggr's log, as far as it matters here.
#[derive(Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Logged {
    Traced {
        thunk: String,
        label: String,
        #[serde(default)]
        waits_for: Vec<String>,
        #[serde(default)]
        outputs: Vec<PathBuf>,
    },
    Finished {
        thunk: String,
        cpu_us: u64,
    },
    #[serde(other)]
    Other,
}

/// The thunks of a log that a backend ran. Their time is that of the processor: the wall clock would show what else the
/// machine did. Without the probes of a `configure`: each waits for the one before, and the log does not say so.
fn recorded(text: &str) -> Result<Graph, BadGraph> {
    let lines: Vec<Logged> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let took: HashMap<&str, u64> = lines
        .iter()
        .filter_map(|line| match line {
            Logged::Finished { thunk, cpu_us } => Some((thunk.as_str(), *cpu_us)),
            _ => None,
        })
        .collect();
    let mut places = HashMap::new();
    let mut tasks = Vec::new();
    for line in &lines {
        let Logged::Traced { thunk, label, waits_for, outputs } = line else { continue };
        let probe = outputs.iter().any(|file| file.file_stem().is_some_and(|stem| stem == "conftest"));
        let (Some(us), false) = (took.get(thunk.as_str()), probe || places.contains_key(thunk.as_str()))
        else {
            continue;
        };
        let deps = waits_for.iter().filter_map(|id| places.get(id.as_str()).copied()).collect();
        places.insert(thunk.as_str(), tasks.len() as u32);
        tasks.push(Task { label: label.clone(), kind: kind(label, outputs), us: *us, deps });
    }
    Graph::new(tasks)
}

/// The kind of work, by the tool's name and what it wrote: the log does not say.
fn kind(label: &str, outputs: &[PathBuf]) -> Kind {
    let tool = label.split(' ').next().unwrap_or_default();
    let wrote = |extension: &str| outputs.iter().any(|file| file.extension().is_some_and(|e| e == extension));
    match tool.rsplit('-').next().unwrap_or_default() {
        "ar" | "ranlib" => Kind::Archive,
        "as" => Kind::Assemble,
        "strip" | "objcopy" => Kind::Binutils,
        "cpp" => Kind::Preprocess,
        _ if wrote("i") || wrote("ii") => Kind::Preprocess,
        _ if wrote("o") || wrote("lo") || wrote("s") => Kind::Compile,
        _ => Kind::Link,
    }
}

fn row(graph: &Graph, cloud: &Cloud, workers: u32, seeds: &[u64]) -> Row {
    let mut runs: Vec<Ran> = seeds.iter().map(|seed| simulate(graph, cloud, workers, *seed)).collect();
    runs.sort_by_key(|ran| ran.makespan);
    let floor = graph.floor(cloud, workers);
    Row { workers, bound: graph.bound(workers), floor, runs, work: graph.work() }
}

impl Row {
    fn median(&self) -> &Ran {
        &self.runs[self.runs.len() / 2]
    }

    fn ratio(&self, ran: &Ran) -> f64 {
        ran.makespan.as_secs_f64() / self.bound.as_secs_f64()
    }

    fn floor_ratio(&self, ran: &Ran) -> f64 {
        ran.makespan.as_secs_f64() / self.floor.as_secs_f64()
    }

    fn worst(&self) -> f64 {
        self.runs.iter().map(|ran| self.ratio(ran)).fold(0.0, f64::max)
    }

    /// Of the graph's work.
    fn share(&self, time: Duration) -> f64 {
        time.as_secs_f64() / self.work.as_secs_f64()
    }

    /// The largest share of any seed.
    fn duplicates(&self) -> f64 {
        self.runs.iter().map(|ran| self.share(ran.duplicate_time)).fold(0.0, f64::max)
    }
}

fn as_json(name: &Path, graph: &Graph, rows: &[Row]) -> serde_json::Value {
    let row = |row: &Row| {
        let median = row.median();
        json!({
            "workers": row.workers,
            "bound_seconds": row.bound.as_secs_f64(),
            "makespan_seconds": median.makespan.as_secs_f64(),
            "ratio": row.ratio(median),
            "floor_seconds": row.floor.as_secs_f64(),
            "floor_ratio": row.floor_ratio(median),
            "worst_ratio": row.worst(),
            "attempts": median.attempts,
            "invocations": median.invocations,
            "chained": median.chained,
            "cold": median.cold,
            "throttled": median.throttled,
            "stragglers": median.stragglers,
            "duplicates": median.duplicates,
            "duplicates_of_work": row.duplicates(),
            "lost_of_work": row.share(median.lost_time),
            "here": median.here,
        })
    };
    json!({
        "graph": name,
        "thunks": graph.tasks().len(),
        "work_seconds": graph.work().as_secs_f64(),
        "critical_path_seconds": graph.critical_path().as_secs_f64(),
        "rows": rows.iter().map(row).collect::<Vec<_>>(),
    })
}

fn table(name: &Path, graph: &Graph, rows: &[Row]) -> String {
    let mut text = format!(
        "{}: {} thunks, work {}, critical path {}; {:.0} % of the work in thunks of 100 ms and more\n\
         {:>7} {:>10} {:>10} {:>10} {:>7} {:>7} {:>8} {:>7} {:>10} {:>11} {:>7}\n",
        name.display(),
        graph.tasks().len(),
        seconds(graph.work()),
        seconds(graph.critical_path()),
        graph.share_above(Duration::from_millis(100)) * 100.0,
        "workers",
        "bound",
        "floor",
        "makespan",
        "ratio",
        "worst",
        "to floor",
        "cold",
        "stragglers",
        "duplicates",
        "of work"
    );
    for row in rows {
        let median = row.median();
        let _ = writeln!(
            text,
            "{:>7} {:>10} {:>10} {:>10} {:>7.3} {:>7.3} {:>8.3} {:>7} {:>10} {:>11} {:>6.2}%",
            row.workers,
            seconds(row.bound),
            seconds(row.floor),
            seconds(median.makespan),
            row.ratio(median),
            row.worst(),
            row.floor_ratio(median),
            median.cold,
            median.stragglers,
            median.duplicates,
            row.duplicates() * 100.0
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_becomes_a_graph_of_what_ran() {
        let log = r#"{"ggr":1,"at_us":1,"event":"traced","thunk":"Ta","label":"gcc a.o","waits_for":[],"outputs":["/w/a.o"]}
{"ggr":1,"at_us":2,"event":"traced","thunk":"Tb","label":"gcc b.o","waits_for":[],"outputs":["/w/b.o"]}
{"ggr":1,"at_us":3,"event":"traced","thunk":"Tc","label":"gcc prog","waits_for":["Ta","Tb"],"outputs":["/w/prog"]}
{"ggr":1,"at_us":3,"event":"traced","thunk":"Td","label":"gcc conftest.o","waits_for":[],"outputs":["/w/conftest.o"]}
{"ggr":1,"at_us":3,"event":"finished","thunk":"Td","label":"gcc conftest.o","worker":0,"ran_us":9,"cpu_us":9}
{"ggr":1,"at_us":4,"event":"finished","thunk":"Ta","label":"gcc a.o","worker":0,"ran_us":900,"cpu_us":700}
{"ggr":1,"at_us":5,"event":"cache_hit","thunk":"Tb","label":"gcc b.o"}
{"ggr":1,"at_us":6,"event":"finished","thunk":"Tc","label":"gcc prog","worker":0,"ran_us":90,"cpu_us":70}
{"ggr":1,"at_"#;
        let graph = recorded(log).expect("it is in order");
        let of =
            |label: &str, kind, us, deps: &[u32]| Task { label: label.into(), kind, us, deps: deps.to_vec() };
        assert_eq!(
            graph.tasks(),
            [of("gcc a.o", Kind::Compile, 700, &[]), of("gcc prog", Kind::Link, 70, &[0])]
        );
    }
}
