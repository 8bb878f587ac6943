//! `ggr bench keepalive`: arrival traces through the real pool policy, on a virtual clock.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use ggr_backends::keepalive::{Call, Comparison, Replayed, Settings, Trace, compare};
use serde::Deserialize;
use serde_json::json;

use crate::commands::Context;
use crate::config::ByteSize;
use crate::error::Error;

/// Replay arrival traces through the keep-alive policies: cold starts and idle time, hybrid against fixed windows
///
/// A trace is a file of lines `key start duration` (seconds), or the log of a build, `ggr --json=FILE make`: several logs
/// follow each other as their files' times say.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The trace, or logs of ggr
    #[arg(required_unless_present = "generate")]
    traces: Vec<PathBuf>,
    /// Replay a made-up trace of 14 days
    #[arg(long, value_enum, conflicts_with = "traces")]
    generate: Option<Made>,
    /// Print the trace instead of replaying it
    #[arg(long)]
    print: bool,
    /// Bound on the memory of idle places
    #[arg(long, default_value = "4GiB", value_parser = size)]
    memory: ByteSize,
    /// Memory of one idle place
    #[arg(long, default_value = "16MiB", value_parser = size)]
    each: ByteSize,
}

/// Traces that are made up.
#[derive(clap::ValueEnum, Clone, Copy, Debug)]
enum Made {
    /// 40 timers: every 25 to 100 minutes, 2 % late at most
    Periodic,
    /// 10 projects: bursts of calls, minutes apart, in sessions with long pauses between them
    Bursty,
}

const LENGTH: Duration = Duration::from_secs(14 * 86_400);

fn size(text: &str) -> Result<ByteSize, &'static str> {
    ByteSize::parse(text).ok_or("not a size, as 512M or 4GiB")
}

/// Replays.
pub(crate) fn run(context: &Context, args: &Args) -> Result<ExitCode, Error> {
    let trace = match args.generate {
        Some(Made::Periodic) => Trace::periodic(40, Duration::from_secs(1500), 0.02, LENGTH, 1),
        Some(Made::Bursty) => Trace::bursty(10, LENGTH, 1),
        None => read(&args.traces)?,
    };
    if args.print {
        context.print(&trace.to_string())?;
        return Ok(ExitCode::SUCCESS);
    }
    let settings = Settings::default();
    let compared = compare(&trace, &settings, args.each.0, args.memory.0);
    if context.json.is_some() {
        context.print_json(&as_json(&trace, &compared))?;
    } else {
        context.print(&table(&trace, &compared, args))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn read(paths: &[PathBuf]) -> Result<Trace, Error> {
    let mut calls = Vec::new();
    let mut logs = Vec::new();
    for path in paths {
        let io = |source| Error::Io { doing: "read", path: path.clone(), source };
        let text = std::fs::read_to_string(path).map_err(io)?;
        if text.starts_with('{') {
            logs.push((path.metadata().and_then(|meta| meta.modified()).map_err(io)?, text));
        } else {
            calls.extend_from_slice(parse(path, &text)?.calls());
        }
    }
    let ends: Vec<_> = logs.iter().map(|(end, text)| (*end, events(text))).collect();
    // A log's file is last written at its last event.
    let begin = |(end, log): &(SystemTime, Vec<Logged>)| {
        *end - Duration::from_micros(log.last().map_or(0, |line| line.at_us))
    };
    let first = ends.iter().map(begin).min();
    for log in &ends {
        let begun = first.and_then(|first| begin(log).duration_since(first).ok()).unwrap_or_default();
        calls.extend(log.1.iter().filter_map(|line| line.call(begun)));
    }
    Ok(Trace::new(calls))
}

fn parse(path: &Path, text: &str) -> Result<Trace, Error> {
    text.parse().map_err(|bad| Error::Usage {
        message: format!("`{}` is no trace: {bad}", path.display()),
        hint: "a trace has lines `key start duration`, in seconds".to_owned(),
    })
}

/// A line of ggr's log, as far as it matters here.
#[derive(Deserialize)]
struct Logged {
    at_us: u64,
    event: String,
    #[serde(default)]
    label: String,
    #[serde(default)]
    ran_us: u64,
}

fn events(text: &str) -> Vec<Logged> {
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

impl Logged {
    /// A thunk that ran; its key is the tool.
    fn call(&self, begun: Duration) -> Option<Call> {
        let key = self.label.split(' ').next().filter(|_| self.event == "finished")?;
        let duration = Duration::from_micros(self.ran_us);
        let start = (begun + Duration::from_micros(self.at_us)).saturating_sub(duration);
        Some(Call { start, key: key.to_owned(), duration })
    }
}

fn as_json(trace: &Trace, compared: &Comparison) -> serde_json::Value {
    let row = |replayed: &Replayed| {
        json!({
            "cold_rate": replayed.test.cold_rate(),
            "calls": replayed.test.calls,
            "idle_seconds": replayed.test.idle_seconds,
            "training_cold_rate": replayed.training.cold_rate(),
            "peak_bytes": replayed.peak_bytes,
        })
    };
    let window = |(window, replayed): &(Duration, Replayed)| {
        let mut row = row(replayed);
        row["window_seconds"] = window.as_secs().into();
        row
    };
    let [histogram, forecast, fallback] = compared.modes;
    json!({
        "calls": trace.calls().len(),
        "hybrid": row(&compared.hybrid),
        "fixed": compared.fixed.iter().map(window).collect::<Vec<_>>(),
        "equal": compared.equal.as_ref().map(window),
        "keys": { "histogram": histogram, "forecast": forecast, "fallback": fallback },
        "decision_ns": compared.decision_ns,
    })
}

fn table(trace: &Trace, compared: &Comparison, args: &Args) -> String {
    let mut text = format!(
        "{} calls; the second half of the time is counted, the first is learnt from; {} idle at most, {} each\n\
         {:<28} {:>9} {:>12} {:>12}\n",
        trace.calls().len(),
        args.memory,
        args.each,
        "policy",
        "cold",
        "idle hours",
        "peak"
    );
    let mut row = |name: &str, replayed: &Replayed| {
        let _ = writeln!(
            text,
            "{name:<28} {:>8.3}% {:>12.2} {:>12}",
            replayed.test.cold_rate() * 100.0,
            replayed.test.idle_seconds / 3600.0,
            ByteSize(replayed.peak_bytes).to_string()
        );
    };
    for (window, replayed) in &compared.fixed {
        row(&format!("fixed, {} s", window.as_secs()), replayed);
    }
    row("hybrid", &compared.hybrid);
    if let Some((window, replayed)) = &compared.equal {
        row(&format!("fixed, as good: {} s", window.as_secs()), replayed);
    }
    let [histogram, forecast, fallback] = compared.modes;
    let _ = writeln!(
        text,
        "keys by histogram {histogram}, forecast {forecast}, fallback {fallback}; a decision takes {:.2} µs",
        compared.decision_ns / 1000.0
    );
    text.push_str(&verdict(compared));
    text
}

/// Whether it pays, in one line.
fn verdict(compared: &Comparison) -> String {
    let Some((_, equal)) = &compared.equal else {
        return "no fixed window up to two days has as few cold starts\n".to_owned();
    };
    let saved = 1.0 - compared.hybrid.test.idle_seconds / equal.test.idle_seconds;
    if saved > 0.01 {
        format!("hybrid: {:.0}% less idle time than the fixed window that is as good\n", saved * 100.0)
    } else {
        format!("it does not pay here: {:.0}% more idle time than a fixed window\n", -saved * 100.0)
    }
}
