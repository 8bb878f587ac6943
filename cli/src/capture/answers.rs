//! Asking the file system: what a program saw at a path, for the record and again when the record is looked up.

use std::fs;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::OnceLock;

use ggr_backends::store::captures::{Answer, Ask, Question};
use ggr_ir::{BlobId, Hash};
use rustix::fs::{FileType, Stat};

use super::places;
use crate::coordinator::Session;

/// The longest file of the kernel's own (`/proc`, `/sys`) that is compared, in bytes.
const KERNEL_FILE: u64 = 1 << 20;

/// The path of questions about the machine.
pub(super) const MACHINE: &str = "/";

/// The lines of `/proc/cpuinfo` that say what a processor is and can do (x86).
const PROCESSOR: [&str; 5] = ["vendor_id", "cpu family", "model\t", "stepping", "flags"];

/// What the file system answers now. A placeholder is made real first: its size and bytes count.
pub(super) fn answer(session: &Session, question: &Question) -> Answer {
    let path = Path::new(&question.path);
    session.make_real(path);
    match question.ask {
        Ask::Look => stat(path).map_or_else(Answer::Nothing, |found| look(&found)),
        Ask::LookAtLink => at_link(path),
        Ask::Access => stat(path).map_or_else(Answer::Nothing, |found| Answer::Mode(found.st_mode)),
        Ask::Kind => lstat(path).map_or_else(Answer::Nothing, |found| Answer::Mode(kind(&found))),
        Ask::Content => content(session, path),
        Ask::Names => names(path).unwrap_or_else(|e| Answer::Nothing(e.raw_os_error().unwrap_or(0))),
        Ask::Place => {
            let found = places::canonical(path).and_then(|found| found.to_str().map(str::to_owned));
            found.map_or(Answer::Nothing(libc::ENOENT), Answer::Symlink)
        }
        Ask::System => Answer::Machine(system()),
        Ask::Processors => Answer::Machine(processors()),
        Ask::Processor => Answer::Machine(processor()),
        Ask::Room => match lstat(path) {
            Ok(found) if is_file(&found) => Answer::Room,
            Err(libc::ENOENT) => Answer::Room,
            Ok(found) => Answer::Mode(found.st_mode),
            Err(error) => Answer::Nothing(error),
        },
    }
}

pub(super) fn stat(path: &Path) -> Result<Stat, i32> {
    rustix::fs::stat(path).map_err(|e| e.raw_os_error())
}

pub(super) fn lstat(path: &Path) -> Result<Stat, i32> {
    rustix::fs::lstat(path).map_err(|e| e.raw_os_error())
}

pub(super) fn is_file(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
}

pub(super) fn is_symlink(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Symlink
}

fn kind(stat: &Stat) -> u32 {
    stat.st_mode & libc::S_IFMT
}

/// The time of last change, in nanoseconds since 1970.
pub(super) fn mtime(stat: &Stat) -> i64 {
    stat.st_mtime.wrapping_mul(1_000_000_000).wrapping_add(stat.st_mtime_nsec as i64)
}

/// What `stat` shows of a file that counts. Of directories the size and the times are left out: they change with every
/// file that comes and goes, and nobody asks for them to learn about a directory's files.
pub(super) fn look(stat: &Stat) -> Answer {
    if is_file(stat) {
        let size = stat.st_size as u64;
        return Answer::File { mode: stat.st_mode & 0o7777, size, mtime: Some(mtime(stat)) };
    }
    Answer::Mode(stat.st_mode)
}

fn at_link(path: &Path) -> Answer {
    match lstat(path) {
        Err(error) => Answer::Nothing(error),
        Ok(found) if is_symlink(&found) => {
            let target = fs::read_link(path).ok().and_then(|target| target.to_str().map(str::to_owned));
            target.map_or(Answer::Nothing(libc::EILSEQ), Answer::Symlink)
        }
        Ok(found) => look(&found),
    }
}

fn content(session: &Session, path: &Path) -> Answer {
    let found = match stat(path) {
        Err(error) => return Answer::Nothing(error),
        Ok(found) if !is_file(&found) => return Answer::Mode(found.st_mode),
        Ok(found) => found,
    };
    let blob =
        if is_of_kernel(path) { kernel_file(path) } else { session.digest(path).map(|(_, blob)| blob) };
    match blob {
        Ok(blob) => Answer::Bytes { mode: found.st_mode & 0o7777, blob },
        Err(error) => Answer::Nothing(error.raw_os_error().unwrap_or(libc::EIO)),
    }
}

/// Whether the kernel makes up the file's bytes when it is read.
pub(super) fn is_of_kernel(path: &Path) -> bool {
    path.starts_with("/proc") || path.starts_with("/sys")
}

fn kernel_file(path: &Path) -> io::Result<BlobId> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(KERNEL_FILE).read_to_end(&mut bytes)?;
    Ok(BlobId::of(&bytes))
}

/// What `uname` says.
fn system() -> Hash {
    let name = rustix::system::uname();
    let fields = [name.sysname(), name.nodename(), name.release(), name.version(), name.machine()];
    Hash::of(&[fields.map(|field| field.to_bytes()).join(&0), name.domainname().to_bytes().to_vec()].concat())
}

/// Which processors this process may use.
fn processors() -> Hash {
    let allowed = rustix::thread::sched_getaffinity(None).unwrap_or_else(|_| rustix::thread::CpuSet::new());
    let bits = (0..rustix::thread::CpuSet::MAX_CPU).map(|number| u8::from(allowed.is_set(number)));
    Hash::of(&bits.collect::<Vec<u8>>())
}

/// What the first processor is and can do. It stays while ggr runs.
fn processor() -> Hash {
    static PROCESSOR_HASH: OnceLock<Hash> = OnceLock::new();
    *PROCESSOR_HASH.get_or_init(|| {
        let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let first = text.split("\n\n").next().unwrap_or_default();
        let told = first.lines().filter(|line| PROCESSOR.iter().any(|field| line.starts_with(field)));
        Hash::of(told.collect::<Vec<_>>().join("\n").as_bytes())
    })
}

fn names(path: &Path) -> io::Result<Answer> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        let kind = match () {
            () if kind.is_dir() => b'd',
            () if kind.is_file() => b'f',
            () if kind.is_symlink() => b'l',
            () if kind.is_fifo() || kind.is_socket() => b'p',
            () => b'c',
        };
        names.push([entry.file_name().as_bytes(), &[0, kind]].concat());
    }
    names.sort_unstable();
    Ok(Answer::Names(Hash::of(&names.join(&b'/'))))
}
