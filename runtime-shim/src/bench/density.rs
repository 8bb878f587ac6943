//! The memory of many compilers that run side by side: from one file, as sandboxes get it (hard links to one blob), and from
//! a copy each, as containers with images of their own get it.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// What the compilers do while they are looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum At {
    /// They have started and wait for their source: a prewarmed worker.
    Idle,
    /// They are stopped after some processor time, in the middle of a function.
    MidCompile,
}

/// Where their program comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum From {
    /// One file.
    Shared,
    /// A copy each.
    Private,
}

/// The memory of all of them, in bytes (the sum of the proportional set sizes).
#[derive(Clone, Copy, Debug)]
pub struct Weighed {
    /// What they did.
    pub at: At,
    /// Where their program came from.
    pub from: From,
    /// Bytes.
    pub memory: u64,
}

/// Processor time of a compiler before it is stopped, in clock ticks of 10 ms: past start-up and parsing, amid the passes.
const TICKS: u64 = 20;

/// Weighs `count` compilers (gcc's `cc1`) in all four ways; the copies are made below `root` and removed.
///
/// # Errors
/// gcc is missing; the file system's.
pub fn weigh(root: &Path, count: usize) -> io::Result<Vec<Weighed>> {
    let output = Command::new("gcc").arg("-print-prog-name=cc1").output()?;
    let cc1 = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    let dir = root.join("bench-density");
    fs::create_dir_all(&dir)?;
    let rows =
        [At::Idle, At::MidCompile].into_iter().flat_map(|at| [From::Shared, From::Private].map(|f| (at, f)));
    let rows =
        rows.map(|(at, from)| Ok(Weighed { at, from, memory: once(&cc1, &dir, at, from, count)? })).collect();
    fs::remove_dir_all(&dir)?;
    rows
}

/// Compilers that are killed at the end.
struct Running(Vec<Child>);

impl Drop for Running {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn once(cc1: &Path, dir: &Path, at: At, from: From, count: usize) -> io::Result<u64> {
    let programs: Vec<PathBuf> = match from {
        From::Shared => vec![cc1.to_owned(); count],
        From::Private => (0..count).map(|number| copy(cc1, dir, number)).collect::<io::Result<_>>()?,
    };
    let source = source();
    let mut running = Running(Vec::new());
    // As many at a time as there are cores: more would only wait for each other, and none compiles longer than it must.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    for wave in programs.chunks(cores) {
        let first = running.0.len();
        for program in wave {
            running.0.push(start(program)?);
            let child = running.0.last_mut().expect("it was just pushed");
            match at {
                // One line: it has read its tables and waits for the rest.
                At::Idle => child.stdin.as_mut().expect("it is piped").write_all(b"int first;\n")?,
                At::MidCompile => child.stdin.take().expect("it is piped").write_all(source.as_bytes())?,
            }
        }
        running.0[first..].iter().try_for_each(|child| match at {
            At::Idle => wait_until_idle(child),
            At::MidCompile => stop_in_the_middle(child),
        })?;
    }
    running.0.iter().map(|child| proportional(child.id())).sum()
}

/// A copy of the program, made once for all states: a hundred of them are three gigabytes.
fn copy(cc1: &Path, dir: &Path, number: usize) -> io::Result<PathBuf> {
    let copy = dir.join(format!("cc1-{number}"));
    if !copy.exists() {
        fs::copy(cc1, &copy)?;
    }
    Ok(copy)
}

fn start(program: &Path) -> io::Result<Child> {
    let mut command = Command::new(program);
    command.args(["-quiet", "-O2", "-", "-o", "/dev/null"]).stdin(Stdio::piped()).stdout(Stdio::null());
    command.stderr(Stdio::null()).spawn()
}

/// Enough functions for longer than [`TICKS`], and not for gigabytes in a hundred compilers.
fn source() -> String {
    (0..600)
        .map(|n| format!("int f{n}(int *a, int n) {{ int s = {n}; for (int i = 0; i < n; i++) {{ if (a[i] & {n}) s += a[i] * s; else s ^= a[n - i]; }} return s; }}\n"))
        .collect()
}

fn stop_in_the_middle(child: &Child) -> io::Result<()> {
    until("a compiler compiles", || Ok(ticks(child.id())? >= TICKS))?;
    let pid = Pid::from_raw(child.id().cast_signed()).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(kill_process(pid, Signal::STOP)?)
}

/// Until it sleeps in its read, twice in a row.
fn wait_until_idle(child: &Child) -> io::Result<()> {
    let mut seen = 0;
    until("a compiler is idle", || {
        seen = if state(child.id())? == "S" { seen + 1 } else { 0 };
        Ok(seen > 2)
    })
}

fn until(what: &str, mut done: impl FnMut() -> io::Result<bool>) -> io::Result<()> {
    let limit = Instant::now() + Duration::from_secs(60);
    while !done()? {
        if Instant::now() > limit {
            return Err(io::Error::new(io::ErrorKind::TimedOut, format!("waited in vain until {what}")));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// The fields of `/proc/PID/stat` after the name.
fn stat(pid: u32) -> io::Result<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let rest = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    Ok(rest.split_whitespace().map(str::to_owned).collect())
}

fn state(pid: u32) -> io::Result<String> {
    stat(pid)?.into_iter().next().ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// User and system time.
fn ticks(pid: u32) -> io::Result<u64> {
    let fields = stat(pid)?;
    let field = |at: usize| fields.get(at).and_then(|text| text.parse::<u64>().ok()).unwrap_or_default();
    if field(0) == 0 && fields.first().is_some_and(|state| state == "Z") {
        return Err(io::Error::other("the compiler ended before it was looked at"));
    }
    Ok(field(11) + field(12))
}

/// What a process weighs: its own pages, and its share of those that it shares.
fn proportional(pid: u32) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.map(|kib| kib * 1024).ok_or_else(|| io::ErrorKind::InvalidData.into())
}
