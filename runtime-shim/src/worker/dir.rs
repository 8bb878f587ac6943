//! The worker's directory: `sandboxes/<pid>-<n>/`, with `roots/`, the scratch [areas](Area) `memory/` and `disk/`, and the mount
//! point `view/`.
//!
//! A worker holds a lock on its directory for as long as it lives; a directory whose lock is free belonged to one that was
//! killed, and the next worker to start removes it. (No mount can be left in it: they die with their namespace.)

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use ggr_ir::Kind;
use rustix::fs::{FlockOperation, flock};

/// Where a job's scratch directory is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Area {
    /// On a tmpfs: for jobs that write little. Outputs are copied into the store.
    Memory,
    /// On the store's file system: for jobs that may write much. Outputs are renamed into the store.
    Disk,
}

impl Area {
    /// Its directory's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Area::Memory => "memory",
            Area::Disk => "disk",
        }
    }

    /// The usual one for this kind of work.
    pub(crate) fn of(kind: Kind) -> Self {
        match kind {
            Kind::Preprocess | Kind::Compile | Kind::Assemble | Kind::Other => Area::Memory,
            Kind::Archive | Kind::Link | Kind::Binutils => Area::Disk,
        }
    }
}

/// A claimed directory; removed when dropped.
#[derive(Debug)]
pub(crate) struct WorkerDir {
    path: PathBuf,
    /// The areas that a probe has found to work; at least one before a job comes.
    pub(crate) usable: Vec<Area>,
    _lock: File,
}

impl WorkerDir {
    /// Removes what dead workers left in `sandboxes`, and makes a new directory there.
    pub(crate) fn claim(sandboxes: &Path) -> Result<Self, (PathBuf, io::Error)> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |error: io::Error| (path, error)
        };
        fs::create_dir_all(sandboxes).map_err(at(sandboxes))?;
        // Between two workers that start at once: neither may sweep what the other is making.
        let all = sandboxes.join("lock");
        let start = File::create(&all).map_err(at(&all))?;
        flock(&start, FlockOperation::LockExclusive).map_err(|errno| at(&all)(errno.into()))?;
        sweep(sandboxes);
        // A process may serve more than once; the first free number is ours, as nobody else can be here.
        let path = (0..)
            .map(|n| sandboxes.join(format!("{}-{n}", std::process::id())))
            .find(|path| !path.exists())
            .expect("numbers do not end");
        for name in ["", "roots", Area::Memory.name(), Area::Disk.name(), "view"] {
            let dir = path.join(name);
            fs::create_dir(&dir).map_err(at(&dir))?;
        }
        let lock = path.join("lock");
        let file = File::create(&lock).map_err(at(&lock))?;
        flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|errno| at(&lock)(errno.into()))?;
        // Overlay wants a path without `..` and symlinks only as far as it is ours to bind; the zygote binds this one.
        let path = path.canonicalize().map_err(at(&path))?;
        Ok(Self { path, usable: Vec::new(), _lock: file })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn roots(&self) -> PathBuf {
        self.path.join("roots")
    }

    pub(crate) fn area(&self, area: Area) -> PathBuf {
        self.path.join(area.name())
    }

    /// The area to use for this kind of work now: the disk also when the memory's is more than half full.
    pub(crate) fn choose(&self, kind: Kind) -> Area {
        let room = |area: Area| {
            rustix::fs::statvfs(self.area(area)).is_ok_and(|stat| stat.f_bavail > stat.f_blocks / 2)
        };
        let wanted = match Area::of(kind) {
            Area::Memory if room(Area::Memory) => Area::Memory,
            _ => Area::Disk,
        };
        if self.usable.contains(&wanted) { wanted } else { self.usable.first().copied().unwrap_or(wanted) }
    }

    /// Makes a job's scratch directory, with the upper layer `u` and overlay's work directory `w`.
    pub(crate) fn new_scratch(&self, area: Area, name: &str) -> io::Result<PathBuf> {
        let dir = self.area(area).join(name);
        fs::create_dir(&dir)?;
        for layer in ["u", "w"] {
            fs::create_dir(dir.join(layer))?;
        }
        // The upper layer's top is the root directory that the program sees.
        fs::set_permissions(dir.join("u"), fs::Permissions::from_mode(0o755))?;
        Ok(dir)
    }
}

impl Drop for WorkerDir {
    fn drop(&mut self) {
        // Fails when nothing was mounted; a mount point that is in use could not be removed.
        let _ = rustix::mount::unmount(self.area(Area::Memory), rustix::mount::UnmountFlags::DETACH);
        remove_tree(&self.path);
    }
}

fn sweep(sandboxes: &Path) {
    let Ok(entries) = fs::read_dir(sandboxes) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let alive = File::open(path.join("lock"))
            .is_ok_and(|lock| flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err());
        if !alive {
            remove_tree(&path);
        }
    }
}

/// Removes a directory and all below it, also directories without permissions (overlay's work directory has mode 000, and
/// programs may make some). What cannot be removed now is swept by the next worker.
pub(crate) fn remove_tree(path: &Path) {
    if fs::remove_dir_all(path).is_err() {
        open_up(path);
        let _ = fs::remove_dir_all(path);
    }
}

fn open_up(dir: &Path) {
    let _ = fs::set_permissions(dir, fs::Permissions::from_mode(0o700));
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_up(&entry.path());
        }
    }
}
