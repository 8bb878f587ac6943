//! Runs one program behind the relocation layer, and leaves nothing of it running.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ggr_ir::{Job, RootPath};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, kill_process_group, pidfd_open};

use super::sys::{self, Ended};

/// Where a program runs.
pub(super) struct Place<'a> {
    /// The relocation layer's file.
    pub(super) relocate: &'a Path,
    /// The staged root.
    pub(super) root: &'a Path,
    /// Takes its standard output, `out`, and error, `err`.
    pub(super) streams: &'a Path,
}

/// How a program ended.
pub(super) struct End {
    pub(super) ended: Ended,
    /// We killed it, as its time was over.
    pub(super) late: bool,
    pub(super) ran: Duration,
}

/// Runs the job's program to its end.
pub(super) fn run(job: &Job, place: &Place<'_>) -> io::Result<End> {
    let command = &job.thunk.command;
    let mut process = Command::new(place.relocate);
    process
        .arg(place.root)
        .arg(command.program.as_path())
        .arg("first")
        .args(&command.args)
        .env_clear()
        .envs(&command.env)
        .current_dir(directory(&command.dir, place.root))
        .stdin(Stdio::null())
        .stdout(stream(&place.streams.join("out"))?)
        .stderr(stream(&place.streams.join("err"))?);
    std::os::unix::process::CommandExt::process_group(&mut process, 0);
    sys::limit(&mut process, job.limits.memory, job.limits.output);
    let started = Instant::now();
    let child = process.spawn()?;
    let pid = Pid::from_child(&child);
    // The kernel takes the compiler and not us when memory runs out; where that may not be said, it takes the larger one.
    let _ = fs::write(format!("/proc/{}/oom_score_adj", child.id()), "1000");
    let late = !ends_within(pid, job.limits.wall)?;
    // Whatever it left running must not change what it wrote.
    let _ = kill_process_group(pid, Signal::KILL);
    let ended = sys::wait(pid.as_raw_nonzero().get())?;
    let ran = started.elapsed();
    end_orphans();
    Ok(End { ended, late, ran })
}

fn directory(dir: &RootPath, root: &Path) -> std::path::PathBuf {
    dir.under(root)
}

/// Append mode, as pipes never overwrite.
fn stream(path: &Path) -> io::Result<File> {
    File::options().create(true).append(true).open(path)
}

fn ends_within(pid: Pid, limit: Duration) -> io::Result<bool> {
    let handle = pidfd_open(pid, PidfdFlags::empty())?;
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        match poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&timeout)) {
            Ok(0) if Instant::now() >= deadline => return Ok(false),
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => return Ok(true),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Kills and waits for what the program left behind: its orphans are our children.
fn end_orphans() {
    loop {
        let orphans = children();
        if orphans.is_empty() {
            return;
        }
        for pid in orphans {
            let _ = kill_process(pid, Signal::KILL);
            let _ = sys::wait(pid.as_raw_nonzero().get());
        }
    }
}

/// The processes whose parent we are.
fn children() -> Vec<Pid> {
    let own = std::process::id();
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| parent(*pid) == Some(own))
        .filter_map(Pid::from_raw)
        .collect()
}

/// A process's parent: the second field after the name, which stands in brackets and may hold anything (proc(5)).
fn parent(pid: i32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}
