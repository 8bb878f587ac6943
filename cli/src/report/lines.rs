//! Events as JSON, one a line.
//!
//! Every line is an object with `"ggr": 1` (the version of this format), `"at_us"` (microseconds since ggr's start) and
//! `"event"`; new fields and events may appear, old ones keep their meaning. A line is written in one call, so it is whole
//! even where the build writes to the same place.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use super::event::Event;
use super::reporter::{Sink, SinkError};

/// The version of the format.
const VERSION: u32 = 1;

#[derive(Serialize)]
struct Line<'a> {
    ggr: u32,
    at_us: u64,
    #[serde(flatten)]
    event: &'a Event,
}

/// Writes events to a file, or to standard error.
pub(crate) struct JsonLines {
    path: PathBuf,
    out: Box<dyn Write + Send>,
    failed: Option<std::io::Error>,
}

impl JsonLines {
    /// Lines to standard error, among the build's own output there.
    pub(crate) fn to_stderr() -> Self {
        Self { path: "standard error".into(), out: Box::new(std::io::stderr()), failed: None }
    }

    /// Lines to a file, which is emptied; `/dev/fd/N` names an open descriptor.
    ///
    /// # Errors
    /// If the file cannot be created.
    pub(crate) fn to_file(path: &Path) -> Result<Self, SinkError> {
        match std::fs::File::create(path) {
            Ok(file) => Ok(Self { path: path.to_path_buf(), out: Box::new(file), failed: None }),
            Err(source) => Err(SinkError { path: path.to_path_buf(), source }),
        }
    }
}

impl Sink for JsonLines {
    fn take(&mut self, at: Duration, event: &Event) {
        if self.failed.is_some() {
            return;
        }
        let line = Line { ggr: VERSION, at_us: at.as_micros() as u64, event };
        let mut text =
            serde_json::to_vec(&line).expect("events have text keys and no number that JSON lacks");
        text.push(b'\n');
        self.failed = self.out.write_all(&text).err();
    }

    fn end(&mut self) -> Result<(), SinkError> {
        match self.failed.take().or_else(|| self.out.flush().err()) {
            Some(source) => Err(SinkError { path: self.path.clone(), source }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use ggr_ir::{ThunkId, Timings};

    use super::*;

    #[test]
    fn an_event_is_one_line_of_json() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events");
        let mut lines = JsonLines::to_file(&path).unwrap();
        let timings = Timings { ran: Duration::from_micros(7), ..Timings::default() };
        let thunk = ThunkId::synthetic(1);
        lines.take(
            Duration::from_millis(2),
            &Event::Finished { thunk, worker: 3, label: "gcc a.o".into(), timings },
        );
        lines.take(Duration::from_millis(3), &Event::BuildEnded { code: 0 });
        lines.end().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let (first, second) = text.trim_end().split_once('\n').unwrap();
        let first: serde_json::Value = serde_json::from_str(first).unwrap();
        assert_eq!(first["event"], "finished");
        assert_eq!(first["thunk"], thunk.to_string());
        assert_eq!((&first["at_us"], &first["ran_us"]), (&2000.into(), &7.into()));
        assert_eq!(second, r#"{"ggr":1,"at_us":3000,"event":"build_ended","code":0}"#);
    }

    #[test]
    fn a_full_disk_is_reported_at_the_end() {
        let mut lines = JsonLines::to_file(Path::new("/dev/full")).unwrap();
        lines.take(Duration::ZERO, &Event::BuildEnded { code: 0 });
        assert!(lines.end().unwrap_err().to_string().starts_with("cannot write `/dev/full`: "));
    }
}
