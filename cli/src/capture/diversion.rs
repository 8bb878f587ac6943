//! Programs over which no launcher is mounted and that are captured all the same: those that stand in the project's own
//! directories (a build makes them, runs them, and makes them anew), and with `all` every other program.
//!
//! Capturing costs some milliseconds. So a program that is over sooner, or whose runs cannot be remembered, is left alone
//! after a few runs, and what is known to be cheap is never looked at.

use std::collections::HashMap;
use std::ffi::CString;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard};
use std::time::Duration;

use crate::intercept::divert::{Divert, as_argument};

/// A run that is over sooner costs less than looking up what it did: a launcher, some hundred questions to the file system
/// and the files that are written take 2 to 5 ms.
const QUICK: Duration = Duration::from_millis(10);

/// After so many runs in a row that did not pay a program is left alone.
const PATIENCE: u32 = 4;

/// Programs in a build's directories that are run once each, to see what the machine can do.
const PROBES: [&str; 4] = ["conftest", "cmTC_", "a.out", "sanitycheck"];

/// What is never diverted: shells and what runs builds (their children are caught one by one), what runs another
/// program, what every configure script calls a thousand times, and what talks to people or other machines.
#[rustfmt::skip]
const LEFT_ALONE: &[&str] = &[
    "[", "arch", "awk", "basename", "bash", "busybox", "bwrap", "cargo", "cat", "ccache", "chmod", "cmake", "cmp",
    "cp", "ctest", "curl", "cut", "dash", "date", "diff", "dirname", "distcc", "echo", "egrep", "emacs", "env",
    "expr", "fakeroot", "false", "fgrep", "find", "fish", "gawk", "gdb", "getconf", "ggr", "git", "gmake", "go",
    "grep", "head", "hostname", "id", "install", "ksh", "ldd", "less", "ln", "ls", "make", "mawk", "meson", "mkdir",
    "mktemp", "mv", "nano", "nice", "ninja", "nohup", "nproc", "od", "pkg-config", "pkgconf", "printf", "ps", "pwd",
    "readlink", "realpath", "rm", "rmdir", "rustup", "samu", "sccache", "scons", "scp", "sed", "setpriv", "sh",
    "sleep", "sort", "ssh", "stat", "strace", "stty", "sudo", "tail", "tee", "test", "time", "timeout", "touch", "tr",
    "true", "tty", "uname", "uniq", "unshare", "valgrind", "vi", "vim", "wc", "wget", "which", "who", "whoami",
    "xargs", "zsh",
];

/// How launchers stand in a build.
struct Standing {
    /// The launcher to execute.
    launcher: PathBuf,
    /// The directory of the session's own files.
    own: PathBuf,
    /// The real files that have a launcher of their own, sorted.
    files: Vec<PathBuf>,
}

/// See the module's documentation.
pub(crate) struct Diversion {
    /// The project's directories.
    trees: Vec<PathBuf>,
    built: bool,
    all: bool,
    /// Nothing while no program is diverted.
    standing: RwLock<Option<Standing>>,
    /// Processes that execute the launcher in the stead of these programs.
    diverted: Mutex<HashMap<u32, PathBuf>>,
    /// How many runs of a program in a row did not pay.
    idle: Mutex<HashMap<PathBuf, u32>>,
}

impl Standing {
    fn has(&self, real: &Path) -> bool {
        self.files.binary_search_by(|file| file.as_path().cmp(real)).is_ok()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no holder panics")
}

impl Diversion {
    /// Diverts the programs below `trees` if `built`, and with `all` all others.
    pub(crate) fn new(trees: Vec<PathBuf>, built: bool, all: bool) -> Self {
        Self {
            trees: trees
                .into_iter()
                .filter_map(|tree| fs::canonicalize(tree).ok())
                // Who builds in `/` has everything below it.
                .filter(|tree| tree.parent().is_some())
                .collect(),
            built,
            all,
            standing: RwLock::default(),
            diverted: Mutex::default(),
            idle: Mutex::default(),
        }
    }

    /// Names the launcher, and the real files that have one mounted over them. Nothing is diverted before.
    pub(super) fn start(&self, launcher: &Path, mut files: Vec<PathBuf>) {
        if !self.built && !self.all {
            return;
        }
        files.sort_unstable();
        let launcher = fs::canonicalize(launcher).unwrap_or_else(|_| launcher.to_owned());
        let own = launcher.parent().unwrap_or(&launcher).to_owned();
        *self.standing.write().expect("no holder panics") = Some(Standing { launcher, own, files });
    }

    /// The project's directories.
    pub(super) fn trees(&self) -> &[PathBuf] {
        &self.trees
    }

    /// Diverts nothing from now on.
    pub(super) fn stop(&self) {
        *self.standing.write().expect("no holder panics") = None;
    }

    /// Whether any program is diverted at all.
    pub(crate) fn is_on(&self) -> bool {
        self.standing().is_some()
    }

    fn standing(&self) -> RwLockReadGuard<'_, Option<Standing>> {
        self.standing.read().expect("no holder panics")
    }

    /// Whether the program at a path should be diverted, as far as can be said before it is executed.
    pub(crate) fn wants(&self, program: &Path) -> bool {
        let bytes = program.as_os_str().as_bytes();
        let usual =
            || ["/usr/", "/bin/", "/lib", "/sbin/"].iter().any(|dir| bytes.starts_with(dir.as_bytes()));
        if !self.is_on() || (!self.all && usual()) {
            return false;
        }
        let Ok(real) = fs::canonicalize(program) else { return false };
        self.selects(&real) && has_own_rights(&real) && (self.all || !is_script(&real))
    }

    fn selects(&self, real: &Path) -> bool {
        let Some(name) = real.file_name().and_then(|name| name.to_str()) else { return false };
        let built = self.trees.iter().any(|tree| real.starts_with(tree));
        let free = |standing: &Standing| !real.starts_with(&standing.own) && !standing.has(real);
        (self.all || built && self.built)
            && LEFT_ALONE.binary_search(&name).is_err()
            && !PROBES.iter().any(|probe| name.starts_with(probe))
            && !is_of_compiler(real)
            && self.standing().as_ref().is_some_and(free)
            && lock(&self.idle).get(real).is_none_or(|runs| *runs < PATIENCE)
    }

    /// The program for which a process has executed the launcher. Asked once.
    pub(crate) fn program_of(&self, pid: u32, executed: &Path) -> Option<PathBuf> {
        let is_launcher = self.standing().as_ref().is_some_and(|standing| standing.launcher == executed);
        is_launcher.then(|| lock(&self.diverted).remove(&pid)).flatten()
    }

    /// Whether runs of a program are only worth remembering if they leave something: it is one of the project's own, perhaps a
    /// test that is run to be run.
    pub(super) fn must_leave_something(&self, program: &Path) -> bool {
        !self.all && self.trees.iter().any(|tree| program.starts_with(tree))
    }

    /// Notes how a run of a program went. Of those that have a launcher of their own nothing is noted.
    pub(super) fn note(&self, program: &Path, remembered: bool, took: Duration) {
        if self.standing().as_ref().is_none_or(|standing| standing.has(program)) {
            return;
        }
        let mut idle = lock(&self.idle);
        let runs = idle.entry(program.to_owned()).or_default();
        *runs = if remembered && took >= QUICK { 0 } else { *runs + 1 };
    }
}

impl Divert for Diversion {
    fn launcher(&self, pid: u32, program: &Path) -> Option<CString> {
        // What is executed for a script is its interpreter, which may have a launcher of its own, or be left alone.
        let launcher = as_argument(&self.standing().as_ref()?.launcher)?;
        self.selects(program).then(|| lock(&self.diverted).insert(pid, program.to_owned()))?;
        Some(launcher)
    }

    fn failed(&self, pid: u32) {
        lock(&self.diverted).remove(&pid);
    }
}

/// Programs that compilers and git call for themselves.
fn is_of_compiler(real: &Path) -> bool {
    ["/usr/lib/gcc", "/usr/libexec", "/usr/lib/llvm", "/usr/lib/git-core", "/usr/lib/rust"]
        .iter()
        .any(|dir| real.to_string_lossy().starts_with(dir))
}

/// Whether a program runs as who executes it: others would lose their rights when they are traced.
fn has_own_rights(real: &Path) -> bool {
    let set_id = fs::metadata(real).map_or(0, |meta| meta.permissions().mode() & 0o6000);
    let mut capabilities = [0; 64];
    set_id == 0 && rustix::fs::getxattr(real, "security.capability", &mut capabilities).is_err()
}

/// Whether a file is a script. A placeholder, which starts alike, is a program that is not made yet.
fn is_script(real: &Path) -> bool {
    let mut start = Vec::new();
    let read = File::open(real).and_then(|file| file.take(17).read_to_end(&mut start));
    read.is_ok() && start.starts_with(b"#!") && !start.starts_with(b"#!ggr-placeholder")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn diversion(tree: &Path, all: bool) -> Diversion {
        let diversion = Diversion::new(vec![tree.to_owned()], true, all);
        diversion.start(Path::new("/own/launcher"), vec!["/usr/bin/perl".into()]);
        diversion
    }

    fn program(tree: &Path, name: &str, text: &[u8]) -> PathBuf {
        let path = tree.join(name);
        fs::write(&path, text).unwrap();
        path
    }

    #[test]
    fn the_table_is_sorted() {
        assert!(LEFT_ALONE.is_sorted());
    }

    #[test]
    fn what_the_project_built_is_diverted_and_all_else_only_with_all() {
        let dir = tempfile::tempdir().unwrap();
        let (auto, all) = (diversion(dir.path(), false), diversion(dir.path(), true));
        let generator = program(dir.path(), "gen", b"\x7fELF\x02");
        let placeholder = program(dir.path(), "later", b"#!ggr-placeholder 1\n");
        let probe = program(dir.path(), "conftest", b"\x7fELF\x02");
        let script = program(dir.path(), "script", b"#!/bin/sh\n");
        for (path, by_auto, by_all) in [
            (generator.as_path(), true, true),
            (&placeholder, true, true),
            (&probe, false, false),
            (&script, false, true),
            (Path::new("/usr/bin/xz"), false, Path::new("/usr/bin/xz").exists()),
            (Path::new("/usr/bin/perl"), false, false),
            (Path::new("/bin/sed"), false, false),
        ] {
            assert_eq!(auto.wants(path), by_auto, "{}", path.display());
            assert_eq!(all.wants(path), by_all, "{}", path.display());
        }
    }

    #[test]
    fn a_program_whose_runs_do_not_pay_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let diversion = diversion(dir.path(), false);
        let generator = fs::canonicalize(program(dir.path(), "gen", b"\x7fELF\x02")).unwrap();
        for took in [1, 20, 1, 1, 1] {
            diversion.note(&generator, true, Duration::from_millis(took));
            assert!(diversion.wants(&generator));
        }
        diversion.note(&generator, false, Duration::from_millis(20));
        assert!(!diversion.wants(&generator));
    }
}
