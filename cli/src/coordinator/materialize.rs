//! Writing a blob where the tool would have written its output.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use ggr_ir::BlobId;
use rustix::fs::{Mode, fchmod};

use super::placeholders::remove_if_there;

/// Writes the blob in the file `from` to `path` as a new file with these permission bits (the umask applied already), and
/// gives what `stat` says of it. The file that was there is unlinked first, as compilers and linkers do: whoever has it
/// open keeps it.
///
/// The bytes are checked on their way; nothing is left at `path` of a blob that is damaged.
///
/// # Errors
/// `InvalidData` if the blob is gone or damaged; those of the file system. A device or pipe is written to, not replaced.
pub(crate) fn write(
    from: &Path,
    blob: BlobId,
    path: &Path,
    permissions: u32,
) -> io::Result<Option<Metadata>> {
    let Ok(source) = File::open(from) else { return Err(damaged(blob)) };
    let Some(to) = new_file(path)? else {
        let bytes = fs::read(from)?;
        if BlobId::of(&bytes) != blob {
            return Err(damaged(blob));
        }
        return OpenOptions::new().write(true).open(path)?.write_all(&bytes).map(|()| None);
    };
    let copied = BlobId::of_reader(Tee { source, to: &to })
        .and_then(|copied| if copied == blob { Ok(()) } else { Err(damaged(blob)) });
    if let Err(error) = copied {
        // Nobody was told of it yet; what cannot be removed is written again by the tool itself.
        let _ = fs::remove_file(path);
        return Err(error);
    }
    fchmod(&to, Mode::from_raw_mode(permissions))?;
    to.metadata().map(Some)
}

fn damaged(blob: BlobId) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("blob {blob} is damaged"))
}

/// A new file in the place of the one at the path; nothing if what is there is a device or pipe.
fn new_file(path: &Path) -> io::Result<Option<File>> {
    let create = || OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    match create() {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => return made.map(Some),
    }
    if path.metadata().is_ok_and(|meta| !meta.is_file()) {
        return Ok(None);
    }
    remove_if_there(path)?;
    create().map(Some)
}

/// Writes what is read from it: each piece is hashed and written while it is in the processor's cache.
struct Tee<'a> {
    source: File,
    to: &'a File,
}

impl Read for Tee<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer)?;
        self.to.write_all(&buffer[..read])?;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_blob_replaces_the_file_that_stands_there() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("blob"), dir.path().join("a.o"));
        let bytes: Vec<u8> = (0..200_000u32).flat_map(u32::to_le_bytes).collect();
        fs::write(&from, &bytes).unwrap();
        fs::write(&to, "old").unwrap();
        let old = File::open(&to).unwrap();
        let written = write(&from, BlobId::of(&bytes), &to, 0o751).unwrap().unwrap();
        assert_eq!((written.mode() & 0o7777, written.len()), (0o751, bytes.len() as u64));
        assert_eq!(fs::read(&to).unwrap(), bytes);
        assert_eq!(io::read_to_string(old).unwrap(), "old");
    }

    #[test]
    fn nothing_is_left_of_a_damaged_blob() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("blob"), dir.path().join("a.o"));
        let blob = BlobId::of(b"good");
        for bad in [Some("goop"), Some("goo"), Some("goodgood"), None] {
            bad.map_or_else(|| fs::remove_file(&from), |text| fs::write(&from, text)).unwrap();
            assert_eq!(write(&from, blob, &to, 0o644).unwrap_err().kind(), io::ErrorKind::InvalidData);
            assert!(!to.exists());
        }
    }

    #[test]
    fn a_device_is_written_to() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("blob"), "x").unwrap();
        let written = write(&dir.path().join("blob"), BlobId::of(b"x"), Path::new("/dev/null"), 0o644);
        assert!(written.unwrap().is_none());
        assert!(!Path::new("/dev/null").metadata().unwrap().is_file());
    }
}
