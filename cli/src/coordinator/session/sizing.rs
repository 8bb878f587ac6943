//! Programs that show or store files' sizes without opening them: they wait until the placeholders that they may look at are real.
//!
//! `stat` and its like cannot all be watched (see `intercept/filter.rs`), but the start of such a program can.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use super::Session;
use crate::coordinator::placeholders::Placeholder;
use crate::intercept::supervisor::{FileId, Held};
use crate::intercept::sys;

/// What they are called. make and the shells are none: they ask for times, thousands of times; nor are programs that open
/// what they look at.
const PROGRAMS: [(&str, Looks); 14] = [
    ("find", Looks::Anywhere),
    ("du", Looks::Anywhere),
    ("stat", Looks::AtArguments),
    ("ls", Looks::AtArguments),
    ("dir", Looks::AtArguments),
    ("vdir", Looks::AtArguments),
    ("tar", Looks::Anywhere),
    ("bsdtar", Looks::Anywhere),
    ("cpio", Looks::Anywhere),
    ("rsync", Looks::Anywhere),
    ("zip", Looks::Anywhere),
    ("test", Looks::AtArguments),
    ("[", Looks::AtArguments),
    ("busybox", Looks::Anywhere),
];

/// Where they are.
const DIRS: [&str; 5] = ["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"];

/// With more arguments than this, a program waits for all.
const MOST_ARGS: usize = 64;

/// Which files a program may look at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Looks {
    /// Lists of names may come from files, and expressions may name others.
    Anywhere,
    /// What its arguments name and what lies below; below the working directory if they name nothing. Every `configure` script has
    /// an `ls -Lt` of two files, and would wait for all that was deferred before it.
    AtArguments,
}

/// Who waits.
#[derive(Default)]
pub(super) struct Sizing {
    programs: OnceLock<HashMap<FileId, Looks>>,
    waiting: Mutex<HashSet<u32>>,
}

impl Sizing {
    fn looks(&self, file: FileId) -> Option<Looks> {
        self.programs.get_or_init(installed).get(&file).copied()
    }
}

/// The programs that are there. One file may have several names.
fn installed() -> HashMap<FileId, Looks> {
    let mut found = HashMap::new();
    for (name, looks) in PROGRAMS {
        for meta in DIRS.iter().filter_map(|dir| fs::metadata(Path::new(dir).join(name)).ok()) {
            let known = found.entry((meta.dev(), meta.ino())).or_insert(looks);
            if looks == Looks::Anywhere {
                *known = looks;
            }
        }
    }
    found
}

/// The places that a program with these arguments looks at, in that directory; nothing if it follows the links in a directory to
/// elsewhere.
fn named(args: &[Vec<u8>], dir: &Path) -> Option<Vec<PathBuf>> {
    let args = || args.iter().skip(1);
    let follows = |arg: &Vec<u8>| {
        let long = arg.starts_with(b"--dereference");
        long || arg.first() == Some(&b'-') && arg.get(1) != Some(&b'-') && arg.contains(&b'L')
    };
    let place = |arg: &Vec<u8>| dir.join(OsStr::from_bytes(arg)).canonicalize().ok();
    let mut places: Vec<_> = args().filter(|arg| !arg.is_empty()).filter_map(place).collect();
    if places.is_empty() {
        places.push(dir.canonicalize().ok()?);
    }
    let stays = !args().any(follows) || places.iter().all(|place| !place.is_dir());
    stays.then_some(places)
}

/// Whether a placeholder may be seen from one of the places: one with several names from anywhere, one without any from nowhere.
fn is_seen(placeholder: &Placeholder, places: &[PathBuf]) -> bool {
    let names = placeholder.names();
    if names == 0 {
        return false;
    }
    let Some(path) = placeholder.current_path().and_then(|path| path.canonicalize().ok()) else {
        return true;
    };
    names > 1 || places.iter().any(|place| path.starts_with(place))
}

impl Session {
    /// Holds the start of a program that looks at sizes until what it may see is real; gives back any other. `args` is the address
    /// of its arguments.
    pub(super) fn hold_for_sizes(&self, file: FileId, args: u64, held: Held) -> Option<Held> {
        if self.placeholders.len() == 0 {
            return Some(held);
        }
        let Some(looks) = self.sizing.looks(file) else { return Some(held) };
        let seen = self.seen(looks, args, held.pid);
        if seen.is_empty() {
            return Some(held);
        }
        let session = self.me.upgrade()?;
        self.sizing.waiting.lock().expect("no holder panics").insert(held.pid);
        self.runtime.spawn(async move {
            for placeholder in &seen {
                session.demand(placeholder.output.thunk).await;
            }
            for placeholder in seen {
                placeholder.settled().await;
            }
            session.sizing.waiting.lock().expect("no holder panics").remove(&held.pid);
            drop(held);
        });
        None
    }

    /// The placeholders that stand now and that the program may look at; all if it cannot be told.
    fn seen(&self, looks: Looks, args: u64, pid: u32) -> Vec<Arc<Placeholder>> {
        let mut standing = self.placeholders.all();
        if looks == Looks::AtArguments
            && let Ok(args) = sys::read_args(pid, args, MOST_ARGS)
            && let Some(places) = named(&args, Path::new(&format!("/proc/{pid}/cwd")))
        {
            standing.retain(|placeholder| is_seen(placeholder, &places));
        }
        standing
    }

    /// The processes that wait for placeholders.
    pub(crate) fn stuck(&self) -> Vec<u32> {
        let mut stuck = self.placeholders.waiting();
        stuck.extend(self.sizing.waiting.lock().expect("no holder panics").iter());
        stuck
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_looks_at_what_its_arguments_name() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        fs::create_dir(dir.join("sub")).unwrap();
        fs::write(dir.join("file"), "").unwrap();
        std::os::unix::fs::symlink("sub", dir.join("link")).unwrap();
        let check = |line: &str, places: Option<&[&str]>| {
            let args: Vec<Vec<u8>> = line.split(' ').map(Into::into).collect();
            let places = places.map(|places| places.iter().map(|place| dir.join(place)).collect());
            assert_eq!(named(&args, &dir), places, "{line}");
        };
        check("ls -t file sub", Some(&["file", "sub"]));
        check("ls -l link", Some(&["sub"]));
        check("ls -l", Some(&[""]));
        check("ls absent", Some(&[""]));
        check("[ -s file ]", Some(&["file"]));
        check("ls -Lt file link", None);
        check("ls -Lt file absent", Some(&["file"]));
        check("ls -lL", None);
        check("stat --dereference sub", None);
        check("ls /", Some(&["/"]));
    }
}
