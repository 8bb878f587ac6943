//! The build command: started under interception, waited for, stopped.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use crate::intercept::enter::{NO_MOUNTS, Plan, READY};
use crate::intercept::supervisor::{Supervisor, Watcher};
use crate::intercept::{inherit, kill};

use super::Interception;
use super::callers::{self, Sink};

/// Why the build command did not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// The command cannot be executed.
    #[error("`{command}`")]
    Command {
        /// What was to be executed.
        command: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The launcher cannot be mounted over the tools on this machine.
    #[error("tools cannot be caught by mounts: {0}")]
    Mounts(String),
    /// The build's system calls cannot be watched on this machine.
    #[error("system calls cannot be watched: {0}")]
    Watch(String),
    /// A pipe or process could not be made.
    #[error("starting the build command")]
    Io(#[from] io::Error),
}

/// Names the session to a ggr that the build itself calls.
pub(crate) const SESSION_VARIABLE: &str = "GGR_SESSION";

/// What a build command is started with.
pub(crate) struct Start<'a> {
    /// The command and its arguments.
    pub(crate) command: &'a [OsString],
    /// What happens between us and it.
    pub(crate) plan: &'a Plan,
    /// Where it finds us, and where its output goes.
    pub(crate) interception: &'a Interception,
}

fn given_or_ours(fd: Option<&OwnedFd>) -> io::Result<Stdio> {
    fd.map_or(Ok(Stdio::inherit()), |fd| Ok(fd.try_clone()?.into()))
}

/// A running build command.
pub(crate) struct Build {
    child: Child,
    supervisor: Option<Supervisor>,
}

impl Build {
    /// Starts a build command with its interception; its watched calls go to `watcher`. `started` learns its process, and the
    /// one through whose root it finds the real tools, before the command itself runs.
    pub(crate) fn start(
        start: &Start<'_>,
        watcher: Arc<impl Watcher>,
        started: impl FnOnce(u32, u32),
    ) -> Result<Self, StartError> {
        let (ours, theirs) = UnixStream::pair()?;
        let theirs = OwnedFd::from(theirs);
        let plan = Plan { control: theirs.as_raw_fd(), ..start.plan.clone() };
        let json = serde_json::to_string(&plan).expect("paths of tools are UTF-8");
        let (stdout, stderr) = &start.interception.stdio;
        let mut command = Command::new("/proc/self/exe");
        command
            .arg("__enter")
            .arg(json)
            .args(start.command)
            .env(SESSION_VARIABLE, &start.interception.socket)
            .stdout(given_or_ours(stdout.as_ref())?)
            .stderr(given_or_ours(stderr.as_ref())?);
        if let Some(links) = start.interception.links() {
            command.env("PATH", links.path());
        }
        inherit(&mut command, theirs.as_fd());
        let child = command.spawn()?;
        drop(theirs);
        let mut build = Self { child, supervisor: None };
        match build.shake_hands(&ours, start, watcher, started) {
            Ok(()) => Ok(build),
            Err(e) => {
                let _ = build.child.wait();
                Err(e)
            }
        }
    }

    fn shake_hands(
        &mut self,
        control: &UnixStream,
        start: &Start<'_>,
        watcher: Arc<impl Watcher>,
        started: impl FnOnce(u32, u32),
    ) -> Result<(), StartError> {
        let (first, listener, rest) = receive(control)?;
        match first {
            READY => {}
            NO_MOUNTS => return Err(StartError::Mounts(rest)),
            _ => return Err(StartError::Watch(rest)),
        }
        match listener {
            Some(listener) => self.supervisor = Some(Supervisor::start(listener, watcher)?),
            None if start.plan.watch => return Err(StartError::Watch("no listener came".into())),
            None => {}
        }
        started(self.pid(), rest.parse().unwrap_or_else(|_| std::process::id()));
        (&*control).write_all(&[1])?;
        let mut errno = [0u8; 4];
        // End of file: the command was executed, and the descriptor closed itself.
        if (&*control).read_exact(&mut errno).is_ok() {
            let source = io::Error::from_raw_os_error(i32::from_le_bytes(errno));
            let command = start.command[0].to_string_lossy().into_owned();
            return Err(StartError::Command { command, source });
        }
        Ok(())
    }

    /// The process id of the build command.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the command's end. Blocks.
    pub(crate) fn wait(mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait()?;
        if let Some(supervisor) = &self.supervisor {
            supervisor.hand_over()?;
        }
        Ok(status)
    }
}

pub(crate) fn receive(control: &UnixStream) -> io::Result<(u8, Option<OwnedFd>, String)> {
    let mut data = [0u8; 1024];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut buffers = [io::IoSliceMut::new(&mut data)];
    let got = recvmsg(control.as_fd(), &mut buffers, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let listener = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    if got.bytes == 0 {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it ended before the command began"));
    }
    let first = data[0];
    let text = String::from_utf8_lossy(data.get(1..got.bytes).unwrap_or_default()).into_owned();
    Ok((first, listener, text))
}

/// The exit status as a shell would report it.
pub(crate) fn exit_code(status: ExitStatus) -> u8 {
    match (status.code(), status.signal()) {
        (Some(code), _) => code as u8,
        (None, Some(signal)) => (128 + signal) as u8,
        (None, None) => 1,
    }
}

/// The processes below `root`, it first, nearest first.
pub(crate) fn descendants(root: u32) -> Vec<u32> {
    let mut found = vec![root];
    let mut at = 0;
    while at < found.len() {
        let pid = found[at];
        at += 1;
        // Every thread has children of its own (`proc_pid_task_children`, CONFIG_PROC_CHILDREN).
        let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { continue };
        for task in tasks.flatten() {
            let children = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            found.extend(children.split_whitespace().filter_map(|word| word.parse::<u32>().ok()));
        }
    }
    found
}

/// Stops a build at once, without letting make speak: everything is frozen, what was being written is removed, and
/// everything is killed. `grace` is given to recipes that are under way (not to those in `stuck`, which wait for what
/// will never come).
pub(crate) fn stop(root: u32, stuck: impl Fn() -> Vec<u32>, grace: Duration) {
    let until = Instant::now() + grace;
    loop {
        let all = descendants(root);
        let (makes, others): (Vec<u32>, Vec<u32>) = all.iter().partition(|&&pid| is_make(pid));
        makes.iter().for_each(|&pid| kill(pid as i32, libc::SIGSTOP));
        let stuck = stuck();
        let busy = others.iter().any(|pid| !stuck.contains(pid) && is_leaf(*pid) && is_alive(*pid));
        if !busy || Instant::now() > until {
            for pid in descendants(root) {
                kill(pid as i32, libc::SIGSTOP);
            }
            let kept = [callers::sink(root, 1), callers::sink(root, 2)];
            let half_written = descendants(root)
                .into_iter()
                .flat_map(|pid| open_for_writing(pid, &kept))
                .collect::<Vec<_>>();
            for pid in descendants(root).into_iter().rev() {
                kill(pid as i32, libc::SIGKILL);
            }
            half_written.iter().for_each(|path| drop(std::fs::remove_file(path)));
            return;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn is_make(pid: u32) -> bool {
    std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| callers::is_make(&exe))
}

/// Whether a process has not ended: one that a frozen make has not been told of has no executable any more.
pub(crate) fn is_alive(pid: u32) -> bool {
    std::fs::read_link(format!("/proc/{pid}/exe")).is_ok()
}

/// Whether a process has no children: something that works rather than waits.
fn is_leaf(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
        .is_ok_and(|text| text.trim().is_empty())
}

/// The regular files that a process has open for writing, those where the build's own output goes left out.
pub(crate) fn open_for_writing(pid: u32, kept: &[Option<Sink>]) -> Vec<PathBuf> {
    let Ok(fds) = std::fs::read_dir(format!("/proc/{pid}/fdinfo")) else { return Vec::new() };
    fds.flatten()
        .filter(|entry| {
            let info = std::fs::read_to_string(entry.path()).unwrap_or_default();
            let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
            let flags = flags.and_then(|f| u32::from_str_radix(f.trim(), 8).ok()).unwrap_or(0);
            // Appending is logging, not making.
            flags & libc::O_ACCMODE as u32 != 0 && flags & libc::O_APPEND as u32 == 0
        })
        .filter_map(|entry| entry.file_name().to_string_lossy().parse().ok())
        .filter(|number| !kept.contains(&callers::sink(pid, *number)))
        .filter_map(|number| std::fs::read_link(format!("/proc/{pid}/fd/{number}")).ok())
        .filter(|path| path.metadata().is_ok_and(|meta| meta.is_file()))
        .collect()
}
