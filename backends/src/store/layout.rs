//! Where a blob's files stand below a store's root.
//!
//! `blobs/<2 hex>/<62 hex>` holds the bytes, mode 0444. `<62 hex>.x` beside it, if there, holds them again with mode 0555:
//! permissions belong to the inode, and hard links share it. The size is not in the name; it is checked against the id
//! whenever a file is looked at, which finds what power loss cut short.

use std::path::{Path, PathBuf};

use ggr_ir::{Hash, ThunkId};

/// The mode of a blob's file.
pub(crate) const BLOB_MODE: u32 = 0o444;

/// The mode of its executable twin.
pub(crate) const TWIN_MODE: u32 = 0o555;

/// What an executable twin's name ends with.
pub(crate) const TWIN_SUFFIX: &str = ".x";

/// Below `dir`, where the thing of this hash stands.
pub(crate) fn sharded(dir: &Path, hash: Hash) -> PathBuf {
    let hex = hash.to_string();
    let mut path = PathBuf::with_capacity(dir.as_os_str().len() + 68);
    path.push(dir);
    path.push(&hex[..2]);
    path.push(&hex[2..]);
    path
}

/// The executable twin of a blob's file.
pub(crate) fn twin(blob: &Path) -> PathBuf {
    let mut path = blob.as_os_str().to_owned();
    path.push(TWIN_SUFFIX);
    path.into()
}

/// The hash that a file of a sharded directory is named by, and whether it is a twin; nothing if its name is no hash.
pub(crate) fn parse(path: &Path) -> Option<(Hash, bool)> {
    let name = path.file_name()?.to_str()?;
    let shard = path.parent()?.file_name()?.to_str()?;
    let (rest, is_twin) = match name.strip_suffix(TWIN_SUFFIX) {
        Some(rest) => (rest, true),
        None => (name, false),
    };
    if shard.len() != 2 {
        return None;
    }
    let id: ThunkId = format!("T{shard}{rest}").parse().ok()?;
    Some((id.hash(), is_twin))
}
