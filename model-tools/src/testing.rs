//! What the tests of models share: a view of the real disk.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use ggr_ir::{BlobId, OutputRef, placeholder};

use crate::model::{FileView, Found};

type Hashed = (u64, BlobId, bool);

/// The files of this machine, hashed when asked for and remembered by stat. Knows the bytes of every blob it named.
#[derive(Default)]
pub(crate) struct DiskView {
    hashed: Mutex<HashMap<PathBuf, Hashed>>,
    bytes: Mutex<HashMap<BlobId, Bytes>>,
    placeholders: Mutex<HashMap<PathBuf, (u64, Option<OutputRef>)>>,
    stamped: Mutex<HashMap<u64, (BlobId, bool)>>,
}

/// Where the bytes of a blob are.
#[derive(Clone)]
pub(crate) enum Bytes {
    /// In this file, unless it was changed since.
    File(PathBuf),
    /// Here.
    Inline(Vec<u8>),
}

impl DiskView {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// The bytes of a blob that this view named.
    pub(crate) fn bytes(&self, id: BlobId) -> Option<Bytes> {
        self.bytes.lock().unwrap().get(&id).cloned()
    }

    fn placeholder(&self, path: &Path, meta: &fs::Metadata) -> Option<OutputRef> {
        let size = meta.size();
        if size > placeholder::MAX_LEN || size < placeholder::MAGIC.len() as u64 {
            return None;
        }
        let stamp = stamp_of(meta);
        if let Some((old, known)) = self.placeholders.lock().unwrap().get(path)
            && *old == stamp
        {
            return known.clone();
        }
        let found = placeholder::parse(&fs::read(path).ok()?);
        self.placeholders.lock().unwrap().insert(path.to_owned(), (stamp, found.clone()));
        found
    }
}

fn stamp_of(meta: &fs::Metadata) -> u64 {
    let parts = [meta.dev(), meta.ino(), meta.size(), meta.mtime() as u64, meta.mtime_nsec() as u64];
    let parts = parts.into_iter().chain([meta.ctime() as u64, meta.ctime_nsec() as u64]);
    let mut hasher = rustc_hash::FxHasher::default();
    parts.for_each(|part| std::hash::Hasher::write_u64(&mut hasher, part));
    std::hash::Hasher::finish(&hasher)
}

impl FileView for DiskView {
    fn find(&self, path: &Path) -> Found {
        let Ok(meta) = fs::metadata(path) else { return Found::Missing };
        if meta.is_dir() {
            return Found::Directory;
        }
        if !meta.is_file() {
            return Found::Other;
        }
        match self.placeholder(path, &meta) {
            Some(output) => Found::Placeholder(output),
            None => Found::File { size: meta.size(), executable: meta.permissions().mode() & 0o111 != 0 },
        }
    }

    fn link_target(&self, path: &Path) -> Option<PathBuf> {
        fs::read_link(path).ok()
    }

    fn read(&self, path: &Path) -> io::Result<Arc<[u8]>> {
        match self.find(path) {
            Found::Placeholder(_) => Err(io::ErrorKind::WouldBlock.into()),
            _ => fs::read(path).map(Into::into),
        }
    }

    fn blob(&self, path: &Path) -> io::Result<(BlobId, bool)> {
        let meta = fs::metadata(path)?;
        let stamp = stamp_of(&meta);
        if let Some((old, id, executable)) = self.hashed.lock().unwrap().get(path)
            && *old == stamp
        {
            return Ok((*id, *executable));
        }
        let executable = match self.find(path) {
            Found::File { executable, .. } => executable,
            Found::Placeholder(_) => return Err(io::ErrorKind::WouldBlock.into()),
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        };
        let id = BlobId::of_reader(fs::File::open(path)?)?;
        self.hashed.lock().unwrap().insert(path.to_owned(), (stamp, id, executable));
        self.bytes.lock().unwrap().insert(id, Bytes::File(path.to_owned()));
        self.stamped.lock().unwrap().insert(stamp, (id, executable));
        Ok((id, executable))
    }

    fn blob_stamped(&self, path: &Path, stamp: u64) -> io::Result<(BlobId, bool)> {
        let known = self.stamped.lock().unwrap().get(&stamp).copied();
        known.map_or_else(|| self.blob(path), Ok)
    }

    fn blob_of_bytes(&self, bytes: &[u8]) -> io::Result<BlobId> {
        let id = BlobId::of(bytes);
        self.bytes.lock().unwrap().entry(id).or_insert_with(|| Bytes::Inline(bytes.to_vec()));
        Ok(id)
    }

    fn stamp(&self, path: &Path) -> Option<u64> {
        let meta = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
        self.placeholder(path, &meta).is_none().then(|| stamp_of(&meta))
    }
}
