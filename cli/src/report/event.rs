//! What happens during a build.

use std::fmt::Display;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ggr_ir::{ThunkId, Timings};
use serde::{Serialize, Serializer};

/// One thing that happened. As JSON (`--json`) the variant's name stands under `event`, ids are text, and times are
/// microseconds in fields that end in `_us`.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event {
    /// The build's command starts. Comes first, once; again if the build is run a second time with every call waiting.
    BuildStarted {
        /// The command and its arguments.
        command: Vec<String>,
        /// How many thunks run here side by side.
        slots: usize,
    },
    /// The build's command has ended by itself; what it left to be made is made now.
    CommandEnded,
    /// A tool was called and its call caught.
    Called(Arc<Call>),
    /// A call became a thunk. Comes after the `Traced` of every thunk that it waits for.
    Traced {
        /// The thunk's id.
        #[serde(serialize_with = "display")]
        thunk: ThunkId,
        /// As `gcc foo.o`.
        label: Arc<str>,
        /// The thunks whose outputs it reads.
        #[serde(serialize_with = "display_all")]
        waits_for: Vec<ThunkId>,
        /// The files on the user's machine that its outputs go to.
        outputs: Vec<PathBuf>,
        /// Why it was not cut into stages, if that was asked for.
        #[serde(skip_serializing_if = "Option::is_none")]
        fused: Option<String>,
    },
    /// Nothing that the thunk reads is missing any more.
    Ready {
        /// The thunk's id, as in `Traced`; so everywhere below.
        #[serde(serialize_with = "display")]
        thunk: ThunkId,
    },
    /// A worker took it.
    Started {
        /// Which.
        #[serde(serialize_with = "display")]
        thunk: ThunkId,
        /// As `gcc foo.o`.
        label: Arc<str>,
        /// Where, as `local`.
        backend: Arc<str>,
        /// Whether it runs elsewhere already, for unusually long.
        duplicate: bool,
    },
    /// It ran, and was replaced by its outputs.
    Finished {
        /// Which.
        #[serde(serialize_with = "display")]
        thunk: ThunkId,
        /// The worker's number, from 0.
        worker: u32,
        /// As `gcc foo.o`.
        label: Arc<str>,
        /// Where the time went.
        #[serde(flatten, serialize_with = "flat_timings")]
        timings: Timings,
    },
    /// It had run before, and was replaced by the outputs of that time.
    CacheHit {
        /// Which.
        #[serde(serialize_with = "display")]
        thunk: ThunkId,
        /// As `gcc foo.o`.
        label: Arc<str>,
    },
    /// A call was run here, on the real tree, and has ended.
    RanHere {
        /// As `gcc foo.o`.
        label: Arc<str>,
        /// Why it was no thunk, or why its thunk was not believed.
        reason: String,
        /// How long it took.
        #[serde(rename = "took_us", serialize_with = "micros")]
        took: Duration,
        /// The files that it wrote, as far as they are known.
        outputs: Vec<PathBuf>,
    },
    /// A program without a model ran here, and what it read and wrote was recorded.
    Captured {
        /// As `python3 gen.py`.
        label: Arc<str>,
        /// How long it took.
        #[serde(rename = "took_us", serialize_with = "micros")]
        took: Duration,
        /// The files that it left.
        outputs: Vec<PathBuf>,
    },
    /// A program without a model had run before with the same in front of it: what it left then was left again.
    Repeated {
        /// As `python3 gen.py`.
        label: Arc<str>,
        /// How long it took then.
        #[serde(rename = "saved_us", serialize_with = "micros")]
        saved: Duration,
        /// The files that it left.
        outputs: Vec<PathBuf>,
    },
    /// An attempt came to nothing, and the thunk is tried again.
    Retried {
        /// Which.
        #[serde(serialize_with = "display")]
        thunk: ThunkId,
        /// As `gcc foo.o`.
        label: Arc<str>,
        /// What happened to the attempt.
        why: String,
    },
    /// Its program failed in the sandbox; the call is run here before that is believed.
    Doubted {
        /// Which.
        #[serde(serialize_with = "display")]
        thunk: ThunkId,
        /// As `gcc foo.o`.
        label: Arc<str>,
        /// What happened.
        why: String,
    },
    /// Its program failed, or no place could run it.
    Failed {
        /// Which.
        #[serde(serialize_with = "display")]
        thunk: ThunkId,
        /// As `gcc foo.o`.
        label: Arc<str>,
        /// What happened.
        why: String,
    },
    /// A placeholder was replaced by its bytes.
    Materialized {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// What the session's shared store was asked and did. Comes once, when the build has ended.
    Shared {
        /// Which.
        store: String,
        /// Results that came from it, captured runs included.
        hits: u64,
        /// Of these, captured runs.
        repeated: u64,
        /// Results that were put into it.
        stored: u64,
        /// Results that should be in it, and are not yet.
        left: u64,
        /// Bytes that came from it.
        down: u64,
        /// Bytes that went to it.
        up: u64,
        /// Requests.
        requests: u64,
    },
    /// Something that the user should know, as a line of text.
    Note {
        /// The line.
        text: String,
    },
    /// The build's command ended, and so did all that it left to do. Comes last, once.
    BuildEnded {
        /// The exit code that ggr gives.
        code: u8,
    },
}

/// A tool call as it was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Call {
    /// The arguments, the name that the tool was called by first.
    pub(crate) args: Vec<String>,
    /// The working directory.
    pub(crate) dir: PathBuf,
}

fn display<S: Serializer>(value: &impl Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

fn display_all<S: Serializer>(values: &[ThunkId], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(values.iter().map(ToString::to_string))
}

fn micros<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(value.as_micros() as u64)
}

fn flat_timings<S: Serializer>(timings: &Timings, serializer: S) -> Result<S::Ok, S::Error> {
    use serde::ser::SerializeMap;
    let fields = [
        ("queued_us", timings.queued),
        ("staged_us", timings.staged),
        ("moved_us", timings.moved),
        ("ran_us", timings.ran),
        ("harvested_us", timings.harvested),
        ("cpu_us", timings.cpu),
    ];
    let mut map = serializer.serialize_map(Some(fields.len() + 1))?;
    for (name, value) in fields {
        // A u64 of microseconds lasts for half a million years; serde's flatten takes no u128.
        map.serialize_entry(name, &(value.as_micros() as u64))?;
    }
    map.serialize_entry("max_rss", &timings.max_rss)?;
    map.end()
}
