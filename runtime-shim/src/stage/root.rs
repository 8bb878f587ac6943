//! One prepared root directory.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use ggr_ir::{BlobId, Entry, Mode, RootPath};
use rustc_hash::FxHashSet;

use super::plan::Plan;
use crate::blobs::{As, Blobs, LinkError};

/// A directory that holds what its plan says, and nothing else.
#[derive(Debug)]
pub(crate) struct Root {
    /// Its number within the worker.
    pub(crate) number: u64,
    path: PathBuf,
    /// What it holds; nothing yet when it is new.
    holds: Option<Plan>,
}

/// Why a root could not be made. It is then half one thing and half another, and must be thrown away.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StageError {
    #[error("{} input blobs are missing", .0.len())]
    Missing(Vec<BlobId>),
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("staging `{}`", path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl Root {
    /// An empty one below `dir`.
    pub(crate) fn new(dir: &Path, number: u64) -> Result<Self, StageError> {
        let path = dir.join(number.to_string());
        match make_dir(&path, 0o755) {
            Ok(()) => Ok(Self { number, path, holds: None }),
            Err(source) => Err(StageError::Io { path, source }),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn holds(&self) -> Option<&Plan> {
        self.holds.as_ref()
    }

    /// Changes what it holds into what `plan` needs.
    ///
    /// # Errors
    /// All blobs that are missing, together; or the first other failure.
    pub(crate) fn become_for(&mut self, plan: Plan, blobs: &Blobs) -> Result<(), StageError> {
        let none = FxHashSet::default();
        let held = self.holds.take();
        let held_dirs = held.as_ref().map_or(&none, |held| &held.dirs);
        let (gone, new) = difference(held.as_ref(), &plan);
        for path in gone {
            self.at(path.as_str(), |at| fs::remove_file(at))?;
        }
        let mut dirs: Vec<&str> = held_dirs.difference(&plan.dirs).map(|dir| &**dir).collect();
        dirs.sort_unstable();
        for dir in dirs.iter().rev() {
            self.at(dir, |at| fs::remove_dir(at))?;
        }
        let mut dirs: Vec<&str> = plan.dirs.difference(held_dirs).map(|dir| &**dir).collect();
        dirs.sort_unstable();
        for dir in dirs {
            let mode = if matches!(dir, "/tmp" | "/var/tmp") { 0o1777 } else { 0o755 };
            self.at(dir, |at| make_dir(at, mode))?;
        }
        self.put_all(&new, blobs)?;
        self.holds = Some(plan);
        Ok(())
    }

    fn put_all(&self, new: &[(&RootPath, &Entry<BlobId>)], blobs: &Blobs) -> Result<(), StageError> {
        let mut missing = Vec::new();
        for (path, entry) in new {
            match self.put(path, entry, blobs) {
                Err(StageError::Link(LinkError::Missing(id))) => missing.push(id),
                other => other?,
            }
        }
        if missing.is_empty() { Ok(()) } else { Err(StageError::Missing(missing)) }
    }

    fn put(&self, path: &RootPath, entry: &Entry<BlobId>, blobs: &Blobs) -> Result<(), StageError> {
        let kind = match entry.mode {
            Mode::Directory => return Ok(()),
            Mode::Symlink => {
                let target = blobs.bytes(entry.object)?;
                return self.at(path.as_str(), |at| {
                    use std::os::unix::ffi::OsStrExt;
                    symlink(std::ffi::OsStr::from_bytes(&target), at)
                });
            }
            Mode::Regular => As::File,
            Mode::Executable => As::Program,
        };
        Ok(blobs.link(entry.object, kind, &path.under(&self.path))?)
    }

    fn at(&self, path: &str, act: impl FnOnce(&Path) -> io::Result<()>) -> Result<(), StageError> {
        let path = self.path.join(&path[1..]);
        act(&path).map_err(|source| StageError::Io { path, source })
    }
}

/// Makes a directory with this mode whatever the umask.
fn make_dir(path: &Path, mode: u32) -> io::Result<()> {
    fs::DirBuilder::new().mode(0o700).create(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// What is held and not wanted so (files alone), and what is wanted and not held so.
fn difference<'a>(
    held: Option<&'a Plan>,
    wanted: &'a Plan,
) -> (Vec<&'a RootPath>, Vec<(&'a RootPath, &'a Entry<BlobId>)>) {
    let (mut gone, mut new) = (Vec::new(), Vec::new());
    let mut held = held.into_iter().flat_map(|plan| &plan.thunk.inputs).peekable();
    let mut drop_held = |(path, entry): (&'a RootPath, &'a Entry<BlobId>)| {
        if entry.mode != Mode::Directory {
            gone.push(path);
        }
    };
    for (path, entry) in &wanted.thunk.inputs {
        while let Some(old) = held.next_if(|(old, _)| *old < path) {
            drop_held(old);
        }
        match held.next_if(|(old, _)| *old == path) {
            Some((_, old)) if old == entry => {}
            Some(old) => {
                drop_held(old);
                new.push((path, entry));
            }
            None => new.push((path, entry)),
        }
    }
    held.for_each(drop_held);
    (gone, new)
}
