//! What a program does beyond naming files: it prints, reads its standard input, asks for random bytes, connects.

use std::path::Path;

use ggr_backends::store::captures::Ask;

use super::answers;
use super::caller::Input;
use super::recorder::{LastWrite, MAX_PRINTED, Recorder};
use crate::intercept::sys::read_memory;

/// How often perl opens the device when it starts (5.36, by `strace`).
const PERL_SEEDS: u32 = 2;

impl Recorder {
    /// Perl reads the two seeds of its hash tables from the device when it starts. A script that asks for more is told apart.
    pub(super) fn random(&mut self, pid: u32) {
        let exe = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
        let name = exe.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let opened = self.seeds.entry(pid).or_default();
        *opened += 1;
        if !name.starts_with("perl") || *opened > PERL_SEEDS {
            self.refuse("it reads random bytes");
        }
    }

    /// `/dev/stdin` and its like: a descriptor that the program has, opened again.
    pub(super) fn reopen(&mut self, pid: u32, number: u32) {
        let found = answers::stat(Path::new(&format!("/proc/{pid}/fd/{number}")));
        if number == 0 && self.input == Input::Watched || found.is_ok_and(|found| answers::is_file(&found)) {
            self.refuse("it opens one of its descriptors again");
        }
    }

    /// Which of the run's outputs a descriptor leads to.
    fn output(&mut self, pid: u32, fd: i32) -> Option<usize> {
        let found = answers::stat(Path::new(&format!("/proc/{pid}/fd/{fd}"))).ok()?;
        let file = (found.st_dev, found.st_ino, found.st_rdev);
        let output = self.outputs.position(file);
        if output.is_none() && self.outputs.is_other(file) {
            self.refuse("it writes to a descriptor that it has inherited");
        }
        output
    }

    pub(super) fn write(&mut self, pid: u32, fd: i32, pieces: &[(u64, u64)]) {
        if self.refused.is_some() {
            return;
        }
        let Some(output) = self.output(pid, fd) else { return };
        let len: u64 = pieces.iter().map(|(_, len)| len).sum();
        if len > (MAX_PRINTED - self.printed[output].len()) as u64 {
            return self.refuse("it prints too much");
        }
        for &(address, len) in pieces {
            let Ok(bytes) = read_memory(pid, address, len as usize) else {
                return self.refuse("what it prints cannot be read");
            };
            let end = address.wrapping_add(len);
            let again = |last: &LastWrite| last.end == end && last.bytes.ends_with(&bytes);
            if len > 0
                && self.last_writes.get(&pid).is_some_and(again)
                && !self.outputs.is_steady(output, len)
            {
                return self.refuse("it prints the same again, or was interrupted");
            }
            self.printed[output].extend_from_slice(&bytes);
            self.last_writes.insert(pid, LastWrite { end, bytes });
        }
    }

    pub(super) fn write_pieces(&mut self, pid: u32, fd: i32, address: u64, count: u64) {
        if self.output(pid, fd).is_none() {
            return;
        }
        let Ok(bytes) = read_memory(pid, address, (count as usize).min(1024) * 16) else {
            return self.refuse("what it prints cannot be read");
        };
        let number = |bytes: &[u8]| u64::from_le_bytes(*bytes.first_chunk().expect("chunks of 16 bytes"));
        let pieces: Vec<(u64, u64)> =
            bytes.chunks_exact(16).map(|piece| (number(piece), number(&piece[8..]))).collect();
        self.write(pid, fd, &pieces);
    }

    pub(super) fn moved(&mut self, pid: u32, from: Option<i32>, to: i32) {
        if self.output(pid, to).is_some() {
            self.refuse("it prints in a way that is not watched");
        }
        if let Some(from) = from {
            self.read(pid, from);
        }
    }

    /// Reads from what it has inherited, which nobody can compare the next time. A terminal that is an output too is one of
    /// these when it is read.
    pub(super) fn read(&mut self, pid: u32, fd: i32) {
        let found = answers::stat(Path::new(&format!("/proc/{pid}/fd/{fd}")));
        let file = found.map(|found| (found.st_dev, found.st_ino, found.st_rdev));
        if file.is_ok_and(|file| self.outputs.is_inherited(file)) {
            self.refuse(match fd {
                0 => "it reads its standard input, a terminal or pipe",
                _ => "it uses a descriptor that it has inherited",
            });
        }
    }

    pub(super) fn connect(&mut self, pid: u32, address: u64, len: u64) {
        let bytes = read_memory(pid, address, (len as usize).min(128)).unwrap_or_default();
        let Some((family, path)) = bytes.split_first_chunk::<2>() else {
            return self.refuse("it opens a connection");
        };
        let path = path.split(|&b| b == 0).next().unwrap_or_default();
        let path = std::str::from_utf8(path).unwrap_or_default();
        if i32::from(u16::from_le_bytes(*family)) != libc::AF_UNIX || path.is_empty() {
            return self.refuse("it opens a connection");
        }
        if Path::new(path) == self.socket {
            // A launcher: the coordinator knows what is called.
            return;
        }
        if Path::new(path).exists() {
            return self.refuse("it opens a connection");
        }
        self.ask(path.to_owned(), Ask::Kind);
    }
}
