//! The local store: one file per blob.
//!
//! **Invariant:** a blob's name appears by rename after its last byte was written, so a killed process leaves nothing under
//! it, and several processes may write the same blob at once. Nothing is synced: a sync costs milliseconds per blob (a
//! build has thousands) and buys nothing that cannot be made again. What power loss cut short is found by its size
//! whenever it is looked at, counts as missing, and is replaced by the next `put`; what came back with its size but without
//! its bytes is found by [`after_reboot`](super::verify::after_reboot). What somebody has written to since is found by its
//! time ([`seal`]), counts as missing, and is replaced as well.
//!
//! **Last use** is the file's ctime: hard-linking it into a sandbox moves it by itself, and a presence check on a file
//! older than [`TOUCH_AFTER`] moves it by `chmod` to the mode that it has. The collector goes by it.
//!
//! A blob that this process has seen is not looked at again ([`KnownSet`]); whoever finds one gone calls
//! [`forget`](FsStore::forget). The collector keeps what running sessions have seen (`gc.rs`).

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use ggr_ir::repo::{TempFile, rename_making_parent};
use ggr_ir::{BlobId, ObjectStore, StoreError};

use super::Remove;
use super::known::KnownSet;
use super::layout::{BLOB_MODE, TWIN_MODE, sharded, twin};
use super::seal;

/// How old a last use must be to be renewed: so seldom that it costs nothing, so often that the collector sees it.
pub(super) const TOUCH_AFTER: Duration = Duration::from_secs(600);

/// The blobs of a repository. Safe with any number of processes at once.
#[derive(Debug)]
pub struct FsStore {
    root: PathBuf,
    blobs: PathBuf,
    tmp: PathBuf,
    known: KnownSet,
    /// Whether the directories below `blobs/` were made, or seen, by this process.
    sharded: AtomicBool,
}

impl FsStore {
    /// The store below `root` (a repository's root): `blobs/` and `tmp/`, made when the first blob is put.
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            blobs: root.join("blobs"),
            tmp: root.join("tmp"),
            known: KnownSet::default(),
            sharded: AtomicBool::new(false),
        }
    }

    /// Where the blob's file stands or would stand.
    pub fn path(&self, id: BlobId) -> PathBuf {
        sharded(&self.blobs, id.hash())
    }

    /// Whether the blob is here: one `stat` the first time that it is, nothing later.
    pub fn contains(&self, id: BlobId) -> Result<bool, StoreError> {
        Ok(self.known.contains(id) || self.look(id)?)
    }

    /// Looks at the disk whatever was seen before.
    pub(super) fn look(&self, id: BlobId) -> Result<bool, StoreError> {
        let path = self.path(id);
        let meta = match fs::symlink_metadata(&path) {
            Ok(meta) => meta,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(source) => return Err(StoreError::Io { path, source }),
        };
        if !seal::holds(&path, &meta, id) {
            return Ok(false);
        }
        touch(&path, &meta, BLOB_MODE);
        self.known.insert(id);
        Ok(true)
    }

    /// Forgets that the blob was seen: somebody found it gone. The next question goes to the disk.
    pub fn forget(&self, id: BlobId) {
        self.known.remove(id);
    }

    /// The blob's file, to be hard-linked where a program reads it: looked at each time, since nobody hashes it after that.
    ///
    /// # Errors
    /// [`StoreError::Missing`] if it is gone, or if somebody has changed its bytes: it is then removed.
    pub fn sound_path(&self, id: BlobId) -> Result<PathBuf, StoreError> {
        let path = self.path(id);
        match fs::symlink_metadata(&path) {
            Ok(meta) if seal::holds(&path, &meta, id) => Ok(path),
            Ok(_) => {
                // In a store that is somebody else's it stays, and is found again.
                let _ = self.remove(id);
                Err(StoreError::Missing(id))
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Err(self.gone(id)),
            Err(source) => Err(StoreError::Io { path, source }),
        }
    }

    /// The blob as a file of mode 0555, to be hard-linked where a program is to stand; made on the first call by a
    /// reflink or a copy. Looked at as by [`sound_path`](Self::sound_path).
    pub fn executable_path(&self, id: BlobId) -> Result<PathBuf, StoreError> {
        let path = twin(&self.path(id));
        let failed = |source| StoreError::Io { path: path.clone(), source };
        if let Ok(meta) = fs::symlink_metadata(&path)
            && seal::holds(&path, &meta, id)
        {
            touch(&path, &meta, TWIN_MODE);
            return Ok(path);
        }
        let blob = self.open(id)?;
        let temp = TempFile::create(&self.tmp, TWIN_MODE).map_err(failed)?;
        copy(&blob, temp.file()).map_err(failed)?;
        seal::put(temp.path()).map_err(failed)?;
        temp.publish(&path).map_err(failed)?;
        Ok(path)
    }

    /// Fills an open file in place: afterwards it holds the blob's bytes and nothing else, and its inode, mode and name are
    /// what they were. A failure (a full disk) leaves it half filled.
    pub fn materialize(&self, id: BlobId, mut to: &File) -> Result<(), StoreError> {
        let blob = self.open(id)?;
        let failed = |source| StoreError::Io { path: self.path(id), source };
        io::Seek::seek(&mut to, io::SeekFrom::Start(0)).map_err(failed)?;
        // First shorten, so that the old bytes and the new never need room at the same time.
        to.set_len(0).map_err(failed)?;
        copy(&blob, to).map_err(failed)
    }

    /// Moves a finished file into the store; the caller has computed `id` over its bytes and nobody writes to it any more.
    /// Costs one rename on the same file system; a file with other hard links, or on another file system, is copied and
    /// checked, then removed.
    pub fn adopt(&self, path: &Path, id: BlobId) -> Result<(), StoreError> {
        let failed = |source| StoreError::Io { path: path.to_owned(), source };
        let meta = fs::symlink_metadata(path).map_err(failed)?;
        if !meta.is_file() || meta.len() != id.size() {
            return Err(StoreError::Changed { path: path.to_owned() });
        }
        if self.look(id)? {
            return fs::remove_file(path).map_err(failed);
        }
        if meta.nlink() == 1 {
            fs::set_permissions(path, fs::Permissions::from_mode(BLOB_MODE)).map_err(failed)?;
            seal::put(path).map_err(failed)?;
            self.make_shards();
            match rename_making_parent(path, &self.path(id)) {
                Ok(()) => {
                    self.known.insert(id);
                    return Ok(());
                }
                Err(e) if e.kind() == io::ErrorKind::CrossesDevices => {}
                Err(source) => return Err(failed(source)),
            }
        }
        self.put_file(id, path)?;
        fs::remove_file(path).map_err(failed)
    }

    /// Opens a blob for reading.
    pub fn open(&self, id: BlobId) -> Result<File, StoreError> {
        let path = self.path(id);
        match File::open(&path).and_then(|file| Ok((file.metadata()?, file))) {
            Ok((meta, file)) if seal::holds(&path, &meta, id) => Ok(file),
            // Cut short by power loss, or written to: as good as gone.
            Ok(_) => Err(self.gone(id)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Err(self.gone(id)),
            Err(source) => Err(StoreError::Io { path, source }),
        }
    }

    /// An empty file on the store's file system, for bytes that come in pieces and are [adopted](Self::adopt) then.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn temporary(&self) -> Result<TempFile, StoreError> {
        TempFile::create(&self.tmp, BLOB_MODE)
            .map_err(|source| StoreError::Io { path: self.tmp.clone(), source })
    }

    pub(super) fn tmp(&self) -> &Path {
        &self.tmp
    }

    /// Gives a written temporary file its blob's name.
    pub(super) fn publish(&self, temp: TempFile, id: BlobId) -> Result<(), StoreError> {
        let path = self.path(id);
        self.make_shards();
        let sealed = seal::put(temp.path()).and_then(|()| temp.publish(&path));
        sealed.map_err(|source| StoreError::Io { path, source })?;
        self.known.insert(id);
        Ok(())
    }

    pub(super) fn write(&self, id: BlobId, bytes: &[u8]) -> Result<(), StoreError> {
        let failed = |source| StoreError::Io { path: self.tmp.clone(), source };
        let temp = TempFile::create(&self.tmp, BLOB_MODE).map_err(failed)?;
        temp.file().write_all(bytes).map_err(failed)?;
        self.publish(temp, id)
    }

    /// Makes all directories that blobs stand in, once: 3 ms for a new store, where each of its first blobs would otherwise
    /// find its directory missing, make it and try again. One that cannot be made is missed by the first blob in it.
    fn make_shards(&self) {
        if self.sharded.swap(true, Ordering::Relaxed) || self.blobs.join("ff").exists() {
            return;
        }
        let _ = fs::create_dir_all(&self.blobs);
        for shard in 0..=u8::MAX {
            let _ = fs::create_dir(self.blobs.join(format!("{shard:02x}")));
        }
    }

    fn gone(&self, id: BlobId) -> StoreError {
        self.known.remove(id);
        StoreError::Missing(id)
    }

    fn get_one(&self, id: BlobId, to: &Path) -> Result<(), StoreError> {
        let failed = |source| StoreError::Io { path: to.to_owned(), source };
        let blob = self.open(id)?;
        // Beside its final name: a rename must not cross file systems.
        let dir = to.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let temp = TempFile::create(dir, 0o644).map_err(failed)?;
        copy(&blob, temp.file()).map_err(failed)?;
        temp.publish(to).map_err(failed)
    }
}

impl ObjectStore for FsStore {
    fn missing(&self, ids: &[BlobId]) -> Result<Vec<BlobId>, StoreError> {
        let mut missing = Vec::new();
        for &id in ids {
            if !self.contains(id)? {
                missing.push(id);
            }
        }
        Ok(missing)
    }

    fn get(&self, wanted: &[(BlobId, PathBuf)]) -> Vec<Result<(), StoreError>> {
        wanted.iter().map(|(id, to)| self.get_one(*id, to)).collect()
    }

    fn put(&self, files: &[(BlobId, PathBuf)]) -> Vec<Result<(), StoreError>> {
        files
            .iter()
            .map(|(id, path)| if self.look(*id)? { Ok(()) } else { self.put_file(*id, path) })
            .collect()
    }

    fn put_bytes(&self, bytes: &[u8]) -> Result<BlobId, StoreError> {
        let id = BlobId::of(bytes);
        if !self.look(id)? {
            self.write(id, bytes)?;
        }
        Ok(id)
    }

    fn get_bytes(&self, id: BlobId) -> Result<Vec<u8>, StoreError> {
        let mut bytes = Vec::with_capacity(usize::try_from(id.size()).unwrap_or(0).min(64 << 20));
        self.open(id)?
            .read_to_end(&mut bytes)
            .map_err(|source| StoreError::Io { path: self.path(id), source })?;
        Ok(bytes)
    }

    fn local_path(&self, id: BlobId) -> Option<PathBuf> {
        self.contains(id).is_ok_and(|there| there).then(|| self.path(id))
    }

    fn local_root(&self) -> Option<&Path> {
        Some(&self.root)
    }
}

impl Remove for FsStore {
    /// Removes a blob and its twin. Files that were hard-linked from it stay.
    fn remove(&self, id: BlobId) -> Result<(), StoreError> {
        self.known.remove(id);
        let path = self.path(id);
        for path in [twin(&path), path] {
            match fs::remove_file(&path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(StoreError::Io { path, source });
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Copies to the end: by reflink where the file system can, else inside the kernel (`copy_file_range`).
fn copy(mut from: &File, mut to: &File) -> io::Result<()> {
    if rustix::fs::ioctl_ficlone(to, from).is_ok() {
        return Ok(());
    }
    io::copy(&mut from, &mut to).map(drop)
}

/// Renews the last use of a file: `chmod` to its own mode moves the ctime and nothing else. Only its owner may; in a
/// store that is read-only or somebody else's, the owner's collector goes by the owner's uses.
fn touch(path: &Path, meta: &fs::Metadata, mode: u32) {
    let used = SystemTime::UNIX_EPOCH + Duration::from_secs(meta.ctime().try_into().unwrap_or(0));
    if used.elapsed().is_ok_and(|age| age > TOUCH_AFTER) {
        let _ = fs::set_permissions(path, fs::Permissions::from_mode(mode));
    }
}

#[cfg(test)]
mod tests;
