//! System calls, the entry, the signal handler's edge, and the program's memory.
//!
//! Everything else here is plain code over the functions of this file. They take addresses as the program gave them to the
//! kernel: a bad address ends the process (`SIGSEGV`) where the kernel would have answered `EFAULT`.
#![allow(unsafe_code, reason = "no libc: raw system calls, the process entry and a signal frame")]

use core::arch::{asm, global_asm};
use core::cell::UnsafeCell;

use crate::config::Config;

/// System call numbers (x86-64).
pub mod nr {
    macro_rules! numbers { ($($name:ident = $number:literal)*) => { $(#[allow(missing_docs)] pub const $name: u32 = $number;)* } }
    numbers! {
        READ = 0 MUNMAP = 11 GETPID = 39 OPEN = 2 CLOSE = 3 FSTAT = 5 MMAP = 9 RT_SIGACTION = 13 RT_SIGPROCMASK = 14 PREAD64 = 17
        ACCESS = 21 SENDFILE = 40 SOCKET = 41 EXECVE = 59 EXIT = 60 TRUNCATE = 76 GETCWD = 79 CHDIR = 80 RENAME = 82
        MKDIR = 83 RMDIR = 84 CREAT = 85 LINK = 86 UNLINK = 87 SYMLINK = 88 READLINK = 89 CHMOD = 90 FCHMOD = 91 CHOWN = 92
        LCHOWN = 94 UTIME = 132 MKNOD = 133 STAT = 4 LSTAT = 6 WRITE = 1 STATFS = 137 PRCTL = 157 CHROOT = 161
        SETXATTR = 188 LSETXATTR = 189 GETXATTR = 191 LGETXATTR = 192 LISTXATTR = 194 LLISTXATTR = 195 REMOVEXATTR = 197
        LREMOVEXATTR = 198 UTIMES = 235 INOTIFY_ADD_WATCH = 254 OPENAT = 257 MKDIRAT = 258 MKNODAT = 259 FCHOWNAT = 260
        FUTIMESAT = 261 NEWFSTATAT = 262 UNLINKAT = 263 RENAMEAT = 264 LINKAT = 265 SYMLINKAT = 266 READLINKAT = 267
        FCHMODAT = 268 FACCESSAT = 269 UTIMENSAT = 280 NAME_TO_HANDLE_AT = 303 RENAMEAT2 = 316 SECCOMP = 317 EXECVEAT = 322
        STATX = 332 IO_URING_SETUP = 425 CLONE3 = 435 OPENAT2 = 437 FACCESSAT2 = 439 FCHMODAT2 = 452
    }
}

/// Error numbers, as system calls return them.
pub mod err {
    #![allow(missing_docs)]
    pub const PERM: i64 = -1;
    pub const NOENT: i64 = -2;
    pub const NOEXEC: i64 = -8;
    pub const ACCES: i64 = -13;
    pub const FAULT: i64 = -14;
    pub const INVAL: i64 = -22;
    pub const RANGE: i64 = -34;
    pub const NAMETOOLONG: i64 = -36;
    pub const LOOP: i64 = -40;
}

/// The directory descriptor that stands for the working directory.
pub const AT_FDCWD: u64 = -100i64 as u64;

/// One system call: a result, or minus an error number. From here it is never trapped.
pub fn call(number: u32, args: [u64; 6]) -> i64 {
    let result: i64;
    // SAFETY: the program that runs in this process made this call, or could have; what the kernel writes through its
    // addresses is the program's own memory or a buffer that the caller owns. The clobbers are those of the ABI.
    unsafe {
        asm!("syscall", inlateout("rax") u64::from(number) => result, in("rdi") args[0], in("rsi") args[1],
            in("rdx") args[2], in("r10") args[3], in("r8") args[4], in("r9") args[5],
            lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result
}

/// A call with up to four arguments.
pub fn call4(number: u32, a: u64, b: u64, c: u64, d: u64) -> i64 {
    call(number, [a, b, c, d, 0, 0])
}

/// The bytes of a string in the program's memory, without the NUL; nothing if it has `limit` bytes or more.
pub fn text<'a>(address: u64, limit: usize) -> Option<&'a [u8]> {
    let start = address as *const u8;
    for length in 0..limit {
        // SAFETY: the program says that a NUL-terminated string stands here; we stop at the NUL.
        if unsafe { *start.add(length) } == 0 {
            // SAFETY: all of these bytes have just been read. Nothing writes to them while the program is in this call,
            // but another of its threads, which would race with the kernel too.
            return Some(unsafe { core::slice::from_raw_parts(start, length) });
        }
    }
    None
}

/// A word of the program's memory.
pub fn word(address: u64) -> u64 {
    // SAFETY: the address is one that the program or the kernel gave for a word.
    unsafe { (address as *const u64).read_unaligned() }
}

/// Writes a word into the program's memory.
pub fn set_word(address: u64, value: u64) {
    // SAFETY: as above; the program, or the kernel's start of this process, gave it to be written.
    unsafe { (address as *mut u64).write_unaligned(value) }
}

/// Copies bytes into the program's memory.
pub fn put(address: u64, bytes: &[u8]) {
    // SAFETY: the program gave the address of a buffer that it says holds at least so many bytes.
    unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), address as *mut u8, bytes.len()) }
}

/// Fresh memory, readable and writable: its address, or an error.
pub fn map_memory(length: u64) -> i64 {
    const READ_WRITE: u64 = 3;
    const PRIVATE_ANONYMOUS: u64 = 0x22;
    call(nr::MMAP, [0, length, READ_WRITE, PRIVATE_ANONYMOUS, u64::MAX, 0])
}

/// Gives such memory back.
pub fn unmap_memory(address: u64, length: u64) {
    call4(nr::MUNMAP, address, length, 0, 0);
}

/// Zeroes memory of a mapping that we have just made.
pub fn zero(address: u64, length: u64) {
    // SAFETY: the caller has mapped this range, writable, for the program that is being loaded.
    unsafe { core::ptr::write_bytes(address as *mut u8, 0, length as usize) }
}

struct Once(UnsafeCell<Option<Config>>);
// SAFETY: written once, by the process's only thread before any program code runs; only read afterwards.
unsafe impl Sync for Once {}
static CONFIG: Once = Once(UnsafeCell::new(None));

/// Sets the process's configuration, before the program starts.
pub fn configure(config: Config) {
    // SAFETY: called once, by the only thread, before the handler is installed.
    unsafe { *CONFIG.0.get() = Some(config) }
}

/// The process's configuration.
pub fn config() -> &'static Config {
    // SAFETY: nobody writes any more.
    match unsafe { &*CONFIG.0.get() } {
        Some(config) => config,
        None => exit(127),
    }
}

/// Ends the process.
pub fn exit(code: u64) -> ! {
    loop {
        call4(nr::EXIT, code, 0, 0, 0);
    }
}

// The kernel starts us with the arguments on the stack. The handler's trampoline is the ABI's return from a signal.
global_asm!(
    ".globl _start",
    "_start: mov rdi, rsp",
    "and rsp, -16",
    "call {main}",
    "ud2",
    ".globl ggr_return",
    "ggr_return: mov eax, 15",
    "syscall",
    main = sym crate::start,
);

unsafe extern "C" {
    fn ggr_return();
}

/// Offsets in `ucontext_t` (x86-64): the registers, and the mask that the return from the signal sets.
const REGISTERS: usize = 40;
const MASK: usize = 296;
/// Indexes of registers there: the six arguments in order, then the result.
const ARGUMENTS: [usize; 6] = [8, 9, 12, 2, 0, 1];
const RESULT: usize = 13;

/// What was interrupted: the program at one system call.
pub struct Frame(*mut u8);

impl Frame {
    fn register(&self, index: usize) -> *mut u64 {
        // SAFETY: the kernel's frame holds 23 registers from there on.
        unsafe { self.0.add(REGISTERS).cast::<u64>().add(index) }
    }

    /// The signal mask that the program has.
    pub fn mask(&self) -> u64 {
        // SAFETY: the frame holds the mask there.
        unsafe { *self.0.add(MASK).cast::<u64>() }
    }

    /// Changes it.
    pub fn set_mask(&mut self, mask: u64) {
        // SAFETY: as above.
        unsafe { *self.0.add(MASK).cast::<u64>() = mask }
    }
}

/// The number of the call that was trapped, in `siginfo_t`.
const INFO_NUMBER: usize = 24;

extern "C" fn handler(_: i32, info: *const u8, context: *mut u8) {
    let mut frame = Frame(context);
    // SAFETY: the kernel gives both structures with the signal; the offsets are the ABI's.
    let (number, args) =
        unsafe { (*info.add(INFO_NUMBER).cast::<u32>(), ARGUMENTS.map(|index| *frame.register(index))) };
    let result = crate::calls::answer(number, args, &mut frame);
    // SAFETY: as above.
    unsafe { *frame.register(RESULT) = result as u64 }
}

/// The signal by which the filter's calls come.
pub const SIGSYS: u64 = 31;

/// `SA_SIGINFO | SA_RESTORER | SA_NODEFER`: with the mask left alone, so that a program's handler that interrupts ours may
/// make such calls too, and `execve` hands on the program's own mask.
const FLAGS: u64 = 0x4 | 0x0400_0000 | 0x4000_0000;

/// Installs the handler and unblocks its signal.
pub fn install_handler() -> i64 {
    let entry: extern "C" fn(i32, *const u8, *mut u8) = handler;
    let action: [u64; 4] = [entry as usize as u64, FLAGS, ggr_return as *const () as u64, 0];
    let result = call4(nr::RT_SIGACTION, SIGSYS, action.as_ptr() as u64, 0, 8);
    let set: u64 = 1 << (SIGSYS - 1);
    call4(nr::RT_SIGPROCMASK, 1, (&raw const set) as u64, 0, 8);
    result
}

/// Leaves for a program that has been loaded: its stack, its first instruction.
pub fn jump(stack: u64, entry: u64) -> ! {
    // SAFETY: the loader has prepared both as the kernel would have; nothing of ours is used afterwards but the handler.
    // `rdx` is 0: there is nothing to register with `atexit` (the System V ABI, process initialisation).
    unsafe {
        asm!("mov rsp, rsi", "xor edx, edx", "xor ebp, ebp", "jmp rcx",
            in("rsi") stack, in("rcx") entry, options(noreturn));
    }
}

// What the compiler calls by itself.

#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
    // SAFETY: the caller's contract is that of C's `memcpy`.
    unsafe { asm!("rep movsb", inout("rcx") length => _, inout("rdi") to => _, inout("rsi") from => _) }
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
    if (to as usize).wrapping_sub(from as usize) >= length {
        // SAFETY: they do not overlap in the way that copying forwards would break.
        return unsafe { memcpy(to, from, length) };
    }
    // SAFETY: copies backwards, from the last byte; the direction flag is put back, as the ABI asks.
    unsafe {
        asm!("std", "rep movsb", "cld", inout("rcx") length => _, inout("rdi") to.add(length).sub(1) => _,
            inout("rsi") from.add(length).sub(1) => _);
    }
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, value: i32, length: usize) -> *mut u8 {
    // SAFETY: the caller's contract is that of C's `memset`.
    unsafe { asm!("rep stosb", inout("rcx") length => _, inout("rdi") to => _, in("al") value as u8) }
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, length: usize) -> i32 {
    for index in 0..length {
        // SAFETY: both have `length` bytes, by the caller's contract.
        let (x, y) = unsafe { (a.add(index).read_volatile(), b.add(index).read_volatile()) };
        if x != y {
            return i32::from(x) - i32::from(y);
        }
    }
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, length: usize) -> i32 {
    // SAFETY: the same contract.
    unsafe { memcmp(a, b, length) }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    crate::fail(b"a bug in the relocation layer", b"")
}
