//! What a repository holds: every file with its size and last use. For `stats`, the collector and the checker.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ggr_ir::Hash;
use ggr_ir::repo::Repo;

use super::layout;

/// What a file of the repository holds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// A blob's bytes.
    Blob,
    /// A blob's bytes again, executable.
    Twin,
    /// A reduction.
    Reduction,
    /// An encoded thunk.
    Thunk,
    /// What is known of a command that has no model.
    Capture,
}

/// The directories that are listed, and what they hold.
const DIRECTORIES: [(&str, Kind); 4] = [
    ("blobs", Kind::Blob),
    ("reductions", Kind::Reduction),
    ("thunks", Kind::Thunk),
    ("captures", Kind::Capture),
];

/// One file.
#[derive(Clone, Debug)]
pub struct Item {
    /// What it holds.
    pub kind: Kind,
    /// The hash that it is named by.
    pub hash: Hash,
    /// Where it stands.
    pub path: PathBuf,
    /// The room that it takes on disk, in bytes.
    pub room: u64,
    /// When it was last used.
    pub used: SystemTime,
}

/// Everything that a repository holds.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    /// The files, in no order.
    pub items: Vec<Item>,
    /// Files whose names are no hashes: they do not belong there.
    pub stray: Vec<PathBuf>,
}

/// How many files there are, and the room they take on disk in bytes.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Usage {
    /// Files.
    pub files: u64,
    /// Bytes on disk.
    pub room: u64,
}

/// A directory of the repository cannot be listed.
#[derive(Debug, thiserror::Error)]
#[error("cannot list `{}`", path.display())]
pub struct InventoryError {
    /// The directory.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

impl Inventory {
    /// Lists a repository: a `stat` per file. Files that vanish meanwhile are left out.
    pub fn of(repo: &Repo) -> Result<Self, InventoryError> {
        let mut inventory = Self::default();
        for (name, kind) in DIRECTORIES {
            for shard in entries(&repo.root().join(name))? {
                if !shard.is_dir() {
                    inventory.stray.push(shard);
                    continue;
                }
                entries(&shard)?.into_iter().for_each(|path| inventory.add(kind, path));
            }
        }
        Ok(inventory)
    }

    /// Files of these kinds.
    pub fn usage(&self, kinds: &[Kind]) -> Usage {
        let chosen = self.items.iter().filter(|item| kinds.contains(&item.kind));
        chosen.fold(Usage::default(), |sum, item| sum.with(item))
    }

    fn add(&mut self, kind: Kind, path: PathBuf) {
        let kind = match layout::parse(&path) {
            Some((_, false)) => kind,
            Some((_, true)) if kind == Kind::Blob => Kind::Twin,
            _ => return self.stray.push(path),
        };
        let hash = layout::parse(&path).expect("it was parsed above").0;
        if let Ok(meta) = fs::symlink_metadata(&path) {
            self.items.push(Item {
                kind,
                hash,
                room: meta.blocks() * 512,
                used: last_use(kind, &meta),
                path,
            });
        }
    }
}

impl Usage {
    /// With one more file.
    pub fn with(self, item: &Item) -> Self {
        Self { files: self.files + 1, room: self.room + item.room }
    }
}

/// When a file was last used; each kind's writer says why it is this time.
pub(super) fn last_use(kind: Kind, meta: &fs::Metadata) -> SystemTime {
    let (seconds, nanoseconds) = match kind {
        Kind::Blob | Kind::Twin => (meta.ctime(), meta.ctime_nsec()),
        Kind::Reduction | Kind::Thunk | Kind::Capture => (meta.mtime(), meta.mtime_nsec()),
    };
    UNIX_EPOCH + Duration::new(seconds.try_into().unwrap_or(0), nanoseconds.try_into().unwrap_or(0))
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>, InventoryError> {
    let failed = |source| InventoryError { path: dir.to_owned(), source };
    match fs::read_dir(dir) {
        Ok(entries) => {
            entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>().map_err(failed)
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(failed(source)),
    }
}
