//! What identifies a directory, for as long as no entry comes, goes or is renamed in it.
//!
//! A compiler's search for a header is remembered with the stamps of the directories that it went through: some forty `stat`s
//! for each call, an eighth of the time in which a call that is remembered becomes a thunk.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{PoisonError, RwLock};

use ggr_models::model::Directory;
use rustc_hash::FxHashMap;

use super::watches::Way;
use super::{Name, Watched};

/// What was found under each name; nothing where no directory is.
#[derive(Debug, Default)]
pub(super) struct Directories(RwLock<FxHashMap<Name, Option<Directory>>>);

impl Directories {
    fn known(&self, path: &[u8]) -> Option<Option<Directory>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(path).copied()
    }

    fn insert(&self, path: Name, found: Option<Directory>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(path, found);
    }

    pub(super) fn forget(&self, paths: &[Name]) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for path in paths {
            known.remove(path);
        }
    }

    pub(super) fn clear(&self) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Watched {
    /// Whether a directory is known to stand at this path, symlinks followed.
    pub(crate) fn is_directory(&self, path: &Path) -> bool {
        self.watches().dirs.contains_key(path.as_os_str().as_bytes())
    }

    /// What identifies the directory at this path; `look` is asked where that is not known. Not kept is a stamp that may miss
    /// a change, nor that of a directory whose changes would not be noticed.
    pub(crate) fn directory(
        &self,
        path: &Path,
        look: impl FnOnce() -> Option<Directory>,
    ) -> Option<Directory> {
        let text = path.as_os_str().as_bytes();
        if let Some(known) = self.directories.known(text) {
            return known;
        }
        let Some(inotify) = self.inotify() else { return look() };
        let mut watches = self.watches();
        let way = watches.dir(inotify, text.strip_suffix(b"/").unwrap_or(text), 0);
        // Looked at after the watch was set, and kept before anybody can hear of a change: the lock is held.
        let found = look();
        match (way, found) {
            (Way::There(dir), Some(Directory { stamp: Some(_), .. })) => {
                watches.listed.entry(dir.watch).or_default().push(text.into());
            }
            (Way::Missing(watch, name), None) => watches.note((watch, name), &text.into()),
            _ => return found,
        }
        self.directories.insert(text.into(), found);
        found
    }
}
