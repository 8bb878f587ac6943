//! The journal of placeholders: which files on disk stand for outputs that are not made yet.
//!
//! A session appends a record before it writes a placeholder and another when the file is real. A session that is killed
//! leaves its journal; the next one takes the open records over and heals the files. **Invariant:** a record leaves the
//! directory only when its file was reported [`done`](Journal::done): `sweep` copies records to its own journal before it
//! removes the dead one. Records are not synced: after power loss the placeholder's own bytes still lead back.
//!
//! A file is [`MAGIC`] and records: `u32` length (little-endian), then postcard. A record that is cut short ends the file.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::placeholder;
use crate::repo::Repo;
use crate::repo::session::{create_locked, lock_if_abandoned};
use crate::repo::temp::unique_name;
use crate::thunk::OutputRef;

/// Starts a journal; the number is the version.
const MAGIC: &[u8] = b"ggr journal 1\n";

/// The longest record that a reader takes, in bytes: two paths of at most 4 KiB and an id.
const MAX_RECORD: usize = 64 * 1024;

/// A session's journal, live or dead.
const OPEN: &str = "journal";

/// A journal of placeholders that were left on purpose (`ggr trace`).
const LEFT: &str = "left";

/// A journal could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("placeholder journal `{}`", path.display())]
pub struct JournalError {
    /// The journal.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

#[derive(Serialize, Deserialize)]
enum Record {
    Add(Vec<u8>, OutputRef),
    Done(Vec<u8>),
}

/// This session's journal. Calls may overlap.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    file: File,
    len: u64,
    pending: BTreeMap<PathBuf, OutputRef>,
}

impl Journal {
    /// Starts a journal in the repository.
    pub fn start(repo: &Repo) -> Result<Self, JournalError> {
        let dir = repo.placeholders_dir();
        let path = dir.join(format!("{}.{OPEN}", unique_name()));
        let create = || {
            let mut file = create_locked(&dir, &path)?;
            file.write_all(MAGIC)?;
            Ok(file)
        };
        let file = create().map_err(|source| JournalError { path: path.clone(), source })?;
        let state = State { file, len: MAGIC.len() as u64, pending: BTreeMap::new() };
        Ok(Self { path, state: Mutex::new(state) })
    }

    /// Notes that a placeholder is about to stand at this absolute path.
    pub fn add(&self, path: &Path, output: &OutputRef) -> Result<(), JournalError> {
        let mut state = self.state();
        let record = Record::Add(path.as_os_str().as_bytes().to_vec(), output.clone());
        state.append(&record).map_err(|source| self.error(source))?;
        state.pending.insert(path.to_owned(), output.clone());
        Ok(())
    }

    /// Notes that the file is real, or gone.
    pub fn done(&self, path: &Path) -> Result<(), JournalError> {
        let mut state = self.state();
        if state.pending.remove(path).is_some() {
            let record = Record::Done(path.as_os_str().as_bytes().to_vec());
            state.append(&record).map_err(|source| self.error(source))?;
        }
        Ok(())
    }

    /// The placeholders that are not done.
    pub fn pending(&self) -> Vec<(PathBuf, OutputRef)> {
        self.state().pending.iter().map(|(path, output)| (path.clone(), output.clone())).collect()
    }

    /// Takes over the open records of sessions that are gone, and returns them: for each, the file may still be a
    /// placeholder, half filled, real, or gone. Report each with [`done`](Self::done) when it is healed.
    ///
    /// Two sessions that sweep at once share the dead journals between them.
    pub fn sweep(&self) -> Result<Vec<(PathBuf, OutputRef)>, JournalError> {
        let dir = self.path.parent().expect("the journal stands in `placeholders/`");
        let mut found = Vec::new();
        for path in journals(dir, OPEN)? {
            let failed = |source| JournalError { path: path.clone(), source };
            let _lock = match lock_if_abandoned(&path) {
                Ok(Some(lock)) => lock,
                Ok(None) => continue,
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(failed(e)),
            };
            for (file, output) in read(&path).map_err(failed)? {
                self.add(&file, &output)?;
                found.push((file, output));
            }
            fs::remove_file(&path).or_else(ignore_missing).map_err(failed)?;
        }
        Ok(found)
    }

    /// Ends the journal and leaves its open placeholders to the user: no later session sweeps them, and the collector
    /// keeps what they need for as long as they stand.
    pub fn leave(self) -> Result<(), JournalError> {
        if !self.state().pending.is_empty() {
            fs::rename(&self.path, self.path.with_extension(LEFT)).map_err(|source| self.error(source))?;
        }
        Ok(())
    }

    /// The placeholders that were left and still stand, ordered by path.
    pub fn left(repo: &Repo) -> Result<BTreeMap<PathBuf, OutputRef>, JournalError> {
        let mut left = BTreeMap::new();
        for path in journals(&repo.placeholders_dir(), LEFT)? {
            let records = read(&path).map_err(|source| JournalError { path, source })?;
            left.extend(records.into_iter().filter(|(file, output)| stands(file, output)));
        }
        Ok(left)
    }

    /// Every output that some placeholder may still stand for: what the collector must be able to make. Journals of left
    /// placeholders of which none stands any more are removed.
    pub fn roots(repo: &Repo) -> Result<Vec<OutputRef>, JournalError> {
        let dir = repo.placeholders_dir();
        let mut roots = Vec::new();
        for path in journals(&dir, OPEN)? {
            roots.extend(read(&path).map_err(|source| JournalError { path, source })?.into_values());
        }
        for path in journals(&dir, LEFT)? {
            let records = read(&path).map_err(|source| JournalError { path: path.clone(), source })?;
            let before = roots.len();
            roots.extend(
                records.into_iter().filter(|(file, output)| stands(file, output)).map(|(_, output)| output),
            );
            if roots.len() == before {
                // A failure leaves it to the next collection.
                let _ = fs::remove_file(&path);
            }
        }
        Ok(roots)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The state is changed after the last step that can panic, so a poisoned one is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn error(&self, source: io::Error) -> JournalError {
        JournalError { path: self.path.clone(), source }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        if self.state().pending.is_empty() {
            // An empty journal that stays is swept by the next session.
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl State {
    /// Writes one record in one call; a disk that fills up in its middle leaves no half record.
    fn append(&mut self, record: &Record) -> io::Result<()> {
        let mut bytes = postcard::to_extend(record, vec![0; 4])
            .expect("records hold nothing that postcard cannot encode");
        let len = bytes.len() - 4;
        if len > MAX_RECORD {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "path too long"));
        }
        bytes[..4].copy_from_slice(&(len as u32).to_le_bytes());
        if let Err(e) = self.file.write_all(&bytes) {
            let _ = self.file.set_len(self.len);
            let _ = io::Seek::seek(&mut self.file, io::SeekFrom::Start(self.len));
            return Err(e);
        }
        self.len += bytes.len() as u64;
        Ok(())
    }
}

fn ignore_missing(e: io::Error) -> io::Result<()> {
    if e.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(e) }
}

fn journals(dir: &Path, extension: &str) -> Result<Vec<PathBuf>, JournalError> {
    let failed = |source| JournalError { path: dir.to_owned(), source };
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|found| found == extension) {
            paths.push(path);
        }
    }
    Ok(paths)
}

/// The open records of a journal; none if it vanished, or was written by another version.
fn read(path: &Path) -> io::Result<BTreeMap<PathBuf, OutputRef>> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(mut file) => file.read_to_end(&mut bytes)?,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(e) => return Err(e),
    };
    let mut pending = BTreeMap::new();
    let mut rest = bytes.strip_prefix(MAGIC).unwrap_or_default();
    while let Some((record, after)) = next_record(rest) {
        rest = after;
        match record {
            Record::Add(path, output) => pending.insert(PathBuf::from(OsString::from_vec(path)), output),
            Record::Done(path) => pending.remove(Path::new(&OsString::from_vec(path))),
        };
    }
    Ok(pending)
}

fn next_record(bytes: &[u8]) -> Option<(Record, &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<4>()?;
    let len = u32::from_le_bytes(*len) as usize;
    if len > MAX_RECORD {
        return None;
    }
    let (record, rest) = rest.split_at_checked(len)?;
    Some((postcard::from_bytes(record).ok()?, rest))
}

/// Whether the file is still the placeholder for this output.
fn stands(file: &Path, output: &OutputRef) -> bool {
    let small = fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.len() <= placeholder::MAX_LEN);
    small && fs::read(file).is_ok_and(|bytes| placeholder::parse(&bytes).as_ref() == Some(output))
}
