//! What a model is given, what it sees of the user's files, and what it answers.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ggr_ir::{BlobId, Kind, OutputRef, RootPath, Thunk, ToolLimits};

/// One tool call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invocation {
    /// The real file of the tool (symlinks resolved), as `/usr/bin/x86_64-linux-gnu-gcc-12`.
    pub program: PathBuf,
    /// The arguments, `argv[0]` first.
    pub args: Vec<String>,
    /// The caller's whole environment. A model passes on what it lists, nothing else.
    pub env: BTreeMap<String, String>,
    /// The working directory, as the kernel names it (no symlinks).
    pub dir: PathBuf,
    /// Whether the caller's standard error is a terminal: compilers colour their messages then.
    pub stderr_is_terminal: bool,
}

/// What stands at a path, symlinks followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing, or nothing that can be reached.
    Missing,
    /// A directory.
    Directory,
    /// A regular file.
    File {
        /// Its size in bytes.
        size: u64,
        /// Whether anybody may execute it.
        executable: bool,
    },
    /// A placeholder for an output that is still to be made.
    Placeholder(OutputRef),
    /// A device, socket or pipe.
    Other,
}

/// What identifies a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Directory {
    /// The device that it is on.
    pub device: u64,
    /// Its inode.
    pub inode: u64,
    /// A number that changes whenever an entry was added, removed or renamed (from device, inode, mtime and ctime); nothing
    /// if it changed so recently that a further change might not show.
    pub stamp: Option<u64>,
}

impl Directory {
    /// That of the directory at this path, symlinks followed; nothing if none can be reached.
    pub fn at(path: &Path) -> Option<Self> {
        use std::os::unix::fs::MetadataExt;
        let found = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_dir)?;
        let changed = found.ctime().max(found.mtime());
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).ok()?;
        // Two seconds cover file systems with coarse times; a kernel tick is 4 ms.
        let settled = now.as_secs().saturating_sub(2) as i64 > changed;
        let mut hasher = rustc_hash::FxHasher::default();
        let fields =
            (found.dev(), found.ino(), found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec());
        std::hash::Hash::hash(&fields, &mut hasher);
        let stamp = settled.then(|| std::hash::Hasher::finish(&hasher));
        Some(Directory { device: found.dev(), inode: found.ino(), stamp })
    }
}

/// The user's files as a model sees them. Implementations remember what they hashed (by stat), so asking twice is cheap.
/// Calls may overlap.
pub trait FileView: Send + Sync {
    /// What stands at this absolute path, symlinks followed.
    fn find(&self, path: &Path) -> Found;

    /// What identifies the directory at this absolute path, symlinks followed; nothing if none can be reached.
    fn directory(&self, path: &Path) -> Option<Directory> {
        Directory::at(path)
    }

    /// The names in the directory at this absolute path, symlinks followed; nothing if that cannot be said, or if it makes no
    /// difference between large and small letters.
    fn names(&self, path: &Path) -> Option<Vec<std::ffi::OsString>> {
        let names = std::fs::read_dir(path).ok()?.map(|entry| Some(entry.ok()?.file_name()));
        let names: Vec<std::ffi::OsString> = names.collect::<Option<_>>()?;
        let other_case = names.iter().find_map(|name| {
            let name = name.to_str().filter(|name| name.bytes().any(|byte| byte.is_ascii_alphabetic()))?;
            let other =
                name.bytes().map(|byte| char::from(byte ^ (u8::from(byte.is_ascii_alphabetic()) << 5)));
            name.is_ascii().then(|| other.collect::<String>())
        });
        match other_case {
            Some(other) if !names.iter().any(|name| *name == *other) => {
                std::fs::symlink_metadata(path.join(other)).is_err().then_some(names)
            }
            _ => Some(names),
        }
    }

    /// The target if the path itself is a symlink, else nothing.
    fn link_target(&self, path: &Path) -> Option<PathBuf>;

    /// The bytes of a regular file. A placeholder is an error of kind `WouldBlock`: answer [`Modelled::Force`].
    fn read(&self, path: &Path) -> io::Result<Arc<[u8]>>;

    /// The id of a regular file's bytes, which are in the store when this returns, and whether it is executable.
    fn blob(&self, path: &Path) -> io::Result<(BlobId, bool)>;

    /// As [`FileView::blob`], for a file that [`FileView::stamp`] gave this stamp a moment ago: an implementation that knows
    /// the bytes of that stamp need not look again.
    fn blob_stamped(&self, path: &Path, stamp: u64) -> io::Result<(BlobId, bool)> {
        let _ = stamp;
        self.blob(path)
    }

    /// The id of a blob of these bytes (a symlink's target, say), in the store when this returns.
    fn blob_of_bytes(&self, bytes: &[u8]) -> io::Result<BlobId>;

    /// A number that changes whenever the bytes of the regular file at the path may have changed (made from the bytes, or
    /// from device, inode, size, mtime and ctime); nothing if it is missing, no file, or a placeholder.
    fn stamp(&self, path: &Path) -> Option<u64>;
}

/// Why a command runs here, on the real tree, in place of in a sandbox.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum Reason {
    /// There is no model for the tool.
    #[error("no model for `{0}`")]
    NoModel(String),
    /// The flag is not in the tool's table.
    #[error("unknown flag `{0}`")]
    UnknownFlag(String),
    /// The flag is known, and known to have effects that a thunk cannot hold.
    #[error("flag `{0}` is run here")]
    LocalFlag(String),
    /// The command reads its standard input.
    #[error("it reads standard input")]
    ReadsStdin,
    /// The command writes to a device or pipe.
    #[error("it writes to `{0}`, which is no regular file")]
    SpecialOutput(String),
    /// Something that it needs is not there: the tool itself will say so best.
    #[error("`{0}` is missing")]
    MissingInput(String),
    /// An argument, path or variable is not UTF-8.
    #[error("an argument or path is not UTF-8")]
    NotUtf8,
    /// The command asks for information only (`--version`, `-print-…`, `-###`).
    #[error("it only asks for information")]
    Query,
    /// Whatever else; says what.
    #[error("{0}")]
    Other(String),
}

/// One output of a plan's last thunks, and where it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedOutput {
    /// The file on the user's machine.
    pub path: PathBuf,
    /// Which output it is.
    pub output: OutputRef,
    /// The permission bits that the tool would give it, before the umask (0o666 or 0o777); with [`UNMASKED`], those that
    /// the file has and keeps.
    pub permissions: u32,
}

/// In [`PlannedOutput::permissions`]: the tool rewrites the file in its place, and no umask applies.
pub const UNMASKED: u32 = 1 << 31;

impl PlannedOutput {
    /// The permission bits that the file gets from a caller with this umask.
    pub fn mode(&self, umask: u32) -> u32 {
        let bits = self.permissions & 0o7777;
        if self.permissions & UNMASKED == 0 { bits & !umask } else { bits }
    }
}

/// What a command comes to: its whole effect.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The thunks, each after those that it reads from.
    pub thunks: Vec<(Thunk, Kind)>,
    /// The files that the command leaves. With `deferrable` these are all.
    pub outputs: Vec<PlannedOutput>,
    /// Files whose bytes the model knows already (depfiles).
    pub written: Vec<(PathBuf, Vec<u8>)>,
    /// Whether `outputs` and `written` are all that the command leaves, so that placeholders may stand in for it and the
    /// caller may be answered before it has run. Otherwise the caller waits.
    pub deferrable: bool,
    /// Whether the result may be recorded (`__DATE__` and its like make it not so).
    pub cacheable: bool,
    /// The tool is known to fail, and to leave nothing: a header is missing, or there is an `#error`.
    pub fails: bool,
    /// Where in the arguments (the program's name is the first) the sources stand that could as well be given to a call
    /// each: the command writes no file, and says of each what it would say of that alone. Empty: it is one whole.
    pub separable: Vec<usize>,
    /// Bounds on its thunks, in place of the user's.
    pub limits: ToolLimits,
    /// What to call it in front of the user, as `gcc foo.o`.
    pub label: String,
    /// Whether the thunks are stages of one program's run.
    pub stages: Stages,
}

/// Whether a call was cut into stages.
#[derive(Clone, Debug)]
pub enum Stages {
    /// There is nothing to cut, or nobody asked for it.
    None,
    /// Stages were asked for, and are not known to give the same bytes and messages; says why.
    Fused(String),
    /// The thunks are the stages. This is the same call as one thunk, with the same outputs by name: its result counts if
    /// a stage fails or prints anything, since messages are about the source, which later stages do not see.
    Staged(Box<Plan>),
}

/// A model's answer.
#[derive(Clone, Debug)]
pub enum Modelled {
    /// The command is these thunks.
    Thunks(Box<Plan>),
    /// Run the real tool here.
    RunHere(Reason),
    /// These placeholders must become real first; then ask again.
    Force(Vec<PathBuf>),
}

/// The code that knows what a tool's command line reads and writes.
///
/// **Invariant:** it describes the whole effect of the command, or says [`Modelled::RunHere`]. No third way.
pub trait Model: Send + Sync {
    /// The tool's name as users know it.
    fn name(&self) -> &str;

    /// Whether this model is for the tool in this file, whose base name has been stripped of triplet and version
    /// (`gcc` for `x86_64-linux-gnu-gcc-12`).
    fn handles(&self, tool: &str) -> bool;

    /// Models one call.
    fn model(&self, invocation: &Invocation, files: &dyn FileView) -> Modelled;
}

/// A checked path below `/` for a thunk, from a path on this machine.
pub fn root_path(path: &Path) -> Result<RootPath, Reason> {
    path.to_str().and_then(|text| RootPath::new(text).ok()).ok_or(Reason::NotUtf8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_umask_applies_unless_the_file_is_rewritten_in_its_place() {
        let mode = |permissions, umask| {
            let output = OutputRef { thunk: ggr_ir::ThunkId::synthetic(1), name: "x".into() };
            PlannedOutput { path: "/x".into(), output, permissions }.mode(umask)
        };
        assert_eq!(mode(0o777, 0o022), 0o755);
        assert_eq!(mode(0o666, 0o077), 0o600);
        assert_eq!(mode(UNMASKED | 0o776, 0o022), 0o776);
    }
}
