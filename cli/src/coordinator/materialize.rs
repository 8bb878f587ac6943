//! Writing a blob where the tool would have written its output.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::placeholders::remove_if_there;

/// Writes `bytes` to `path` as a new file with these permission bits (the umask applied already). The file that was there
/// is unlinked first, as compilers and linkers do: whoever has it open keeps it.
///
/// # Errors
/// Those of the file system. A device or pipe is written to, not replaced.
pub(crate) fn write(bytes: &[u8], path: &Path, permissions: u32) -> io::Result<()> {
    if path.metadata().is_ok_and(|meta| !meta.is_file()) {
        return OpenOptions::new().write(true).open(path)?.write_all(bytes);
    }
    remove_if_there(path)?;
    let mut to = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    to.write_all(bytes)?;
    rustix::fs::fchmod(&to, rustix::fs::Mode::from_raw_mode(permissions)).map_err(Into::into)
}
