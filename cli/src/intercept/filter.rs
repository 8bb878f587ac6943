//! The seccomp filter's program (`seccomp_unotify(2)`, `Documentation/userspace-api/seccomp_filter.rst`).

use libc::{BPF_ABS, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, sock_filter};

/// `AUDIT_ARCH_X86_64`: the only kind of system call that the filter looks at.
const ARCH: u32 = 0xc000_003e;

/// The system calls that open, truncate or execute a file by name, and the one that asks for its size.
pub(super) const WATCHED: [i64; 8] = [
    libc::SYS_openat,
    libc::SYS_execve,
    libc::SYS_open,
    libc::SYS_execveat,
    libc::SYS_openat2,
    libc::SYS_creat,
    libc::SYS_truncate,
    // `stat`, `ls -l` and their like ask for the size this way. `make`, which must not wait, asks with `stat` and `lstat`,
    // ten thousand times in a build of Git that has nothing to do: watching those would cost it a tenth of a second.
    libc::SYS_statx,
];

/// Offsets in `struct seccomp_data`; of the first argument its lower half, which holds a descriptor.
const OFFSET_NR: u32 = 0;
const OFFSET_ARCH: u32 = 4;
const OFFSET_FIRST: u32 = 16;

fn statement(code: u32, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

fn jump(k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code: (BPF_JMP | BPF_JEQ | BPF_K) as u16, jt, jf, k }
}

/// The program for a build: notify on [`WATCHED`], allow everything else.
pub(super) fn program() -> Vec<sock_filter> {
    watching(&WATCHED, &[], &[])
}

/// A program that notifies on the calls in `always`, and on those in `on_first` if their first argument is one of `firsts`.
pub(crate) fn watching(always: &[i64], on_first: &[i64], firsts: &[u32]) -> Vec<sock_filter> {
    let (always_len, on_first_len) = (always.len() as u8, on_first.len() as u8);
    let firsts_len = firsts.len() as u8;
    let mut program = vec![
        statement(BPF_LD | BPF_W | BPF_ABS, OFFSET_ARCH),
        // Calls of another architecture (32-bit programs) pass unseen; `ggr doctor` says so.
        jump(ARCH, 0, always_len + on_first_len + 1),
        statement(BPF_LD | BPF_W | BPF_ABS, OFFSET_NR),
    ];
    // What follows the jumps: allow, load the first argument, compare it with each, allow, notify.
    let jumps = always_len + on_first_len;
    for (i, nr) in (0..).zip(always) {
        program.push(jump(*nr as u32, jumps - i + firsts_len + 2, 0));
    }
    for (i, nr) in (always_len..).zip(on_first) {
        program.push(jump(*nr as u32, jumps - i, 0));
    }
    program.push(statement(BPF_RET | BPF_K, libc::SECCOMP_RET_ALLOW));
    program.push(statement(BPF_LD | BPF_W | BPF_ABS, OFFSET_FIRST));
    for (i, first) in (0..).zip(firsts) {
        program.push(jump(*first, firsts_len - i, 0));
    }
    program.push(statement(BPF_RET | BPF_K, libc::SECCOMP_RET_ALLOW));
    program.push(statement(BPF_RET | BPF_K, libc::SECCOMP_RET_USER_NOTIF));
    program
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the program answers: the few instructions that it is made of, carried out.
    fn run(program: &[sock_filter], arch: u32, nr: i64, first: u32) -> u32 {
        let mut loaded = 0;
        let mut at = 0;
        loop {
            let step = program[at];
            at += 1;
            match (u32::from(step.code) & 0x07, step.k) {
                (BPF_LD, OFFSET_ARCH) => loaded = arch,
                (BPF_LD, OFFSET_NR) => loaded = nr as u32,
                (BPF_LD, _) => loaded = first,
                (BPF_JMP, k) => at += usize::from(if loaded == k { step.jt } else { step.jf }),
                (_, k) => return k,
            }
        }
    }

    #[test]
    fn every_watched_call_is_told_and_no_other() {
        let (always, on_first) = ([libc::SYS_open, libc::SYS_stat], [libc::SYS_read, libc::SYS_dup]);
        let program = watching(&always, &on_first, &[0, 9]);
        let check = |arch, nr, first, expected| assert_eq!(run(&program, arch, nr, first), expected, "{nr}");
        for nr in always {
            check(ARCH, nr, 7, libc::SECCOMP_RET_USER_NOTIF);
            check(0, nr, 7, libc::SECCOMP_RET_ALLOW);
        }
        for nr in on_first {
            check(ARCH, nr, 0, libc::SECCOMP_RET_USER_NOTIF);
            check(ARCH, nr, 9, libc::SECCOMP_RET_USER_NOTIF);
            check(ARCH, nr, 7, libc::SECCOMP_RET_ALLOW);
        }
        check(ARCH, libc::SYS_brk, 0, libc::SECCOMP_RET_ALLOW);
    }
}
