//! Control groups of single sandboxes: made for thunks with a bound on processes, and only for those, as moving a process
//! into a group takes 0.3 ms.
//!
//! A group is made by the sandbox's first process, which then goes in, and removed by the zygote. What a zygote that was killed
//! has left is removed by the next one, or with its worker's own group.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;

use ggr_backends::local;
use rustix::fs::{Mode, OFlags};

use super::message::Start;

/// The group that a worker's sandboxes have theirs in.
pub(super) struct Groups {
    /// Kept open: the zygote's view has no control groups.
    parent: Option<OwnedFd>,
    /// What names of groups begin with: the worker's pid is in it.
    prefix: String,
    /// Removed as soon as the kernel lets go of them.
    left: Vec<PathBuf>,
    /// Whether what others have left was removed.
    swept: bool,
}

impl Groups {
    /// Looks for the place, while the host's mounts are there. `worker` is the name of the worker's directory, `PID-N`.
    pub(super) fn find(worker: &str) -> Self {
        let open = |path: PathBuf| {
            rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok()
        };
        let parent = local::processes_group().and_then(open);
        Self { parent, prefix: format!("{}{worker}-", local::GROUP_PREFIX), left: Vec::new(), swept: false }
    }

    /// A name that leads there from inside the view, too.
    fn path(&self) -> Option<PathBuf> {
        self.parent.as_ref().map(|fd| PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd())))
    }

    fn group(&self, seq: u64) -> Option<PathBuf> {
        Some(self.path()?.join(format!("{}{seq}", self.prefix)))
    }

    /// Puts this process, the sandbox's first, into a group with the thunk's bound.
    ///
    /// # Errors
    /// The kernel's, or that there are no control groups.
    pub(super) fn enter(&self, start: &Start) -> io::Result<()> {
        if start.processes == 0 {
            return Ok(());
        }
        let why = "control groups of processes cannot be made here";
        let group = self.group(start.seq).ok_or_else(|| io::Error::new(io::ErrorKind::Unsupported, why))?;
        fs::create_dir(&group)?;
        // This process counts, too.
        fs::write(group.join("pids.max"), start.processes.saturating_add(1).to_string())?;
        fs::write(group.join("cgroup.procs"), "0")
    }

    /// Removes the group of a sandbox that is gone, and what could not be removed before.
    pub(super) fn leave(&mut self, seq: u64) {
        self.left.extend(self.group(seq));
        self.left.retain(|group| fs::remove_dir(group).is_err() && group.exists());
        if let Some(parent) = self.path().filter(|_| !self.swept) {
            local::sweep_groups(&parent);
            self.swept = true;
        }
    }
}
