//! What a bucket holds: index segments on the wire, and all of them put together in memory.
//!
//! A segment is [`MAGIC`], a checksum, then a zstd frame of postcard. It is written once and never changed; its name begins
//! with the time, so that names sort by age. What a newer segment says of a blob or thunk holds.
//!
//! **Invariant:** a segment is written after the objects that it speaks of, so a reduction is never seen before its outputs.

use std::sync::Arc;

use ggr_ir::{BlobId, Hash, Reduction, ThunkId};
use rustc_hash::{FxHashMap, FxHashSet};
use serde::{Deserialize, Serialize};

use super::pack::{LEVEL, PackName, Packed};
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
}

impl Segment {
    pub(super) fn is_empty(&self) -> bool {
        self.packs.is_empty() && self.own.is_empty() && self.thunks.is_empty() && self.gone.is_empty()
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let body = postcard::to_stdvec(self).expect("a segment holds nothing that postcard cannot encode");
        let body = zstd::bulk::compress(&body, LEVEL).expect("zstd compresses into memory");
        [MAGIC, &check(&body), &body].concat()
    }

    /// Nothing if it is damaged or of another version.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (sum, body) = bytes.strip_prefix(MAGIC)?.split_first_chunk::<CHECK>()?;
        if *sum != check(body) {
            return None;
        }
        postcard::from_bytes(&zstd::bulk::decompress(body, MAX_UNPACKED).ok()?).ok()
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

/// Everything that is known of a bucket. About 100 bytes a blob and 300 a thunk.
#[derive(Default, Debug)]
pub(super) struct Index {
    packs: Vec<Arc<Packed>>,
    blobs: FxHashMap<BlobId, Spot>,
    thunks: FxHashMap<ThunkId, Box<[u8]>>,
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

/// Several segments, oldest first, as one: what was found gone is left out, and results whose outputs went with it.
pub(super) fn merge(segments: Vec<Segment>) -> Segment {
    let gone: FxHashSet<PackName> =
        segments.iter().flat_map(|segment| segment.gone.iter().copied()).collect();
    let mut merged = Segment::default();
    let mut thunks = FxHashMap::default();
    let mut own = FxHashSet::default();
    for segment in segments {
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
        }
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
        assert_eq!(read.thunks, segment().thunks);
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
