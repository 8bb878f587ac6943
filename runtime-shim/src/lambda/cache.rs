//! The objects that an environment keeps below `/tmp` between invocations.
//!
//! **Invariant:** before a job is staged, what it needs and what is kept beside it fit into the budget; what was used
//! longest ago goes first, and what is still on its way into the store stays.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use ggr_backends::store::{FsStore, Remove};
use ggr_ir::protocol::lambda::{Inline, Invocation, Traffic};
use ggr_ir::{BlobId, Entry, InfraFailure, Mode, Object, ObjectStore, ReadyThunk};

/// A bounded store of objects.
pub(super) struct Cache {
    store: FsStore,
    incoming: PathBuf,
    /// Bytes that may be kept.
    budget: u64,
    /// When each object was used last, and its bytes on disk.
    kept: BTreeMap<BlobId, Kept>,
    clock: u64,
}

#[derive(Clone, Copy)]
struct Kept {
    used: u64,
    bytes: u64,
}

impl Cache {
    /// An empty one below `root`, which nobody else uses.
    pub(super) fn new(root: &Path, budget: u64) -> std::io::Result<Self> {
        let incoming = root.join("incoming");
        fs::create_dir_all(&incoming)?;
        Ok(Self { store: FsStore::new(root), incoming, budget, kept: BTreeMap::new(), clock: 0 })
    }

    /// Whether what is on its way into the store leaves too little room for the thunk's inputs.
    pub(super) fn lacks_room(&self, thunk: &ReadyThunk, unsent: &BTreeSet<BlobId>) -> bool {
        let needed = sizes(thunk);
        let beside = unsent.iter().filter(|id| !needed.contains_key(id)).map(|id| self.bytes_of(*id));
        !unsent.is_empty() && needed.values().sum::<u64>() + beside.sum::<u64>() > self.budget
    }

    /// Makes sure that the thunk's inputs are here: from the message, or else from the store. What is on its way into the store
    /// stays.
    pub(super) fn fetch(
        &mut self,
        thunk: &ReadyThunk,
        unsent: &BTreeSet<BlobId>,
        inline: &BTreeMap<BlobId, &Inline>,
        remote: Option<&dyn ObjectStore>,
        traffic: &mut Traffic,
    ) -> Result<(), InfraFailure> {
        self.fetch_all(&sizes(thunk), unsent, inline, remote, traffic)
    }

    /// Brings what all thunks of an invocation need, of these sizes, in one go, so that they wait for the store once and not one
    /// after the other. What does not come or does not fit is asked for again by the thunk that needs it.
    pub(super) fn fetch_ahead(
        &mut self,
        needed: &BTreeMap<BlobId, u64>,
        inline: &BTreeMap<BlobId, &Inline>,
        remote: Option<&dyn ObjectStore>,
        traffic: &mut Traffic,
    ) {
        if needed.values().sum::<u64>() <= self.budget {
            let _ = self.fetch_all(needed, &BTreeSet::new(), inline, remote, traffic);
        }
    }

    fn fetch_all(
        &mut self,
        needed: &BTreeMap<BlobId, u64>,
        unsent: &BTreeSet<BlobId>,
        inline: &BTreeMap<BlobId, &Inline>,
        remote: Option<&dyn ObjectStore>,
        traffic: &mut Traffic,
    ) -> Result<(), InfraFailure> {
        self.make_room(needed, unsent)?;
        self.clock += 1;
        let mut wanted = Vec::new();
        for (&id, &bytes) in needed {
            let here = self.kept.contains_key(&id) && self.store.contains(id).is_ok_and(|here| here);
            if !here && !self.take_inline(id, inline)? {
                wanted.push((id, self.incoming.join(id.to_string())));
                continue;
            }
            self.kept.insert(id, Kept { used: self.clock, bytes });
        }
        self.take_remote(&wanted, needed, remote, traffic)
    }

    /// Notes an output that has just been stored here.
    pub(super) fn keep(&mut self, id: BlobId) {
        self.kept.entry(id).or_insert(Kept { used: self.clock, bytes: id.size() });
    }

    fn bytes_of(&self, id: BlobId) -> u64 {
        self.kept.get(&id).map_or(id.size(), |kept| kept.bytes)
    }

    /// The bytes of an object that is here.
    pub(super) fn bytes(&self, id: BlobId) -> Result<Vec<u8>, ggr_ir::StoreError> {
        self.store.get_bytes(id)
    }

    /// The file of an object that is here.
    pub(super) fn file(&self, id: BlobId) -> PathBuf {
        self.store.path(id)
    }

    fn take_inline(&self, id: BlobId, inline: &BTreeMap<BlobId, &Inline>) -> Result<bool, InfraFailure> {
        let Some(inline) = inline.get(&id) else { return Ok(false) };
        // Named by what its bytes are, whatever the message says.
        let stored = self.store.put_bytes(&inline.bytes).map_err(|error| full(&error))?;
        Ok(stored == id)
    }

    /// What comes is kept, also when another one is missing.
    fn take_remote(
        &mut self,
        wanted: &[(BlobId, PathBuf)],
        needed: &BTreeMap<BlobId, u64>,
        remote: Option<&dyn ObjectStore>,
        traffic: &mut Traffic,
    ) -> Result<(), InfraFailure> {
        if wanted.is_empty() {
            return Ok(());
        }
        let ids = || wanted.iter().map(|(id, _)| *id).collect::<Vec<_>>();
        let remote = remote.ok_or_else(|| InfraFailure::InputsMissing(ids()))?;
        let mut missing = Vec::new();
        for ((id, file), result) in wanted.iter().zip(remote.get(wanted)) {
            traffic.fetched += 1;
            match result {
                Ok(()) if is(file, *id) => {
                    traffic.fetched_bytes += id.size();
                    self.store.adopt(file, *id).map_err(|error| full(&error))?;
                    self.kept.insert(*id, Kept { used: self.clock, bytes: needed[id] });
                }
                Ok(()) | Err(ggr_ir::StoreError::Missing(_) | ggr_ir::StoreError::Corrupt { .. }) => {
                    let _ = fs::remove_file(file);
                    missing.push(*id);
                }
                Err(error) => return Err(InfraFailure::Unreachable(crate::worker::chain(&error))),
            }
        }
        if missing.is_empty() { Ok(()) } else { Err(InfraFailure::InputsMissing(missing)) }
    }

    fn make_room(
        &mut self,
        needed: &BTreeMap<BlobId, u64>,
        unsent: &BTreeSet<BlobId>,
    ) -> Result<(), InfraFailure> {
        let total: u64 = needed.values().sum();
        if total > self.budget {
            let text = format!("its inputs have {total} bytes, and {} fit", self.budget);
            return Err(InfraFailure::TooBig(text));
        }
        let mut others: Vec<(u64, u64, BlobId)> = self
            .kept
            .iter()
            .filter(|(id, _)| !needed.contains_key(id))
            .map(|(id, kept)| (kept.used, kept.bytes, *id))
            .collect();
        let mut sum = total + others.iter().map(|(_, bytes, _)| bytes).sum::<u64>();
        others.sort_unstable_by_key(|(used, ..)| *used);
        for (_, bytes, id) in others.into_iter().filter(|(.., id)| !unsent.contains(id)) {
            if sum <= self.budget {
                break;
            }
            sum -= bytes;
            self.kept.remove(&id);
            // What cannot be removed is not kept either; `/tmp` then fills up, and the store says so.
            let _ = self.store.remove(id);
        }
        Ok(())
    }
}

/// The bytes that each input takes: a program stands here twice, with and without the bits that make it one.
fn sizes(thunk: &ReadyThunk) -> BTreeMap<BlobId, u64> {
    sizes_of(thunk.inputs.values().cloned())
}

/// The same of all inputs of an invocation's thunks that are known before the first one runs.
pub(super) fn all_sizes(invocation: &Invocation) -> BTreeMap<BlobId, u64> {
    let jobs = invocation.jobs.iter().flat_map(|job| job.thunk.inputs.values().cloned());
    let behind = invocation.chains.iter().flatten().flat_map(|follower| follower.thunk.inputs.values());
    let known = behind.filter_map(|entry| match &entry.object {
        Object::Blob(blob) => Some(Entry { object: *blob, mode: entry.mode }),
        Object::Output(_) => None,
    });
    sizes_of(jobs.chain(known))
}

fn sizes_of(entries: impl Iterator<Item = Entry<BlobId>>) -> BTreeMap<BlobId, u64> {
    let mut sizes = BTreeMap::new();
    let entries: Vec<_> = entries.filter(|entry| entry.mode != Mode::Directory).collect();
    let programs: BTreeSet<BlobId> =
        entries.iter().filter(|entry| entry.mode == Mode::Executable).map(|entry| entry.object).collect();
    for entry in entries {
        let times = if programs.contains(&entry.object) { 2 } else { 1 };
        sizes.insert(entry.object, entry.object.size() * times);
    }
    sizes
}

/// A fetched file is believed only after it has been read.
fn is(file: &Path, id: BlobId) -> bool {
    fs::File::open(file).and_then(BlobId::of_reader).is_ok_and(|found| found == id)
}

fn full(error: &ggr_ir::StoreError) -> InfraFailure {
    InfraFailure::TooBig(format!("`/tmp`: {}", crate::worker::chain(error)))
}
