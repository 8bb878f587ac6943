//! Remembered scans: an earlier answer is given again if nothing that it looked at has changed, by stats alone.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use super::request::ScanRequest;
use super::result::Scan;
use super::symbol::{Sym, Symbols};
use super::watch::{Watch, as_path};
use crate::model::{Directory, FileView, Found};

/// What a scan is remembered by: a hash of the whole request.
pub(crate) type Key = [u8; 32];

pub(crate) fn key(request: &ScanRequest) -> Option<Key> {
    Some(*blake3::hash(&postcard::to_allocvec(request).ok()?).as_bytes())
}

/// A directory that was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SeenDir {
    pub(crate) path: Sym,
    /// Device and inode; none if it was not there.
    pub(crate) identity: Option<(u64, u64)>,
    /// While this is its stamp, none of the absent paths that it vouches for has appeared.
    pub(crate) stamp: Option<u64>,
    /// How many of [`Remembered::absent`] it vouches for.
    pub(crate) absent: u32,
}

/// A scan and all that it looked at.
#[derive(Clone, Debug)]
pub(crate) struct Remembered {
    pub(crate) scan: Arc<Scan>,
    /// Files that were found, with their stamps.
    pub(crate) found: Vec<(Sym, u64)>,
    pub(crate) dirs: Vec<SeenDir>,
    /// Paths where nothing was, in the order of `dirs`.
    pub(crate) absent: Vec<Sym>,
}

/// Whether a remembered scan still holds.
pub(crate) enum Verdict {
    Holds,
    /// It holds, but directories have new stamps: remember this in its place.
    HoldsWith(Remembered),
    Outdated,
}

impl Remembered {
    pub(crate) fn new(scan: Arc<Scan>, watch: &Watch) -> Remembered {
        let mut found = watch.found.clone();
        found.sort_unstable();
        found.dedup();
        let mut by_dir: FxHashMap<Sym, (Option<u64>, Vec<Sym>)> = FxHashMap::default();
        for absent in &watch.absent {
            let entry = by_dir.entry(absent.dir).or_insert((absent.stamp, Vec::new()));
            // A path that its directory cannot vouch for (a dangling link) makes the group be checked one by one.
            if absent.stamp.is_none() {
                entry.0 = None;
            }
            entry.1.push(absent.path);
        }
        let mut dirs = Vec::new();
        let mut absent = Vec::new();
        for (path, directory) in watch.dirs() {
            let identity = directory.map(|directory| (directory.device, directory.inode));
            let (stamp, mut names) = by_dir.remove(&path).unwrap_or_default();
            names.sort_unstable();
            names.dedup();
            dirs.push(SeenDir { path, identity, stamp, absent: names.len() as u32 });
            absent.extend(names);
        }
        for (path, (_, names)) in by_dir {
            dirs.push(SeenDir { path, identity: None, stamp: None, absent: names.len() as u32 });
            absent.extend(names);
        }
        Remembered { scan, found, dirs, absent }
    }

    /// Compares all that was looked at with how it is now.
    pub(crate) fn verdict(&self, symbols: &Symbols, files: &dyn FileView) -> Verdict {
        for (path, stamp) in &self.found {
            if files.stamp(as_path(symbols.text(*path))) != Some(*stamp) {
                return Verdict::Outdated;
            }
        }
        let look = |seen: &SeenDir| files.directory(as_path(symbols.text(seen.path)));
        let now: Vec<_> = self.dirs.iter().map(look).collect();
        if !self.are_alike(&now) {
            return Verdict::Outdated;
        }
        let mut renewed: Option<Vec<SeenDir>> = None;
        let mut next = 0;
        for (at, seen) in self.dirs.iter().enumerate() {
            let names = &self.absent[next..next + seen.absent as usize];
            next += seen.absent as usize;
            let stamp = now[at].and_then(|now| now.stamp);
            if names.is_empty() || (seen.stamp.is_some() && stamp == seen.stamp) {
                continue;
            }
            if names.iter().any(|name| !is_absent(symbols, *name, files)) {
                return Verdict::Outdated;
            }
            let dangling = names.iter().any(|name| is_dangling(symbols, seen.path, *name, files));
            if stamp.is_some() && !dangling {
                renewed.get_or_insert_with(|| self.dirs.clone())[at].stamp = stamp;
            }
        }
        match renewed {
            Some(dirs) => Verdict::HoldsWith(Remembered { dirs, ..self.clone() }),
            None => Verdict::Holds,
        }
    }

    /// Whether the same directories exist as before, and the same ones are one and the same. GCC compares directories with
    /// each other, to pass over those given twice; which ones they are is nothing to it, so a scan holds for a copy of the
    /// tree.
    fn are_alike(&self, now: &[Option<Directory>]) -> bool {
        let now: Vec<_> = now.iter().map(|now| now.map(|now| (now.device, now.inode))).collect();
        let first = |of: usize, is_it: &dyn Fn(usize) -> bool| (0..of).find(|at| is_it(*at));
        self.dirs.iter().enumerate().all(|(at, seen)| {
            now[at].is_some() == seen.identity.is_some()
                && first(at, &|other| now[other] == now[at])
                    == first(at, &|other| self.dirs[other].identity == seen.identity)
        })
    }
}

fn is_absent(symbols: &Symbols, path: Sym, files: &dyn FileView) -> bool {
    matches!(files.find(as_path(symbols.text(path))), Found::Missing | Found::Directory)
}

/// Whether the path goes through a symlink without a target right below the directory: nothing there vouches for it.
fn is_dangling(symbols: &Symbols, dir: Sym, path: Sym, files: &dyn FileView) -> bool {
    let dir = as_path(symbols.text(dir));
    let entry = as_path(symbols.text(path)).ancestors().find(|entry| entry.parent() == Some(dir));
    entry.is_none_or(|entry| files.link_target(entry).is_some())
}
