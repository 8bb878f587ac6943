//! Copies of files that are mostly holes: a guest's memory is a gigabyte, of which it has touched a tenth.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{SeekFrom, copy_file_range, ftruncate, ioctl_ficlone, seek};
use rustix::io::Errno;

/// Copies `from` to a new file of mode 0600, holes as holes; by reflink where the file system can.
///
/// # Errors
/// The file system's own; a half-written copy is left.
pub(super) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let from = File::open(from)?;
    let to = File::options().write(true).create_new(true).mode(0o600).open(to)?;
    if ioctl_ficlone(&to, &from).is_ok() {
        return Ok(());
    }
    let length = from.metadata()?.len();
    ftruncate(&to, length)?;
    let mut at = 0;
    while at < length {
        let mut start = match seek(&from, SeekFrom::Data(at)) {
            // Nothing but a hole up to the end.
            Err(Errno::NXIO) => break,
            other => other?,
        };
        at = seek(&from, SeekFrom::Hole(start))?;
        let mut target = start;
        while start < at {
            let wanted = usize::try_from(at - start).unwrap_or(usize::MAX);
            if copy_file_range(&from, Some(&mut start), &to, Some(&mut target), wanted)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{FileExt, MetadataExt};

    #[test]
    fn a_copy_has_the_bytes_and_the_holes() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        let file = File::create(&from).unwrap();
        file.set_len(64 << 20).unwrap();
        file.write_all_at(&[7; 5000], 4 << 20).unwrap();
        file.write_all_at(b"end", 40 << 20).unwrap();
        copy(&from, &to).unwrap();
        assert!(std::fs::read(&from).unwrap() == std::fs::read(&to).unwrap());
        let room = |path| std::fs::metadata(path).unwrap().blocks();
        assert!(room(&to) <= room(&from) + 64, "{} blocks became {}", room(&from), room(&to));
    }
}
