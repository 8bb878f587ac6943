//! Diversion: a process that is about to execute a program executes the launcher in its stead.
//!
//! For programs over which no launcher is mounted. The call that executes the program is held by the filter; while it is,
//! the process is traced (`ptrace(2)`), and let go. It stands still before the program's first instruction, in memory that
//! is its own alone, with arguments and environment on its stack: there it is made to execute the launcher with the same
//! ones, and is traced no more. Whatever goes wrong on the way, the process goes on with the program that it asked for.

mod sys;

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use sys::{Resume, Stop, Traced};

use super::sys::{let_go, read_memory};

/// Who wants programs diverted.
pub(crate) trait Divert: Send + Sync {
    /// A process stands before the first instruction of this program: the launcher to execute in its stead, if it is to be.
    fn launcher(&self, pid: u32, program: &Path) -> Option<CString>;

    /// The launcher could not be executed: the process goes on with its program.
    fn failed(&self, pid: u32);
}

/// The instruction `syscall`.
const SYSCALL: [u8; 2] = [0x0f, 0x05];

/// How far below the stack's top the launcher's path is written: past what the ABI lets functions use without asking.
const RED_ZONE: u64 = 128;

/// How many signals may come in between before the process is let go.
const MAX_STOPS: usize = 64;

/// Lets a held call go, which executes a program, and diverts its process.
pub(super) fn divert(listener: Arc<OwnedFd>, id: u64, pid: u32, by: Arc<dyn Divert>) {
    let held = Arc::clone(&listener);
    // A thread of its own: only the one that traces a process may speak to it.
    let work = move || {
        let traced = Traced::seize(pid);
        // The process may have been killed while it waited: nothing is left to let go.
        let _ = let_go(held.as_fd(), id);
        if let Ok(traced) = traced {
            // What fails leaves the process as it was; it is let go when this thread ends, if not before.
            let _ = carry_out(&traced, pid, &*by);
        }
    };
    if thread::Builder::new().name("divert".into()).spawn(work).is_err() {
        let _ = let_go(listener.as_fd(), id);
    }
}

fn carry_out(traced: &Traced, pid: u32, by: &dyn Divert) -> io::Result<()> {
    if !reach_start(traced)? {
        return traced.resume(Resume::Free);
    }
    let program = fs::read_link(format!("/proc/{pid}/exe"))?;
    let launcher = is_wide(pid).then(|| by.launcher(pid, &program)).flatten();
    let Some(launcher) = launcher else { return traced.resume(Resume::Free) };
    let executed = execute(traced, pid, &launcher);
    if !matches!(executed, Ok(true)) {
        by.failed(pid);
    }
    executed.and_then(|_| traced.resume(Resume::Free))
}

/// Follows the process to the first instruction of the program that it executes; whether it gets there.
fn reach_start(traced: &Traced) -> io::Result<bool> {
    let mut executed = false;
    for _ in 0..MAX_STOPS {
        match traced.wait() {
            Stop::Executed => {
                executed = true;
                // This stop has taken the place of the one that was asked for.
                traced.interrupt()?;
                traced.resume(Resume::On(0))?;
            }
            Stop::Asked => return Ok(executed),
            other => pass(traced, other)?,
        }
    }
    Ok(false)
}

/// What comes in between takes its course.
fn pass(traced: &Traced, stop: Stop) -> io::Result<()> {
    match stop {
        Stop::Signal(signal) => traced.resume(Resume::On(signal)),
        Stop::Group => traced.resume(Resume::Listen),
        Stop::Ended => Err(io::ErrorKind::NotFound.into()),
        Stop::Executed | Stop::Asked | Stop::Call => traced.resume(Resume::On(0)),
    }
}

/// Makes a process that stands before its first instruction execute the launcher. If that fails it stands there again.
fn execute(traced: &Traced, pid: u32, launcher: &CString) -> io::Result<bool> {
    let before = traced.registers()?;
    let code = read_memory(pid, before.rip, 8)?;
    let count = read_memory(pid, before.rsp, 8)?;
    let count = u64::from_le_bytes(*count.first_chunk().expect("eight bytes were read"));
    let path = launcher.as_bytes_with_nul();
    let at = (before.rsp - RED_ZONE - path.len() as u64) & !0xf;
    let mut call = before;
    call.rax = libc::SYS_execve as u64;
    // No call of the kernel's is to be made again.
    call.orig_rax = u64::MAX;
    (call.rdi, call.rsi, call.rdx) = (at, before.rsp + 8, before.rsp + 8 + (count + 1) * 8);
    let patched = [&SYSCALL[..], &code[2..]].concat();
    traced.write(at, path)?;
    traced.write(before.rip, &patched)?;
    traced.set_registers(&call)?;
    traced.resume(Resume::ToCall(0))?;
    let mut stops = 0;
    let done = loop {
        match traced.wait() {
            Stop::Executed => return Ok(true),
            Stop::Ended => return Err(io::ErrorKind::NotFound.into()),
            Stop::Call if stops > 0 => break false,
            Stop::Call => {
                stops += 1;
                traced.resume(Resume::ToCall(0))?;
            }
            Stop::Signal(signal) => traced.resume(Resume::ToCall(signal))?,
            Stop::Group => traced.resume(Resume::Listen)?,
            Stop::Asked => traced.resume(Resume::ToCall(0))?,
        }
    };
    traced.write(before.rip, &code)?;
    traced.set_registers(&before)?;
    Ok(done)
}

/// Whether a process executes a 64-bit program (`EI_CLASS`, `elf(5)`).
fn is_wide(pid: u32) -> bool {
    let mut start = [0; 5];
    let read = fs::File::open(format!("/proc/{pid}/exe"))
        .and_then(|mut file| io::Read::read_exact(&mut file, &mut start));
    read.is_ok() && start == *b"\x7fELF\x02"
}

/// A path as `execve` takes it.
pub(crate) fn as_argument(path: &Path) -> Option<CString> {
    CString::new(path.as_os_str().as_bytes()).ok()
}
