//! The keeper: a process that outlives the coordinator by a moment.
//!
//! If the coordinator is killed (`kill -9`, out of memory), the build would go on with placeholders that nobody fills. The
//! keeper holds the other end of a pipe: when it closes without a word, the keeper kills the build and removes its
//! placeholders, so that plain `make` works at once. (After a power cut the journal does the same at the next command.)

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use ggr_ir::repo::{Journal, Repo};

use super::build::{descendants, is_alive};
use super::heal;
use crate::intercept::kill;

/// What the coordinator says when it ends by itself.
const GOODBYE: &str = "goodbye";

/// Milliseconds that a dying coordinator is waited for: it has at most its memory to give back.
const DYING_TICKS: u32 = 10_000;

/// How often a dead coordinator's journal is looked for, 25 ms apart.
const SWEEPS: u32 = 20;

/// The coordinator's end.
pub(crate) struct Keeper {
    child: Child,
    pipe: Option<ChildStdin>,
}

impl Keeper {
    /// Starts the process, in a session of its own so that a terminal's signals do not reach it.
    pub(crate) fn start(repo: &Path) -> io::Result<Self> {
        let mut child = Command::new("/proc/self/exe")
            .arg("__keeper")
            .arg(repo)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .current_dir("/")
            .spawn()?;
        let pipe = child.stdin.take();
        Ok(Self { child, pipe })
    }

    /// Names a build command to be killed with us.
    pub(crate) fn watch(&mut self, root: u32) {
        self.say(&root.to_string());
    }

    fn say(&mut self, line: &str) {
        if let Some(pipe) = &mut self.pipe {
            // A keeper that was killed is a protection less, not a reason to fail.
            let _ = pipe.write_all(format!("{line}\n").as_bytes());
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.say(GOODBYE);
        self.pipe = None;
        let _ = self.child.wait();
    }
}

/// The keeper's own process.
pub(crate) fn run(repo: &Path) -> io::Result<()> {
    let coordinator = rustix::process::getppid();
    let mut builds: Vec<Build> = Vec::new();
    for line in BufReader::new(io::stdin()).lines() {
        match line?.as_str() {
            GOODBYE => return Ok(()),
            pid => builds.extend(pid.parse().ok().map(Build::of)),
        }
    }
    builds.iter().for_each(Build::kill);
    // The pipe closes while the coordinator is still dying; the lock of its journal may be the next descriptor to go. Its
    // children get another parent only when all are closed (`exit_files` before `exit_notify`).
    for _ in 0..DYING_TICKS {
        if rustix::process::getppid() != coordinator {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let repo = Repo::open(repo).map_err(io::Error::other)?;
    let journal = Journal::start(&repo).map_err(io::Error::other)?;
    // A worker that was being started shares the journal's lock until it has executed: look again for half a second.
    for _ in 0..SWEEPS {
        heal::sweep(&journal)?;
        std::thread::sleep(std::time::Duration::from_millis(25));
    }
    Ok(())
}

struct Build {
    root: u32,
    /// Its mount namespace, if it has one of its own.
    namespace: Option<String>,
}

fn mount_namespace(pid: &str) -> Option<String> {
    let link = std::fs::read_link(format!("/proc/{pid}/ns/mnt")).ok()?;
    Some(link.to_string_lossy().into_owned())
}

impl Build {
    fn of(root: u32) -> Self {
        let own = mount_namespace("self");
        Self { root, namespace: mount_namespace(&root.to_string()).filter(|ns| Some(ns) != own.as_ref()) }
    }

    /// Kills every process of the build, orphans too where its mount namespace tells them apart.
    fn kill(&self) {
        // What forks while we look is caught by the next look.
        for _ in 0..100 {
            let left = self.processes();
            if left.is_empty() {
                return;
            }
            left.iter().for_each(|&pid| kill(pid as i32, libc::SIGKILL));
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    fn processes(&self) -> Vec<u32> {
        let Some(namespace) = &self.namespace else {
            return descendants(self.root).into_iter().filter(|pid| is_alive(*pid)).collect();
        };
        let Ok(all) = std::fs::read_dir("/proc") else { return Vec::new() };
        all.flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(|pid: &u32| mount_namespace(&pid.to_string()).as_ref() == Some(namespace))
            .collect()
    }
}
