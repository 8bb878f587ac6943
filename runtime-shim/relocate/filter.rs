//! The seccomp filter: calls of the table trap, unless they come from this file's own code.
//!
//! The number is looked at first and the address of the caller last, so that the kernel can remember which calls are always
//! allowed (`seccomp_cache_prepare`) and `read` or `mmap` cost nothing more.

use crate::calls::TABLE;
use crate::sys::{call4, nr};

/// Where this program is linked (`build.rs`): where the kernel would put a position-independent one, so that the address
/// sanitizers find their shadows free. Its heap begins behind it.
const OWN: u64 = 0x5555_0000_0000;
const OWN_END: u64 = OWN + (64 << 10);

/// `struct sock_filter`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Step {
    code: u16,
    yes: u8,
    no: u8,
    value: u32,
}

const LOAD: u16 = 0x20;
const EQUAL: u16 = 0x15;
const AT_LEAST: u16 = 0x35;
const RETURN: u16 = 0x06;
const ALLOW: u32 = 0x7fff_0000;
const TRAP: u32 = 0x0003_0000;
const ERRNO: u32 = 0x0005_0000;
const AT_NUMBER: u32 = 0;
const AT_ARCH: u32 = 4;
const AT_CALLER: u32 = 8;
const X86_64: u32 = 0xc000_003e;
const ENOSYS: u32 = 38;
const EAFNOSUPPORT: u32 = 97;
const X32: u32 = 0x4000_0000;

/// Calls that are answered with an error, whoever makes them.
///
/// `clone3` can reset the handler, and libc falls back to `clone`. io_uring opens files without a call. A thunk has no
/// network. What a 32-bit program would call is not watched, so it finds nothing.
const REFUSED: [(u32, u32); 3] =
    [(nr::CLONE3, ENOSYS), (nr::IO_URING_SETUP, ENOSYS), (nr::SOCKET, EAFNOSUPPORT)];

const LENGTH: usize = 7 + 2 * REFUSED.len() + TABLE.len() + 8;

fn step(code: u16, yes: usize, no: usize, value: u32) -> Step {
    Step { code, yes: yes as u8, no: no as u8, value }
}

fn program() -> [Step; LENGTH] {
    let mut steps = [step(RETURN, 0, 0, ALLOW); LENGTH];
    let mut at = 0;
    let mut add = |step| {
        steps[at] = step;
        at += 1;
    };
    add(step(LOAD, 0, 0, AT_ARCH));
    add(step(EQUAL, 1, 0, X86_64));
    add(step(RETURN, 0, 0, ERRNO | ENOSYS));
    add(step(LOAD, 0, 0, AT_NUMBER));
    add(step(AT_LEAST, 0, 1, X32));
    add(step(RETURN, 0, 0, ERRNO | ENOSYS));
    for (number, error) in REFUSED {
        add(step(EQUAL, 0, 1, number));
        add(step(RETURN, 0, 0, ERRNO | error));
    }
    for (index, row) in TABLE.iter().enumerate() {
        // To the look at the caller, over the other rows and the `ALLOW` after them.
        add(step(EQUAL, TABLE.len() - index, 0, row.number));
    }
    add(step(RETURN, 0, 0, ALLOW));
    add(step(LOAD, 0, 0, AT_CALLER + 4));
    add(step(EQUAL, 0, 4, (OWN >> 32) as u32));
    add(step(LOAD, 0, 0, AT_CALLER));
    add(step(AT_LEAST, 0, 2, OWN as u32));
    add(step(AT_LEAST, 1, 0, OWN_END as u32));
    add(step(RETURN, 0, 0, ALLOW));
    add(step(RETURN, 0, 0, TRAP));
    steps
}

/// Puts the filter on this process and all that come from it, for good.
///
/// # Errors
/// The kernel's error number, negative.
pub fn install() -> Result<(), i64> {
    const NO_NEW_PRIVILEGES: u64 = 38;
    const SET_MODE_FILTER: u64 = 1;
    let steps = program();
    let header = [steps.len() as u64, steps.as_ptr() as u64];
    let results = [
        call4(nr::PRCTL, NO_NEW_PRIVILEGES, 1, 0, 0),
        call4(nr::SECCOMP, SET_MODE_FILTER, 0, header.as_ptr() as u64, 0),
    ];
    results.into_iter().find(|&result| result < 0).map_or(Ok(()), Err)
}
