//! Programs that show or store files' sizes without opening them: they wait until every placeholder that stands is real.
//!
//! `stat` and its like cannot all be watched (see `intercept/filter.rs`), but the start of such a program can.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Mutex, OnceLock};

use super::Session;
use crate::intercept::supervisor::{FileId, Held};

/// What they are called. make and the shells are none: they ask for times, thousands of times; nor are programs that open
/// what they look at.
const PROGRAMS: [&str; 14] = [
    "find", "du", "stat", "ls", "dir", "vdir", "tar", "bsdtar", "cpio", "rsync", "zip", "test", "[",
    "busybox",
];

/// Where they are.
const DIRS: [&str; 5] = ["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"];

/// Who waits.
#[derive(Default)]
pub(super) struct Sizing {
    programs: OnceLock<HashSet<FileId>>,
    waiting: Mutex<HashSet<u32>>,
}

impl Sizing {
    fn is_sizer(&self, file: FileId) -> bool {
        let id = |path: std::path::PathBuf| fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()));
        let all = || PROGRAMS.iter().flat_map(|name| DIRS.iter().map(move |dir| Path::new(dir).join(name)));
        self.programs.get_or_init(|| all().filter_map(id).collect()).contains(&file)
    }
}

impl Session {
    /// Holds the start of a program that looks at sizes until what stands now is real; gives back any other.
    pub(super) fn hold_for_sizes(&self, file: FileId, held: Held) -> Option<Held> {
        if self.placeholders.len() == 0 || !self.sizing.is_sizer(file) {
            return Some(held);
        }
        let session = self.me.upgrade()?;
        let standing = self.placeholders.all();
        self.sizing.waiting.lock().expect("no holder panics").insert(held.pid);
        self.runtime.spawn(async move {
            for placeholder in &standing {
                session.demand(placeholder.output.thunk).await;
            }
            for placeholder in standing {
                placeholder.settled().await;
            }
            session.sizing.waiting.lock().expect("no holder panics").remove(&held.pid);
            drop(held);
        });
        None
    }

    /// The processes that wait for placeholders.
    pub(crate) fn stuck(&self) -> Vec<u32> {
        let mut stuck = self.placeholders.waiting();
        stuck.extend(self.sizing.waiting.lock().expect("no holder panics").iter());
        stuck
    }
}
