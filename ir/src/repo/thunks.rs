//! Encoded thunks by id: the way back from a placeholder to what makes it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::decode::DecodeError;
use crate::hash::{Hash, ThunkId};
use crate::repo::temp::write_atomic;
use crate::thunk::Thunk;

/// Why a thunk could not be stored or found again.
#[derive(Debug, thiserror::Error)]
pub enum ThunkStoreError {
    /// There is none of this id.
    #[error("thunk {0} is not in the repository")]
    Missing(ThunkId),
    /// The file does not hold the thunk that it is named for (power loss, a bad disk); it has been removed.
    #[error("thunk {id} was corrupt and has been removed from `{}`", path.display())]
    Corrupt {
        /// The thunk.
        id: ThunkId,
        /// Its file.
        path: PathBuf,
        /// What is wrong with the bytes; none when only the hash differs.
        #[source]
        source: Option<DecodeError>,
    },
    /// Reading or writing failed.
    #[error("thunk store: `{}`", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// The `thunks/` directory of a repository. Calls may overlap, from any thread and any process.
#[derive(Clone, Debug)]
pub struct Thunks {
    root: PathBuf,
    tmp: PathBuf,
}

impl Thunks {
    pub(crate) fn new(root: PathBuf, tmp: PathBuf) -> Self {
        Self { root, tmp }
    }

    /// The file of a thunk, there or not.
    pub fn path(&self, id: ThunkId) -> PathBuf {
        let hex = id.hash().to_string();
        self.root.join(&hex[..2]).join(&hex[2..])
    }

    /// Stores a thunk and returns its id. One that is there already costs a `stat`.
    pub fn put(&self, thunk: &Thunk) -> Result<ThunkId, ThunkStoreError> {
        let bytes = thunk.encode();
        let id = ThunkId::new(Hash::of(&bytes));
        let path = self.path(id);
        // A file of another length was cut short by power loss: replaced.
        if fs::metadata(&path).is_ok_and(|there| there.len() == bytes.len() as u64) {
            return Ok(id);
        }
        write_atomic(&self.tmp, &path, &bytes, 0o444)
            .map_err(|source| ThunkStoreError::Io { path, source })?;
        Ok(id)
    }

    /// The thunk of this id.
    ///
    /// # Errors
    /// [`Missing`](ThunkStoreError::Missing), or [`Corrupt`](ThunkStoreError::Corrupt) when its bytes have another hash.
    pub fn get(&self, id: ThunkId) -> Result<Thunk, ThunkStoreError> {
        let path = self.path(id);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(ThunkStoreError::Missing(id)),
            Err(source) => return Err(ThunkStoreError::Io { path, source }),
        };
        if Hash::of(&bytes) != id.hash() {
            return Err(self.corrupt(id, path, None));
        }
        Thunk::decode(&bytes).map_err(|source| self.corrupt(id, path, Some(source)))
    }

    /// Whether there is a file for this id.
    pub fn contains(&self, id: ThunkId) -> bool {
        self.path(id).exists()
    }

    /// The ids of all thunks, in no order. Names that are no ids are passed over.
    pub fn ids(&self) -> Result<Vec<ThunkId>, ThunkStoreError> {
        let mut ids = Vec::new();
        for shard in list(&self.root)? {
            let prefix = shard.file_name().unwrap_or_default().to_string_lossy().into_owned();
            for file in list(&shard)? {
                let rest = file.file_name().unwrap_or_default().to_string_lossy();
                ids.extend(format!("T{prefix}{rest}").parse::<ThunkId>());
            }
        }
        Ok(ids)
    }

    fn corrupt(&self, id: ThunkId, path: PathBuf, source: Option<DecodeError>) -> ThunkStoreError {
        // The report matters more than the removal, which `put` does as well.
        let _ = fs::remove_file(&path);
        ThunkStoreError::Corrupt { id, path, source }
    }
}

fn list(dir: &Path) -> Result<Vec<PathBuf>, ThunkStoreError> {
    let failed = |source| ThunkStoreError::Io { path: dir.to_owned(), source };
    match fs::read_dir(dir) {
        Ok(entries) => {
            entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>().map_err(failed)
        }
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(Vec::new())
        }
        Err(source) => Err(failed(source)),
    }
}
