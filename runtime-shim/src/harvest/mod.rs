//! What the program left behind, read from the overlay's upper layer and moved into the store.
//!
//! Runs when no process of the sandbox is left and its overlay is unmounted, so nothing changes underneath.
//!
//! **Invariant:** no symlink is followed: the [survey](survey::survey) descends real directories only, and all that is stored
//! was found by it.

pub(crate) mod survey;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use ggr_ir::{BlobId, OutputEntry, OutputName, StoreError};

use crate::blobs::Blobs;
use crate::stage::plan::Plan;
use survey::Found;

/// Moves the outputs into the store.
pub(crate) fn store_outputs(
    found: Vec<Found>,
    plan: &Plan,
    blobs: &Blobs,
) -> Result<BTreeMap<OutputName, OutputEntry>, StoreError> {
    let mut outputs = BTreeMap::new();
    for Found { name, path, file, permissions } in found {
        let blob = match file {
            survey::Source::Untouched(blob) => blob,
            survey::Source::Written(file) => {
                if plan.thunk.inputs.contains_key(&path) {
                    strip_marks(&file);
                }
                blobs.adopt(&file)?
            }
        };
        outputs.insert(name, OutputEntry { path, blob, permissions });
    }
    Ok(outputs)
}

/// Stores what the program wrote to one of its streams.
pub(crate) fn store_stream(file: &Path, blobs: &Blobs) -> Result<BlobId, StoreError> {
    match std::fs::symlink_metadata(file) {
        Ok(meta) if meta.len() > 0 => blobs.adopt(file),
        Ok(_) => blobs.put(b""),
        Err(source) => Err(StoreError::Io { path: file.to_owned(), source }),
    }
}

/// What the program wrote to a stream, its first `limit` bytes.
pub(crate) fn read_stream(file: &Path, limit: u64) -> io::Result<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    std::fs::File::open(file)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Removes overlay's own mark from a file that was copied up: it names the lower file's inode, and would lie in the store.
fn strip_marks(file: &Path) {
    for mark in ["trusted.overlay.origin", "user.overlay.origin"] {
        // Absent on most files, and harmless if it stays: only the topmost layer's marks are read.
        let _ = rustix::fs::lremovexattr(file, mark);
    }
}
