//! The relocation layer: runs a program, unchanged, on a machine where its root cannot be mounted.
//!
//! `relocate ROOT PROGRAM first ARGV0 ARGS…` runs the program that has the path `PROGRAM` below the directory `ROOT`, as if
//! `ROOT` were `/`. Every path that the program and its children name leads there, and every path that they are shown
//! (`getcwd`, `readlink`, `/proc/self/exe`) is the one it has there: so `__FILE__`, debug information, depfiles and messages
//! come out as on the user's machine. Nothing of the machine's own tree can be opened but `/proc` and a few devices.
//!
//! **How.** A seccomp filter makes each system call that names a file raise `SIGSYS` in the process itself; the handler
//! replaces the paths and makes the call again, from this program's own code, which the filter lets through. A handler does
//! not outlive `execve`, so `execve` is answered by executing this program again, which maps the other one (and its
//! interpreter) itself and jumps to it. The filter is inherited; nobody can shed it.
//!
//! **Why so.** AWS Lambda gives no user 0, no namespaces, no mounts and no `chroot`. A preloaded library sees neither static
//! programs nor libc's own inner calls, must be built against each libc, and needs a list of a hundred functions in place of
//! one table of system calls. `ptrace` costs two context switches a call and may be refused. A supervisor by user
//! notification cannot replace the paths of `stat`, `execve` or `chdir`. Where seccomp filters were refused, syscall user
//! dispatch (`PR_SET_SYSCALL_USER_DISPATCH`, Linux 5.11) would raise the same signal to the same handler; it is not used, as
//! it must be switched on again in each new thread and process.
//!
//! **Limits.** A handler of the program's that runs while `SIGSYS` is blocked by `sigsuspend` or `ppoll` masks, or code on a
//! stack with less than 20 KiB left (goroutines), ends the process: loudly. 32-bit programs find no system calls.
//! The layer keeps a thunk hermetic; it does not keep a hostile one in. The machine does that.
#![no_std]
#![no_main]
#![deny(unsafe_code)]
// `#[inline(never)]` here keeps paths' buffers out of the frames of those that do not need them: a `posix_spawn` has 32 KiB.

mod calls;
mod config;
mod copy;
mod exec;
mod filter;
mod load;
mod paths;
mod sys;

use config::Config;
use exec::OWN_ARGUMENTS;
use paths::PATH_MAX;
use sys::{call4, nr};

/// Where the kernel starts us: the stack holds the arguments, the environment and the auxiliary vector.
extern "C" fn start(stack: u64) -> ! {
    let count = sys::word(stack) as usize;
    let argument = |index: usize| sys::word(stack + 8 + 8 * index as u64);
    if count <= OWN_ARGUMENTS {
        fail(b"usage: relocate ROOT PROGRAM first ARGV0 [ARGS]", b"");
    }
    let words: [&'static [u8]; OWN_ARGUMENTS] =
        core::array::from_fn(|index| sys::text(argument(index), PATH_MAX).unwrap_or_default());
    let [own_file, root, called, how] = words;
    sys::configure(Config { own_file, root, program: called });
    if how == b"first"
        && let Err(_) = filter::install()
    {
        fail(b"this machine allows no seccomp filter", b"");
    }
    if sys::install_handler() < 0 {
        fail(b"no handler for SIGSYS can be installed", b"");
    }
    sys::configure(Config { own_file, root, program: canonical(argument(2)).unwrap_or(called) });
    let (program, interpreter) = match load::load(argument(2)) {
        Ok(loaded) => loaded,
        Err(load::Unfit(why)) => fail(called, why),
    };
    let stack = shift(stack, count);
    let base = interpreter.as_ref().map_or(0, |image| image.base);
    set_auxiliary(stack, &program, base, argument(2));
    name_process(called);
    sys::jump(stack, interpreter.map_or(program.entry, |image| image.entry))
}

/// The program's file with every symlink followed, as `/proc/self/exe` shows it.
fn canonical(called: u64) -> Option<&'static [u8]> {
    let fd = copy::open_file(sys::AT_FDCWD, called);
    let mut place = paths::Buffer::new();
    if fd < 0 || calls::descriptor(fd as u64, &mut place).is_err() {
        return None;
    }
    call4(nr::CLOSE, fd as u64, 0, 0, 0);
    let shown = paths::shown(sys::config().root, place.text());
    let kept = sys::map_memory(PATH_MAX as u64);
    if kept < 0 {
        return None;
    }
    sys::put(kept as u64, shown);
    sys::text(kept as u64, PATH_MAX)
}

/// Takes our own arguments off the stack. Their number is even, so it stays aligned to 16 bytes.
fn shift(stack: u64, count: usize) -> u64 {
    const { assert!(OWN_ARGUMENTS % 2 == 0) };
    let stack = stack + 8 * OWN_ARGUMENTS as u64;
    sys::set_word(stack, (count - OWN_ARGUMENTS) as u64);
    stack
}

/// Tells the program about itself in place of us.
fn set_auxiliary(stack: u64, program: &load::Image, base: u64, called: u64) {
    const PHDR: u64 = 3;
    const PHNUM: u64 = 5;
    const BASE: u64 = 7;
    const ENTRY: u64 = 9;
    const EXECFN: u64 = 31;
    let mut at = stack + 8 * (sys::word(stack) + 2);
    while sys::word(at) != 0 {
        at += 8;
    }
    at += 8;
    while sys::word(at) != 0 {
        let value = match sys::word(at) {
            PHDR => program.headers,
            PHNUM => program.count,
            BASE => base,
            ENTRY => program.entry,
            EXECFN => called,
            _ => sys::word(at + 8),
        };
        sys::set_word(at + 8, value);
        at += 16;
    }
}

/// The process has the program's name, for whoever looks at it.
fn name_process(called: &[u8]) {
    const SET_NAME: u64 = 15;
    let start = called.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
    // The text is NUL-terminated where it came from; the kernel takes 15 bytes of it.
    call4(nr::PRCTL, SET_NAME, called[start..].as_ptr() as u64, 0, 0);
}

/// Says why the program cannot be run, and ends the process as a shell would.
fn fail(what: &[u8], why: &[u8]) -> ! {
    for part in [b"relocate: ".as_slice(), what, b": ", why, b"\n"] {
        call4(nr::WRITE, 2, part.as_ptr() as u64, part.len() as u64, 0);
    }
    sys::exit(127)
}
