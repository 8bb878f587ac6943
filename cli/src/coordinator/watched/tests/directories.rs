//! Directories, and changes in them.

use std::fs;
use std::os::unix::fs::symlink;

use ggr_models::model::Directory;

use super::Tree;

const THERE: [&str; 5] = ["real", "real/", "real/.", "link", "link/../real"];

impl Tree {
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
    fn check_directories(&self, names: &[&str], change: impl FnOnce(&Self)) {
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
    tree.check_directories(&THERE, |tree| fs::write(tree.at("real/new.h"), "a").unwrap());
    tree.check_directories(&THERE, |tree| fs::hard_link(tree.at("real/new.h"), tree.at("real/b.h")).unwrap());
    tree.check_directories(&THERE, |tree| fs::rename(tree.at("real/new.h"), tree.at("real/c.h")).unwrap());
    tree.check_directories(&THERE, |tree| fs::rename(tree.at("real/c.h"), tree.at("out")).unwrap());
    tree.check_directories(&THERE, |tree| fs::rename(tree.at("out"), tree.at("real/c.h")).unwrap());
    tree.check_directories(&THERE, |tree| fs::remove_file(tree.at("real/c.h")).unwrap());
    tree.check_directories(&THERE, |tree| fs::create_dir(tree.at("real/new")).unwrap());
    tree.check_directories(&THERE, |tree| fs::rename(tree.at("real"), tree.at("moved")).unwrap());
}

#[test]
fn what_is_beside_or_below_it_is_of_no_matter() {
    let tree = Tree::new();
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
    tree.check_directories(&["none", "none/deep"], |tree| fs::create_dir(tree.at("none")).unwrap());
    tree.check_directories(&["link"], |tree| {
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
