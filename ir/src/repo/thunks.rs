//! Encoded thunks by id: the way back from a placeholder to what makes it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, utimensat};

use crate::decode::DecodeError;
use crate::hash::{Hash, ThunkId};
use crate::repo::temp::write_atomic;
use crate::thunk::Thunk;

/// How old a last use must be to be renewed.
const RENEW_AFTER: Duration = Duration::from_secs(3600);

const NOW: Timestamps = Timestamps {
    last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
    last_modification: Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
};

/// Why a thunk could not be stored or found again.
#[derive(Debug, thiserror::Error)]
pub enum ThunkStoreError {
    /// There is none of this id.
    #[error("thunk {0} is not in the repository")]
    Missing(ThunkId),
    /// The file does not hold the thunk that it is named for (power loss, a bad disk).
    #[error("thunk {id} is corrupt in `{}`", path.display())]
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

    /// Stores a thunk and returns its id. One that is there already costs a `stat`; its mtime, which says when it was last
    /// used, is renewed at most once an hour.
    pub fn put(&self, thunk: &Thunk) -> Result<ThunkId, ThunkStoreError> {
        let bytes = thunk.encode();
        let id = ThunkId::new(Hash::of(&bytes));
        let path = self.path(id);
        // A file of another length was cut short by power loss: replaced.
        if let Ok(there) = fs::metadata(&path)
            && there.len() == bytes.len() as u64
        {
            if there.modified().is_ok_and(|used| used.elapsed().is_ok_and(|age| age > RENEW_AFTER)) {
                // By name: the file is read-only. In a repository of somebody else, the owner's uses count.
                let _ = utimensat(CWD, &path, &NOW, AtFlags::empty());
            }
            return Ok(id);
        }
        write_atomic(&self.tmp, &path, &bytes, 0o444)
            .map_err(|source| ThunkStoreError::Io { path, source })?;
        Ok(id)
    }

    /// The thunk of this id; a corrupt one is removed, so that the next [`put`](Self::put) heals it.
    ///
    /// # Errors
    /// [`Missing`](ThunkStoreError::Missing), or [`Corrupt`](ThunkStoreError::Corrupt) when its bytes have another hash.
    pub fn get(&self, id: ThunkId) -> Result<Thunk, ThunkStoreError> {
        let got = self.read(id);
        if let Err(ThunkStoreError::Corrupt { path, .. }) = &got {
            // The report matters more than the removal; `put` sees a wrong length as well.
            let _ = fs::remove_file(path);
        }
        got
    }

    /// As [`get`](Self::get), and leaves a corrupt one where it is.
    pub fn read(&self, id: ThunkId) -> Result<Thunk, ThunkStoreError> {
        let path = self.path(id);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(ThunkStoreError::Missing(id)),
            Err(source) => return Err(ThunkStoreError::Io { path, source }),
        };
        if Hash::of(&bytes) != id.hash() {
            return Err(ThunkStoreError::Corrupt { id, path, source: None });
        }
        Thunk::decode(&bytes).map_err(|source| ThunkStoreError::Corrupt { id, path, source: Some(source) })
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
