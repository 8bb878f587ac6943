//! What a root must hold for a thunk.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use ggr_ir::{BlobId, Entry, Kind, Mode, ReadyThunk, RootPath};
use rustc_hash::{FxHashSet, FxHasher};

/// Directories that every root has: mount points, and places for temporary files.
const ALWAYS: [&str; 5] = ["/dev", "/proc", "/tmp", "/var", "/var/tmp"];

/// Directories that the sandbox mounts over: nothing can be staged or harvested below them.
const MOUNTED: [&str; 2] = ["/dev", "/proc"];

/// Directories whose files are nobody's, unless the thunk's own lie there.
const TEMPORARY: [&str; 2] = ["/tmp", "/var/tmp"];

/// Directories of the system that builds only read: "/usr is shareable, read-only data" (FHS 3.0, 4.1).
const SYSTEM: [&str; 1] = ["/usr"];

/// A thunk, and the directories that its root needs.
///
/// **Invariant:** no input lies below another input that is not a directory, so staging never goes through a symlink.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) thunk: Arc<ReadyThunk>,
    /// All directories but `/`.
    pub(crate) dirs: FxHashSet<Box<str>>,
    /// Equal for plans with the same root; jobs that are alike in kind, program and directory have roots that are alike.
    pub(crate) same: u64,
    pub(crate) alike: u64,
}

/// A thunk that no root can hold.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PlanError {
    #[error("input `{0}` is needed as a directory and is none")]
    NotADirectory(RootPath),
    #[error("input `{0}` lies where the sandbox has its own files")]
    Covered(RootPath),
}

impl Plan {
    pub(crate) fn new(thunk: Arc<ReadyThunk>, kind: Kind) -> Result<Self, PlanError> {
        let dirs = directories(&thunk);
        for (path, entry) in &thunk.inputs {
            if entry.mode != Mode::Directory && (dirs.contains(path.as_str()) || path.as_str() == "/") {
                return Err(PlanError::NotADirectory(path.clone()));
            }
            if MOUNTED.iter().any(|dir| below(path.as_str(), dir)) {
                return Err(PlanError::Covered(path.clone()));
            }
        }
        let same = same(&thunk, &dirs);
        let mut alike = FxHasher::default();
        (kind, &thunk.command.program, &thunk.command.dir).hash(&mut alike);
        Ok(Self { thunk, dirs, same, alike: alike.finish() })
    }

    /// Whether a root made for the other plan serves this one as it is.
    pub(crate) fn same_root(&self, other: &Plan) -> bool {
        self.same == other.same && self.thunk.inputs == other.thunk.inputs && self.dirs == other.dirs
    }

    /// Whether what lies at this path is a temporary file of the program and no effect of it: below a temporary
    /// directory, and not below the working directory, a declared output's or an input's (a project may live there).
    /// `/tmp` itself counts as a project only if it is the working directory.
    pub(crate) fn is_temporary(&self, path: &str) -> bool {
        let temporary = |path: &str| TEMPORARY.iter().any(|dir| below(path, dir));
        if !temporary(path) {
            return false;
        }
        let dir = self.thunk.command.dir.as_str();
        if temporary(dir) && below(path, dir) {
            return false;
        }
        let own =
            self.thunk.inputs.keys().chain(self.thunk.outputs.values()).filter(|own| temporary(own.as_str()));
        !own.map(|own| above(own.as_str()))
            .any(|dir| !TEMPORARY.contains(&dir) && temporary(dir) && below(path, dir))
    }

    /// Directories that the program need not write to: neither does it work there, nor does an output lie there.
    pub(crate) fn read_only(&self) -> impl Iterator<Item = &'static str> {
        let thunk = &self.thunk;
        SYSTEM.into_iter().filter(|dir| {
            let mut own = thunk.outputs.values().chain([&thunk.command.dir]);
            self.dirs.contains(*dir) && !own.any(|path| below(path.as_str(), dir))
        })
    }

    /// The inputs at this path or below it.
    pub(crate) fn inputs_below<'a>(
        &'a self,
        path: &'a RootPath,
    ) -> impl Iterator<Item = (&'a RootPath, &'a Entry<BlobId>)> {
        let from = self.thunk.inputs.range(path.clone()..);
        // Not all that starts with the path's text lies below it: `/a.c` sorts between `/a` and `/a/b`.
        from.take_while(|(input, _)| input.as_str().starts_with(path.as_str()))
            .filter(|(input, _)| below(input.as_str(), path.as_str()))
    }
}

/// Whether `path` is `dir` or lies below it, by text.
pub(crate) fn below(path: &str, dir: &str) -> bool {
    dir == "/" || path.strip_prefix(dir).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn directories(thunk: &ReadyThunk) -> FxHashSet<Box<str>> {
    let mut dirs = FxHashSet::default();
    let mut add = |mut dir: &str| {
        while !dir.is_empty() && !dirs.contains(dir) {
            dirs.insert(Box::from(dir));
            dir = above(dir);
        }
    };
    ALWAYS.iter().for_each(|dir| add(dir));
    add(thunk.command.dir.as_str().trim_end_matches('/'));
    for (path, entry) in &thunk.inputs {
        let path = path.as_str().trim_end_matches('/');
        add(if entry.mode == Mode::Directory { path } else { above(path) });
    }
    thunk.outputs.values().for_each(|path| add(above(path.as_str())));
    dirs
}

/// The directory above, as text; empty for `/`.
fn above(path: &str) -> &str {
    &path[..path.rfind('/').unwrap_or(0)]
}

fn same(thunk: &ReadyThunk, dirs: &FxHashSet<Box<str>>) -> u64 {
    let mut hasher = FxHasher::default();
    for (path, entry) in &thunk.inputs {
        (path, entry.object.hash(), entry.mode).hash(&mut hasher);
    }
    dirs.len().hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ggr_ir::{Command, Harvest, OutputName};

    use super::*;

    fn thunk(dir: &str, inputs: &[(&str, Mode)], outputs: &[&str]) -> Arc<ReadyThunk> {
        let path = |text: &str| RootPath::new(text).unwrap();
        Arc::new(ReadyThunk {
            command: Command { program: path("/bin/x"), args: vec![], env: BTreeMap::new(), dir: path(dir) },
            inputs: inputs
                .iter()
                .map(|(text, mode)| (path(text), Entry { object: BlobId::of(b""), mode: *mode }))
                .collect(),
            outputs: outputs.iter().map(|text| (OutputName::from(*text), path(text))).collect(),
            harvest: Harvest::Everything,
            network: ggr_ir::Network::None,
        })
    }

    fn plan(dir: &str, inputs: &[(&str, Mode)], outputs: &[&str]) -> Result<Plan, PlanError> {
        Plan::new(thunk(dir, inputs, outputs), Kind::Other)
    }

    #[test]
    fn every_directory_above_a_path_is_in_the_plan() {
        let plan =
            plan("/p/q", &[("/a/b/c.h", Mode::Regular), ("/e", Mode::Directory)], &["/o/x.o"]).unwrap();
        let mut dirs: Vec<&str> = plan.dirs.iter().map(|dir| &**dir).collect();
        dirs.sort_unstable();
        assert_eq!(
            dirs,
            ["/a", "/a/b", "/dev", "/e", "/o", "/p", "/p/q", "/proc", "/tmp", "/var", "/var/tmp"]
        );
    }

    #[test]
    fn nothing_is_staged_through_a_symlink_or_under_a_mount() {
        let refused = |inputs: &[(&str, Mode)]| plan("/", inputs, &[]).is_err();
        assert!(refused(&[("/l", Mode::Symlink), ("/l/etc/passwd", Mode::Regular)]));
        assert!(refused(&[("/f", Mode::Regular), ("/f/g", Mode::Regular)]));
        assert!(refused(&[("/proc/sys/x", Mode::Regular)]));
        assert!(!refused(&[("/d", Mode::Directory), ("/d/g", Mode::Regular)]));
    }

    #[test]
    fn the_system_is_read_only_unless_the_thunk_writes_or_works_there() {
        let check = |dir: &str, inputs: &[(&str, Mode)], outputs: &[&str], read_only: &[&str]| {
            assert_eq!(plan(dir, inputs, outputs).unwrap().read_only().collect::<Vec<_>>(), read_only);
        };
        let header = [("/usr/include/a.h", Mode::Regular)];
        check("/p", &header, &["/p/a.o"], &["/usr"]);
        check("/p", &[], &["/p/a.o"], &[]);
        check("/usr/src/p", &header, &["/p/a.o"], &[]);
        check("/p", &header, &["/p/a.o", "/usr/lib/a.a"], &[]);
        check("/usr2", &header, &["/usr2/a.o"], &["/usr"]);
    }

    #[test]
    fn a_project_below_tmp_is_told_from_temporary_files() {
        let check = |dir: &str, inputs: &[(&str, Mode)], outputs: &[&str], path: &str, temporary: bool| {
            assert_eq!(plan(dir, inputs, outputs).unwrap().is_temporary(path), temporary, "{path}");
        };
        check("/p", &[], &[], "/tmp/cc1.s", true);
        check("/p", &[], &[], "/p/a.o", false);
        check("/tmp/p", &[], &[], "/tmp/p/a.o", false);
        check("/tmp/p", &[], &[], "/tmp/cc1.s", true);
        check("/tmp/p", &[], &[], "/tmp/pp/x", true);
        check("/p", &[("/tmp/q/a.c", Mode::Regular)], &[], "/tmp/q/b", false);
        check("/p", &[("/tmp/a.c", Mode::Regular)], &[], "/tmp/b", true);
        check("/p", &[], &["/var/tmp/o/a.o"], "/var/tmp/o/a.dwo", false);
        check("/tmp", &[], &[], "/tmp/a.o", false);
        check("/", &[("/a.c", Mode::Regular)], &["/a.o"], "/tmp/cc1.s", true);
    }
}
