//! What a program left behind in a root without layers: the root is walked and compared with what was staged.
//!
//! Inputs are hard links, and the relocation layer replaces one by a copy before it is changed. So a file with an input's
//! inode is that input, untouched.
//!
//! **Invariant:** no symlink is followed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use ggr_ir::{BlobId, Harvest, Mode, RootPath};

use crate::harvest::survey::{Found, Source, SurveyError, as_user, unfit};
use crate::stage::plan::Plan;

/// The inode of each staged file.
pub(super) type Staged = BTreeMap<RootPath, u64>;

/// Notes what was staged.
pub(super) fn note(plan: &Plan, root: &Path) -> io::Result<Staged> {
    let files = plan.thunk.inputs.iter().filter(|(_, entry)| entry.mode != Mode::Directory);
    files.map(|(path, _)| Ok((path.clone(), fs::symlink_metadata(path.under(root))?.ino()))).collect()
}

/// Lists the outputs of a program that exited 0, and how many bytes they have in all.
pub(super) fn survey(plan: &Plan, staged: &Staged, root: &Path) -> Result<(Vec<Found>, u64), SurveyError> {
    let mut survey = Survey { plan, staged, root, written: BTreeMap::new(), seen: BTreeSet::new() };
    survey.walk("")?;
    survey.check_removed()?;
    survey.choose()
}

struct Survey<'a> {
    plan: &'a Plan,
    staged: &'a Staged,
    root: &'a Path,
    /// Every regular file that is no untouched input.
    written: BTreeMap<RootPath, Metadata>,
    /// Every path that is there.
    seen: BTreeSet<RootPath>,
}

impl Survey<'_> {
    /// Whether effects that are not declared outputs count.
    fn counts(&self, path: &str) -> bool {
        self.plan.thunk.harvest == Harvest::Everything && !self.plan.is_temporary(path)
    }

    fn walk(&mut self, dir: &str) -> Result<usize, SurveyError> {
        let at = self.root.join(dir.trim_start_matches('/'));
        let failed = |source| SurveyError::Io { path: at.clone(), source };
        let mut entries = 0;
        for entry in fs::read_dir(&at).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let meta = entry.metadata().map_err(failed)?;
            let name = entry.file_name();
            let path = name.to_str().and_then(|name| RootPath::new(&format!("{dir}/{name}")).ok());
            match path {
                Some(path) => self.look(path, meta)?,
                None if self.counts(&format!("{dir}/x")) => {
                    return unfit(format!("it wrote `{}`, whose name is not UTF-8", entry.path().display()));
                }
                None => {}
            }
            entries += 1;
        }
        Ok(entries)
    }

    fn look(&mut self, path: RootPath, meta: Metadata) -> Result<(), SurveyError> {
        let was = self.plan.thunk.inputs.get(&path).map(|entry| entry.mode);
        let kind = meta.file_type();
        if kind.is_dir() {
            let entries = self.walk(path.as_str())?;
            let new = !self.plan.dirs.contains(path.as_str());
            if new && self.counts(path.as_str()) {
                if was.is_some() {
                    return unfit(format!("it put another kind of file at `{path}`"));
                }
                if entries == 0 {
                    return unfit(format!("it made an empty directory at `{path}`"));
                }
            }
        } else if self.staged.get(&path) != Some(&meta.ino()) {
            let replaced = matches!(was, Some(Mode::Symlink)) || self.plan.dirs.contains(path.as_str());
            if (!kind.is_file() || replaced) && self.counts(path.as_str()) {
                return unfit(format!("it made something that is no plain file at `{path}`"));
            }
            if kind.is_file() {
                self.written.insert(path.clone(), meta);
            }
        }
        self.seen.insert(path);
        Ok(())
    }

    fn check_removed(&self) -> Result<(), SurveyError> {
        let gone =
            self.plan.thunk.inputs.keys().find(|path| {
                !self.seen.contains(*path) && path.as_str() != "/" && self.counts(path.as_str())
            });
        gone.map_or(Ok(()), |path| unfit(format!("it removed `{path}`")))
    }

    fn choose(mut self) -> Result<(Vec<Found>, u64), SurveyError> {
        let (mut found, mut bytes) = (Vec::new(), 0);
        let mut written = std::mem::take(&mut self.written);
        for (name, path) in &self.plan.thunk.outputs {
            let (file, permissions) = match written.remove(path) {
                Some(meta) => {
                    bytes += meta.len();
                    self.written_file(path, &meta)?
                }
                None => self.untouched(path)?,
            };
            found.push(Found { name: name.clone(), path: path.clone(), file, permissions });
        }
        if self.plan.thunk.harvest == Harvest::Everything {
            for (path, meta) in written {
                if self.plan.is_temporary(path.as_str()) || self.is_unchanged(&path)? {
                    continue;
                }
                bytes += meta.len();
                let (file, permissions) = self.written_file(&path, &meta)?;
                found.push(Found { name: path.as_str().into(), path, file, permissions });
            }
        }
        Ok((found, bytes))
    }

    fn written_file(&self, path: &RootPath, meta: &Metadata) -> Result<(Source, u32), SurveyError> {
        let mode = meta.mode() & 0o7777;
        if mode & 0o7000 != 0 {
            return unfit(format!("`{path}` has mode {mode:o}"));
        }
        Ok((Source::Written(path.under(self.root)), as_user(mode)))
    }

    /// A declared output that the program did not write: an input that it left alone.
    fn untouched(&self, path: &RootPath) -> Result<(Source, u32), SurveyError> {
        let entry = self.plan.thunk.inputs.get(path).filter(|_| self.seen.contains(path));
        match entry.map(|entry| (entry.mode, entry.object)) {
            Some((Mode::Regular, blob)) => Ok((Source::Untouched(blob), 0o666)),
            Some((Mode::Executable, blob)) => Ok((Source::Untouched(blob), 0o777)),
            _ => unfit(format!("it exited 0 without writing `{path}`")),
        }
    }

    /// Whether an input was only opened for writing, or written as it was.
    fn is_unchanged(&self, path: &RootPath) -> Result<bool, SurveyError> {
        let Some(entry) = self.plan.thunk.inputs.get(path) else { return Ok(false) };
        let at = path.under(self.root);
        let id = fs::File::open(&at).and_then(BlobId::of_reader);
        id.map(|id| id == entry.object).map_err(|source| SurveyError::Io { path: at, source })
    }
}
