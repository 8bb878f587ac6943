//! The checker: reads everything that a repository holds and compares it with the names.

use std::fs::{self, File};
use std::io;
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use ggr_ir::repo::{Repo, ThunkStoreError, write_atomic};
use ggr_ir::{BlobId, Hash, ObjectStore, ThunkId};

use super::captures;
use super::fs::FsStore;
use super::gc::{Progress, Step};
use super::inventory::{Inventory, InventoryError, Item, Kind};
use super::reductions;

/// What to do with what is damaged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Repair {
    /// Say it and leave it.
    Report,
    /// Remove it: the next build makes it again.
    Remove,
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// Its bytes have another hash than its name.
    #[error("its bytes are not those that it is named for")]
    Hash,
    /// The record was cut short, damaged, moved or written by another version.
    #[error("it is no reduction that this version can read")]
    Reduction,
    /// The reduction is whole, but blobs that it speaks of are gone. Harmless: it counts as a miss.
    #[error("{0} of its outputs are not in the store")]
    Dangling(usize),
    /// It is no encoded thunk, or another one.
    #[error("it is not the thunk that it is named for")]
    Thunk,
    /// It is no record of what a command did, or another command's.
    #[error("it is no capture that this version can read")]
    Capture,
    /// Its name is no hash.
    #[error("it does not belong here")]
    Stray,
    /// It cannot be read.
    #[error("it cannot be read")]
    Unreadable(#[source] io::Error),
}

/// One damaged file.
#[derive(Debug)]
pub struct Finding {
    /// Where it stands or stood.
    pub path: PathBuf,
    /// What is wrong with it.
    pub damage: Damage,
    /// Whether it was removed; a reason if that was asked for and failed.
    pub removed: Result<bool, io::Error>,
}

/// What a check found.
#[derive(Debug, Default)]
pub struct Checked {
    /// Files that are what their names say.
    pub good: u64,
    /// The others, ordered by path.
    pub findings: Vec<Finding>,
}

impl Checked {
    fn add(&mut self, item: &Item, damage: Option<Damage>, repair: Repair) {
        let Some(damage) = damage else {
            self.good += 1;
            return;
        };
        let removed = match repair {
            Repair::Report => Ok(false),
            Repair::Remove => fs::remove_file(&item.path).map(|()| true),
        };
        self.findings.push(Finding { path: item.path.clone(), damage, removed });
    }
}

/// How long before the last use of any blob its bytes may still have been on their way to the disk: Linux writes them after
/// 30 s (`vm.dirty_expire_centisecs`), or later when the disk is busy.
const UNWRITTEN: Duration = Duration::from_secs(300);

/// Where the kernel names this boot.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// To be called before a repository is used: if the machine was booted since the last call, reads the blobs that may have
/// been on their way to the disk then, and removes those that did not arrive. (Blobs are not synced, and some file systems
/// bring a file back with its size but without its bytes.) Answers nothing if there was nothing to do; costs one read
/// then. A repository that cannot be written is left alone.
pub fn after_reboot(repo: &Repo) -> Result<Option<Checked>, InventoryError> {
    let Ok(boot) = fs::read(BOOT_ID) else { return Ok(None) };
    let noted = repo.run_dir().join("boot");
    if fs::read(&noted).is_ok_and(|noted| noted == boot) {
        return Ok(None);
    }
    let mut blobs = Inventory::of(repo)?.items;
    blobs.retain(|item| matches!(item.kind, Kind::Blob | Kind::Twin));
    let last = blobs.iter().map(|item| item.used).max();
    blobs.retain(|item| last.is_some_and(|last| item.used + UNWRITTEN >= last));
    let mut checked = Checked::default();
    check_all(repo, &blobs, |item, damage| checked.add(item, damage, Repair::Remove));
    // Noted last, so that a check that is broken off is done again; if it cannot be noted it is done again as well.
    let _ = write_atomic(&repo.tmp_dir(), &noted, &boot, 0o644);
    Ok(Some(checked))
}

/// Reads every blob, reduction and thunk of a repository, on as many threads as there are cores. Files that vanish meanwhile
/// are passed over.
pub fn verify(
    repo: &Repo,
    repair: Repair,
    mut progress: impl FnMut(Progress),
) -> Result<Checked, InventoryError> {
    let inventory = Inventory::of(repo)?;
    let mut checked = Checked::default();
    for path in inventory.stray {
        checked.findings.push(Finding { path, damage: Damage::Stray, removed: Ok(false) });
    }
    // Blobs before reductions, so that a reduction of a corrupt blob dangles at once.
    let is_blob = |item: &Item| matches!(item.kind, Kind::Blob | Kind::Twin);
    let (blobs, records): (Vec<_>, Vec<_>) = inventory.items.into_iter().partition(is_blob);
    let total = (blobs.len() + records.len()) as u64;
    let mut done = 0;
    for items in [blobs, records] {
        check_all(repo, &items, |item, damage| {
            done += 1;
            progress(Progress { step: Step::Checking, done, total });
            checked.add(item, damage, repair);
        });
    }
    checked.findings.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(checked)
}

/// Checks items side by side; `found` is called on this thread, in the order in which they are done.
fn check_all(repo: &Repo, items: &[Item], mut found: impl FnMut(&Item, Option<Damage>)) {
    let next = AtomicUsize::new(0);
    let store = FsStore::new(repo.root());
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    // A bound of a few answers per thread: the receiver only counts.
    let (sender, receiver) = mpsc::sync_channel(4 * threads);
    thread::scope(|scope| {
        for _ in 0..threads {
            let sender = sender.clone();
            scope.spawn(|| {
                let sender = sender;
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if sender.send((item, check(repo, &store, item))).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        receiver.into_iter().for_each(|(item, damage)| found(item, damage));
    });
}

fn check(repo: &Repo, store: &FsStore, item: &Item) -> Option<Damage> {
    match item.kind {
        Kind::Blob | Kind::Twin => check_blob(item),
        Kind::Reduction => check_reduction(store, item),
        Kind::Thunk => check_thunk(repo, item),
        Kind::Capture => check_capture(item),
    }
}

fn check_blob(item: &Item) -> Option<Damage> {
    match File::open(&item.path).and_then(BlobId::of_reader) {
        Ok(id) if id.hash() == item.hash => None,
        Ok(_) => Some(Damage::Hash),
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        Err(e) => Some(Damage::Unreadable(e)),
    }
}

fn check_reduction(store: &FsStore, item: &Item) -> Option<Damage> {
    let id = thunk_id(item.hash);
    let Some((reduction, _)) = reductions::read(&item.path, id) else {
        return item.path.exists().then_some(Damage::Reduction);
    };
    match store.missing(&reductions::blobs(&reduction)) {
        Ok(missing) if missing.is_empty() => None,
        Ok(missing) => Some(Damage::Dangling(missing.len())),
        Err(e) => Some(Damage::Unreadable(io::Error::other(e))),
    }
}

fn check_thunk(repo: &Repo, item: &Item) -> Option<Damage> {
    match repo.thunks().read(thunk_id(item.hash)) {
        Ok(_) | Err(ThunkStoreError::Missing(_)) => None,
        Err(ThunkStoreError::Corrupt { .. }) => Some(Damage::Thunk),
        Err(ThunkStoreError::Io { source, .. }) => Some(Damage::Unreadable(source)),
    }
}

/// A capture whose blobs are gone is a miss like any other: only the record itself is looked at.
fn check_capture(item: &Item) -> Option<Damage> {
    let damaged = captures::read(&item.path, item.hash).is_none() && item.path.exists();
    damaged.then_some(Damage::Capture)
}

fn thunk_id(hash: Hash) -> ThunkId {
    format!("T{hash}").parse().expect("`T` and a printed hash are an id")
}

#[cfg(test)]
mod tests;
