//! `execve`: the process becomes this program again, which then loads the other one.

use crate::calls::descriptor;
use crate::copy::open_file;
use crate::paths::{Buffer, PATH_MAX};
use crate::sys::{self, AT_FDCWD, call4, err, nr};

const AT_EMPTY_PATH: u64 = 0x1000;
/// How many interpreters of interpreters the kernel follows.
const DEPTH: usize = 4;
/// How much of a script's first line counts (`BINPRM_BUF_SIZE`).
const LINE: usize = 256;
/// What stands before the program's own arguments: our file, the root, the program, and how we were started.
pub const OWN_ARGUMENTS: usize = 4;
/// Says that the filter is on already.
pub const AGAIN: &[u8] = b"again\0";

/// An argument list that is being made.
struct Arguments {
    at: u64,
    length: usize,
    room: usize,
}

impl Arguments {
    fn push(&mut self, address: u64) {
        if self.length < self.room {
            sys::set_word(self.at + 8 * self.length as u64, address);
            self.length += 1;
        }
    }
}

/// Executes what the program named. Returns only an error.
pub fn execute(dir: u64, path: u64, args: u64, env: u64, flags: u64) -> i64 {
    let mut named = Buffer::new();
    let path = match name(dir, path, flags, &mut named) {
        Ok(path) => path,
        Err(error) => return error,
    };
    let mut count = 0;
    while args != 0 && sys::word(args + 8 * count) != 0 {
        count += 1;
    }
    // A page or more: the stack of a `posix_spawn` is small.
    let room = count as usize + OWN_ARGUMENTS + 2 * DEPTH + 2;
    let at = sys::map_memory(8 * room as u64);
    if at < 0 {
        return at;
    }
    let mut lines = [[0u8; LINE]; DEPTH];
    let result = interpret(path, count as usize, &mut lines).and_then(|(program, front, skip)| {
        let mut list = Arguments { at: at as u64, length: 0, room: room - 1 };
        let config = sys::config();
        for own in [config.own_file, config.root] {
            list.push(own.as_ptr() as u64);
        }
        list.push(program);
        list.push(AGAIN.as_ptr() as u64);
        front.iter().filter(|&&address| address != 0).for_each(|&address| list.push(address));
        (skip..count as usize).for_each(|index| list.push(sys::word(args + 8 * index as u64)));
        Err(call4(nr::EXECVE, config.own_file.as_ptr() as u64, at as u64, env, 0))
    });
    sys::unmap_memory(at as u64, 8 * room as u64);
    match result {
        Err(error) => error,
        Ok(()) => err::NOEXEC,
    }
}

/// The path to execute, absolute or relative to the working directory.
#[inline(never)]
fn name(dir: u64, path: u64, flags: u64, named: &mut Buffer) -> Result<u64, i64> {
    if path < 4096 {
        return Err(err::FAULT);
    }
    let text = sys::text(path, PATH_MAX).ok_or(err::NAMETOOLONG)?;
    if text.starts_with(b"/") || (dir as i32 == AT_FDCWD as i32 && !text.is_empty()) {
        return Ok(path);
    }
    if text.is_empty() && flags & AT_EMPTY_PATH == 0 {
        return Err(err::NOENT);
    }
    let mut place = Buffer::new();
    descriptor(dir, &mut place)?;
    let shown = crate::paths::shown(sys::config().root, place.text());
    let mut build = || {
        named.push(shown)?;
        if !text.is_empty() {
            named.push(b"/")?;
            named.push(text)?;
        }
        Ok::<(), crate::paths::TooLong>(())
    };
    build().map_err(|_| err::NAMETOOLONG)?;
    Ok(named.address())
}

/// What stands in front of the arguments for scripts: at most two words for each, and the script's path.
type Front = [u64; 2 * DEPTH + 1];

/// Follows `#!` lines. The program to load, the words to put in front, and how many of the arguments they replace.
fn interpret(path: u64, count: usize, lines: &mut [[u8; LINE]; DEPTH]) -> Result<(u64, Front, usize), i64> {
    let (mut program, mut front, mut used) = (path, [0; 2 * DEPTH + 1], 0usize);
    for line in lines.iter_mut() {
        let length = read_start(program, line)?;
        if line.starts_with(b"\x7fELF") {
            return Ok((program, front, usize::from(used > 0).min(count)));
        }
        if !line.starts_with(b"#!") {
            return Err(err::NOEXEC);
        }
        let (interpreter, argument) = split(line, length)?;
        // In front of what is there: the interpreter, its argument, and the script's path in place of `argv[0]`.
        let mut words = [interpreter, argument.unwrap_or(0), program];
        if argument.is_none() {
            words = [interpreter, program, 0];
        }
        let new = if argument.is_none() { 2 } else { 3 };
        // A script that is itself interpreted gives its place as first word to its path.
        let kept = used.saturating_sub(1);
        let old = front;
        if new + kept > front.len() {
            return Err(err::LOOP);
        }
        front[..new].copy_from_slice(&words[..new]);
        front[new..new + kept].copy_from_slice(&old[used - kept..used]);
        used = new + kept;
        program = interpreter;
    }
    Err(err::LOOP)
}

/// Reads the start of a file that may be executed.
fn read_start(path: u64, line: &mut [u8; LINE]) -> Result<usize, i64> {
    let fd = open_file(AT_FDCWD, path);
    if fd < 0 {
        return Err(fd);
    }
    let allowed = may_execute(fd as u64);
    let length = call4(nr::READ, fd as u64, line.as_mut_ptr() as u64, LINE as u64 - 1, 0);
    call4(nr::CLOSE, fd as u64, 0, 0, 0);
    if !allowed {
        return Err(err::ACCES);
    }
    usize::try_from(length).map_err(|_| err::ACCES)
}

fn may_execute(fd: u64) -> bool {
    let mut stat = [0u64; 18];
    if call4(nr::FSTAT, fd, stat.as_mut_ptr() as u64, 0, 0) < 0 {
        return false;
    }
    let mode = stat[3] & 0o177_777;
    mode & 0o170_000 == 0o100_000 && mode & 0o111 != 0
}

/// The interpreter and its one argument in a `#!` line, cut out in place.
fn split(line: &mut [u8; LINE], length: usize) -> Result<(u64, Option<u64>), i64> {
    let end = line[..length].iter().position(|&byte| byte == b'\n').unwrap_or(length);
    let blank = |byte: u8| byte == b' ' || byte == b'\t';
    let start = (2..end).find(|&at| !blank(line[at])).ok_or(err::NOEXEC)?;
    let stop = (start..end).find(|&at| blank(line[at])).unwrap_or(end);
    let rest = (stop..end).find(|&at| !blank(line[at]));
    let last = (start..end).rev().find(|&at| !blank(line[at])).map_or(end, |at| at + 1);
    line[stop] = 0;
    line[last] = 0;
    let base = line.as_ptr() as u64;
    Ok((base + start as u64, rest.map(|rest| base + rest as u64)))
}
