//! The collector: keeps a repository below a size by removing what was not used for longest.
//!
//! Blobs, reductions and thunks are one list, ordered by last use; a hit on a reduction renews it and its blobs together, so
//! they age together. **Kept** in any case: what was used since the oldest running session began (and [`MARGIN`] before), and
//! what the placeholders need that some tree still holds: their thunks, those thunks' inputs, and so on.
//!
//! A file that is used between listing and removal is spared by a second look. What is left of that race costs a blob that
//! is made or uploaded again, never a wrong result: whoever reads finds it [`Missing`](ggr_ir::StoreError::Missing).

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use ggr_ir::repo::{Journal, JournalError, Repo, RepoError, Session};
use ggr_ir::{Hash, Object, OutputRef};

use super::fs::TOUCH_AFTER;
use super::inventory::{Inventory, InventoryError, Item, Kind, Usage, last_use};

/// How long before now, or before the start of the oldest running session, a use still keeps a file: the age up to which a
/// use need not be noted, and five minutes for what is on its way between two steps of a build.
pub const MARGIN: Duration = Duration::from_secs(TOUCH_AFTER.as_secs() + 300);

/// What is left after a collection, in percent of the limit: so that the next build does not collect again at once.
const LOW_WATER: u64 = 90;

/// How old a temporary file must be, beside the oldest running session, to belong to nobody. The longest write is that of
/// one blob.
const ABANDONED: Duration = Duration::from_secs(3600);

/// How far a long operation is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// What is being done.
    pub step: Step,
    /// How many files are done.
    pub done: u64,
    /// Of how many; an upper bound.
    pub total: u64,
}

/// The steps of long operations.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Files are being looked at for removal.
    Removing,
    /// Files are being read and hashed.
    Checking,
}

/// What a collection did.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Collected {
    /// What there was.
    pub before: Usage,
    /// What was removed.
    pub removed: Usage,
    /// What could not be removed though the limit asked for it: it is in use.
    pub in_use: Usage,
    /// Temporary files of writers that are gone.
    pub abandoned: u64,
}

/// Why a collection did not happen.
#[derive(Debug, thiserror::Error)]
pub enum GcError {
    /// Another process is collecting.
    #[error("another process is collecting `{}`", .0.display())]
    Running(PathBuf),
    /// The repository cannot be listed.
    #[error(transparent)]
    Inventory(#[from] InventoryError),
    /// The placeholders in use cannot be read; nothing is removed then.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The sessions cannot be read; nothing is removed then.
    #[error(transparent)]
    Sessions(#[from] RepoError),
    /// A file cannot be removed or locked.
    #[error("collector: `{}`", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Removes what was not used for longest until the repository takes at most `limit` bytes on disk (less a tenth, if it was
/// above). `now` is the time, by the clock that the file system uses.
pub fn collect(
    repo: &Repo,
    limit: u64,
    now: SystemTime,
    mut progress: impl FnMut(Progress),
) -> Result<Collected, GcError> {
    let _lock = lock(repo)?;
    let quiet_until = quiet_until(repo, now)?;
    let abandoned = remove_abandoned(&repo.tmp_dir(), quiet_until - ABANDONED)?;
    let mut items = Inventory::of(repo)?.items;
    let before = items.iter().fold(Usage::default(), Usage::with);
    let mut collected = Collected { before, abandoned, ..Collected::default() };
    if before.room <= limit {
        return Ok(collected);
    }
    let target = limit / 100 * LOW_WATER;
    let kept = Kept { used_since: quiet_until - MARGIN, hashes: needed(repo, Journal::roots(repo)?) };
    items.sort_by_key(|item| item.used);
    let total = items.len() as u64;
    for (done, item) in items.iter().enumerate() {
        if before.room - collected.removed.room <= target {
            break;
        }
        progress(Progress { step: Step::Removing, done: done as u64, total });
        if kept.contains(item, item.used) || !remove(item, &kept)? {
            collected.in_use = collected.in_use.with(item);
        } else {
            collected.removed = collected.removed.with(item);
        }
    }
    Ok(collected)
}

/// When the oldest running session began; now if none runs.
fn quiet_until(repo: &Repo, now: SystemTime) -> Result<SystemTime, GcError> {
    let starts = Session::live(repo)?.into_iter().map(|session| session.started);
    Ok(starts.fold(now, SystemTime::min))
}

/// What must not be removed.
struct Kept {
    used_since: SystemTime,
    hashes: BTreeSet<Hash>,
}

impl Kept {
    fn contains(&self, item: &Item, used: SystemTime) -> bool {
        used >= self.used_since || self.hashes.contains(&item.hash)
    }
}

/// The hashes of all thunks and blobs that making these outputs takes. A thunk that is gone or corrupt needs nothing: its
/// placeholder is beyond help.
fn needed(repo: &Repo, roots: Vec<OutputRef>) -> BTreeSet<Hash> {
    let thunks = repo.thunks();
    let mut needed = BTreeSet::new();
    let mut open: Vec<_> = roots.into_iter().map(|root| root.thunk).collect();
    while let Some(id) = open.pop() {
        if !needed.insert(id.hash()) {
            continue;
        }
        let Ok(thunk) = thunks.get(id) else { continue };
        for entry in thunk.inputs.values() {
            match &entry.object {
                Object::Blob(blob) => {
                    needed.insert(blob.hash());
                }
                Object::Output(output) => open.push(output.thunk),
            }
        }
    }
    needed
}

/// Removes a file unless it was used since it was listed. Says whether it is gone.
fn remove(item: &Item, kept: &Kept) -> Result<bool, GcError> {
    let gone = |e: io::Error| match e.kind() {
        io::ErrorKind::NotFound => Ok(true),
        _ => Err(GcError::Io { path: item.path.clone(), source: e }),
    };
    let used = match fs::symlink_metadata(&item.path) {
        Ok(meta) => last_use(item.kind, &meta),
        Err(e) => return gone(e),
    };
    if kept.contains(item, used) {
        return Ok(false);
    }
    fs::remove_file(&item.path).map(|()| true).or_else(gone)
}

/// Held while collecting: two collectors would count each other's removals as room that is still taken.
fn lock(repo: &Repo) -> Result<File, GcError> {
    let path = repo.run_dir().join("gc");
    let failed = |source| GcError::Io { path: path.clone(), source };
    let file = File::options().create(true).write(true).truncate(false).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(GcError::Running(repo.root().to_owned())),
        Err(TryLockError::Error(e)) => Err(failed(e)),
    }
}

fn remove_abandoned(tmp: &Path, before: SystemTime) -> Result<u64, GcError> {
    let failed = |source| GcError::Io { path: tmp.to_owned(), source };
    let entries = match fs::read_dir(tmp) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(e) => return Err(failed(e)),
    };
    let mut count = 0;
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        let Ok(meta) = fs::symlink_metadata(&path) else { continue };
        // Not the time of modification: a blob that is about to get its name has its seal there.
        let old = last_use(Kind::Blob, &meta) < before;
        if meta.is_file() && old && fs::remove_file(&path).is_ok() {
            count += 1;
        }
    }
    Ok(count)
}

#[cfg(test)]
mod tests;
