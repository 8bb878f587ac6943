//! The seal of a blob's file: a fixed modification time.
//!
//! A blob is written once, so its file gets [`SEALED`] as its modification time before it gets its name. Whatever writes to
//! it later (an editor, a program that ran as root through a hard link, a copy of a broken backup) moves that time, and a
//! `stat`, which every use needs anyway, tells. A file without the seal is read and hashed: it is sealed anew, or damaged.
//!
//! What changes bytes without the kernel's knowledge (a disk that fails) keeps the seal; `ggr verify` finds that.

use std::fs::{self, File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use ggr_ir::BlobId;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};

/// 2001-09-09, in seconds since 1970: a time that no build writes at. The number is part of the store's format; a file of
/// another version of ggr, with another time, costs one reading.
pub(super) const SEALED: i64 = 1_000_000_000;

/// Seals a file that was written to its end.
///
/// # Errors
/// If it belongs to somebody else; it is then read at each look.
pub(super) fn put(path: &Path) -> std::io::Result<()> {
    let sealed = Timespec { tv_sec: SEALED, tv_nsec: 0 };
    // The time of access does not count; setting both spares the kernel the clock.
    let times = Timestamps { last_access: sealed, last_modification: sealed };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(Into::into)
}

/// Whether a file at `path`, which looks like this, holds the blob: one comparison if it has the seal, else a reading.
pub(super) fn holds(path: &Path, meta: &Metadata, id: BlobId) -> bool {
    if !meta.is_file() || meta.len() != id.size() {
        return false;
    }
    if meta.mtime() == SEALED && meta.mtime_nsec() == 0 {
        return true;
    }
    if !File::open(path).and_then(BlobId::of_reader).is_ok_and(|found| found == id) {
        return false;
    }
    // Written to while it was read, or by now: then its time is not to be hidden.
    let same = |now: Metadata| {
        (now.ino(), now.mtime(), now.mtime_nsec()) == (meta.ino(), meta.mtime(), meta.mtime_nsec())
    };
    if fs::symlink_metadata(path).is_ok_and(same) {
        let _ = put(path);
    }
    true
}
