//! Placeholders that a killed session left: removed, so that make makes their files again.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use ggr_ir::placeholder;
use ggr_ir::repo::Journal;

/// Takes over the journals of dead sessions and removes the placeholders that they name. What has become real stays.
/// Returns how many were removed.
pub(crate) fn sweep(journal: &Journal) -> io::Result<usize> {
    let mut removed = 0;
    for (path, _) in journal.sweep().map_err(io::Error::other)? {
        if is_placeholder(&path) {
            fs::remove_file(&path)?;
            removed += 1;
        }
        journal.done(&path).map_err(io::Error::other)?;
    }
    Ok(removed)
}

/// Whether a file starts as a placeholder.
pub(crate) fn is_placeholder(path: &Path) -> bool {
    let mut head = Vec::new();
    let read = File::open(path).and_then(|file| file.take(placeholder::MAX_LEN).read_to_end(&mut head));
    read.is_ok() && placeholder::parse(&head).is_some()
}
