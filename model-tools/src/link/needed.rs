//! The libraries that the linked shared libraries need themselves.
//!
//! GNU ld opens them to see which symbols they leave undefined (`ldelf_after_open` in `ldelf.c`); without them it warns,
//! and may export other symbols. It looks along `-rpath-link`, `-rpath`, `LD_RUN_PATH`, `LD_LIBRARY_PATH`, the needing
//! library's own path, `/etc/ld.so.conf`, and its built-in directories. It takes the first that is of the right version;
//! all that exist are added, so that it takes the same one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustc_hash::FxHashSet;

use super::Halt;
use super::facts::{Facts, Leads, Shared, split};
use super::walk::{Walk, answers_to};
use crate::model::Found;

impl Walk<'_, '_> {
    /// Adds the closure of what the shared libraries met so far need.
    pub(super) fn needed(&mut self) -> Result<(), Halt> {
        let mut answered: FxHashSet<String> =
            self.shared.iter().filter_map(|(path, facts)| answers_to(path, facts)).collect();
        let mut at = 0;
        while let Some((path, facts)) = self.shared.get(at).cloned() {
            at += 1;
            let Leads::Shared(shared) = &facts.leads else { continue };
            for name in &shared.needed {
                if answered.insert(name.clone()) {
                    self.needed_library(&path, shared, name)?;
                }
            }
        }
        Ok(())
    }

    fn needed_library(&mut self, by: &Path, shared: &Shared, name: &str) -> Result<(), Halt> {
        for dir in self.needed_dirs(by, shared)? {
            let path = dir.join(name);
            if matches!(self.find(&path), Found::Missing | Found::Directory) {
                continue;
            }
            self.read(&path)?;
            let facts: Arc<Facts> = self.facts(&path)?;
            self.note_shared(path, facts);
        }
        Ok(())
    }

    /// Where ld looks, in order.
    fn needed_dirs(&mut self, by: &Path, shared: &Shared) -> Result<Vec<PathBuf>, Halt> {
        let variable = |name: &str| self.context.env.get(name).map(|list| split(list)).unwrap_or_default();
        let (run_path, library_path) = (variable("LD_RUN_PATH"), variable("LD_LIBRARY_PATH"));
        let settings = &self.settings;
        let lists = [&settings.run_path_link, &settings.run_path, &run_path, &library_path, &shared.run_path];
        let origin = by.parent().and_then(Path::to_str).unwrap_or("/");
        let mut dirs: Vec<PathBuf> = lists
            .into_iter()
            .flatten()
            .map(|dir| self.context.dir.join(dir.replace("${ORIGIN}", origin).replace("$ORIGIN", origin)))
            .collect();
        let conf = self.context.defaults.loader_conf(&settings.sysroot, self.context.files);
        dirs.extend_from_slice(&conf.dirs);
        dirs.extend_from_slice(&settings.built_in);
        for file in &conf.files {
            self.read(file)?;
        }
        Ok(dirs)
    }
}
