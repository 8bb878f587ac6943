//! `ptrace(2)`: no crate among ours wraps it.
#![allow(unsafe_code, reason = "ptrace and waitpid; each block says why it is sound")]

use std::ffi::{c_int, c_long, c_void};
use std::io;

use libc::user_regs_struct;

/// `PTRACE_EVENT_STOP` (`linux/ptrace.h`): a stop that was asked for, or one of the whole process.
const EVENT_STOP: c_int = 128;

/// Why a traced process stands still.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stop {
    /// It has executed a program, and not begun it.
    Executed,
    /// It was told to stand still.
    Asked,
    /// At the start or the end of a system call.
    Call,
    /// It is stopped with all of its process (`SIGSTOP`).
    Group,
    /// A signal is about to reach it.
    Signal(c_int),
    /// It has ended.
    Ended,
}

/// How a process is let go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Resume {
    /// To the next stop.
    On(c_int),
    /// To the start or the end of the next system call.
    ToCall(c_int),
    /// It stays stopped until it is continued.
    Listen,
    /// For good: it is no longer traced.
    Free,
}

/// A process that this thread traces. No other thread may use it.
pub(super) struct Traced {
    pid: c_int,
}

impl Traced {
    /// Traces a process and tells it to stand still as soon as it can. What it waits for uninterruptibly comes first.
    ///
    /// # Errors
    /// If it is gone, traced by another, or not ours to trace.
    pub(super) fn seize(pid: u32) -> io::Result<Self> {
        let traced = Self { pid: pid as c_int };
        let options = libc::PTRACE_O_TRACEEXEC | libc::PTRACE_O_TRACESYSGOOD;
        traced.ask(libc::PTRACE_SEIZE, 0, options as usize)?;
        traced.interrupt()?;
        Ok(traced)
    }

    /// Tells it to stand still before it goes on in user space; any stop before that takes the place of this one.
    pub(super) fn interrupt(&self) -> io::Result<()> {
        self.ask(libc::PTRACE_INTERRUPT, 0, 0)
    }

    /// Waits until it stands still or has ended.
    pub(super) fn wait(&self) -> Stop {
        let mut status = 0;
        // SAFETY: `status` is a valid place for the result.
        while unsafe { libc::waitpid(self.pid, &raw mut status, libc::__WALL) } < 0 {
            if io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
                return Stop::Ended;
            }
        }
        if !libc::WIFSTOPPED(status) {
            return Stop::Ended;
        }
        match (libc::WSTOPSIG(status), status >> 16) {
            (libc::SIGTRAP, libc::PTRACE_EVENT_EXEC) => Stop::Executed,
            (libc::SIGTRAP, EVENT_STOP) => Stop::Asked,
            (_, EVENT_STOP) => Stop::Group,
            (signal, _) if signal == libc::SIGTRAP | 0x80 => Stop::Call,
            (signal, _) => Stop::Signal(signal),
        }
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// If it is gone.
    pub(super) fn resume(&self, how: Resume) -> io::Result<()> {
        match how {
            Resume::On(signal) => self.ask(libc::PTRACE_CONT, 0, signal as usize),
            Resume::ToCall(signal) => self.ask(libc::PTRACE_SYSCALL, 0, signal as usize),
            Resume::Listen => self.ask(libc::PTRACE_LISTEN, 0, 0),
            Resume::Free => self.ask(libc::PTRACE_DETACH, 0, 0),
        }
    }

    /// Its registers.
    pub(super) fn registers(&self) -> io::Result<user_regs_struct> {
        // SAFETY: all zeros is a valid value of a struct of numbers.
        let mut registers: user_regs_struct = unsafe { std::mem::zeroed() };
        self.ask(libc::PTRACE_GETREGS, 0, (&raw mut registers).expose_provenance())?;
        Ok(registers)
    }

    /// Changes its registers.
    pub(super) fn set_registers(&self, registers: &user_regs_struct) -> io::Result<()> {
        self.ask(libc::PTRACE_SETREGS, 0, std::ptr::from_ref(registers).expose_provenance())
    }

    /// Writes words into its memory, also where it may not write itself: its own copy of a page then.
    pub(super) fn write(&self, address: u64, bytes: &[u8]) -> io::Result<()> {
        for (at, chunk) in (address..).step_by(8).zip(bytes.chunks(8)) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.ask(libc::PTRACE_POKEDATA, at, u64::from_le_bytes(word) as usize)?;
        }
        Ok(())
    }

    fn ask(&self, request: libc::c_uint, address: u64, data: usize) -> io::Result<()> {
        let (address, data) = (address as usize as *mut c_void, data as *mut c_void);
        // SAFETY: the kernel checks process and address; `data` is a number, or points to registers that live across the
        // call and are written as a whole.
        let result: c_long = unsafe { libc::ptrace(request, self.pid, address, data) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}
