//! Types of values, and where a value came from.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};

use ggr_backends::locality::Placement;
use ggr_backends::service::Address;
use ggr_backends::store::shared;
use ggr_ir::units::{self, UNITS};

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A flag, as `--slots`.
    Flag(&'static str),
    /// A variable, as `GGR_SLOTS`.
    Variable(&'static str),
    /// A file, and the line in it (from 1).
    File {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
    },
    /// Nowhere: it is the default.
    Default,
}

impl Origin {
    /// The place for the front of an error message.
    pub(super) fn place(&self) -> String {
        match self {
            Self::File { path, line, column } => format!("{}:{line}:{column}", path.display()),
            other => other.to_string(),
        }
    }

    /// In a file the place does not name the key; elsewhere it does.
    pub(super) fn key_prefix(&self, key: &str) -> String {
        if matches!(self, Self::File { .. }) { format!("`{key}`: ") } else { String::new() }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) => write!(f, "flag {name}"),
            Self::Variable(name) => write!(f, "variable {name}"),
            Self::File { path, line, .. } => write!(f, "{}:{line}", path.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

/// Where thunks run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Places {
    /// In sandboxes of this machine; filled first.
    pub(crate) local: bool,
    /// In microVMs of this machine.
    pub(crate) microvm: bool,
    /// On AWS Lambda.
    pub(crate) lambda: bool,
    /// At services, those of the key `worker`.
    pub(crate) worker: bool,
    /// At these services.
    pub(crate) at: Addresses,
}

impl Places {
    /// Reads names separated by commas, each at most once; microVMs go with no other, as they share this machine's slots.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut places = Self::default();
        for name in text.split(',') {
            let place = match name.trim() {
                "local" | "sandbox" => &mut places.local,
                "microvm" => &mut places.microvm,
                "lambda" => &mut places.lambda,
                "worker" => &mut places.worker,
                other => {
                    places.at.0.push(other.strip_prefix("worker=")?.parse().ok()?);
                    continue;
                }
            };
            if std::mem::replace(place, true) {
                return None;
            }
        }
        let others = places.local || places.lambda || places.worker || !places.at.0.is_empty();
        (!places.microvm || !others).then_some(places)
    }

    /// The pool of this machine, and nothing else.
    pub(super) fn local() -> Self {
        Self { local: true, ..Self::default() }
    }
}

impl fmt::Display for Places {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = [
            ("local", self.local),
            ("microvm", self.microvm),
            ("lambda", self.lambda),
            ("worker", self.worker),
        ];
        let names = named.iter().filter(|(_, there)| *there).map(|(name, _)| (*name).to_owned());
        let at = self.at.0.iter().map(|address| format!("worker={address}"));
        f.write_str(&names.chain(at).collect::<Vec<_>>().join(","))
    }
}

/// Addresses of services, separated by commas.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Addresses(pub(crate) Vec<Address>);

impl Addresses {
    /// Reads them.
    pub(super) fn parse(text: &str) -> Option<Self> {
        text.split(',').map(|one| one.trim().parse().ok()).collect::<Option<_>>().map(Self)
    }
}

impl fmt::Display for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<_> = self.0.iter().map(Address::to_string).collect();
        f.write_str(if all.is_empty() { "none" } else { "" })?;
        f.write_str(&all.join(","))
    }
}

/// A value and where it came from.
#[derive(Clone, Debug)]
pub(crate) struct Sourced<T> {
    /// The value.
    pub(crate) value: T,
    /// Where it came from.
    pub(crate) origin: Origin,
}

impl<T> Sourced<T> {
    /// A default.
    pub(super) fn default_of(value: T) -> Self {
        Self { value, origin: Origin::Default }
    }
}

/// A value as it was written, before its key has looked at it.
pub(super) struct Raw<'a> {
    /// The text.
    pub(super) text: &'a OsStr,
    /// What relative paths are relative to.
    pub(super) base: &'a Path,
    /// For `~/…`.
    pub(super) home: Option<&'a Path>,
    /// Where it was written.
    pub(super) origin: Origin,
}

impl Raw<'_> {
    /// The text; nothing if it is not UTF-8.
    pub(super) fn text(&self) -> Option<&str> {
        self.text.to_str()
    }

    /// The text as an absolute path.
    pub(super) fn path(&self) -> PathBuf {
        let path = Path::new(self.text);
        match (path.strip_prefix("~"), self.home) {
            (Ok(rest), Some(home)) => home.join(rest),
            _ => self.base.join(path),
        }
    }
}

/// A value that is one of a few words.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub(crate) enum $name { $($(#[$vdoc])* $variant,)* }

        impl $name {
            /// The variant of this word.
            pub(super) fn parse(text: &str) -> Option<Self> {
                match text { $($word => Some(Self::$variant),)* _ => None }
            }

            /// The variant's word.
            pub(crate) fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }
    };
}

words! {
    /// Whether a call may be answered before its thunk ran.
    Mode {
        /// Where it does no harm: placeholders stand in for outputs.
        Lazy = "lazy",
        /// Never: every call waits for its result.
        Wait = "wait",
    }
}

words! {
    /// How tool calls are caught.
    Intercept {
        /// `Mount` where the machine allows it, else `Path`, and the user is told.
        Auto = "auto",
        /// The launcher is mounted over every tool's file.
        Mount = "mount",
        /// A directory of launchers is first in `PATH`.
        Path = "path",
        /// Not at all: the build runs as it is.
        Off = "off",
    }
}

words! {
    /// How local workers keep thunks apart.
    Isolation {
        /// `Namespaces` where the machine allows them, else `Plain`.
        Auto = "auto",
        /// Each thunk in namespaces of its own, or none at all.
        Namespaces = "namespaces",
        /// Not at all: what is not in the cache runs on the real tree.
        Plain = "plain",
        /// Each thunk in namespaces of its own; the other name of `Namespaces`.
        Sandbox = "sandbox",
        /// `ggr worker serve` alone: in guests.
        Microvm = "microvm",
    }
}

words! {
    /// What network thunks see.
    NetworkClass {
        /// None.
        None = "none",
        /// One for all of a worker's thunks.
        Tenant = "tenant",
        /// One for each.
        Own = "own",
    }
}

impl NetworkClass {
    /// As a thunk's limits say it.
    pub(super) fn class(self) -> ggr_ir::Network {
        match self {
            Self::None => ggr_ir::Network::None,
            Self::Tenant => ggr_ir::Network::Tenant,
            Self::Own => ggr_ir::Network::Own,
        }
    }
}

words! {
    /// Which of several services gets a thunk.
    WorkerPlacement {
        /// Any, by chance.
        Random = "random",
        /// The one that has most of its inputs.
        Sticky = "sticky",
        /// The same, and the inputs of the next thunks are sent there while others run.
        Push = "push",
    }
}

impl WorkerPlacement {
    /// As the driver says it.
    pub(crate) fn placement(self) -> Placement {
        match self {
            Self::Random => Placement::Random,
            Self::Sticky => Placement::Sticky,
            Self::Push => Placement::Push,
        }
    }
}

words! {
    /// How many thunks a compiler call becomes.
    Staging {
        /// One.
        Fused = "fused",
        /// Preprocess, compile and assemble, where that is known to give the same.
        Staged = "staged",
    }
}

/// Where blobs live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StorePlace {
    /// In a directory.
    Directory(PathBuf),
    /// In the repository, and in a bucket that others share.
    Bucket(shared::Address),
}

impl StorePlace {
    /// The directory, if it is one.
    pub(crate) fn directory(&self) -> Option<&Path> {
        match self {
            Self::Directory(path) => Some(path),
            Self::Bucket(_) => None,
        }
    }

    /// Reads `s3://BUCKET/PREFIX` or a path; nothing for another scheme.
    pub(super) fn parse(raw: &Raw<'_>) -> Option<Self> {
        match raw.text().filter(|text| text.contains("://")) {
            Some(text) => shared::Address::parse(text).map(Self::Bucket),
            None => Some(Self::Directory(raw.path())),
        }
    }
}

impl fmt::Display for StorePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => path.display().fmt(f),
            Self::Bucket(address) => address.fmt(f),
        }
    }
}

words! {
    /// Whether a shared store is written to.
    StoreMode {
        /// What is made here is uploaded.
        ReadWrite = "read-write",
        /// Nothing is: for builds of what is not trusted.
        ReadOnly = "read-only",
    }
}

words! {
    /// When something optional is shown.
    When {
        /// If standard error is a terminal that can show it.
        Auto = "auto",
        /// Always.
        Always = "always",
        /// Never.
        Never = "never",
    }
}

/// A number of bytes; prints and parses with a binary unit (`512K`, `10G`, `1.5TiB`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct ByteSize(pub(crate) u64);

impl ByteSize {
    /// Reads a size; letters in either case, `B` or `iB` at the end or not.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        units::size(text).map(Self)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((unit, shift)) = UNITS.iter().rev().find(|(_, shift)| self.0 >= 1 << shift) else {
            return write!(f, "{} B", self.0);
        };
        let whole = self.0 as f64 / f64::from(*shift).exp2();
        if whole.fract() == 0.0 { write!(f, "{whole} {unit}iB") } else { write!(f, "{whole:.1} {unit}iB") }
    }
}

/// A place in a text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Span {
    /// From 1.
    pub(crate) line: usize,
    /// From 1, in characters.
    pub(crate) column: usize,
}

impl Span {
    /// The place of a byte offset (the end of the text if it lies beyond).
    pub(crate) fn of(text: &str, offset: usize) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self { line: before.matches('\n').count() + 1, column: before[start..].chars().count() + 1 }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn sizes_are_read_and_printed() {
        let check =
            |text: &str, bytes: Option<u64>| assert_eq!(ByteSize::parse(text).map(|s| s.0), bytes, "{text}");
        check("0", Some(0));
        check("512", Some(512));
        check("512k", Some(512 << 10));
        check("10G", Some(10 << 30));
        check("1.5 GiB", Some(3 << 29));
        check("2MB", Some(2 << 20));
        check("-1", None);
        check("", None);
        check("many", None);
        check("1e300", None);
        assert_eq!(ByteSize(10 << 30).to_string(), "10 GiB");
        assert_eq!(ByteSize(1536).to_string(), "1.5 KiB");
        assert_eq!(ByteSize(12).to_string(), "12 B");
    }

    #[test]
    fn places_are_named_once_each() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(Places::parse(text).map(|places| places.to_string()).as_deref(), expected, "{text}");
        };
        check("local", Some("local"));
        check("microvm", Some("microvm"));
        check("lambda, local", Some("local,lambda"));
        check("local,local", None);
        check("sandbox", Some("local"));
        check("worker", Some("worker"));
        check(
            "local,worker=unix:///run/w,worker=https://h:1",
            Some("local,worker=unix:/run/w,worker=https://h:1"),
        );
        check("worker=", None);
        check("worker=moon", None);
        check("microvm,worker", None);
        check("local,microvm", None);
        check("moon", None);
        check("", None);
    }

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(units::duration("15m"), Some(Duration::from_secs(900)));
        assert_eq!(units::duration("2 h"), Some(Duration::from_secs(7200)));
        for bad in ["", "15", "m", "-1s", "0s", "1d", "é"] {
            assert_eq!(units::duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_place_counts_characters() {
        assert_eq!(Span::of("a\nbé c", 5), Span { line: 2, column: 3 });
        assert_eq!(Span::of("", 9), Span { line: 1, column: 1 });
    }
}
