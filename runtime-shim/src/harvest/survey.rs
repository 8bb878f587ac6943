//! Which files of the upper layer are the thunk's outputs.
//!
//! The upper layer holds whole files that were made or changed, a character device 0:0 for what was removed, and
//! directories, marked opaque where one was removed and made again (Documentation/filesystems/overlayfs.rst).

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use ggr_ir::{BlobId, Harvest, Mode, OutputName, RootPath};

use crate::stage::plan::Plan;

/// One output.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) name: OutputName,
    pub(crate) path: RootPath,
    pub(crate) file: Source,
    pub(crate) permissions: u32,
}

/// Where an output's bytes are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The program left an input as it was.
    Untouched(BlobId),
    /// This file of the upper layer.
    Written(PathBuf),
}

/// Why there is no list of outputs.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SurveyError {
    /// The program did something that a reduction cannot hold.
    #[error("{0}")]
    Unrepresentable(String),
    #[error("reading `{}`", path.display())]
    Io { path: PathBuf, source: io::Error },
}

pub(crate) fn unfit<T>(why: String) -> Result<T, SurveyError> {
    Err(SurveyError::Unrepresentable(why))
}

/// Lists the outputs of a program that exited 0, and how many bytes they have in all.
pub(crate) fn survey(plan: &Plan, upper: &Path, lower: &Path) -> Result<(Vec<Found>, u64), SurveyError> {
    let mut survey = Survey { plan, upper, lower, written: BTreeMap::new() };
    survey.walk("")?;
    survey.choose()
}

/// What stands at a path of the upper layer.
#[derive(Clone, Copy)]
enum Now {
    File,
    Directory,
}

struct Survey<'a> {
    plan: &'a Plan,
    upper: &'a Path,
    lower: &'a Path,
    /// Every regular file of the upper layer.
    written: BTreeMap<RootPath, Metadata>,
}

impl Survey<'_> {
    /// Whether effects that are not declared outputs count.
    fn counts(&self, path: &str) -> bool {
        self.plan.thunk.harvest == Harvest::Everything && !self.plan.is_temporary(path)
    }

    /// Looks at everything below `dir` (as in a path; empty for `/`).
    fn walk(&mut self, dir: &str) -> Result<usize, SurveyError> {
        let at = self.upper.join(dir.trim_start_matches('/'));
        let failed = |source| SurveyError::Io { path: at.clone(), source };
        let mut entries = 0;
        for entry in fs::read_dir(&at).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let meta = entry.metadata().map_err(failed)?;
            let name = entry.file_name();
            let path = name.to_str().and_then(|name| RootPath::new(&format!("{dir}/{name}")).ok());
            let Some(path) = path else {
                if self.counts(&format!("{dir}/x")) {
                    return unfit(format!("it wrote `{}`, whose name is not UTF-8", entry.path().display()));
                }
                continue;
            };
            self.look(path, &meta)?;
            entries += 1;
        }
        Ok(entries)
    }

    fn look(&mut self, path: RootPath, meta: &Metadata) -> Result<(), SurveyError> {
        let kind = meta.file_type();
        if kind.is_dir() {
            return self.look_at_dir(&path);
        }
        if kind.is_file() {
            self.check_replaced(&path, Now::File)?;
            self.written.insert(path, meta.clone());
            return Ok(());
        }
        if kind.is_char_device() && meta.rdev() == 0 {
            return self.check_removed(&path);
        }
        if !self.counts(path.as_str()) || self.is_same_symlink(&path) {
            return Ok(());
        }
        let what = if kind.is_symlink() { "a symlink" } else { "a special file" };
        unfit(format!("it made {what} at `{path}`"))
    }

    fn look_at_dir(&mut self, path: &RootPath) -> Result<(), SurveyError> {
        let entries = self.walk(path.as_str())?;
        if !self.counts(path.as_str()) {
            return Ok(());
        }
        if !self.plan.dirs.contains(path.as_str()) {
            self.check_replaced(path, Now::Directory)?;
            return match entries {
                0 => unfit(format!("it made an empty directory at `{path}`")),
                _ => Ok(()),
            };
        }
        if !self.is_opaque(path) {
            return Ok(());
        }
        // Removed and made again: every input that is not there again is gone.
        for (input, entry) in self.plan.inputs_below(path) {
            let there = fs::symlink_metadata(input.under(self.upper));
            if there.map_or(true, |meta| entry.mode != Mode::Directory && !meta.is_file()) {
                return unfit(format!("it removed `{input}`"));
            }
        }
        Ok(())
    }

    /// A file where a directory was, or a directory where a file was.
    fn check_replaced(&self, path: &RootPath, now: Now) -> Result<(), SurveyError> {
        let was = self.plan.thunk.inputs.get(path).map(|entry| entry.mode);
        let replaced = match (was, now) {
            (Some(Mode::Symlink), _) | (Some(Mode::Regular | Mode::Executable), Now::Directory) => true,
            (Some(Mode::Directory) | None, Now::File) => self.plan.dirs.contains(path.as_str()),
            (Some(Mode::Regular | Mode::Executable), Now::File) | (_, Now::Directory) => false,
        };
        if replaced && self.counts(path.as_str()) {
            return unfit(format!("it put another kind of file at `{path}`"));
        }
        Ok(())
    }

    fn check_removed(&self, path: &RootPath) -> Result<(), SurveyError> {
        match self.plan.inputs_below(path).next() {
            Some((input, _)) if self.counts(input.as_str()) => unfit(format!("it removed `{input}`")),
            _ => Ok(()),
        }
    }

    /// An input symlink whose times or owner were set is copied up as it was.
    fn is_same_symlink(&self, path: &RootPath) -> bool {
        let target = |root: &Path| fs::read_link(path.under(root)).ok();
        self.plan.thunk.inputs.contains_key(path) && target(self.upper) == target(self.lower)
    }

    fn is_opaque(&self, path: &RootPath) -> bool {
        let path = path.under(self.upper);
        ["trusted.overlay.opaque", "user.overlay.opaque"].iter().any(|mark| {
            let mut value = [0u8; 4];
            rustix::fs::lgetxattr(&path, *mark, &mut value).is_ok_and(|len| value[..len] == *b"y")
        })
    }

    fn choose(mut self) -> Result<(Vec<Found>, u64), SurveyError> {
        let mut found = Vec::new();
        let mut bytes = 0;
        for (name, path) in &self.plan.thunk.outputs {
            match self.written.remove(path) {
                Some(meta) => {
                    bytes += meta.len();
                    found.push(self.written(name.clone(), path.clone(), &meta)?);
                }
                None => found.push(self.untouched(name, path)?),
            }
        }
        if self.plan.thunk.harvest == Harvest::Everything {
            for (path, meta) in std::mem::take(&mut self.written) {
                if self.plan.is_temporary(path.as_str()) || self.is_unchanged(&path, &meta) {
                    continue;
                }
                bytes += meta.len();
                found.push(self.written(path.as_str().into(), path, &meta)?);
            }
        }
        Ok((found, bytes))
    }

    fn written(&self, name: OutputName, path: RootPath, meta: &Metadata) -> Result<Found, SurveyError> {
        let mode = meta.mode() & 0o7777;
        if mode & 0o7000 != 0 {
            return unfit(format!("`{path}` has mode {mode:o}"));
        }
        let file = Source::Written(path.under(self.upper));
        Ok(Found { name, path, file, permissions: as_user(mode) })
    }

    /// A declared output that the program did not write: an input that it left alone (`ranlib`, `strip` with nothing to do).
    fn untouched(&self, name: &OutputName, path: &RootPath) -> Result<Found, SurveyError> {
        let entry = self.plan.thunk.inputs.get(path);
        let removed = fs::symlink_metadata(path.under(self.upper)).is_ok();
        let permissions = match entry.map(|entry| entry.mode) {
            Some(Mode::Regular) if !removed => 0o666,
            Some(Mode::Executable) if !removed => 0o777,
            _ => return unfit(format!("it exited 0 without writing `{path}`")),
        };
        let blob = entry.expect("its mode was just seen").object;
        Ok(Found { name: name.clone(), path: path.clone(), file: Source::Untouched(blob), permissions })
    }

    /// Whether an input was only opened for writing: overlay copies such a file up, with its times.
    fn is_unchanged(&self, path: &RootPath, meta: &Metadata) -> bool {
        let seen = |meta: &Metadata| (meta.len(), meta.mtime(), meta.mtime_nsec(), meta.mode());
        self.plan.thunk.inputs.contains_key(path)
            && fs::symlink_metadata(path.under(self.lower)).is_ok_and(|lower| seen(&lower) == seen(meta))
    }
}

/// The permission bits that the program would have left on the user's machine, under umask 0.
///
/// Inputs stand here with the store's modes, 0444 and 0555; `strip`, `objcopy` and `cp -p` give a file the mode of the one
/// that they read. On the user's machine that is what a file made under the caller's umask has: 0666 or 0777 before the
/// umask. (A program that asks for exactly 0444 or 0555 by itself gets a writable file: the one thing lost.)
pub(crate) fn as_user(mode: u32) -> u32 {
    match mode {
        0o444 => 0o666,
        0o555 => 0o777,
        other => other,
    }
}
