//! What a program does beyond naming files: it prints, reads its standard input, asks for random bytes, connects.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use ggr_backends::store::captures::Ask;

use super::answers;
use super::caller::Input;
use super::calls::Access;
use super::places::Place;
use super::recorder::{LastWrite, MAX_PRINTED, Recorder};
use crate::intercept::sys::read_memory;

/// How often perl opens the device when it starts (5.36, by `strace`).
const PERL_SEEDS: u32 = 2;

/// The largest call for random bytes that is taken for the seed of a hash table or the name of a temporary file: perl, python
/// and glibc ask for 8 to 24. What a program asks for itself is more.
const SEED: u64 = 24;

/// Why a run with random bytes is not remembered.
const ASKS: &str = "it asks for random bytes";

/// Who asked for random bytes and waited for them, as gnulib's `tempname` does, must take them for a name: its next call makes
/// a file by a name that nothing has, and no such name is there when the run has ended.
#[derive(Debug, Default)]
pub(super) struct RandomNames {
    /// Threads whose next call must make a file.
    asked: HashSet<u32>,
    /// The files that were made.
    made: Vec<PathBuf>,
}

impl Recorder {
    /// A call of `getrandom`. A seed is asked for without waiting.
    pub(super) fn random_bytes(&mut self, thread: u32, len: u64, flags: u32) {
        if len > SEED {
            self.refuse(ASKS);
        } else if flags & libc::GRND_NONBLOCK == 0 {
            self.names.asked.insert(thread);
        }
    }

    /// Looks at each call for what a thread does with the random bytes that it has just asked for.
    pub(super) fn random_name(&mut self, thread: u32, access: &Access) {
        if self.names.asked.is_empty() || *access == Access::Nothing || !self.names.asked.remove(&thread) {
            return;
        }
        let exclusive = libc::O_CREAT | libc::O_EXCL;
        let at = match access {
            // A number that would make some names likelier than others is thrown away, and another asked for.
            Access::Random(..) => {
                self.names.asked.insert(thread);
                return;
            }
            Access::Open(at, Some(flags), _) if flags & exclusive == exclusive => *at,
            Access::Make(at) => *at,
            _ => return self.refuse(ASKS),
        };
        match self.place(thread, at) {
            Place::Path(path) => self.names.made.push(path.into()),
            _ => self.refuse(ASKS),
        }
    }

    /// A random name that is left, or bytes that became none, cannot be repeated. To be asked when the run has ended.
    pub(super) fn settle_names(&mut self) {
        let is_left = |path: &PathBuf| path.symlink_metadata().is_ok();
        if !self.names.asked.is_empty() || self.names.made.iter().any(is_left) {
            self.refuse(ASKS);
        }
    }

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

    /// Whether a descriptor leads where standard input leads.
    fn is_stdin(&self, pid: u32, fd: i32) -> bool {
        answers::stat(Path::new(&format!("/proc/{pid}/fd/{fd}")))
            .is_ok_and(|found| (found.st_dev, found.st_ino, found.st_rdev) == self.stdin)
    }

    /// A question about what a descriptor is.
    pub(super) fn look(&mut self, pid: u32, fd: i32) {
        self.uses_input |= fd == 0 && self.is_stdin(pid, fd);
    }

    /// `/dev/stdin` and its like: a descriptor that the program has, opened again.
    pub(super) fn reopen(&mut self, pid: u32, number: u32) {
        let found = answers::stat(Path::new(&format!("/proc/{pid}/fd/{number}")));
        self.uses_input |= self.is_stdin(pid, number as i32);
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
        if self.is_stdin(pid, fd) {
            self.uses_input = true;
            if self.input == Input::Watched {
                self.refuse("it reads its standard input, a terminal or pipe");
            }
            return;
        }
        let found = answers::stat(Path::new(&format!("/proc/{pid}/fd/{fd}")));
        let file = found.map(|found| (found.st_dev, found.st_ino, found.st_rdev));
        if file.is_ok_and(|file| self.outputs.is_inherited(file)) {
            self.refuse("it uses a descriptor that it has inherited");
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
