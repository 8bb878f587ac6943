//! Runs a command in a root that holds its declared inputs and nothing else, for tests of completeness.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ggr_ir::{Entry, Mode, Object, RootPath};

use crate::testing::{Bytes, DiskView};

/// Whether a root can be entered on this machine; a test that cannot says so.
pub(crate) fn can_run() -> bool {
    let probe = Command::new("bwrap").args(["--ro-bind", "/", "/", "true"]).output();
    let can = probe.is_ok_and(|output| output.status.success());
    if !can {
        eprintln!("not run: bubblewrap cannot build a sandbox here");
    }
    can
}

/// A root made of inputs.
pub(crate) struct Root {
    dir: tempfile::TempDir,
    /// System files, and where they stand in the root: bound there while a command runs.
    system: Vec<(PathBuf, PathBuf)>,
}

impl Root {
    /// Stages the inputs: system files are bound, others copied, since tools may write to these. No hard links: one changes
    /// the system file's ctime, and every memo on this machine that is checked by it is void.
    pub(crate) fn stage(view: &DiskView, inputs: &BTreeMap<RootPath, Entry<Object>>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut system = Vec::new();
        for (path, entry) in inputs {
            let place = path.under(dir.path());
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            let Object::Blob(id) = entry.object else { panic!("{path} is no blob") };
            match (entry.mode, view.bytes(id)) {
                (Mode::Directory, _) => fs::create_dir_all(&place).unwrap(),
                (Mode::Symlink, Some(Bytes::Inline(target))) => {
                    symlink(std::str::from_utf8(&target).unwrap(), &place).unwrap();
                }
                (_, Some(Bytes::File(from))) if from.starts_with("/usr") => {
                    fs::write(&place, "").unwrap();
                    system.push((from, path.as_path().to_owned()));
                }
                (mode, Some(Bytes::File(from))) => put(&from, &place, mode),
                (mode @ (Mode::Regular | Mode::Executable), Some(Bytes::Inline(bytes))) => {
                    fs::write(&place, bytes).unwrap();
                    set_mode(&place, mode);
                }
                (mode, _) => panic!("{path}: no bytes for {mode:?}"),
            }
        }
        for needed in ["tmp", "dev", "proc"] {
            fs::create_dir_all(dir.path().join(needed)).unwrap();
        }
        Self { dir, system }
    }

    /// Runs a command there; the program is found by the environment's `PATH`, as `argv[0]` says.
    pub(crate) fn run(&self, args: &[String], env: &BTreeMap<String, String>, cwd: &Path) -> Output {
        let mut command = Command::new("/usr/bin/bwrap");
        command.arg("--bind").arg(self.dir.path()).arg("/");
        for (from, to) in &self.system {
            command.arg("--ro-bind").arg(from).arg(to);
        }
        command.args(["--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp/.none"]);
        command.arg("--chdir").arg(cwd).arg("--").args(args);
        command.env_clear().envs(env);
        command.output().unwrap()
    }

    /// Where a path of the root stands here.
    pub(crate) fn path(&self, path: &Path) -> PathBuf {
        self.dir.path().join(path.strip_prefix("/").unwrap())
    }

    /// The bytes and permission bits that stand at a path of the root.
    pub(crate) fn file(&self, path: &Path) -> Option<(Vec<u8>, u32)> {
        file(&self.dir.path().join(path.strip_prefix("/").unwrap()))
    }
}

/// The bytes and permission bits of a file.
pub(crate) fn file(path: &Path) -> Option<(Vec<u8>, u32)> {
    let bytes = fs::read(path).ok()?;
    Some((bytes, fs::metadata(path).ok()?.permissions().mode() & 0o7777))
}

fn put(from: &Path, to: &PathBuf, mode: Mode) {
    fs::copy(from, to).unwrap();
    set_mode(to, mode);
}

fn set_mode(place: &Path, mode: Mode) {
    let bits = if mode == Mode::Executable { 0o755 } else { 0o644 };
    fs::set_permissions(place, fs::Permissions::from_mode(bits)).unwrap();
}

/// Runs a shell script that makes the files of a test.
pub(crate) fn prepare(dir: &Path, script: &str) {
    let output =
        Command::new("sh").args([OsStr::new("-ec"), OsStr::new(script)]).current_dir(dir).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
