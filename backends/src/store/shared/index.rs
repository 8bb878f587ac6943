//! What a bucket holds: index segments on the wire, and all of them put together in memory.
//!
//! A segment is [`MAGIC`], a checksum, then a zstd frame of postcard. It is written once and never changed; its name begins
//! with the time, so that names sort by age. What a newer segment says of a blob or thunk holds.
//!
//! **Invariant:** a segment is written after the objects that it speaks of, so a reduction is never seen before its outputs.

use std::collections::BTreeMap;
use std::sync::Arc;

use ggr_ir::{BlobId, Hash, Reduction, ThunkId};
use rustc_hash::{FxHashMap, FxHashSet};
use serde::{Deserialize, Serialize};

use super::pack::{LEVEL, PackName, Packed};
use crate::store::captures::MAX_RUNS;
use crate::store::reductions::blobs;

/// Starts a segment; the number is the version.
const MAGIC: &[u8] = b"ggr shared index 1\n";

/// Length of the checksum behind [`MAGIC`], in bytes.
const CHECK: usize = 16;

/// The longest segment that a reader takes, in bytes.
pub(super) const MAX_SEGMENT: u64 = 32 << 20;

/// The most that a segment may unpack to, in bytes.
const MAX_UNPACKED: usize = 256 << 20;

/// What one writer has added.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub(super) struct Segment {
    /// New packs.
    pub(super) packs: Vec<Packed>,
    /// Blobs that are new objects by themselves.
    pub(super) own: Vec<BlobId>,
    /// Results: thunk and [`Reduction::to_bytes`].
    pub(super) thunks: Vec<(ThunkId, Vec<u8>)>,
    /// Packs that were found gone or damaged.
    pub(super) gone: Vec<PackName>,
    /// Captured runs: the command's shared key, and the blob that holds the run. They stand behind all else: who does not
    /// know of them reads the rest.
    #[serde(skip)]
    pub(super) captures: Vec<(Hash, BlobId)>,
}

impl Segment {
    pub(super) fn is_empty(&self) -> bool {
        let said =
            [self.packs.len(), self.own.len(), self.thunks.len(), self.gone.len(), self.captures.len()];
        said.iter().all(|count| *count == 0)
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let encoded = postcard::to_stdvec(self).and_then(|body| postcard::to_extend(&self.captures, body));
        let body = encoded.expect("a segment holds nothing that postcard cannot encode");
        let body = zstd::bulk::compress(&body, LEVEL).expect("zstd compresses into memory");
        [MAGIC, &check(&body), &body].concat()
    }

    /// Nothing if it is damaged or of another version.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (sum, body) = bytes.strip_prefix(MAGIC)?.split_first_chunk::<CHECK>()?;
        if *sum != check(body) {
            return None;
        }
        let body = zstd::bulk::decompress(body, MAX_UNPACKED).ok()?;
        let (segment, behind) = postcard::take_from_bytes::<Self>(&body).ok()?;
        let captures = if behind.is_empty() { Vec::new() } else { postcard::from_bytes(behind).ok()? };
        Some(Self { captures, ..segment })
    }
}

fn check(body: &[u8]) -> [u8; CHECK] {
    *Hash::of(body).as_bytes().first_chunk().expect("a digest has 32 bytes")
}

/// Where a blob is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// In this slot of a pack.
    Pack(Arc<Packed>, usize),
    /// An object by itself.
    Own,
}

#[derive(Clone, Copy, Debug)]
enum Spot {
    Pack { pack: u32, slot: u32 },
    Own,
}

/// Everything that is known of a bucket. About 100 bytes a blob or captured run, and 300 a thunk.
#[derive(Default, Debug)]
pub(super) struct Index {
    packs: Vec<Arc<Packed>>,
    blobs: FxHashMap<BlobId, Spot>,
    thunks: FxHashMap<ThunkId, Box<[u8]>>,
    /// Of each command at most [`MAX_RUNS`], the newest last.
    captures: FxHashMap<Hash, Vec<BlobId>>,
    gone: FxHashSet<PackName>,
    /// Of these, what no segment says yet.
    unsaid: Vec<PackName>,
}

impl Index {
    /// Adds a segment that is newer than those before.
    pub(super) fn add(&mut self, segment: Segment) {
        for name in segment.gone {
            self.gone.insert(name);
        }
        for packed in segment.packs {
            let pack = self.packs.len() as u32;
            for (slot, at) in packed.slots.iter().zip(0..) {
                self.blobs.insert(slot.id, Spot::Pack { pack, slot: at });
            }
            self.packs.push(Arc::new(packed));
        }
        self.blobs.extend(segment.own.into_iter().map(|id| (id, Spot::Own)));
        self.thunks.extend(segment.thunks.into_iter().map(|(id, bytes)| (id, bytes.into())));
        segment
            .captures
            .into_iter()
            .for_each(|(key, run)| push_run(self.captures.entry(key).or_default(), run));
    }

    /// Where a blob is; nothing if it is nowhere, or was found gone. An empty one is no object: it is everywhere.
    pub(super) fn place(&self, id: BlobId) -> Option<Place> {
        match *self.blobs.get(&id)? {
            Spot::Own => Some(Place::Own),
            Spot::Pack { pack, slot } => {
                let packed = &self.packs[pack as usize];
                (!self.gone.contains(&packed.name)).then(|| Place::Pack(Arc::clone(packed), slot as usize))
            }
        }
    }

    /// Whether a blob is there, as far as anybody knows.
    pub(super) fn has(&self, id: BlobId) -> bool {
        id.size() == 0 || self.place(id).is_some()
    }

    /// What a thunk reduced to, if all that it left is there.
    pub(super) fn reduction(&self, id: ThunkId) -> Option<Reduction> {
        let reduction = Reduction::from_bytes(self.thunks.get(&id)?)?;
        blobs(&reduction).into_iter().all(|id| self.has(id)).then_some(reduction)
    }

    /// The blobs that hold captured runs of the command with this shared key and are there, the newest first.
    pub(super) fn captures(&self, key: Hash) -> Vec<BlobId> {
        let known = self.captures.get(&key).into_iter().flatten().rev();
        known.copied().filter(|run| self.has(*run)).collect()
    }

    /// A pack was found gone or damaged: nothing in it is there any more.
    pub(super) fn lose_pack(&mut self, name: PackName) {
        if self.gone.insert(name) {
            self.unsaid.push(name);
        }
    }

    /// An object by itself was found gone or damaged.
    pub(super) fn lose_own(&mut self, id: BlobId) {
        if matches!(self.blobs.get(&id), Some(Spot::Own)) {
            self.blobs.remove(&id);
        }
    }

    /// What was found gone and is to be said in the next segment.
    pub(super) fn take_unsaid(&mut self) -> Vec<PackName> {
        std::mem::take(&mut self.unsaid)
    }

    /// How many blobs and thunks are known.
    pub(super) fn len(&self) -> (usize, usize) {
        (self.blobs.len(), self.thunks.len())
    }
}

/// Adds the newest run of a command.
fn push_run(runs: &mut Vec<BlobId>, run: BlobId) {
    runs.retain(|known| *known != run);
    runs.push(run);
    if runs.len() > MAX_RUNS {
        runs.remove(0);
    }
}

/// Several segments, oldest first, as one: what was found gone is left out, and results whose outputs went with it.
pub(super) fn merge(segments: Vec<Segment>) -> Segment {
    let gone: FxHashSet<PackName> =
        segments.iter().flat_map(|segment| segment.gone.iter().copied()).collect();
    let mut merged = Segment::default();
    let mut thunks = FxHashMap::default();
    let mut own = FxHashSet::default();
    let mut captures: BTreeMap<Hash, Vec<BlobId>> = BTreeMap::new();
    for segment in segments {
        segment.captures.into_iter().for_each(|(key, run)| push_run(captures.entry(key).or_default(), run));
        merged.packs.extend(segment.packs.into_iter().filter(|packed| !gone.contains(&packed.name)));
        own.extend(segment.own);
        thunks.extend(segment.thunks);
    }
    merged.gone = gone.into_iter().collect();
    merged.gone.sort_unstable();
    merged.own = own.into_iter().collect();
    merged.own.sort_unstable();
    merged.thunks = thunks.into_iter().collect();
    merged.thunks.sort_unstable();
    let runs = captures.into_iter().flat_map(|(key, runs)| runs.into_iter().map(move |run| (key, run)));
    merged.captures = runs.collect();
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::shared::pack::Filling;

    fn pack(texts: &[&str]) -> Packed {
        let mut filling = Filling::default();
        texts.iter().for_each(|text| filling.add(BlobId::of(text.as_bytes()), b"frame"));
        filling.take().unwrap().0
    }

    fn record(number: u64, stdout: &str) -> (ThunkId, Vec<u8>) {
        let (stdout, stderr) = (BlobId::of(stdout.as_bytes()), BlobId::of(b""));
        let reduction = Reduction { outputs: Default::default(), stdout, stderr, duration_us: 1 };
        (ThunkId::synthetic(number), reduction.to_bytes())
    }

    fn segment() -> Segment {
        Segment {
            packs: vec![pack(&["a", "b"])],
            own: vec![BlobId::of(b"large")],
            thunks: vec![record(1, "a"), record(2, "large"), record(3, "nowhere")],
            gone: vec![],
            captures: vec![
                (Hash::of(b"command"), BlobId::of(b"a")),
                (Hash::of(b"other"), BlobId::of(b"large")),
            ],
        }
    }

    /// A segment as it was before captured runs were shared.
    #[derive(Serialize, Deserialize)]
    struct Before {
        packs: Vec<Packed>,
        own: Vec<BlobId>,
        thunks: Vec<(ThunkId, Vec<u8>)>,
        gone: Vec<PackName>,
    }

    #[test]
    fn who_knows_nothing_of_captured_runs_reads_the_rest_and_is_read() {
        let bytes = segment().to_bytes();
        let body = zstd::bulk::decompress(&bytes[MAGIC.len() + CHECK..], MAX_UNPACKED).unwrap();
        let before: Before = postcard::from_bytes(&body).unwrap();
        assert_eq!((before.packs.len(), before.own, before.thunks), (1, segment().own, segment().thunks));
        let old = Before { packs: vec![], own: vec![BlobId::of(b"x")], thunks: vec![], gone: before.gone };
        let body = zstd::bulk::compress(&postcard::to_stdvec(&old).unwrap(), LEVEL).unwrap();
        let read = Segment::from_bytes(&[MAGIC, &check(&body), &body].concat()).unwrap();
        assert_eq!((read.own, read.captures), (vec![BlobId::of(b"x")], vec![]));
    }

    #[test]
    fn of_each_command_the_newest_runs_are_known_while_they_are_there() {
        let mut index = Index::default();
        index.add(segment());
        let key = Hash::of(b"command");
        assert_eq!(index.captures(key), [BlobId::of(b"a")]);
        let runs: Vec<BlobId> = (0..MAX_RUNS as u8 + 2).map(|n| BlobId::of(&[n])).collect();
        let newer = Segment {
            own: runs.clone(),
            captures: runs.iter().map(|run| (key, *run)).collect(),
            ..Segment::default()
        };
        let merged = merge(vec![segment(), newer.clone(), newer.clone()]);
        assert_eq!(merged.captures.len(), MAX_RUNS + 1);
        let newest: Vec<BlobId> = runs.iter().rev().take(MAX_RUNS).copied().collect();
        for segment in [newer, merged] {
            index.add(segment);
            assert_eq!(index.captures(key), newest);
        }
        index.lose_own(newest[0]);
        assert_eq!(index.captures(key), newest[1..]);
        assert_eq!(index.captures(Hash::of(b"third")), []);
    }

    #[test]
    fn a_segment_comes_back_and_damage_at_any_byte_is_found() {
        let bytes = segment().to_bytes();
        assert_eq!(Segment::from_bytes(&bytes), Some(segment_like(&bytes)));
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 4;
            assert_eq!(Segment::from_bytes(&bad), None, "byte {at}");
            assert_eq!(Segment::from_bytes(&bytes[..at]), None, "length {at}");
        }
    }

    /// The drawn name makes two segments of the same content differ.
    fn segment_like(bytes: &[u8]) -> Segment {
        let read = Segment::from_bytes(bytes).unwrap();
        assert_eq!(read.own, segment().own);
        assert_eq!((&read.thunks, &read.captures), (&segment().thunks, &segment().captures));
        assert_eq!(read.packs[0].slots, segment().packs[0].slots);
        read
    }

    #[test]
    fn a_result_counts_only_while_all_its_outputs_are_there() {
        let mut index = Index::default();
        let segment = segment();
        let name = segment.packs[0].name;
        index.add(segment);
        let found = |index: &Index| [1, 2, 3].map(|n| index.reduction(ThunkId::synthetic(n)).is_some());
        assert_eq!(found(&index), [true, true, false]);
        assert!(index.has(BlobId::of(b"")), "nothing is everywhere");
        index.lose_pack(name);
        index.lose_pack(name);
        assert_eq!(found(&index), [false, true, false]);
        assert_eq!(index.take_unsaid(), [name]);
        index.lose_own(BlobId::of(b"large"));
        assert_eq!(found(&index), [false, false, false]);
        index.add(Segment { packs: vec![pack(&["a"])], ..Segment::default() });
        assert_eq!(found(&index), [true, false, false], "what was stored again is there again");
    }

    #[test]
    fn merged_segments_say_the_same_without_what_is_gone() {
        let (old, new) = (segment(), Segment { packs: vec![pack(&["c"])], ..Segment::default() });
        let said =
            Segment { gone: vec![old.packs[0].name], thunks: vec![record(1, "c")], ..Segment::default() };
        let merged = merge(vec![old, new, said]);
        assert_eq!((merged.packs.len(), merged.thunks.len()), (1, 3));
        let mut index = Index::default();
        index.add(merged);
        assert!(index.has(BlobId::of(b"c")) && !index.has(BlobId::of(b"a")));
        assert!(index.reduction(ThunkId::synthetic(1)).is_some(), "the newest result holds");
    }
}
