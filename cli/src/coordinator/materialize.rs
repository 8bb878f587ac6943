//! Writing a blob where the tool would have written its output.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::placeholders::remove_if_there;

/// Copies `blob` to `path` as a new file with these permission bits (the umask applied already). The file that was there
/// is unlinked first, as compilers and linkers do: whoever has it open keeps it.
///
/// # Errors
/// Those of the file system. A device or pipe is written to, not replaced.
pub(crate) fn write(blob: &Path, path: &Path, permissions: u32) -> io::Result<()> {
    let mut from = File::open(blob)?;
    if path.metadata().is_ok_and(|meta| !meta.is_file()) {
        let mut to = OpenOptions::new().write(true).open(path)?;
        return io::copy(&mut from, &mut to).map(drop);
    }
    remove_if_there(path)?;
    let mut to = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    io::copy(&mut from, &mut to)?;
    rustix::fs::fchmod(&to, rustix::fs::Mode::from_raw_mode(permissions)).map_err(Into::into)
}
