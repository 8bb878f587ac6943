//! A Chrome trace of the build, for Perfetto (<https://ui.perfetto.dev>) or `chrome://tracing`.
//!
//! One track a worker, one slice a thunk, with slices for staging, running and harvesting inside; calls that ran here on
//! tracks of their own; cache hits as instants; thunks ready and running as counters. The format is Chrome's "Trace Event
//! Format", the array form, whose readers take a file without its end: a killed ggr leaves a usable trace.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::event::Event;
use super::reporter::{Sink, SinkError};
use super::tally::Tally;

/// The process numbers that group the tracks.
const WORKERS: u32 = 1;
const HERE: u32 = 2;

/// Writes the trace as events come.
pub(crate) struct ChromeTrace {
    path: PathBuf,
    out: BufWriter<File>,
    failed: Option<std::io::Error>,
    tally: Tally,
    /// For each track of calls that ran here, when its last slice ended.
    here: Vec<Duration>,
    workers: u32,
}

impl ChromeTrace {
    /// A trace in this file, which is emptied.
    ///
    /// # Errors
    /// If the file cannot be created.
    pub(crate) fn to_file(path: &Path) -> Result<Self, SinkError> {
        let file = File::create(path).map_err(|source| SinkError { path: path.to_path_buf(), source })?;
        let mut trace = Self {
            path: path.to_path_buf(),
            out: BufWriter::new(file),
            failed: None,
            tally: Tally::default(),
            here: Vec::new(),
            workers: 0,
        };
        trace.raw(b"[\n");
        trace.put(&name("process_name", WORKERS, 0, "workers"));
        trace.put(&name("process_name", HERE, 0, "run here"));
        Ok(trace)
    }

    fn put(&mut self, value: &Value) {
        let mut text = serde_json::to_vec(value).expect("the value was made from text and numbers");
        text.extend_from_slice(b",\n");
        self.raw(&text);
    }

    fn raw(&mut self, bytes: &[u8]) {
        if self.failed.is_none() {
            self.failed = self.out.write_all(bytes).err();
        }
    }

    fn finished(&mut self, at: Duration, worker: u32, label: &str, thunk: &str, timings: &ggr_ir::Timings) {
        while self.workers <= worker {
            let row = name("thread_name", WORKERS, self.workers, &format!("worker {}", self.workers));
            self.put(&row);
            self.workers += 1;
        }
        let parts = [("stage", timings.staged), ("run", timings.ran), ("harvest", timings.harvested)];
        let total = parts.iter().map(|(_, took)| *took).sum();
        let mut from = at.saturating_sub(total);
        let mut whole = slice(WORKERS, worker, label, from, total);
        whole["args"] = json!({
            "thunk": thunk,
            "queued_us": micros(timings.queued),
            "cpu_us": micros(timings.cpu),
            "max_rss": timings.max_rss,
        });
        self.put(&whole);
        for (part, took) in parts {
            self.put(&slice(WORKERS, worker, part, from, took));
            from += took;
        }
    }

    /// Slices of one track must not overlap, so each goes to the first track that was free when it began.
    fn ran_here(&mut self, at: Duration, label: &str, reason: &str, took: Duration) {
        let from = at.saturating_sub(took);
        let track = self.here.iter().position(|end| *end <= from).unwrap_or(self.here.len());
        if track == self.here.len() {
            self.here.push(at);
        } else {
            self.here[track] = at;
        }
        let mut value = slice(HERE, track as u32, label, from, took);
        value["args"] = json!({ "reason": reason });
        self.put(&value);
    }

    fn instant(&mut self, at: Duration, what: &str, label: &str) {
        self.put(&json!({
            "ph": "i", "s": "p", "pid": WORKERS, "tid": 0, "ts": micros(at), "name": format!("{what}: {label}"),
        }));
    }

    fn counters(&mut self, at: Duration) {
        let (ready, running) = (self.tally.ready, self.tally.running.len());
        self.put(&json!({
            "ph": "C", "pid": WORKERS, "ts": micros(at), "name": "thunks",
            "args": { "ready": ready, "running": running },
        }));
    }
}

impl Sink for ChromeTrace {
    fn take(&mut self, at: Duration, event: &Event) {
        self.tally.take(at, event);
        match event {
            Event::Finished { thunk, worker, label, timings } => {
                self.finished(at, *worker, label, &thunk.to_string(), timings);
                self.counters(at);
            }
            Event::Started { .. } | Event::Ready { .. } => self.counters(at),
            Event::CacheHit { label, .. } => self.instant(at, "cached", label),
            Event::Doubted { label, why, .. } => {
                self.instant(at, "failed in the sandbox", &format!("{label}: {why}"))
            }
            Event::Retried { label, why, .. } => self.instant(at, "retried", &format!("{label}: {why}")),
            Event::Failed { label, why, .. } => self.instant(at, "failed", &format!("{label}: {why}")),
            Event::RanHere { label, reason, took, .. } => self.ran_here(at, label, reason, *took),
            Event::Captured { label, took, .. } => self.ran_here(at, label, "captured", *took),
            Event::Repeated { label, .. } => self.instant(at, "cached", label),
            Event::BuildStarted { command, .. } => self.instant(at, "build starts", &command.join(" ")),
            Event::BuildEnded { code } => self.instant(at, "build ends", &code.to_string()),
            Event::CommandEnded
            | Event::Called(_)
            | Event::Traced { .. }
            | Event::Materialized { .. }
            | Event::Shared { .. }
            | Event::Note { .. } => {}
        }
    }

    fn end(&mut self) -> Result<(), SinkError> {
        // The last element has no comma after it.
        let last = name("process_labels", WORKERS, 0, "ggr");
        self.raw(last.to_string().as_bytes());
        self.raw(b"\n]\n");
        match self.failed.take().or_else(|| self.out.flush().err()) {
            Some(source) => Err(SinkError { path: self.path.clone(), source }),
            None => Ok(()),
        }
    }
}

fn micros(duration: Duration) -> f64 {
    duration.as_nanos() as f64 / 1000.0
}

fn name(kind: &str, pid: u32, tid: u32, name: &str) -> Value {
    let key = if kind == "process_labels" { "labels" } else { "name" };
    json!({ "ph": "M", "name": kind, "pid": pid, "tid": tid, "args": { key: name } })
}

fn slice(pid: u32, tid: u32, name: &str, from: Duration, took: Duration) -> Value {
    json!({ "ph": "X", "pid": pid, "tid": tid, "name": name, "ts": micros(from), "dur": micros(took) })
}

#[cfg(test)]
mod tests {
    use ggr_ir::{ThunkId, Timings};

    use super::*;

    #[test]
    fn a_thunk_is_a_slice_with_its_parts_inside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trace.json");
        let mut trace = ChromeTrace::to_file(&path).unwrap();
        let ms = Duration::from_millis;
        let timings = Timings { staged: ms(1), ran: ms(5), harvested: ms(2), ..Timings::default() };
        let label = "gcc a.o".into();
        trace.take(ms(10), &Event::Finished { thunk: ThunkId::synthetic(1), worker: 1, label, timings });
        for _ in 0..2 {
            let event =
                Event::RanHere { label: "bison".into(), reason: "r".into(), took: ms(3), outputs: vec![] };
            trace.take(ms(20), &event);
        }
        trace.end().unwrap();
        let events: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let slices: Vec<_> = events
            .iter()
            .filter(|e| e["ph"] == "X")
            .map(|e| {
                format!("{}/{} {} {}+{}", e["pid"], e["tid"], e["name"].as_str().unwrap(), e["ts"], e["dur"])
            })
            .collect();
        assert_eq!(
            slices,
            [
                "1/1 gcc a.o 2000.0+8000.0",
                "1/1 stage 2000.0+1000.0",
                "1/1 run 3000.0+5000.0",
                "1/1 harvest 8000.0+2000.0",
                "2/0 bison 17000.0+3000.0",
                "2/1 bison 17000.0+3000.0",
            ]
        );
    }
}
