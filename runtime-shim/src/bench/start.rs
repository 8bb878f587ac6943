//! From the request to the first instruction of the program, for each way to start it.
//!
//! The program is 60 bytes of machine code that write the monotonic clock, which is one for all namespaces. (A guest has a
//! clock of its own: for guests the answer's arrival has to do.)

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use ggr_backends::microvm::static_program;
use ggr_ir::{Harvest, Job, Kind, Limits, Mode, Outcome};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::time::{ClockId, clock_gettime};

use super::{Client, Kit, command, percentile};
use crate::blobs::Blobs;
use crate::sandbox::sys;

/// What one way took.
#[derive(Clone, Debug)]
pub struct Row {
    /// The way's name.
    pub name: &'static str,
    /// The times, ascending; or why there are none.
    pub times: Result<Vec<Duration>, String>,
}

impl Row {
    /// Carries it out so often, after one time that does not count.
    pub fn sample(name: &'static str, count: u32, mut once: impl FnMut() -> io::Result<Duration>) -> Self {
        let times = once().and_then(|_| (0..count).map(|_| once()).collect::<io::Result<Vec<_>>>());
        let times = times.map_err(|error| error.to_string()).map(|mut times| {
            times.sort_unstable();
            times
        });
        Self { name, times }
    }

    /// This percentile of the times, if there are any.
    pub fn percentile(&self, nth: usize) -> Option<Duration> {
        self.times.as_ref().ok().map(|times| percentile(times, nth))
    }
}

/// Measures each way `count` times; the cold ones a tenth as often. `worker` is the command line of a worker with one slot over
/// the store below `root`.
///
/// # Errors
/// The program cannot be written. A way that fails is a [`Row`] that says why.
pub fn starts(worker: &mut Command, root: &Path, count: u32) -> io::Result<Vec<Row>> {
    let dir = root.join("bench-start");
    // What crun wants to find in a root.
    for place in ["proc", "dev", "sys"] {
        fs::create_dir_all(dir.join("bundle/rootfs").join(place))?;
    }
    let rows = all(worker, root, &dir, count);
    fs::remove_dir_all(&dir)?;
    rows
}

fn all(worker: &mut Command, root: &Path, dir: &Path, count: u32) -> io::Result<Vec<Row>> {
    let program = dir.join("bundle/rootfs/clock");
    fs::write(&program, clock_program())?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    let bundle = dir.join("bundle");
    fs::write(bundle.join("config.json"), CRUN)?;
    let mut rows = vec![Row::sample("fork + exec", count, || run(&mut Command::new(&program)))];
    let mut client = Client::start(worker)?;
    let mut seq = 0;
    rows.push(Row::sample("prewarmed sandbox", count, || {
        seq += 1;
        in_sandbox(&mut client, root, seq)
    }));
    drop(client);
    let few = (count / 10).max(1);
    rows.push(Row::sample("cold sandbox (a new worker)", few, || {
        let asked = now();
        let mut client = Client::start(worker)?;
        let started = now();
        Ok(in_sandbox(&mut client, root, u64::from(count) + 9)? + (started - asked))
    }));
    rows.push(Row::sample("bwrap --unshare-all", few, || {
        let mut bwrap = Command::new("bwrap");
        run(bwrap.args(["--unshare-all", "--ro-bind"]).arg(bundle.join("rootfs")).args(["/", "/clock"]))
    }));
    rows.push(containers(&bundle, few));
    Ok(rows)
}

/// crun takes no machine that has both versions of cgroups mounted. There its processes get a mount namespace, made
/// beforehand and not counted, in which version 2 is all there is.
fn containers(bundle: &Path, count: u32) -> Row {
    let mut container = 0;
    let mut once = || {
        container += 1;
        let name = format!("ggr-bench-{}-{container}", std::process::id());
        let mut crun = Command::new("crun");
        run(crun.arg("--cgroup-manager=disabled").arg("run").arg("-b").arg(bundle).arg(name))
    };
    let refused = once().is_err_and(|error| error.to_string().contains("hybrid"));
    if !refused {
        return Row::sample("crun run", count, once);
    }
    const ALONE: &str = "crun run (cgroup2 mounted alone)";
    // In a thread of its own: the namespace is that thread's and its children's, and ends with them.
    let sampled = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            sys::unshare(libc::CLONE_NEWNS)?;
            mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
            mount("none", "/sys/fs/cgroup", "cgroup2", MountFlags::NOSUID | MountFlags::NODEV, None)?;
            Ok::<_, io::Error>(Row::sample(ALONE, count, once))
        });
        thread.join().unwrap_or_else(|_| Err(io::Error::other("its thread panicked")))
    });
    sampled.unwrap_or_else(|error| Row { name: ALONE, times: Err(error.to_string()) })
}

/// A job that runs the program; no two numbers give the same one. The program is in the store below `root` afterwards.
///
/// # Errors
/// The store's.
pub fn clock_job(root: &Path, number: u64) -> io::Result<Job> {
    let mut kit = Kit::new(root);
    kit.bytes("/clock", &clock_program(), Mode::Executable)?;
    let mut call = command(&["/clock"], "/");
    call.env.insert("N".to_owned(), number.to_string());
    let thunk = kit.thunk(call, &[], Harvest::Everything);
    let (id, thunk) = (thunk.id(), Arc::new(thunk));
    Ok(Job { id, thunk, limits: Limits::default(), kind: Kind::Other, label: format!("clock {number}") })
}

fn now() -> Duration {
    let time = clock_gettime(ClockId::Monotonic);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// Runs a command that ends in the program, and reads the clock that it wrote.
fn run(command: &mut Command) -> io::Result<Duration> {
    let asked = now();
    let output = command.stdin(Stdio::null()).stderr(Stdio::piped()).output()?;
    if !output.status.success() {
        return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    Ok(clock(&output.stdout)?.saturating_sub(asked))
}

fn in_sandbox(client: &mut Client, root: &Path, seq: u64) -> io::Result<Duration> {
    let job = clock_job(root, seq)?;
    let asked = now();
    client.send(seq, job)?;
    let (_, attempt) = client.answer()?;
    let Outcome::Reduced(reduction) = attempt.outcome else {
        return Err(io::Error::other(format!("{:?}", attempt.outcome)));
    };
    let bytes = Blobs::at(root).bytes(reduction.stdout).map_err(io::Error::other)?;
    Ok(clock(&bytes)?.saturating_sub(asked))
}

/// Two 64-bit words, as the kernel writes a `timespec`.
fn clock(bytes: &[u8]) -> io::Result<Duration> {
    let word = |at: usize| {
        let bytes = bytes.get(at..at + 8).ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok::<_, io::Error>(u64::from_ne_bytes(bytes.try_into().expect("these are 8 bytes")))
    };
    Ok(Duration::new(word(0)?, u32::try_from(word(8)?).map_err(io::Error::other)?))
}

/// `clock_gettime(CLOCK_MONOTONIC, rsp - 16); write(1, rsp - 16, 16); exit(0)`.
fn clock_program() -> Vec<u8> {
    const CODE: &[u8] = &[
        0xb8, 228, 0, 0, 0, 0xbf, 1, 0, 0, 0, 0x48, 0x8d, 0x74, 0x24, 0xf0, 0x0f, 0x05, // clock_gettime
        0xb8, 1, 0, 0, 0, 0xbf, 1, 0, 0, 0, 0xba, 16, 0, 0, 0, 0x0f, 0x05, // write
        0xb8, 60, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05, // exit
    ];
    static_program(CODE)
}

/// The container that is nearest to a sandbox of ggr's: its own pid, ipc, uts, mount and network namespaces, and no more.
const CRUN: &str = r#"{
  "ociVersion": "1.0.0",
  "process": { "user": { "uid": 0, "gid": 0 }, "args": ["/clock"], "cwd": "/", "env": [], "noNewPrivileges": true },
  "root": { "path": "rootfs", "readonly": true },
  "mounts": [{ "destination": "/proc", "type": "proc", "source": "proc" }],
  "linux": {
    "namespaces": [
      { "type": "pid" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" }, { "type": "network" }
    ]
  }
}"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_writes_the_clock_of_its_own_start() {
        let dir = tempfile::tempdir().expect("a directory can be made");
        let program = dir.path().join("clock");
        fs::write(&program, clock_program()).expect("it can be written");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("it is ours");
        let before = now();
        let took = run(&mut Command::new(&program)).expect("it runs");
        assert!(took > Duration::ZERO && took <= now() - before);
    }
}
