//! Packs: many small blobs in one object, each a zstd frame of its own, so that any run of neighbours can be read by one
//! request for a range.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;

use ggr_ir::BlobId;
use serde::{Deserialize, Serialize};

/// Blobs up to this size (bytes) are packed; a larger one is worth a request of its own.
pub(super) const SMALL: u64 = 512 << 10;

/// A pack of this size (bytes) is full: large enough that a request's latency is small beside the transfer, small enough to
/// be on its way soon.
pub(super) const FULL: usize = 4 << 20;

/// How many bytes the first read from a pack brings; each further one brings twice as many as the one before.
pub(super) const FIRST_READ: u64 = 256 << 10;

/// zstd's level: fast, and a third of the size on objects and headers.
pub(super) const LEVEL: i32 = 3;

/// The name of a pack: drawn, never used twice. So a pack that has gone stays gone, whatever else is written.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, Debug)]
pub(super) struct PackName([u8; 16]);

impl PackName {
    /// A name that nobody else has: drawn from the bytes, this machine's name, the process and the time.
    pub(super) fn draw(bytes: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(bytes).update(ggr_ir::repo::unique_name().as_bytes());
        hasher.update(rustix::system::uname().nodename().to_bytes());
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        hasher.update(&now.as_nanos().to_le_bytes());
        Self(*hasher.finalize().as_bytes().first_chunk().expect("a digest has 32 bytes"))
    }
}

impl fmt::Display for PackName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A blob in a pack.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub(super) struct Slot {
    pub(super) id: BlobId,
    /// Where its frame begins, in bytes.
    pub(super) offset: u32,
    /// How long its frame is.
    pub(super) len: u32,
}

/// What a pack holds, in the order of its bytes.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub(super) struct Packed {
    pub(super) name: PackName,
    pub(super) slots: Vec<Slot>,
}

/// A pack that is being filled.
#[derive(Default)]
pub(super) struct Filling {
    bytes: Vec<u8>,
    slots: Vec<Slot>,
    ids: BTreeSet<BlobId>,
}

impl Filling {
    /// Adds a blob that was compressed to this frame.
    pub(super) fn add(&mut self, id: BlobId, frame: &[u8]) {
        if !self.ids.insert(id) {
            return;
        }
        let (offset, len) = (self.bytes.len() as u32, frame.len() as u32);
        self.slots.push(Slot { id, offset, len });
        self.bytes.extend_from_slice(frame);
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes.len() >= FULL
    }

    /// The pack and its bytes; nothing if it is empty. It is empty afterwards.
    pub(super) fn take(&mut self) -> Option<(Packed, Vec<u8>)> {
        let Self { bytes, slots, .. } = std::mem::take(self);
        (!slots.is_empty()).then(|| (Packed { name: PackName::draw(&bytes), slots }, bytes))
    }
}

/// Which neighbours to read with a slot that is wanted: those that follow it, up to `most` bytes in all, without a tail that
/// is here already. What was made one after the other is wanted one after the other.
pub(super) fn window(
    slots: &[Slot],
    wanted: usize,
    most: u64,
    here: impl Fn(BlobId) -> bool,
) -> Range<usize> {
    let mut end = wanted + 1;
    let mut bytes = u64::from(slots[wanted].len);
    for (at, slot) in slots.iter().enumerate().skip(end) {
        bytes += u64::from(slot.len);
        if bytes > most {
            break;
        }
        if !here(slot.id) {
            end = at + 1;
        }
    }
    wanted..end
}

/// The bytes of a range of slots within their pack. Slots that do not follow each other give an empty range.
pub(super) fn extent(slots: &[Slot]) -> Range<u64> {
    let start = slots.first().map_or(0, |slot| u64::from(slot.offset));
    let end = slots.last().map_or(0, |slot| u64::from(slot.offset) + u64::from(slot.len));
    start..end.max(start)
}

/// A blob's frame.
///
/// # Errors
/// If zstd has no memory.
pub(super) fn compress(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    zstd::bulk::compress(bytes, LEVEL)
}

/// The blob in a frame; nothing if it holds another one. The capacity is the bound: a frame cannot unpack to more than its
/// id says.
pub(super) fn unpack(frame: &[u8], id: BlobId) -> Option<Vec<u8>> {
    let size = usize::try_from(id.size()).ok().filter(|_| id.size() <= SMALL)?;
    let bytes = zstd::bulk::decompress(frame, size).ok()?;
    (BlobId::of(&bytes) == id).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(count: u32) -> (Packed, Vec<u8>) {
        let mut filling = Filling::default();
        for number in 0..count {
            let bytes = number.to_le_bytes();
            filling.add(BlobId::of(&bytes), &compress(&bytes).unwrap());
        }
        filling.take().unwrap()
    }

    #[test]
    fn each_blob_comes_out_of_its_slot_and_no_other() {
        let (packed, bytes) = filled(50);
        for (number, slot) in packed.slots.iter().enumerate() {
            let frame = &bytes[slot.offset as usize..(slot.offset + slot.len) as usize];
            assert_eq!(unpack(frame, slot.id).unwrap(), (number as u32).to_le_bytes());
            assert_eq!(unpack(frame, BlobId::of(b"other")), None);
            assert_eq!(unpack(&frame[1..], slot.id), None);
        }
    }

    #[test]
    fn a_blob_is_packed_once_and_names_are_never_used_twice() {
        let mut filling = Filling::default();
        filling.add(BlobId::of(b"x"), b"frame");
        filling.add(BlobId::of(b"x"), b"frame");
        assert!(!filling.is_full());
        let (packed, bytes) = filling.take().unwrap();
        assert_eq!((packed.slots.len(), bytes.len()), (1, 5));
        assert!(filling.take().is_none());
        assert_ne!(PackName::draw(&bytes), PackName::draw(&bytes));
    }

    #[test]
    fn a_read_brings_what_follows_up_to_its_bound_and_nothing_that_is_here() {
        let slots: Vec<Slot> = (0..10u32)
            .map(|n| Slot { id: BlobId::of(&n.to_le_bytes()), offset: 100 * n, len: 100 })
            .collect();
        let none = |_| false;
        assert_eq!(window(&slots, 2, 350, none), 2..5);
        assert_eq!(window(&slots, 2, 10, none), 2..3, "the wanted one is read whatever its size");
        assert_eq!(window(&slots, 8, 1000, none), 8..10);
        assert_eq!(window(&slots, 2, 350, |id| id == slots[4].id), 2..4, "a tail that is here is left");
        assert_eq!(window(&slots, 2, 350, |id| id == slots[3].id), 2..5, "a hole is read over");
        assert_eq!(extent(&slots[2..5]), 200..500);
    }
}
