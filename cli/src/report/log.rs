//! The log of calls that `ggr why` reads: what became of each, build after build.
//!
//! `.ggr/log/builds.jsonl`, JSON lines: a `build` line when one starts, then a line for each call when it is settled. Lines
//! are appended whole, so several ggr may write at once; a reader passes over lines that it cannot read. When the file has
//! grown past [`MAX_LEN`] it becomes `builds.1.jsonl` (in place of an older one) and a new one begins.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ggr_ir::ThunkId;
use rustc_hash::FxBuildHasher;
use serde::{Deserialize, Serialize};

use super::event::Event;
use super::reporter::{Sink, SinkError};

/// The log's directory in a repository.
pub(crate) const DIRECTORY: &str = "log";

const CURRENT: &str = "builds.jsonl";
const PREVIOUS: &str = "builds.1.jsonl";

/// Bytes after which a new file begins: some hundred builds of Git, read in a tenth of a second.
const MAX_LEN: u64 = 16 << 20;

/// The longest line that is written or read, in bytes.
const MAX_LINE: usize = 1 << 20;

/// How many bytes are collected before they are appended.
const BUFFER: usize = 64 << 10;

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "line")]
pub(crate) enum Line {
    /// A build started.
    Build(Build),
    /// A call was settled.
    Call(Record),
    /// A build that had a shared store has ended.
    Shared(Shared),
}

/// What a build had to do with its shared store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Shared {
    /// Results that came from it, captured runs included.
    pub(crate) hits: u64,
    /// Of these, captured runs; a log of an older ggr does not say.
    #[serde(default)]
    pub(crate) repeated: u64,
    /// Results that were put into it.
    pub(crate) stored: u64,
    /// Bytes that came from it.
    pub(crate) down: u64,
    /// Bytes that went to it.
    pub(crate) up: u64,
    /// Requests.
    pub(crate) requests: u64,
}

/// The start of a build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Build {
    /// The command and its arguments.
    pub(crate) command: Vec<String>,
    /// Seconds since 1970.
    pub(crate) started: u64,
}

/// What became of a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// As `gcc foo.o`.
    pub(crate) label: String,
    /// The files that it wrote.
    pub(crate) outputs: Vec<PathBuf>,
    /// What became of it.
    pub(crate) fate: Fate,
    /// The thunk, as text, if it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) thunk: Option<String>,
    /// Why it ran here, or failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    /// Why it was not cut into stages, if that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) fused: Option<String>,
    /// How long the program ran, in milliseconds; 0 for a cache hit.
    pub(crate) ms: u64,
}

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Fate {
    /// Its outputs were those of an earlier run.
    Hit,
    /// It ran on a worker.
    Ran,
    /// It ran here.
    Here,
    /// It failed.
    Failed,
    /// Nobody asked for it (`ggr trace`), or the build was stopped before it ran.
    Left,
}

/// A thunk that is not settled.
struct Open {
    label: Arc<str>,
    outputs: Vec<PathBuf>,
    fused: Option<String>,
}

/// Writes the log of one build.
pub(crate) struct Log {
    path: PathBuf,
    file: File,
    pending: Vec<u8>,
    /// What was traced and is not settled.
    open: HashMap<ThunkId, Open, FxBuildHasher>,
    failed: Option<io::Error>,
}

impl Log {
    /// Opens the log of the repository in this directory.
    ///
    /// # Errors
    /// If the directory or the file cannot be created.
    pub(crate) fn open(repository: &Path) -> Result<Self, SinkError> {
        let directory = repository.join(DIRECTORY);
        let path = directory.join(CURRENT);
        let open = || {
            fs::create_dir_all(&directory)?;
            if fs::metadata(&path).is_ok_and(|found| found.len() > MAX_LEN) {
                fs::rename(&path, directory.join(PREVIOUS))?;
            }
            OpenOptions::new().append(true).create(true).open(&path)
        };
        match open() {
            Ok(file) => Ok(Self { file, pending: Vec::new(), open: HashMap::default(), failed: None, path }),
            Err(source) => Err(SinkError { path, source }),
        }
    }

    fn put(&mut self, line: &Line) {
        let mut text =
            serde_json::to_vec(line).expect("lines hold text and numbers; paths were text when they came");
        text.push(b'\n');
        if text.len() > MAX_LINE {
            return;
        }
        self.pending.extend_from_slice(&text);
        if self.pending.len() >= BUFFER {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if self.failed.is_none() {
            self.failed = self.file.write_all(&self.pending).err();
        }
        self.pending.clear();
    }

    fn left(&mut self) {
        let open: Vec<_> = self.open.iter().map(|(thunk, open)| (*thunk, open.label.clone())).collect();
        for (thunk, label) in open {
            self.settled(thunk, &label, Fate::Left, None, Duration::ZERO);
        }
        self.flush();
    }

    /// A program without a model, captured.
    fn program(&mut self, label: &str, fate: Fate, took: Duration, outputs: &[PathBuf]) {
        self.put(&Line::Call(Record {
            label: label.to_owned(),
            outputs: outputs.iter().filter(|path| path.to_str().is_some()).cloned().collect(),
            fate,
            thunk: None,
            reason: None,
            fused: None,
            ms: took.as_millis() as u64,
        }));
    }

    fn settled(&mut self, thunk: ThunkId, label: &str, fate: Fate, reason: Option<String>, took: Duration) {
        let open = self.open.remove(&thunk);
        let (outputs, fused) = open.map(|open| (open.outputs, open.fused)).unwrap_or_default();
        let record = Record {
            label: label.to_owned(),
            outputs,
            fate,
            thunk: Some(thunk.to_string()),
            reason,
            fused,
            ms: took.as_millis() as u64,
        };
        self.put(&Line::Call(record));
    }
}

impl Sink for Log {
    fn take(&mut self, _at: Duration, event: &Event) {
        match event {
            Event::BuildStarted { command, .. } => {
                let started = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
                self.put(&Line::Build(Build { command: command.clone(), started }));
            }
            Event::Traced { thunk, label, outputs, fused, .. } => {
                let outputs = outputs.iter().filter(|path| path.to_str().is_some()).cloned().collect();
                let open = Open { label: label.clone(), outputs, fused: fused.clone() };
                self.open.insert(*thunk, open);
            }
            Event::Finished { thunk, label, timings, .. } => {
                self.settled(*thunk, label, Fate::Ran, None, timings.ran);
            }
            Event::CacheHit { thunk, label } => self.settled(*thunk, label, Fate::Hit, None, Duration::ZERO),
            Event::Failed { thunk, label, why } => {
                self.settled(*thunk, label, Fate::Failed, Some(why.clone()), Duration::ZERO);
            }
            Event::RanHere { label, reason, took, outputs } => self.put(&Line::Call(Record {
                label: label.to_string(),
                outputs: outputs.iter().filter(|path| path.to_str().is_some()).cloned().collect(),
                fate: Fate::Here,
                thunk: None,
                reason: Some(reason.clone()),
                fused: None,
                ms: took.as_millis() as u64,
            })),
            Event::Captured { label, took, outputs } => self.program(label, Fate::Ran, *took, outputs),
            Event::Repeated { label, outputs, .. } => {
                self.program(label, Fate::Hit, Duration::ZERO, outputs);
            }
            &Event::Shared { hits, repeated, stored, down, up, requests, .. } => {
                self.put(&Line::Shared(Shared { hits, repeated, stored, down, up, requests }));
            }
            Event::BuildEnded { .. } => self.left(),
            _ => {}
        }
    }

    fn end(&mut self) -> Result<(), SinkError> {
        self.flush();
        match self.failed.take() {
            Some(source) => Err(SinkError { path: self.path.clone(), source }),
            None => Ok(()),
        }
    }
}

/// Every line of the log, oldest first; none if there was no build yet.
///
/// # Errors
/// The file that is there and cannot be read.
pub(crate) fn read(repository: &Path) -> Result<Vec<Line>, SinkError> {
    let mut lines = Vec::new();
    for name in [PREVIOUS, CURRENT] {
        let path = repository.join(DIRECTORY).join(name);
        match File::open(&path) {
            Ok(file) => read_file(file, &mut lines).map_err(|source| SinkError { path, source })?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(SinkError { path, source }),
        }
    }
    Ok(lines)
}

fn read_file(file: File, lines: &mut Vec<Line>) -> io::Result<()> {
    for line in BufReader::new(file).split(b'\n') {
        let line = line?;
        if line.len() <= MAX_LINE
            && let Ok(line) = serde_json::from_slice(&line)
        {
            lines.push(line);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hit(n: u64) -> [Event; 2] {
        let (thunk, label) = (ThunkId::synthetic(n), "gcc a.o".into());
        let traced = Event::Traced {
            thunk,
            label,
            waits_for: vec![],
            outputs: vec![PathBuf::from("/src/a.o")],
            fused: Some("why".into()),
        };
        [traced, Event::CacheHit { thunk, label: "gcc a.o".into() }]
    }

    #[test]
    fn what_is_written_is_read_and_broken_lines_are_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = Log::open(dir.path()).unwrap();
        log.take(Duration::ZERO, &Event::BuildStarted { command: vec!["make".into()], slots: 1 });
        hit(1).iter().for_each(|event| log.take(Duration::ZERO, event));
        log.end().unwrap();
        let path = dir.path().join("log/builds.jsonl");
        let mut text = fs::read(&path).unwrap();
        text.extend_from_slice(b"{\"line\":\"call\",\"lab\n\xff\n");
        fs::write(&path, text).unwrap();
        let lines = read(dir.path()).unwrap();
        assert_eq!(lines.len(), 2);
        let Line::Call(record) = &lines[1] else { panic!("{lines:?}") };
        assert_eq!((record.fate, &record.outputs[..]), (Fate::Hit, &[PathBuf::from("/src/a.o")][..]));
        assert_eq!(record.fused.as_deref(), Some("why"));
        assert_eq!(record.thunk, Some(ThunkId::synthetic(1).to_string()));
    }

    #[test]
    fn a_long_log_begins_anew_and_keeps_one_predecessor() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("log")).unwrap();
        let full = File::create(dir.path().join("log/builds.jsonl")).unwrap();
        full.set_len(MAX_LEN + 1).unwrap();
        Log::open(dir.path()).unwrap().end().unwrap();
        assert_eq!(fs::metadata(dir.path().join("log/builds.jsonl")).unwrap().len(), 0);
        assert_eq!(fs::metadata(dir.path().join("log/builds.1.jsonl")).unwrap().len(), MAX_LEN + 1);
    }
}
