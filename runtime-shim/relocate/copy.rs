//! A program that changes one of its inputs gets a copy of its own.
//!
//! Inputs are hard links to objects that other thunks share, mode 0444 or 0555. On the user's machine their owner may write
//! to them; so before a call that would, the link is replaced by a copy with the mode that such a file has there.

use crate::calls::{descriptor, locate};
use crate::paths::{self, Buffer};
use crate::sys::{self, AT_FDCWD, call, call4, nr};

const O_CLOEXEC: u64 = 0o2_000_000;
const O_WRONLY_NEW: u64 = 0o1 | 0o100 | 0o200 | O_CLOEXEC;
const O_NONBLOCK: u64 = 0o4000;
/// Offsets in `struct stat` (x86-64).
const NLINK: usize = 16 / 8;
const MODE: usize = 24 / 8;
const SIZE: usize = 48 / 8;

/// The mode of an input at an open file, and its size; nothing if it is none.
fn shared(fd: u64) -> Option<(u64, u64)> {
    let mut stat = [0u64; 18];
    if call4(nr::FSTAT, fd, stat.as_mut_ptr() as u64, 0, 0) < 0 {
        return None;
    }
    let mode = stat[MODE] & 0o177_777;
    (mode & 0o170_000 == 0o100_000 && mode & 0o222 == 0 && stat[NLINK] > 1)
        .then_some((mode & 0o777, stat[SIZE]))
}

/// Whether an open file is shared with others than this program.
pub fn is_shared(fd: u64) -> bool {
    shared(fd).is_some()
}

fn open(dir: u64, address: u64) -> i64 {
    call4(nr::OPENAT, dir, address, O_CLOEXEC | O_NONBLOCK, 0)
}

/// The same of a path that has been located.
pub fn is_shared_at(dir: u64, address: u64) -> bool {
    let fd = open(dir, address);
    if fd < 0 {
        return false;
    }
    let shared = is_shared(fd as u64);
    call4(nr::CLOSE, fd as u64, 0, 0, 0);
    shared
}

/// Replaces an input at a path (located already) by a copy. Whatever else stands there is left alone.
pub fn own(dir: u64, address: u64) {
    if address < 4096 {
        return;
    }
    let mut stat = [0u64; 18];
    // Most calls are about new files or their own: one cheap call says so.
    if call4(nr::NEWFSTATAT, dir, address, stat.as_mut_ptr() as u64, 0) < 0 || stat[MODE] & 0o222 != 0 {
        return;
    }
    let fd = open(dir, address);
    if fd < 0 {
        return;
    }
    if let Some((mode, size)) = shared(fd as u64) {
        replace(fd as u64, mode, size);
    }
    call4(nr::CLOSE, fd as u64, 0, 0, 0);
}

#[inline(never)]
fn replace(from: u64, mode: u64, size: u64) {
    let (mut file, mut temporary) = (Buffer::new(), Buffer::new());
    if descriptor(from, &mut file).is_err() || !paths::below(file.text(), sys::config().root) {
        return;
    }
    if temporary.push(file.text()).and_then(|()| temporary.push(b".ggr~")).is_err() {
        return;
    }
    let mode = mode | if mode & 0o111 == 0 { 0o666 } else { 0o777 };
    let to = call4(nr::OPENAT, AT_FDCWD, temporary.address(), O_WRONLY_NEW, mode);
    if to < 0 {
        return;
    }
    call4(nr::FCHMOD, to as u64, mode, 0, 0);
    let copied = copy_bytes(from, to as u64, size);
    call4(nr::CLOSE, to as u64, 0, 0, 0);
    if !copied || call4(nr::RENAME, temporary.address(), file.address(), 0, 0) < 0 {
        call4(nr::UNLINK, temporary.address(), 0, 0, 0);
    }
}

fn copy_bytes(from: u64, to: u64, size: u64) -> bool {
    let mut left = size;
    while left > 0 {
        match call(nr::SENDFILE, [to, from, 0, left, 0, 0]) {
            done if done > 0 => left -= done as u64,
            _ => return false,
        }
    }
    true
}

/// Opens a file of the program for reading.
#[inline(never)]
pub fn open_file(dir: u64, address: u64) -> i64 {
    let mut buffer = Buffer::new();
    match locate(dir, address, &mut buffer) {
        Ok(address) => open(dir, address),
        Err(error) => error,
    }
}
