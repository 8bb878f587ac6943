//! `ggr bench launcher`: what one tool call costs its caller.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use ggr_shim::bench::start::Row;

use super::ways;
use crate::commands::Context;
use crate::error::Error;

/// What is compiled: the smallest program, so that little but the way to the answer is measured.
const SOURCE: &str = "int main(void) { return 0; }\n";

/// The call that is made.
const CALL: [&str; 6] = ["gcc", "-O2", "-c", "a.c", "-o", "a.o"];

/// The hidden command that makes the calls from inside a build.
pub(crate) const CALLS: &str = "__calls";

/// Time of one compiler call whose result is recorded, from the caller's fork to the end: through ggr's launcher, and ccache
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// How many calls of each kind; of gcc itself a tenth
    #[arg(short = 'n', long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    calls: u32,
}

/// Measures.
pub(crate) fn run(context: &Context, args: &Args) -> Result<ExitCode, Error> {
    let dir = tempfile::tempdir().map_err(Error::io("create a directory in", std::env::temp_dir()))?;
    let rows = ways(dir.path(), args.calls).map_err(Error::io("make calls in", dir.path()))?;
    ways::print(context, "one call", &rows)?;
    Ok(ExitCode::SUCCESS)
}

fn ways(dir: &Path, count: u32) -> io::Result<Vec<Row>> {
    fs::write(dir.join("a.c"), SOURCE)?;
    let floor = Row::sample("a program that does nothing", count, || once(&mut call(dir, &["true"])));
    let ggr = Row { name: "ggr, recorded", times: through_ggr(dir, count).map_err(|e| e.to_string()) };
    let cached = [&["ccache"], &CALL[..]].concat();
    let ccache = Row::sample("ccache, recorded", count, || {
        once(call(dir, &cached).env("CCACHE_DIR", dir.join("ccache")))
    });
    let gcc = Row::sample("gcc itself", count.div_ceil(10), || once(&mut call(dir, &CALL)));
    Ok(vec![floor, ggr, ccache, gcc])
}

/// The times of calls in a build under ggr, sorted. The first one makes the result and does not count.
fn through_ggr(dir: &Path, count: u32) -> io::Result<Vec<Duration>> {
    let own = std::env::current_exe()?;
    let times = dir.join("times");
    let mut build = Command::new(&own);
    build.args(["-q", "--dir"]).arg(dir.join("ggr")).arg(&own).args([CALLS, &count.to_string()]).arg(&times);
    build.args(CALL).current_dir(dir);
    once(&mut build)?;
    let text = fs::read_to_string(times)?;
    let mut times: Vec<Duration> =
        text.lines().filter_map(|line| line.parse().ok()).map(Duration::from_nanos).collect();
    times.sort_unstable();
    Ok(times)
}

fn call(dir: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).current_dir(dir);
    command
}

/// Runs it, and gives the time from fork to its end.
fn once(command: &mut Command) -> io::Result<Duration> {
    let began = Instant::now();
    let status = command.stdin(Stdio::null()).status()?;
    if status.success() {
        return Ok(began.elapsed());
    }
    Err(io::Error::other(format!("`{}`: {status}", command.get_program().to_string_lossy())))
}

/// `ggr __calls COUNT FILE PROGRAM ARGS…`: makes a call once, then so often, and writes the times to the file, in nanoseconds.
pub(crate) fn make_calls(args: &[OsString]) -> Option<()> {
    let [count, times, program, args @ ..] = args else { return None };
    let count: u32 = count.to_str()?.parse().ok()?;
    let row = Row::sample("calls", count, || once(Command::new(program).args(args)));
    let lines = row.times.ok()?.iter().map(|time| format!("{}\n", time.as_nanos())).collect::<String>();
    fs::write(times, lines).ok()
}
