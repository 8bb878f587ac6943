//! Runs that are shared with others through a bucket: which go out, and which of those that come in are taken.
//!
//! Whoever may write to the bucket decides what the files of a build hold, as with reductions; a run names paths as well.
//! **Invariant:** one that came in changes nothing but below the project's own directories, and there nothing that version
//! control or ggr keeps; it gives no file another user's rights; it has nothing read that blocks, or that reading uses up.
//! The same holds for what goes out: nobody would take anything else.
//!
//! Its questions are asked here like those of a run of this machine. What a program may have learnt without asking for a file
//! is a question too (`uname`, the processors) or in the key (the user).

use std::fs;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use ggr_backends::store::captures::{Ask, Effect, Left, Question, Run};
use ggr_backends::store::shared::TieredCache;
use ggr_ir::Hash;

use super::answers::is_of_kernel;
use super::effects::MAX_EFFECTS;

/// Hashed in front of every shared key: another version of what is shared, another key.
const KEY_VERSION: &[u8] = b"ggr shared capture key 1";

/// What others' runs leave alone in a project: what version control keeps, where commands may stand that it runs, and ggr's
/// own.
const KEPT: &[&str] = &[".bzr", ".ggr", ".git", ".hg", ".jj", ".svn", "CVS", "ggr.toml"];

/// The files of the kernel that others' runs may have read here (`proc(5)`): they say something at once, and the same again.
const KERNEL_FILES: &[&str] = &[
    "/proc/cpuinfo",
    "/proc/filesystems",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/sys/kernel/hostname",
    "/proc/sys/kernel/ngroups_max",
    "/proc/sys/kernel/osrelease",
    "/proc/sys/vm/overcommit_memory",
    "/proc/version",
    "/sys/devices/system/cpu/online",
    "/sys/devices/system/cpu/possible",
];

/// See the module's documentation.
pub(super) struct Sharing {
    cache: Arc<TieredCache>,
    trees: Vec<PathBuf>,
}

impl Sharing {
    /// Shares through the cache's bucket what stays below `trees` (real directories), but for those that hold `home`.
    pub(super) fn new(cache: Arc<TieredCache>, trees: &[PathBuf], home: Option<&Path>) -> Self {
        let home = home.and_then(|home| fs::canonicalize(home).ok());
        let is_project = |tree: &&PathBuf| !home.as_ref().is_some_and(|home| home.starts_with(tree));
        Self { cache, trees: trees.iter().filter(is_project).cloned().collect() }
    }

    /// The runs of the command with this key that others have shared and that may be repeated here if their questions have
    /// the same answers, the newest first.
    pub(super) fn known(&self, key: Hash) -> Vec<Run> {
        let mut runs = self.cache.shared().captured(shared_key(key));
        runs.retain(|run| is_confined(run, &self.trees));
        runs
    }

    /// Brings what a run left into the store. Says whether all of it is there.
    pub(super) fn bring(&self, run: &Run) -> bool {
        self.cache.shared().bring_captured(run)
    }

    /// A run of others was repeated.
    pub(super) fn note_repeated(&self) {
        self.cache.shared().note_repeated();
    }

    /// Has a run of the command with this key uploaded, if it is one that others would take. Waits for nobody.
    pub(super) fn offer(&self, key: Hash, run: &Run) {
        if is_confined(run, &self.trees) && run.facts.iter().all(|(question, _)| may_ask(question)) {
            self.cache.offer_captured(shared_key(key), run);
        }
    }
}

/// The key for others: a program that asks who runs it makes no system call that is watched.
fn shared_key(key: Hash) -> Hash {
    let user = [rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()];
    let user = user.map(u32::to_le_bytes).concat();
    Hash::of(&[KEY_VERSION, key.as_bytes(), &user].concat())
}

/// Whether all that a run left is the business of a project in these directories.
fn is_confined(run: &Run, trees: &[PathBuf]) -> bool {
    run.effects.len() <= MAX_EFFECTS && run.effects.iter().all(|effect| is_of_project(effect, trees))
}

fn is_of_project(effect: &Effect, trees: &[PathBuf]) -> bool {
    let below = |tree: &PathBuf| {
        let rest = Path::new(&effect.path).strip_prefix(tree).ok()?;
        let plain = |part: Component<'_>| match part {
            Component::Normal(name) => !KEPT.iter().any(|kept| name == *kept),
            _ => false,
        };
        (rest.components().next().is_some() && rest.components().all(plain)).then_some(())
    };
    let own_rights = match effect.left {
        Left::File { mode, .. } | Left::Directory(mode) => mode & !0o777 == 0,
        Left::Nothing | Left::Symlink(_) => true,
    };
    own_rights && trees.iter().any(|tree| below(tree).is_some())
}

/// Whether a question may be asked here because others have asked it: all but for the bytes of some files of the kernel, by
/// whatever name.
pub(super) fn may_ask(question: &Question) -> bool {
    let path = Path::new(&question.path);
    if question.ask != Ask::Content {
        return path.is_absolute();
    }
    let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    path.is_absolute()
        && [path, &real]
            .iter()
            .all(|path| !is_of_kernel(path) || KERNEL_FILES.iter().any(|file| Path::new(file) == *path))
}

#[cfg(test)]
mod tests {
    use ggr_ir::BlobId;

    use super::*;

    fn run(effects: Vec<Effect>) -> Run {
        let nothing = BlobId::of(b"");
        Run {
            facts: vec![],
            effects,
            stdout: nothing,
            stderr: nothing,
            stdin_end: None,
            took_us: 1,
            foreign: true,
        }
    }

    fn effect(path: &str, mode: u32) -> Effect {
        let left =
            Left::File { blob: BlobId::of(b""), mode, mode_was_set: false, in_place: true, mtime: None };
        Effect { path: path.into(), left }
    }

    #[test]
    fn only_what_is_the_projects_business_is_left() {
        let trees = [PathBuf::from("/w/p"), PathBuf::from("/b")];
        let check = |path: &str, mode, expected| {
            assert_eq!(is_confined(&run(vec![effect(path, mode)]), &trees), expected, "{path} {mode:o}");
        };
        check("/w/p/a.c", 0o644, true);
        check("/w/p/.deps/a", 0o755, true);
        check("/b/gen/a.h", 0o600, true);
        check("/w/p/a", 0o4755, false);
        check("/w/p/a", 0o2755, false);
        check("/w/p", 0o644, false);
        check("/w/pp/a", 0o644, false);
        check("/w/p/../q/a", 0o644, false);
        check("/w/q/../p/a", 0o644, false);
        check("w/p/a", 0o644, false);
        check("/home/u/.bashrc", 0o644, false);
        check("/w/p/.git/hooks/pre-commit", 0o755, false);
        check("/w/p/sub/.ggr/version", 0o644, false);
        check("/w/p/ggr.toml", 0o644, false);
        let directory = Effect { path: "/w/p/d".into(), left: Left::Directory(0o1777) };
        assert!(!is_confined(&run(vec![directory]), &trees));
        let gone = Effect { path: "/etc/passwd".into(), left: Left::Nothing };
        assert!(!is_confined(&run(vec![effect("/w/p/a", 0o644), gone]), &trees));
        assert!(is_confined(&run(vec![]), &[]), "who leaves nothing may leave it anywhere");
        assert!(!is_confined(&run(vec![effect("/w/p/a", 0o644); MAX_EFFECTS + 1]), &trees));
    }

    #[test]
    fn files_of_the_kernel_are_read_for_others_only_if_they_are_known() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("/proc/kmsg", &link).unwrap();
        let check = |path: &str, ask, expected| {
            assert_eq!(may_ask(&Question { path: path.into(), ask }), expected, "{path} {ask:?}");
        };
        check("/proc/kmsg", Ask::Content, false);
        check("/proc/kmsg", Ask::Look, true);
        check("/proc/cpuinfo", Ask::Content, true);
        check("/usr/bin/../../proc/kmsg", Ask::Content, false);
        check(link.to_str().unwrap(), Ask::Content, false);
        check("/etc/passwd", Ask::Content, true);
        check("etc/passwd", Ask::Look, false);
    }
}
