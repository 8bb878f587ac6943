//! A file that is not there until it is whole: written under a temporary name, then renamed.
//!
//! **Invariant:** whoever opens the final name sees all the bytes or no file, also when the writer is killed. Power loss
//! is another matter: nothing is synced here, so a reader checks what it reads (by size or by hash).

use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// A file under a temporary name; removed when dropped before it was published.
#[derive(Debug)]
pub struct TempFile {
    file: File,
    path: PathBuf,
    published: bool,
}

impl TempFile {
    /// Creates an empty file with exactly these permission bits (whatever the umask) in `dir`, which is made if needed.
    pub fn create(dir: &Path, mode: u32) -> io::Result<Self> {
        loop {
            let path = dir.join(unique_name());
            match File::options().read(true).write(true).create_new(true).mode(mode).open(&path) {
                Ok(file) => {
                    let temp = Self { file, path, published: false };
                    temp.file.set_permissions(fs::Permissions::from_mode(mode))?;
                    return Ok(temp);
                }
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) if e.kind() == io::ErrorKind::NotFound && !dir.exists() => fs::create_dir_all(dir)?,
                Err(e) => return Err(e),
            }
        }
    }

    /// The open file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Where it stands until it is published.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Renames it to its final name, whose directory is made if needed. What stood there is replaced.
    pub fn publish(mut self, to: &Path) -> io::Result<()> {
        rename_making_parent(&self.path, to)?;
        self.published = true;
        Ok(())
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        if !self.published {
            // Nothing can be done about a failure: `ggr gc` removes what is left in `tmp/`.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Renames a file, making the directory of its new name if that is what is missing.
pub fn rename_making_parent(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            if let Some(parent) = to.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::rename(from, to)
        }
        other => other,
    }
}

/// Writes a small file in one step: readers see the old bytes or the new ones.
pub fn write_atomic(temp_dir: &Path, to: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let temp = TempFile::create(temp_dir, mode)?;
    temp.file().write_all(bytes)?;
    temp.publish(to)
}

/// A file name that no other process uses: process ids repeat across pid namespaces, so a random number stands beside.
pub fn unique_name() -> String {
    static SEED: OnceLock<u64> = OnceLock::new();
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let seed = SEED.get_or_init(|| RandomState::new().hash_one(process::id()));
    format!("{}-{seed:016x}-{}", process::id(), COUNTER.fetch_add(1, Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_file_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        drop(TempFile::create(&dir.path().join("tmp"), 0o644).unwrap());
        assert_eq!(fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0);
    }

    #[test]
    fn a_published_file_has_its_bytes_and_mode() {
        let dir = tempfile::tempdir().unwrap();
        let to = dir.path().join("a/b");
        write_atomic(dir.path(), &to, b"old", 0o444).unwrap();
        write_atomic(dir.path(), &to, b"new", 0o444).unwrap();
        assert_eq!(fs::read(&to).unwrap(), b"new");
        assert_eq!(fs::metadata(&to).unwrap().permissions().mode() & 0o7777, 0o444);
    }
}
