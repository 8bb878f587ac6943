//! The `.ggr` repository: one directory that holds everything ggr keeps.
//!
//! | name | holds |
//! | --- | --- |
//! | `version` | the layout's version; written last, so a directory with it is whole |
//! | `blobs/` | blobs by hash (`ggr-backends`, `store/fs.rs`) |
//! | `reductions/` | what ready thunks reduced to (`store/reductions.rs`) |
//! | `thunks/` | encoded thunks by id: the way back from a placeholder ([`Thunks`]) |
//! | `placeholders/` | journals of the placeholders that sessions made ([`Journal`]) |
//! | `memo/` | what was hashed or lexed, by stat |
//! | `tmp/` | files that are being written |
//! | `run/` | sessions' lock files ([`Session`]) and sockets |
//! | `sandboxes/` | roots of thunks that run |
//!
//! **Invariant:** creation can be broken off or raced at any point and the next opener completes it: each step can be
//! repeated, and `version` comes last. Nothing here reads the environment; the caller passes `$GGR_DIR`.

mod journal;
mod session;
mod temp;
mod thunks;

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

pub use journal::{Journal, JournalError};
pub use session::{LiveSession, Session};
pub use temp::{TempFile, rename_making_parent, unique_name, write_atomic};
pub use thunks::{ThunkStoreError, Thunks};

/// The layout's version that this program writes and the newest that it reads.
pub const VERSION: u32 = 1;

/// The directory's name when it is not given.
pub const NAME: &str = ".ggr";

/// What the `version` file starts with.
const VERSION_MAGIC: &str = "ggr repository ";

/// The directories of the layout.
const DIRECTORIES: [&str; 9] =
    ["blobs", "reductions", "thunks", "placeholders", "memo", "log", "tmp", "run", "sandboxes"];

/// Files that say what the directory is. `CACHEDIR.TAG` keeps backups away (bford.info/cachedir), `.gitignore` keeps git
/// away.
const FILES: [(&str, &str); 3] = [
    (".gitignore", "*\n"),
    (
        "CACHEDIR.TAG",
        "Signature: 8a477f597d28d172789f06886806bc55\n# This directory was made by ggr; backups may leave it out.\n",
    ),
    (
        "README",
        "This directory is ggr's: blobs, what commands came to, and notes about running builds.\n\
         It may be deleted when no ggr runs: the next build starts with an empty cache.\n\
         Placeholders that `ggr trace` left cannot be forced any more then.\n",
    ),
];

/// Why a repository cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RepoError {
    /// It was written by a newer ggr.
    #[error(
        "repository `{}` has version {found}, and this ggr knows versions up to {supported}", path.display()
    )]
    RepositoryTooNew {
        /// The repository.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest that this program knows.
        supported: u32,
    },
    /// Its version file is damaged.
    #[error("`{}` is damaged: expected `{VERSION_MAGIC}` and a number, found `{found}`", path.display())]
    BadVersion {
        /// The version file.
        path: PathBuf,
        /// What it starts with.
        found: String,
    },
    /// The directory holds something else.
    #[error("`{}` is no ggr repository: it holds `{holds}`", path.display())]
    NotARepository {
        /// The directory.
        path: PathBuf,
        /// A name in it that is not of the layout.
        holds: String,
    },
    /// It was found, not named, and belongs to somebody else, who could make builds use any bytes.
    #[error("repository `{}` belongs to user {owner}, not to user {user}", path.display())]
    Foreign {
        /// The repository.
        path: PathBuf,
        /// Its owner's uid.
        owner: u32,
        /// The caller's effective uid.
        user: u32,
    },
    /// Reading or writing failed.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl RepoError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }
}

/// A `.ggr` directory of a version that this program knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repo {
    root: PathBuf,
}

impl Repo {
    /// The repository named by `given`; else `.ggr` in `dir` (absolute) or its nearest parent; nothing if there is none.
    ///
    /// # Errors
    /// When there is one and it cannot be used.
    pub fn find(given: Option<&Path>, dir: &Path) -> Result<Option<Self>, RepoError> {
        if let Some(given) = given {
            let root = dir.join(given);
            return if exists(&root.join("version"))? { Self::open(&root).map(Some) } else { Ok(None) };
        }
        for parent in dir.ancestors() {
            let root = parent.join(NAME);
            if exists(&root.join("version"))? {
                check_owner(&root)?;
                return Self::open(&root).map(Some);
            }
        }
        Ok(None)
    }

    /// As [`find`](Self::find), and makes one where there is none: at `given`, else `.ggr` in `dir`.
    pub fn find_or_create(given: Option<&Path>, dir: &Path) -> Result<Self, RepoError> {
        match Self::find(given, dir)? {
            Some(repo) => Ok(repo),
            None => Self::create(&given.map_or_else(|| dir.join(NAME), |given| dir.join(given))),
        }
    }

    /// Opens an existing repository; writes nothing, so it may be read-only.
    pub fn open(root: &Path) -> Result<Self, RepoError> {
        let path = root.join("version");
        let text = fs::read(&path).map_err(RepoError::io("read", &path))?;
        let text = String::from_utf8_lossy(&text);
        let number =
            text.strip_prefix(VERSION_MAGIC).and_then(|rest| rest.lines().next()?.trim().parse().ok());
        match number {
            Some(1..=VERSION) => Ok(Self { root: root.to_owned() }),
            Some(found) if found > VERSION => {
                Err(RepoError::RepositoryTooNew { path: root.to_owned(), found, supported: VERSION })
            }
            _ => Err(RepoError::BadVersion { path, found: text.chars().take(40).collect() }),
        }
    }

    /// Makes a repository in a directory that is absent, empty, or left by a creation that was broken off; opens it if
    /// another process was faster.
    pub fn create(root: &Path) -> Result<Self, RepoError> {
        fs::create_dir_all(root).map_err(RepoError::io("create", root))?;
        if exists(&root.join("version"))? {
            return Self::open(root);
        }
        refuse_other_contents(root)?;
        spread_out(root);
        for name in DIRECTORIES {
            let path = root.join(name);
            match fs::create_dir(&path) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                other => other.map_err(RepoError::io("create", &path))?,
            }
        }
        let tmp = root.join("tmp");
        let version = format!("{VERSION_MAGIC}{VERSION}\n");
        for (name, text) in FILES.into_iter().chain([("version", version.as_str())]) {
            let path = root.join(name);
            if !exists(&path)? {
                write_atomic(&tmp, &path, text.as_bytes(), 0o644).map_err(RepoError::io("write", &path))?;
            }
        }
        Self::open(root)
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where sockets and lock files of sessions are.
    pub fn run_dir(&self) -> PathBuf {
        self.root.join("run")
    }

    /// Where the roots of running thunks are built; on the blobs' file system, so that hard links work.
    pub fn sandboxes_dir(&self) -> PathBuf {
        self.root.join("sandboxes")
    }

    /// Where files are written before they are renamed.
    pub fn tmp_dir(&self) -> PathBuf {
        self.root.join("tmp")
    }

    /// The file that remembers something by stat, as `memo/blobs`.
    pub fn memo_file(&self, name: &str) -> PathBuf {
        self.root.join("memo").join(name)
    }

    /// The journals of placeholders.
    pub fn placeholders_dir(&self) -> PathBuf {
        self.root.join("placeholders")
    }

    /// The encoded thunks.
    pub fn thunks(&self) -> Thunks {
        Thunks::new(self.root.join("thunks"), self.tmp_dir())
    }
}

fn exists(path: &Path) -> Result<bool, RepoError> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(false),
        Err(source) => Err(RepoError::Io { action: "look at", path: path.to_owned(), source }),
    }
}

fn check_owner(root: &Path) -> Result<(), RepoError> {
    let owner = fs::metadata(root).map_err(RepoError::io("look at", root))?.uid();
    let user = rustix::process::geteuid().as_raw();
    // Root may use anybody's: it reads and runs that user's tree already.
    if owner == user || user == 0 {
        return Ok(());
    }
    Err(RepoError::Foreign { path: root.to_owned(), owner, user })
}

/// Asks for the directories in this one to be put in other places of the disk than it (`T` in `chattr(1)`; ext4's
/// `find_group_orlov`), so that no file of ours is made where a build makes and removes its own: without a journal ext4 passes
/// over each inode there that was freed within the last minutes (`recently_deleted`), one by one. Other file systems have no such
/// hint, and do without.
fn spread_out(dir: &Path) {
    let hint = || {
        let dir = fs::File::open(dir)?;
        let flags = rustix::fs::ioctl_getflags(&dir)?;
        Ok(rustix::fs::ioctl_setflags(&dir, flags | rustix::fs::IFlags::TOPDIR)?)
    };
    let _: io::Result<()> = hint();
}

/// Creation goes on in a directory only if all that it holds is the layout's: `GGR_DIR=/home/me` must not litter.
fn refuse_other_contents(root: &Path) -> Result<(), RepoError> {
    for entry in fs::read_dir(root).map_err(RepoError::io("list", root))? {
        let name = entry.map_err(RepoError::io("list", root))?.file_name();
        let known = name.to_str().is_some_and(|name| {
            name == "version" || DIRECTORIES.contains(&name) || FILES.iter().any(|(file, _)| *file == name)
        });
        if !known {
            return Err(RepoError::NotARepository {
                path: root.to_owned(),
                holds: name.to_string_lossy().into_owned(),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
