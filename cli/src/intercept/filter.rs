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

/// Offsets in `struct seccomp_data`.
const OFFSET_NR: u32 = 0;
const OFFSET_ARCH: u32 = 4;

fn statement(code: u32, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

fn jump(k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code: (BPF_JMP | BPF_JEQ | BPF_K) as u16, jt, jf, k }
}

/// The program: notify on [`WATCHED`], allow everything else.
pub(super) fn program() -> Vec<sock_filter> {
    let count = WATCHED.len() as u8;
    let mut program = vec![
        statement(BPF_LD | BPF_W | BPF_ABS, OFFSET_ARCH),
        // Calls of another architecture (32-bit programs) pass unseen; `ggr doctor` says so.
        jump(ARCH, 0, count + 1),
        statement(BPF_LD | BPF_W | BPF_ABS, OFFSET_NR),
    ];
    for (i, nr) in WATCHED.iter().enumerate() {
        program.push(jump(*nr as u32, count - i as u8, 0));
    }
    program.push(statement(BPF_RET | BPF_K, libc::SECCOMP_RET_ALLOW));
    program.push(statement(BPF_RET | BPF_K, libc::SECCOMP_RET_USER_NOTIF));
    program
}
