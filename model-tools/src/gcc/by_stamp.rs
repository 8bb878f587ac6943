//! What was found out about files, each worth as long as its file has the stamp that it had.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rustc_hash::FxHashMap;

use crate::model::FileView;

/// By path, with the stamp that the file had before it was looked at. Bound: the files that a build asks for.
pub(super) struct ByStamp<T>(Mutex<FxHashMap<PathBuf, (u64, T)>>);

impl<T> Default for ByStamp<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> ByStamp<T> {
    /// What is known of the file at an absolute path, or what `find` finds, which is told the file's stamp. It is kept if there is
    /// one.
    ///
    /// # Errors
    /// Those of `find`.
    pub(super) fn of<E>(
        &self,
        path: &Path,
        files: &dyn FileView,
        find: impl FnOnce(Option<u64>) -> Result<T, E>,
    ) -> Result<T, E> {
        let stamp = files.stamp(path);
        if let Some((old, known)) = self.0.lock().expect("no holder panics").get(path)
            && Some(*old) == stamp
        {
            return Ok(known.clone());
        }
        let found = find(stamp)?;
        if let Some(stamp) = stamp {
            self.0.lock().expect("no holder panics").insert(path.to_owned(), (stamp, found.clone()));
        }
        Ok(found)
    }
}
