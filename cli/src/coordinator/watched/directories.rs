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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    use super::super::FEW_CALLS;
    use super::*;

    const THERE: [&str; 5] = ["real", "real/", "real/.", "link", "link/../real"];

    struct Tree {
        dir: tempfile::TempDir,
        watched: Watched,
    }

    impl Tree {
        fn new() -> Self {
            let tree = Self { dir: tempfile::tempdir().unwrap(), watched: Watched::new() };
            (0..FEW_CALLS).for_each(|_| tree.watched.refresh());
            fs::create_dir_all(tree.at("real/deep")).unwrap();
            symlink("real", tree.at("link")).unwrap();
            tree
        }

        fn at(&self, name: &str) -> PathBuf {
            self.dir.path().canonicalize().unwrap().join(name)
        }

        /// Whether the directory was looked at, which leaves a stamp that is settled unless told otherwise.
        fn looks(&self, name: &str, settled: bool) -> bool {
            self.watched.refresh();
            let (path, mut looked) = (self.at(name), false);
            let found = self.watched.directory(&path, || {
                looked = true;
                Directory::at(&path).map(|found| Directory { stamp: settled.then_some(1), ..found })
            });
            assert_eq!(found.map(|dir| dir.inode), Directory::at(&path).map(|dir| dir.inode), "{name}");
            assert!(path.is_dir() || !self.watched.is_directory(&path), "{name}");
            looked
        }

        /// Each path is known, and is not any more after the change.
        fn check(&self, names: &[&str], change: impl FnOnce(&Self)) {
            for name in names {
                self.looks(name, true);
            }
            names.iter().for_each(|name| assert!(!self.looks(name, true), "{name} is remembered"));
            change(self);
            names.iter().for_each(|name| assert!(self.looks(name, true), "{name} has changed"));
        }
    }

    #[test]
    fn a_directory_is_looked_at_again_when_an_entry_came_or_went() {
        let tree = Tree::new();
        tree.check(&THERE, |tree| fs::write(tree.at("real/a.h"), "a").unwrap());
        tree.check(&THERE, |tree| fs::hard_link(tree.at("real/a.h"), tree.at("real/b.h")).unwrap());
        tree.check(&THERE, |tree| fs::rename(tree.at("real/a.h"), tree.at("real/c.h")).unwrap());
        tree.check(&THERE, |tree| fs::rename(tree.at("real/c.h"), tree.at("out")).unwrap());
        tree.check(&THERE, |tree| fs::rename(tree.at("out"), tree.at("real/c.h")).unwrap());
        tree.check(&THERE, |tree| fs::remove_file(tree.at("real/c.h")).unwrap());
        tree.check(&THERE, |tree| fs::create_dir(tree.at("real/new")).unwrap());
        tree.check(&THERE, |tree| fs::rename(tree.at("real"), tree.at("moved")).unwrap());
    }

    #[test]
    fn what_is_beside_or_below_it_is_of_no_matter() {
        let tree = Tree::new();
        fs::write(tree.at("real/a.h"), "a").unwrap();
        for name in THERE {
            tree.looks(name, true);
        }
        fs::write(tree.at("real/a.h"), "b").unwrap();
        fs::write(tree.at("real/deep/x"), "x").unwrap();
        fs::write(tree.at("beside"), "x").unwrap();
        THERE.iter().for_each(|name| assert!(!tree.looks(name, true), "{name}"));
        assert!(tree.watched.is_directory(&tree.at("real")) && tree.watched.is_directory(&tree.at("link")));
    }

    #[test]
    fn a_missing_directory_may_appear_and_a_link_be_turned() {
        let tree = Tree::new();
        tree.check(&["none", "none/deep"], |tree| fs::create_dir(tree.at("none")).unwrap());
        tree.check(&["link"], |tree| {
            fs::remove_file(tree.at("link")).unwrap();
            symlink("none", tree.at("link")).unwrap();
        });
    }

    #[test]
    fn a_stamp_that_may_miss_a_change_is_not_kept() {
        let tree = Tree::new();
        assert!(tree.looks("real", false) && tree.looks("real", false));
        assert!(tree.looks("real", true) && !tree.looks("real", true));
    }
}
