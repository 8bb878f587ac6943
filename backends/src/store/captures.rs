//! What programs without a model did: for a command, the runs that are remembered, each as a list of what the program
//! asked of the file system with the answers that it got, and what it left.
//!
//! A file of the repository for each command (`captures/xx/…`, named by the command's key): [`MAGIC`], a checksum over the
//! key and the body, postcard. What is damaged, of another version or longer than [`MAX_LEN`] is as good as not there.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use ggr_ir::repo::write_atomic;
use ggr_ir::{BlobId, Hash, ObjectStore, StoreError};
use serde::{Deserialize, Serialize};

use super::fs::TOUCH_AFTER;
use super::layout::sharded;

/// Starts a file; the number is the version.
const MAGIC: &[u8] = b"ggr captures 2\n";

/// Length of the checksum behind [`MAGIC`], in bytes.
const CHECK: usize = 16;

/// The longest file that is read or written, in bytes: eight runs of a program that looks at 20,000 files.
const MAX_LEN: u64 = 16 << 20;

/// How many runs of one command are remembered; the one not used for longest goes first.
pub const MAX_RUNS: usize = 8;

/// Starts a run that is shared with others; the number is the version.
const SHARED_MAGIC: &[u8] = b"ggr captured run 1\n";

/// The longest run that is shared, in bytes: one that looks at 20,000 files.
pub const MAX_SHARED: u64 = MAX_LEN / MAX_RUNS as u64;

/// What a program asked about a path, as it named it (made absolute).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Question {
    /// The absolute path. It is asked again as it stands, so that symlinks on its way count.
    pub path: String,
    /// What about it.
    pub ask: Ask,
}

/// What is asked about a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Ask {
    /// What `stat` or `access` say.
    Look,
    /// What `lstat` or `readlink` say.
    LookAtLink,
    /// Kind and permission bits of what is there, symlinks followed.
    Access,
    /// Kind of what is there, a symlink being one.
    Kind,
    /// What is read from it.
    Content,
    /// The names in the directory.
    Names,
    /// Whether a regular file can be written there anew: there is one, or nothing.
    Room,
    /// Where it is, all symlinks on the way (the last part left out) followed.
    Place,
    /// Of the machine, not of the path: what `uname` says.
    System,
    /// Of the machine: which processors ggr may use (`sched_getaffinity`).
    Processors,
    /// Of the machine: what its processor is and can do. Programs ask it without a system call.
    Processor,
}

/// What the file system answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// Nothing is there, or cannot be reached: the error's number.
    Nothing(i32),
    /// A regular file as `stat` shows it.
    File {
        /// Its permission bits.
        mode: u32,
        /// Its size in bytes.
        size: u64,
        /// The time of its last change, in nanoseconds since 1970; nothing once it has been seen not to matter.
        mtime: Option<i64>,
    },
    /// A regular file that is read.
    Bytes {
        /// Its permission bits.
        mode: u32,
        /// Its bytes, which need not be in the store.
        blob: BlobId,
    },
    /// Something of this kind, with these permission bits if they were asked for (`st_mode`).
    Mode(u32),
    /// A symlink and where it leads.
    Symlink(String),
    /// The names in a directory, sorted, with their kinds: a hash of them.
    Names(Hash),
    /// There is room for a regular file.
    Room,
    /// What a question about the machine is answered: a hash of it.
    Machine(Hash),
}

/// What a program left at a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effect {
    /// The absolute path, no symlinks in it.
    pub path: String,
    /// What was left.
    pub left: Left,
}

/// What is left at a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Left {
    /// Nothing; the file, symlink or empty directory that was there is gone.
    Nothing,
    /// A directory, its permission bits.
    Directory(u32),
    /// A symlink and where it leads.
    Symlink(String),
    /// A regular file.
    File {
        /// Its bytes.
        blob: BlobId,
        /// The permission bits that it gets if it is new.
        mode: u32,
        /// Whether the program gave it these bits, also if it was there.
        mode_was_set: bool,
        /// Whether it is written in place if it is there, rather than replaced by a new one.
        in_place: bool,
        /// The time of last change that the program gave it, in nanoseconds since 1970.
        mtime: Option<i64>,
    },
}

/// One remembered run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// What it asked, in its order.
    pub facts: Vec<(Question, Answer)>,
    /// What it left, by path.
    pub effects: Vec<Effect>,
    /// What it wrote to its standard output.
    pub stdout: BlobId,
    /// What it wrote to its standard error, if that is another file.
    pub stderr: BlobId,
    /// Where its standard input stood in the end, if that is a regular file.
    pub stdin_end: Option<u64>,
    /// How long it ran, in microseconds.
    pub took_us: u64,
    /// Whether it ran elsewhere and others have told of it: what it left is then only left again where it could have been
    /// told of.
    pub foreign: bool,
}

impl Run {
    /// The form that is shared: [`SHARED_MAGIC`] and postcard. The same run has the same bytes wherever it came from.
    pub fn to_shared(&self) -> Vec<u8> {
        let mut bytes = SHARED_MAGIC.to_vec();
        let run = Self { foreign: false, ..self.clone() };
        bytes.extend(postcard::to_stdvec(&run).expect("a run holds nothing that postcard cannot encode"));
        bytes
    }

    /// Reads what [`to_shared`](Self::to_shared) wrote on any machine; nothing if it is damaged, of another version or longer
    /// than [`MAX_SHARED`]. What it says of paths is not judged here.
    pub fn from_shared(bytes: &[u8]) -> Option<Self> {
        let body = bytes.strip_prefix(SHARED_MAGIC).filter(|_| bytes.len() as u64 <= MAX_SHARED)?;
        Some(Self { foreign: true, ..postcard::from_bytes(body).ok()? })
    }

    /// Every blob that is needed to repeat the run's effect.
    pub fn blobs(&self) -> Vec<BlobId> {
        let files = self.effects.iter().filter_map(|effect| match effect.left {
            Left::File { blob, .. } => Some(blob),
            _ => None,
        });
        files.chain([self.stdout, self.stderr]).collect()
    }
}

/// What is known of a command.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// Runs that can be repeated, the last used first.
    pub runs: Vec<Run>,
    /// Why its last run could not be remembered, and how many times in a row that happened.
    pub refused: Option<(String, u32)>,
}

/// The captures of a repository.
pub struct Captures {
    dir: PathBuf,
    tmp: PathBuf,
    store: Arc<dyn ObjectStore>,
}

impl Captures {
    /// The captures below `root` (a repository's root), which speak of blobs in `store`.
    pub fn new(root: &Path, store: Arc<dyn ObjectStore>) -> Self {
        Self { dir: root.join("captures"), tmp: root.join("tmp"), store }
    }

    /// What is known of the command with this key; a command that is not known has no runs.
    pub fn get(&self, key: Hash) -> Known {
        let path = sharded(&self.dir, key);
        let Some((known, used)) = read(&path, key) else { return Known::default() };
        if used.elapsed().is_ok_and(|age| age > TOUCH_AFTER) {
            let times = fs::FileTimes::new().set_modified(SystemTime::now());
            // In a read-only repository the owner's uses count.
            let _ = File::options().write(true).open(path).and_then(|file| file.set_times(times));
        }
        known
    }

    /// Whether everything that a run left is in the store, which counts as a use of it.
    pub fn is_whole(&self, run: &Run) -> bool {
        self.store.missing(&run.blobs()).is_ok_and(|missing| missing.is_empty())
    }

    /// Remembers what is known of a command; of more than [`MAX_RUNS`] runs the last are dropped. Several may write at once:
    /// the last one wins, and what the others knew is found again.
    ///
    /// # Errors
    /// Those of writing; also a record that is too long.
    pub fn put(&self, key: Hash, mut known: Known) -> Result<(), StoreError> {
        known.runs.truncate(MAX_RUNS);
        let path = sharded(&self.dir, key);
        let failed = |source| StoreError::Io { path: path.clone(), source };
        let body = postcard::to_stdvec(&known).map_err(|e| failed(std::io::Error::other(e)))?;
        let bytes = [MAGIC, &check(key, &body), &body].concat();
        if bytes.len() as u64 > MAX_LEN {
            return Err(failed(std::io::Error::other("too long")));
        }
        write_atomic(&self.tmp, &path, &bytes, 0o644).map_err(failed)
    }
}

/// What the file holds if it is whole and the key's, and when it was last used.
pub(super) fn read(path: &Path, key: Hash) -> Option<(Known, SystemTime)> {
    let file = File::open(path).ok()?;
    let used = file.metadata().ok()?.modified().ok()?;
    let mut bytes = Vec::new();
    file.take(MAX_LEN + 1).read_to_end(&mut bytes).ok()?;
    let (sum, body) = bytes.strip_prefix(MAGIC)?.split_first_chunk::<CHECK>()?;
    if *sum != check(key, body) {
        return None;
    }
    Some((postcard::from_bytes(body).ok()?, used))
}

fn check(key: Hash, body: &[u8]) -> [u8; CHECK] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(key.as_bytes());
    hasher.update(body);
    *hasher.finalize().as_bytes().first_chunk().expect("a digest has 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::FsStore;

    fn run(store: &FsStore, text: &str) -> Run {
        let blob = store.put_bytes(text.as_bytes()).unwrap();
        let question = Question { path: "/w/a.y".into(), ask: Ask::Content };
        let left = Left::File { blob, mode: 0o644, mode_was_set: false, in_place: true, mtime: None };
        Run {
            facts: vec![(question, Answer::Bytes { mode: 0o644, blob })],
            effects: vec![Effect { path: "/w/a.c".into(), left }],
            stdout: blob,
            stderr: blob,
            stdin_end: None,
            took_us: 1,
            foreign: false,
        }
    }

    #[test]
    fn a_shared_run_comes_back_as_a_foreign_one_and_what_is_cut_off_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let own = run(&FsStore::new(dir.path()), "x");
        let bytes = own.to_shared();
        let theirs = Run::from_shared(&bytes).unwrap();
        assert_eq!(theirs, Run { foreign: true, ..own });
        assert_eq!(theirs.to_shared(), bytes, "whoever hands it on hands on the same");
        (0..bytes.len()).for_each(|at| assert_eq!(Run::from_shared(&bytes[..at]), None, "length {at}"));
        assert_eq!(Run::from_shared(&[&bytes[..], &vec![0; MAX_SHARED as usize]].concat()), None);
    }

    #[test]
    fn runs_come_back_and_damage_at_any_byte_or_length_is_a_miss() {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(FsStore::new(dir.path()));
        let captures = Captures::new(dir.path(), store.clone());
        let key = Hash::of(b"command");
        assert_eq!(captures.get(key), Known::default());
        let known = Known { runs: vec![run(&store, "x")], refused: Some(("why".into(), 1)) };
        captures.put(key, known.clone()).unwrap();
        assert_eq!(captures.get(key), known);
        let path = sharded(&captures.dir, key);
        let good = fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            fs::write(&path, &bad).unwrap();
            assert_eq!(captures.get(key), Known::default(), "byte {at}");
            fs::write(&path, &good[..at]).unwrap();
            assert_eq!(captures.get(key), Known::default(), "length {at}");
        }
        let other = Hash::of(b"another");
        fs::create_dir_all(sharded(&captures.dir, other).parent().unwrap()).unwrap();
        fs::write(sharded(&captures.dir, other), &good).unwrap();
        assert_eq!(captures.get(other), Known::default());
    }

    #[test]
    fn a_run_is_whole_while_its_blobs_are_there_and_old_runs_are_dropped() {
        use crate::store::Remove;
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(FsStore::new(dir.path()));
        let captures = Captures::new(dir.path(), store.clone());
        let key = Hash::of(b"command");
        let runs: Vec<Run> = (0..MAX_RUNS + 3).map(|n| run(&store, &n.to_string())).collect();
        captures.put(key, Known { runs: runs.clone(), refused: None }).unwrap();
        assert_eq!(captures.get(key).runs, runs[..MAX_RUNS]);
        assert!(captures.is_whole(&runs[0]));
        store.remove(BlobId::of(b"0")).unwrap();
        assert!(!captures.is_whole(&runs[0]));
    }
}
