//! Running sessions: who uses the repository now.
//!
//! A session is a lock file in `run/`, held with `flock` for as long as its process lives. **Invariant:** a lock file that
//! can be locked belongs to nobody any more. The kernel lets go when the process ends in whatever way, so neither reused
//! process ids nor pid namespaces matter. Descriptors are close-on-exec: a build's left-over daemon holds nothing.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::repo::temp::{TempFile, unique_name};
use crate::repo::{Repo, RepoError};

const SUFFIX: &str = ".lock";

/// This process's use of a repository; ends when dropped.
#[derive(Debug)]
pub struct Session {
    path: PathBuf,
    _lock: File,
}

/// Another (or this) session that runs now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveSession {
    /// Its name: start time in milliseconds since 1970, process id, a random number.
    pub name: String,
    /// When it started, by the wall clock.
    pub started: SystemTime,
}

impl Session {
    /// Enters the repository.
    pub fn start(repo: &Repo) -> Result<Self, RepoError> {
        let millis = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let path = repo.run_dir().join(format!("{millis}-{}{SUFFIX}", unique_name()));
        let lock = create_locked(&repo.run_dir(), &path).map_err(RepoError::io("lock", &path))?;
        Ok(Self { path, _lock: lock })
    }

    /// The session's name, unique in the repository.
    pub fn name(&self) -> &str {
        name_of(&self.path).expect("the name was made with the suffix")
    }

    /// The sessions that run now, this one included. Lock files of dead ones are removed.
    pub fn live(repo: &Repo) -> Result<Vec<LiveSession>, RepoError> {
        let dir = repo.run_dir();
        let mut live = Vec::new();
        for entry in fs::read_dir(&dir).map_err(RepoError::io("list", &dir))? {
            let path = entry.map_err(RepoError::io("list", &dir))?.path();
            let Some(name) = name_of(&path) else { continue };
            match lock_if_abandoned(&path) {
                Ok(Some(_lock)) => {
                    // Fails in a read-only repository; the file harms nobody.
                    let _ = fs::remove_file(&path);
                }
                Ok(None) => live.extend(parse(name)),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(RepoError::Io { action: "lock", path, source }),
            }
        }
        Ok(live)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // What is left behind is removed by the next `live`.
        let _ = fs::remove_file(&self.path);
    }
}

/// Creates a file that is locked before anybody can see it under its name.
pub(super) fn create_locked(dir: &Path, path: &Path) -> io::Result<File> {
    let temp = TempFile::create(dir, 0o644)?;
    temp.file().lock()?;
    // A duplicate shares the lock.
    let file = temp.file().try_clone()?;
    temp.publish(path)?;
    Ok(file)
}

/// The locked file if its owner is gone; nothing while the owner lives.
pub(super) fn lock_if_abandoned(path: &Path) -> io::Result<Option<File>> {
    let file = File::open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(e)) => Err(e),
    }
}

fn name_of(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()?.strip_suffix(SUFFIX)
}

fn parse(name: &str) -> Option<LiveSession> {
    let millis = name.split('-').next()?.parse().ok()?;
    let started = UNIX_EPOCH.checked_add(Duration::from_millis(millis))?;
    Some(LiveSession { name: name.to_owned(), started })
}
