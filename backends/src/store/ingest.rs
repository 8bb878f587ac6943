//! Taking files in: hashed and copied in one pass.

use std::fs::{File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::SystemTime;

use ggr_ir::repo::TempFile;
use ggr_ir::{BlobId, Hash, StoreError};

use super::fs::FsStore;
use super::layout::BLOB_MODE;
use crate::memo::Stamp;

/// A file up to this size (bytes) is read into memory, hashed, and written only if the store lacks it. A larger one is
/// written while it is hashed.
const IN_MEMORY: u64 = 4 << 20;

/// The buffer for larger files, in bytes: BLAKE3 reaches its full speed from 128 KiB on.
const BUFFER: usize = 256 * 1024;

/// How often a file that changes while it is read is read again.
const TRIES: u32 = 5;

/// A file that was taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ingested {
    /// Its bytes, which are in the store.
    pub id: BlobId,
    /// Whether anybody may execute it.
    pub executable: bool,
    /// What `stat` said before and after it was read.
    pub stamp: Stamp,
    /// When reading began: what a memo needs to know to trust the stamp.
    pub began: SystemTime,
}

impl FsStore {
    /// Stores a regular file's bytes (symlinks followed) and says what they are. Reads each byte once, hashes each byte
    /// once; a file that changes meanwhile is read again.
    ///
    /// # Errors
    /// [`StoreError::Changed`] if it never holds still; `Io` of kind `InvalidInput` if it is no regular file.
    pub fn ingest(&self, path: &Path) -> Result<Ingested, StoreError> {
        let failed = |source| StoreError::Io { path: path.to_owned(), source };
        for _ in 0..TRIES {
            let began = SystemTime::now();
            let file = File::open(path).map_err(failed)?;
            let before = file.metadata().map_err(failed)?;
            if !before.is_file() {
                return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")));
            }
            let id = self.take(&file, &before, path)?;
            let stamp = Stamp::of(&before);
            if Stamp::of(&file.metadata().map_err(failed)?) == stamp && id.size() == before.len() {
                return Ok(Ingested { id, executable: before.mode() & 0o111 != 0, stamp, began });
            }
        }
        Err(StoreError::Changed { path: path.to_owned() })
    }

    /// Stores a file under an id that was computed before.
    pub(super) fn put_file(&self, id: BlobId, path: &Path) -> Result<(), StoreError> {
        let failed = |source| StoreError::Io { path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        let meta = file.metadata().map_err(failed)?;
        // The size tells most changed files before anything is written; the bytes' own hash tells the others, and what was
        // stored meanwhile is a good blob under its own name.
        if meta.len() != id.size() || self.take(&file, &meta, path)? != id {
            return Err(StoreError::Changed { path: path.to_owned() });
        }
        Ok(())
    }

    /// Stores what an open file holds now.
    fn take(&self, file: &File, meta: &Metadata, path: &Path) -> Result<BlobId, StoreError> {
        if meta.len() > IN_MEMORY {
            return self.take_large(file, path);
        }
        let failed = |source| StoreError::Io { path: path.to_owned(), source };
        let mut bytes = Vec::with_capacity(meta.len() as usize + 1);
        // Bounded: a log that somebody writes faster than it is read must not fill the memory.
        file.take(IN_MEMORY + 1).read_to_end(&mut bytes).map_err(failed)?;
        let id = BlobId::of(&bytes);
        if !self.look(id)? {
            self.write(id, &bytes)?;
        }
        Ok(id)
    }

    fn take_large(&self, file: &File, path: &Path) -> Result<BlobId, StoreError> {
        let reading = |source| StoreError::Io { path: path.to_owned(), source };
        let writing = |source| StoreError::Io { path: self.tmp().to_owned(), source };
        let temp = TempFile::create(self.tmp(), BLOB_MODE).map_err(writing)?;
        // A reflink costs nothing and cannot change while it is read.
        let cloned = rustix::fs::ioctl_ficlone(temp.file(), file).is_ok();
        let source = if cloned { temp.file() } else { file };
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0u8; BUFFER];
        let mut size = 0u64;
        loop {
            let count = match source.read_at(&mut buffer, size) {
                Ok(0) => break,
                Ok(count) => count,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(reading(e)),
            };
            hasher.update(&buffer[..count]);
            if !cloned {
                temp.file().write_all(&buffer[..count]).map_err(writing)?;
            }
            size += count as u64;
        }
        let id = BlobId::new(Hash::from_bytes(*hasher.finalize().as_bytes()), size);
        if !self.look(id)? {
            self.publish(temp, id)?;
        }
        Ok(id)
    }
}
