//! Real files and real changes.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use tempfile::TempDir;

use super::*;

mod directories;

struct Tree {
    dir: TempDir,
    watched: Watched,
}

impl Tree {
    fn new() -> Self {
        let tree = Self { dir: tempfile::tempdir().unwrap(), watched: Watched::new() };
        (0..FEW_CALLS).for_each(|_| tree.watched.refresh());
        fs::create_dir_all(tree.at("real/deep")).unwrap();
        symlink("real", tree.at("link")).unwrap();
        fs::write(tree.at("real/a.h"), "a").unwrap();
        symlink("../a.h", tree.at("real/deep/up.h")).unwrap();
        tree
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().canonicalize().unwrap().join(name)
    }

    /// Looks, if it is not known, and says what is known then.
    fn see(&self, name: &str) -> Option<Known> {
        self.watched.refresh();
        let path = self.at(name);
        if let Some(known) = self.watched.known(&path) {
            return Some(known);
        }
        let look = self.watched.look(&path)?;
        match fs::read(&path) {
            Ok(bytes) => {
                let standing = Standing::File { blob: BlobId::of(&bytes), executable: false };
                let meta = fs::metadata(&path).unwrap();
                self.watched.learn(look, standing, Some((meta.dev(), meta.ino())));
            }
            Err(_) => self.watched.learn(look, Standing::Nothing, None),
        }
        self.watched.known(&path)
    }

    /// What is known without looking.
    fn knows(&self, name: &str) -> bool {
        self.watched.refresh();
        self.watched.known(&self.at(name)).is_some()
    }

    /// Each path is known, and is not any more after the change.
    fn check(&self, names: &[&str], change: impl FnOnce(&Self)) {
        for name in names {
            assert!(self.see(name).is_some(), "{name} can be watched");
            assert!(self.knows(name), "{name} is remembered");
        }
        change(self);
        for name in names {
            assert!(!self.knows(name), "{name} has changed");
        }
    }
}

const EXISTING: [&str; 5] = ["real/a.h", "real/./a.h", "link/a.h", "real/deep/../a.h", "real/deep/up.h"];

#[test]
fn a_file_that_changes_is_looked_at_again() {
    let tree = Tree::new();
    tree.check(&EXISTING, |tree| fs::write(tree.at("real/a.h"), "b").unwrap());
    tree.check(&EXISTING, |tree| fs::remove_file(tree.at("real/a.h")).unwrap());
    tree.check(&EXISTING, |tree| fs::write(tree.at("real/a.h"), "c").unwrap());
    tree.check(&EXISTING, |tree| {
        fs::write(tree.at("new"), "d").unwrap();
        fs::rename(tree.at("new"), tree.at("real/a.h")).unwrap();
    });
    tree.check(&EXISTING, |tree| {
        let all = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o755);
        fs::set_permissions(tree.at("real/a.h"), all).unwrap();
    });
}

#[test]
fn a_change_by_another_name_is_seen() {
    let tree = Tree::new();
    fs::hard_link(tree.at("real/a.h"), tree.at("other")).unwrap();
    tree.check(&EXISTING, |tree| fs::write(tree.at("other"), "b").unwrap());
    tree.check(&EXISTING, |tree| {
        fs::hard_link(tree.at("real/a.h"), tree.at("third")).unwrap();
        fs::write(tree.at("third"), "c").unwrap();
    });
}

#[test]
fn directories_and_links_that_are_turned_elsewhere_are_seen() {
    let tree = Tree::new();
    tree.check(&["link/a.h"], |tree| {
        fs::create_dir(tree.at("else")).unwrap();
        fs::remove_file(tree.at("link")).unwrap();
        symlink("else", tree.at("link")).unwrap();
    });
    tree.check(&["real/deep/up.h"], |tree| {
        fs::remove_file(tree.at("real/deep/up.h")).unwrap();
        symlink("nowhere", tree.at("real/deep/up.h")).unwrap();
    });
    tree.check(&EXISTING, |tree| fs::rename(tree.at("real"), tree.at("moved")).unwrap());
}

#[test]
fn what_was_missing_may_appear() {
    let tree = Tree::new();
    let missing = ["real/b.h", "none/b.h", "none/deep/b.h", "link/none/b.h"];
    for name in missing {
        assert_eq!(tree.see(name).map(|known| known.standing), Some(Standing::Nothing), "{name}");
    }
    tree.check(&["none/b.h", "none/deep/b.h"], |tree| fs::create_dir(tree.at("none")).unwrap());
    tree.check(&["none/b.h"], |tree| fs::write(tree.at("none/b.h"), "").unwrap());
    tree.check(&["real/b.h"], |tree| symlink("a.h", tree.at("real/b.h")).unwrap());
    assert!(tree.see("real/b.h").is_some_and(|known| known.is_link));
    assert!(tree.see("real/a.h").is_some_and(|known| !known.is_link));
}

#[test]
fn a_link_is_read_again_when_it_was_replaced() {
    let tree = Tree::new();
    let target = |name: &str| {
        tree.watched.refresh();
        tree.watched.link_target(&tree.at("").join(name)).map(|path| path.to_str().unwrap().to_owned())
    };
    for _ in 0..2 {
        assert_eq!(target("link").as_deref(), Some("real"));
        assert_eq!(target("real"), None);
        assert_eq!(target("real/a.h"), None);
        assert_eq!(target("none/deep/x"), None);
    }
    fs::remove_file(tree.at("link")).unwrap();
    assert_eq!(target("link"), None);
    symlink("else", tree.at("link")).unwrap();
    assert_eq!(target("link").as_deref(), Some("else"));
    fs::create_dir(tree.at("none")).unwrap();
    symlink("../real", tree.at("none/deep")).unwrap();
    symlink("y", tree.at("real/x")).unwrap();
    assert_eq!(target("none/deep/x").as_deref(), Some("y"));
}

#[test]
fn what_is_of_no_matter_is_not_forgotten() {
    let tree = Tree::new();
    assert!(tree.see("real/a.h").is_some() && tree.see("real/b.h").is_some());
    fs::write(tree.at("real/a.o"), "x").unwrap();
    fs::create_dir(tree.at("sub")).unwrap();
    assert!(tree.knows("real/a.h") && tree.knows("real/b.h"));
}

#[test]
fn a_change_while_somebody_looks_makes_what_was_seen_worthless() {
    let tree = Tree::new();
    let path = tree.at("real/a.h");
    let look = tree.watched.look(&path).unwrap();
    let meta = fs::metadata(&path).unwrap();
    fs::write(&path, "b").unwrap();
    tree.watched.refresh();
    let old = Standing::File { blob: BlobId::of(b"a"), executable: false };
    tree.watched.learn(look, old, Some((meta.dev(), meta.ino())));
    assert!(!tree.knows("real/a.h"));
    // The same, when the change is noticed only afterwards.
    let look = tree.watched.look(&path).unwrap();
    fs::write(&path, "c").unwrap();
    tree.watched.learn(look, old, Some((meta.dev(), meta.ino())));
    assert!(!tree.knows("real/a.h"));
}

#[test]
fn a_file_that_is_forgotten_is_forgotten_by_all_its_names() {
    let tree = Tree::new();
    tree.check(&EXISTING, |tree| {
        let meta = fs::metadata(tree.at("real/a.h")).unwrap();
        tree.watched.forget((meta.dev(), meta.ino()));
    });
}

#[test]
fn the_first_calls_of_a_build_watch_nothing() {
    let tree = Tree { dir: tempfile::tempdir().unwrap(), watched: Watched::new() };
    fs::write(tree.at("a.h"), "a").unwrap();
    let known: Vec<_> = (0..FEW_CALLS).map(|_| tree.see("a.h").is_some()).collect();
    assert_eq!(known, [false, false, true]);
}
