//! The supervisor: answers the build's watched system calls, and holds those that name a placeholder.
//!
//! One thread, so that a call that names no placeholder costs one wake-up and no lock that anybody holds for long.
//! **Invariant:** every notification is let go exactly once: at once, or when its [`Held`] is dropped.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::FileType;

use super::divert::{self, Divert};
use super::filter;
use super::sys::{self, Notification};

/// A file's identity: device and inode.
pub(crate) type FileId = (u64, u64);

/// What the supervisor asks about files.
pub(crate) trait Watcher: Send + Sync + 'static {
    /// Whether any file is being waited for at all: a cheap check made first.
    fn any(&self) -> bool;

    /// Whether it matters which files are executed, though none is waited for.
    fn counts_programs(&self) -> bool;

    /// Somebody is about to open the file for writing.
    fn written(&self, file: FileId);

    /// A file is about to be executed, with the arguments at that address of its caller's memory. Takes the held call if that
    /// has to wait; otherwise gives it back.
    fn executed(&self, file: FileId, args: u64, held: Held) -> Option<Held>;

    /// Who wants the launcher executed in the stead of the program at this path, as seen from here.
    fn diverts(&self, pid: u32, program: &Path) -> Option<Arc<dyn Divert>>;

    /// Takes the held call if the file is a placeholder; otherwise drops it at once.
    fn opened(&self, file: FileId, held: Held);
}

/// A system call that waits; it goes on when this is dropped.
pub(crate) struct Held {
    listener: Arc<OwnedFd>,
    id: u64,
    /// The thread that waits.
    pub(crate) pid: u32,
    /// Who has its process diverted when it goes on.
    divert: Option<Arc<dyn Divert>>,
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(by) = self.divert.take() {
            return divert::divert(Arc::clone(&self.listener), self.id, self.pid, by);
        }
        // The process may have been killed while it waited: nothing is left to let go.
        let _ = sys::let_go(self.listener.as_fd(), self.id);
    }
}

/// A running supervisor.
pub(crate) struct Supervisor {
    listener: Arc<OwnedFd>,
}

impl Supervisor {
    /// Starts the thread. It ends when no process under the filter is left.
    pub(crate) fn start(listener: OwnedFd, watcher: Arc<impl Watcher>) -> io::Result<Self> {
        // An older kernel refuses; calls are then slower, not wrong.
        let _ = sys::set_sync_wake_up(listener.as_fd());
        let listener = Arc::new(listener);
        let served = Arc::clone(&listener);
        thread::Builder::new().name("supervisor".into()).spawn(move || serve(&served, &*watcher))?;
        Ok(Self { listener })
    }

    /// Leaves what the build left running (a daemon) in good hands: without a listener its watched calls would fail. A
    /// small process answers them until the last one ends.
    pub(crate) fn hand_over(&self) -> io::Result<()> {
        if nobody_left(&self.listener) {
            return Ok(());
        }
        let mut command = Command::new("/proc/self/exe");
        command
            .arg("__linger")
            .arg(self.listener.as_raw_fd().to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .current_dir("/");
        sys::inherit(&mut command, self.listener.as_fd());
        command.spawn()?;
        Ok(())
    }
}

/// The process that [`Supervisor::hand_over`] starts.
#[allow(unsafe_code, reason = "takes over a descriptor that the parent left at a known number")]
pub(crate) fn linger(listener: i32) {
    // SAFETY: the parent left its listener at this number for us, and nothing else in this process owns it.
    let listener = Arc::new(unsafe { OwnedFd::from_raw_fd(listener) });
    serve(&listener, &LetGo);
}

/// Holds nothing.
struct LetGo;

impl Watcher for LetGo {
    fn any(&self) -> bool {
        false
    }

    fn counts_programs(&self) -> bool {
        false
    }

    fn executed(&self, _: FileId, _: u64, held: Held) -> Option<Held> {
        Some(held)
    }

    fn diverts(&self, _: u32, _: &Path) -> Option<Arc<dyn Divert>> {
        None
    }

    fn opened(&self, _: FileId, _: Held) {}

    fn written(&self, _: FileId) {}
}

fn serve(listener: &Arc<OwnedFd>, watcher: &dyn Watcher) {
    loop {
        match sys::receive(listener.as_fd()) {
            Ok(call) => answer(listener, watcher, &call),
            Err(e) if matches!(e.raw_os_error(), Some(libc::EINTR)) => {}
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT)) => {
                // Either one caller died, or the last one did: poll tells them apart.
                if nobody_left(listener) {
                    return;
                }
            }
            Err(_) => return,
        }
    }
}

fn nobody_left(listener: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(listener, PollFlags::IN)];
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&now)).is_ok() && fds[0].revents().contains(PollFlags::HUP)
}

fn answer(listener: &Arc<OwnedFd>, watcher: &dyn Watcher, call: &Notification) {
    let mut held = Held { listener: Arc::clone(listener), id: call.id, pid: call.pid, divert: None };
    let named = Named::of(call);
    let matters = watcher.any() || named.writes || (named.executes && watcher.counts_programs());
    if matters && let Some((path, file)) = named.file(call.pid) {
        if named.executes {
            held.divert = watcher.diverts(call.pid, &path);
        }
        if named.writes {
            watcher.written(file);
        }
        let held = if named.executes { watcher.executed(file, named.args, held) } else { Some(held) };
        if let Some(held) = held {
            watcher.opened(file, held);
        }
    }
}

/// The file that a call names.
struct Named {
    dirfd: i32,
    /// The address of its path in the caller's memory.
    path: u64,
    /// Whether it can only be a directory or a new file.
    beside: bool,
    /// Whether it may be written to.
    writes: bool,
    /// Whether it is to be executed.
    executes: bool,
    /// If so, the address of its arguments.
    args: u64,
}

impl Named {
    fn of(call: &Notification) -> Self {
        let args = &call.data.args;
        let number = filter::number(&call.data);
        let (dirfd, path, flags) = match number {
            libc::SYS_openat => (args[0] as i32, args[1], args[2] as i32),
            libc::SYS_open => (libc::AT_FDCWD, args[0], args[1] as i32),
            // Its flags are in memory: taken for writing, which costs a look at the file.
            libc::SYS_openat2 => (args[0] as i32, args[1], libc::O_RDWR),
            libc::SYS_execveat | libc::SYS_statx => (args[0] as i32, args[1], 0),
            libc::SYS_execve => (libc::AT_FDCWD, args[0], 0),
            _ => (libc::AT_FDCWD, args[0], libc::O_WRONLY),
        };
        let created = libc::O_CREAT | libc::O_EXCL;
        let beside = flags & libc::O_DIRECTORY != 0 || flags & created == created;
        let writes = !beside && (flags & libc::O_ACCMODE != libc::O_RDONLY || flags & libc::O_TRUNC != 0);
        let executes = matches!(number, libc::SYS_execve | libc::SYS_execveat);
        let args = args[if number == libc::SYS_execveat { 2 } else { 1 }];
        Self { dirfd, path, beside, writes, executes, args }
    }

    /// The regular file, as the kernel will find it, and a path to it from here.
    fn file(&self, pid: u32) -> Option<(PathBuf, FileId)> {
        if self.beside {
            return None;
        }
        let path = place(pid, self.dirfd, sys::read_path(pid, self.path).ok()?);
        let stat = rustix::fs::stat(&path).ok()?;
        let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        regular.then_some((path, (stat.st_dev, stat.st_ino)))
    }
}

fn place(pid: u32, dirfd: i32, path: Vec<u8>) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    let base = match (path.first(), dirfd) {
        (Some(b'/'), _) => return std::ffi::OsString::from_vec(path).into(),
        (_, libc::AT_FDCWD) => format!("/proc/{pid}/cwd/"),
        (None, fd) => format!("/proc/{pid}/fd/{fd}"),
        (_, fd) => format!("/proc/{pid}/fd/{fd}/"),
    };
    std::ffi::OsString::from_vec([base.as_bytes(), &path].concat()).into()
}
