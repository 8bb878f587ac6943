//! Templates: guests that were booted, given a toolchain's files, and written down, to be restored as often as wanted.
//!
//! On disk: `<directory>/<image>-<contents>/` with `memory`, `devices` and `manifest.json`. `image` is a hash over all
//! that decides how a guest starts, `contents` one over the blobs that it holds. A directory appears by rename when it is
//! whole, and is never written to again.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ggr_ir::BlobId;
use ggr_ir::repo::unique_name;
use serde::{Deserialize, Serialize};

use super::keeper::Keeper;
use super::session::Session;
use super::vmm::{Machine, Snapshot, Vmm, VmmError};
use super::{chain, sparse};
use crate::store::FsStore;

/// The version of the manifest and of how guests are set up: their machine and their kernel's line.
pub(super) const VERSION: u32 = 2;

/// Templates that are kept; each takes the memory that its guest had touched (about 250 MB with GCC).
const KEPT: usize = 4;

/// The longest manifest that is read, in bytes: some 10,000 blobs.
const MANIFEST_MAX: u64 = 4 << 20;

/// A guest on disk.
#[derive(Clone, Debug)]
pub(super) struct Template {
    pub(super) snapshot: Snapshot,
    /// What guests restored from it have.
    pub(super) blobs: BTreeSet<BlobId>,
}

#[derive(Serialize, Deserialize)]
struct Manifest {
    version: u32,
    blobs: BTreeSet<BlobId>,
}

/// What all templates of an image have in common.
#[derive(Clone, Debug)]
pub struct Image {
    /// The machine that a template is a snapshot of.
    pub machine: Machine,
    /// Where templates are kept.
    pub directory: PathBuf,
    /// A hash over the kernel, the initial file system, the monitor, the machine and [`VERSION`].
    pub key: String,
}

impl Image {
    /// The template here that has the most of these blobs, in bytes.
    pub(super) fn best(&self, wanted: &BTreeSet<BlobId>) -> Option<Template> {
        let has = |template: &Template| wanted.intersection(&template.blobs).map(BlobId::size).sum::<u64>();
        self.all().into_iter().filter_map(|dir| Self::load(&dir)).max_by_key(has)
    }

    fn all(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(&self.directory) else { return Vec::new() };
        let ours = |entry: &fs::DirEntry| {
            entry.file_name().to_string_lossy().strip_prefix(&self.key).is_some_and(|r| r.starts_with('-'))
        };
        entries.flatten().filter(ours).map(|entry| entry.path()).collect()
    }

    fn load(dir: &Path) -> Option<Template> {
        let manifest = dir.join("manifest.json");
        if fs::metadata(&manifest).ok()?.len() > MANIFEST_MAX {
            return None;
        }
        let manifest: Manifest = serde_json::from_slice(&fs::read(manifest).ok()?).ok()?;
        (manifest.version == VERSION).then(|| Template { snapshot: Snapshot::at(dir), blobs: manifest.blobs })
    }

    /// Gives a guest the blobs and writes it down: one restored from `base`, which saves the boot, or a new one.
    pub(super) async fn make(
        &self,
        vmm: &Arc<dyn Vmm>,
        store: &FsStore,
        base: Option<Template>,
        mut blobs: BTreeSet<BlobId>,
        limit: Duration,
    ) -> Result<Template, String> {
        fs::create_dir_all(&self.directory).map_err(|e| e.to_string())?;
        let temp = self.directory.join(format!("tmp-{}", unique_name()));
        // Only its owner may read it: it holds the bytes of the blobs.
        fs::DirBuilder::new().mode(0o700).create(&temp).map_err(|e| e.to_string())?;
        let snapshot = Snapshot::at(&temp);
        let session = match base {
            Some(base) => {
                blobs.extend(&base.blobs);
                self.reopen(vmm, base, &snapshot).await
            }
            None => self.boot(vmm, &snapshot, limit).await,
        };
        let made = match session {
            Ok(session) => self.write_down(session, store, blobs, &temp).await,
            Err(why) => Err(why),
        };
        if made.is_err() {
            let _ = fs::remove_dir_all(&temp);
        }
        self.forget_old();
        made
    }

    /// A guest that was booted and is not written down: its memory goes with it.
    pub(super) async fn boot_alone(&self, vmm: &Arc<dyn Vmm>) -> Result<Session, String> {
        fs::create_dir_all(&self.directory).map_err(|e| e.to_string())?;
        let temp = self.directory.join(format!("tmp-{}", unique_name()));
        fs::DirBuilder::new().mode(0o700).create(&temp).map_err(|e| e.to_string())?;
        let booted = self.boot(vmm, &Snapshot::at(&temp), Duration::MAX).await;
        // The monitor holds what it has opened.
        let _ = fs::remove_dir_all(&temp);
        booted
    }

    async fn boot(
        &self,
        vmm: &Arc<dyn Vmm>,
        snapshot: &Snapshot,
        limit: Duration,
    ) -> Result<Session, String> {
        let (vmm, machine, memory) = (Arc::clone(vmm), self.machine.clone(), snapshot.memory.clone());
        let started = Keeper::start(move || vmm.boot(&machine, &memory)).await;
        let (keeper, console) = started.map_err(|e| chain(&e))?;
        Session::booted(keeper, console, limit).await.map_err(|(e, words)| format!("{e}{words}"))
    }

    /// A guest restored from a copy of `base` at `snapshot`.
    async fn reopen(
        &self,
        vmm: &Arc<dyn Vmm>,
        base: Template,
        snapshot: &Snapshot,
    ) -> Result<Session, String> {
        let (vmm, machine) = (Arc::clone(vmm), self.machine.clone());
        let copied = Snapshot { memory: snapshot.memory.clone(), devices: base.snapshot.devices.clone() };
        let memory = base.snapshot.memory.clone();
        let started = Keeper::start(move || {
            sparse::copy(&memory, &copied.memory).map_err(|source| VmmError::Failed {
                doing: "copying a snapshot",
                why: source.to_string(),
                console: String::new(),
            })?;
            vmm.reopen(&machine, &copied)
        });
        let (keeper, console) = started.await.map_err(|e| chain(&e))?;
        let has = base.blobs.into_iter().collect();
        Session::restored(keeper, console, has).await.map_err(|(e, words)| format!("{e}{words}"))
    }

    async fn write_down(
        &self,
        mut session: Session,
        store: &FsStore,
        blobs: BTreeSet<BlobId>,
        temp: &Path,
    ) -> Result<Template, String> {
        let told = |e: io::Error| e.to_string();
        let ids: Vec<_> = blobs.iter().copied().collect();
        session.push(store, &ids).await.map_err(|e| e.to_string())?;
        // The guest has taken a frame when it answers the next one: what was sent is in its store then.
        session.settle().await.map_err(told)?;
        let (keeper, _) = session.into_parts();
        keeper.save(Snapshot::at(temp).devices).await.map_err(|e| chain(&e))?;
        let contents = blobs.iter().fold(blake3::Hasher::new(), |mut hasher, id| {
            hasher.update(id.hash().as_bytes());
            hasher
        });
        let dir = self.directory.join(format!("{}-{}", self.key, &contents.finalize().to_hex()[..16]));
        let manifest = serde_json::to_vec(&Manifest { version: VERSION, blobs: blobs.clone() })
            .expect("a manifest is plain data");
        fs::write(temp.join("manifest.json"), manifest).map_err(told)?;
        if let Err(error) = fs::rename(temp, &dir) {
            // Another ggr made the same one meanwhile.
            let _ = fs::remove_dir_all(temp);
            return Self::load(&dir).ok_or_else(|| error.to_string());
        }
        Ok(Template { snapshot: Snapshot::at(&dir), blobs })
    }

    /// Removes all but the youngest templates and initial file systems, of whatever image: those of other versions of ggr
    /// are of no use to this one. Guests that run from a removed template keep its memory until they end.
    fn forget_old(&self) {
        let Ok(entries) = fs::read_dir(&self.directory) else { return };
        let aged = |entry: fs::DirEntry| Some((entry.metadata().ok()?.modified().ok()?, entry.path()));
        let all: Vec<(SystemTime, PathBuf)> = entries.flatten().filter_map(aged).collect();
        let (mut templates, mut files): (Vec<_>, Vec<_>) = all.into_iter().partition(|(_, at)| at.is_dir());
        files.retain(|(_, at)| at.file_name().is_some_and(|n| n.to_string_lossy().starts_with("initramfs-")));
        for old in [&mut templates, &mut files] {
            old.sort();
            old.truncate(old.len().saturating_sub(KEPT));
        }
        templates.iter().for_each(|(_, dir)| drop(fs::remove_dir_all(dir)));
        files.iter().for_each(|(_, file)| drop(fs::remove_file(file)));
    }
}
