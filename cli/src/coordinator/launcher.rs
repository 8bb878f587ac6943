//! The session's copy of the launcher, with the socket's path written into it.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use ggr_ir::protocol::launcher::{LINKED, SOCKET_MARK, SOCKET_MAX};

/// The launcher as `build.rs` compiled it: static, about 1 MB.
static LAUNCHER: &[u8] = include_bytes!(env!("LAUNCHER_OF_GGR"));

/// How a launcher comes to be executed in a tool's place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Standing {
    /// It is mounted over the tool's file.
    Mounted,
    /// It is found first in `PATH`.
    Linked,
}

/// Writes an executable launcher that will ask at `socket`.
///
/// # Errors
/// `InvalidInput` if the socket's path is longer than a socket address holds; those of writing.
pub(crate) fn write(path: &Path, socket: &Path, standing: Standing) -> io::Result<()> {
    let name = socket.as_os_str().as_bytes();
    if name.len() > SOCKET_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the socket's path is too long"));
    }
    let mut bytes = LAUNCHER.to_vec();
    let at = bytes
        .windows(SOCKET_MARK.len())
        .position(|window| window == SOCKET_MARK)
        .expect("the launcher's file holds its mark: build.rs compiled it from a static that does");
    let place = &mut bytes[at + SOCKET_MARK.len()..];
    place[..name.len()].copy_from_slice(name);
    if standing == Standing::Linked {
        place[name.len() + 1] = LINKED;
    }
    let _ = fs::remove_file(path);
    OpenOptions::new().write(true).create_new(true).mode(0o755).open(path)?.write_all(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_path_is_written_where_the_launcher_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("launcher");
        write(&file, Path::new("/run/x/socket"), Standing::Mounted).unwrap();
        let out = std::process::Command::new(&file).output().unwrap();
        let text = String::from_utf8(out.stderr).unwrap();
        assert!(text.contains("No such file"), "{text}");
        assert_eq!(out.status.code(), Some(125));
        assert!(write(&file, Path::new(&"x".repeat(200)), Standing::Linked).is_err());
    }
}
