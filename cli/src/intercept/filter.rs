//! The seccomp filter's program (`seccomp_unotify(2)`, `Documentation/userspace-api/seccomp_filter.rst`).

use libc::{
    BPF_ABS, BPF_ALU, BPF_AND, BPF_JEQ, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_RET, BPF_W, sock_filter,
};

/// `AUDIT_ARCH_X86_64`.
const ARCH: u32 = 0xc000_003e;

/// `AUDIT_ARCH_I386`: calls of 32-bit programs, and `int 0x80` of any program.
pub(crate) const ARCH_32: u32 = 0x4000_0003;

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

/// The same for 32-bit programs (`syscall_32.tbl`): their numbers, and those above with the same arguments.
const WATCHED_32: [(u32, i64); 9] = [
    (5, libc::SYS_open),
    (8, libc::SYS_creat),
    (11, libc::SYS_execve),
    (92, libc::SYS_truncate),
    // truncate64: the path is the first argument as well.
    (193, libc::SYS_truncate),
    (295, libc::SYS_openat),
    (358, libc::SYS_execveat),
    (383, libc::SYS_statx),
    (437, libc::SYS_openat2),
];

/// The number that a watched call has in 64-bit programs.
pub(crate) fn number(call: &libc::seccomp_data) -> i64 {
    let number = call.nr as u32;
    let known = WATCHED_32.iter().find(|(nr, _)| call.arch == ARCH_32 && *nr == number);
    known.map_or(i64::from(call.nr), |(_, nr)| *nr)
}

/// Offsets in `struct seccomp_data`; of the arguments their lower halves, which hold descriptors and flags.
const OFFSET_NR: u32 = 0;
const OFFSET_ARCH: u32 = 4;
const OFFSET_FIRST: u32 = 16;
const OFFSET_SECOND: u32 = 24;
const OFFSET_THIRD: u32 = 32;

fn statement(code: u32, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

fn jump(k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code: (BPF_JMP | BPF_JEQ | BPF_K) as u16, jt, jf, k }
}

/// The program: notify on what is watched, allow everything else, and what is neither 64- nor 32-bit x86.
pub(super) fn program() -> Vec<sock_filter> {
    let mut wide = beside(libc::SYS_openat, OFFSET_THIRD);
    wide.extend(beside(libc::SYS_open, OFFSET_SECOND));
    wide.extend(block(&WATCHED.map(|nr| nr as u32)));
    let narrow = block(&WATCHED_32.map(|(nr, _)| nr));
    let mut program = vec![statement(BPF_LD | BPF_W | BPF_ABS, OFFSET_ARCH)];
    for (arch, block) in [(ARCH, wide), (ARCH_32, narrow)] {
        program.push(jump(arch, 0, block.len() as u8));
        program.extend(block);
    }
    program.push(statement(BPF_RET | BPF_K, libc::SECCOMP_RET_ALLOW));
    program
}

/// Allows this call if its flags say that it can only open a directory, or a file that is not there yet: no placeholder. (In
/// a build that has nothing to do every sixth call is of that kind.) Anything else gets past its end.
fn beside(number: i64, flags: u32) -> Vec<sock_filter> {
    let created = (libc::O_CREAT | libc::O_EXCL) as u32;
    vec![
        statement(BPF_LD | BPF_W | BPF_ABS, OFFSET_NR),
        jump(number as u32, 0, 5),
        statement(BPF_LD | BPF_W | BPF_ABS, flags),
        sock_filter { code: (BPF_JMP | BPF_JSET | BPF_K) as u16, jt: 2, jf: 0, k: libc::O_DIRECTORY as u32 },
        statement(BPF_ALU | BPF_AND | BPF_K, created),
        jump(created, 0, 1),
        statement(BPF_RET | BPF_K, libc::SECCOMP_RET_ALLOW),
    ]
}

/// Notifies on these numbers and allows the others; nothing gets past its end.
fn block(watched: &[u32]) -> Vec<sock_filter> {
    let count = watched.len() as u8;
    let mut block = vec![statement(BPF_LD | BPF_W | BPF_ABS, OFFSET_NR)];
    block.extend(watched.iter().zip(0..).map(|(nr, i)| jump(*nr, count - i, 0)));
    block.push(statement(BPF_RET | BPF_K, libc::SECCOMP_RET_ALLOW));
    block.push(statement(BPF_RET | BPF_K, libc::SECCOMP_RET_USER_NOTIF));
    block
}

/// A program that notifies on the calls in `always`, and on those in `on_first` if their first argument is one of `firsts`; of
/// 32-bit calls on those that open, execute or look at files.
pub(crate) fn watching(always: &[i64], on_first: &[i64], firsts: &[u32]) -> Vec<sock_filter> {
    let (always_len, on_first_len) = (always.len() as u8, on_first.len() as u8);
    let firsts_len = firsts.len() as u8;
    let narrow = block(&WATCHED_32.map(|(nr, _)| nr));
    let mut program =
        vec![statement(BPF_LD | BPF_W | BPF_ABS, OFFSET_ARCH), jump(ARCH_32, 0, narrow.len() as u8)];
    program.extend(narrow);
    // Calls of yet another architecture pass unseen.
    program.push(jump(ARCH, 0, always_len + on_first_len + 1));
    program.push(statement(BPF_LD | BPF_W | BPF_ABS, OFFSET_NR));
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
    fn run(program: &[sock_filter], arch: u32, nr: i64, args: [u32; 3]) -> u32 {
        let mut loaded = 0;
        let mut at = 0;
        loop {
            let step = program[at];
            at += 1;
            let set = u32::from(step.code) & BPF_JSET == BPF_JSET;
            match (u32::from(step.code) & 0x07, step.k) {
                (BPF_LD, OFFSET_ARCH) => loaded = arch,
                (BPF_LD, OFFSET_NR) => loaded = nr as u32,
                (BPF_LD, offset) => loaded = args[(offset - OFFSET_FIRST) as usize / 8],
                (BPF_ALU, k) => loaded &= k,
                (BPF_JMP, k) => {
                    let holds = if set { loaded & k != 0 } else { loaded == k };
                    at += usize::from(if holds { step.jt } else { step.jf });
                }
                (_, k) => return k,
            }
        }
    }

    #[test]
    fn opening_a_directory_or_making_a_file_is_not_told_and_any_other_opening_is() {
        use libc::{O_CLOEXEC, O_CREAT, O_DIRECTORY, O_EXCL, O_RDONLY, O_TRUNC, O_WRONLY};
        let program = program();
        let check = |flags: i32, expected| {
            let flags = flags as u32;
            assert_eq!(run(&program, ARCH, libc::SYS_openat, [3, 0, flags]), expected, "openat {flags:o}");
            assert_eq!(run(&program, ARCH, libc::SYS_open, [3, flags, 0]), expected, "open {flags:o}");
        };
        for flags in [O_RDONLY, O_CLOEXEC, O_WRONLY | O_CREAT | O_TRUNC, O_EXCL, O_CREAT] {
            check(flags, libc::SECCOMP_RET_USER_NOTIF);
        }
        for flags in [O_DIRECTORY | O_CLOEXEC, O_WRONLY | O_CREAT | O_EXCL] {
            check(flags, libc::SECCOMP_RET_ALLOW);
        }
        for nr in WATCHED {
            assert_eq!(run(&program, ARCH, nr, [0; 3]), libc::SECCOMP_RET_USER_NOTIF, "{nr}");
        }
        for (nr, _) in WATCHED_32 {
            let told = run(&program, ARCH_32, i64::from(nr), [0; 3]);
            assert_eq!(told, libc::SECCOMP_RET_USER_NOTIF, "{nr}, 32-bit");
        }
        assert_eq!(run(&program, ARCH, libc::SYS_read, [0; 3]), libc::SECCOMP_RET_ALLOW);
        assert_eq!(run(&program, 7, libc::SYS_openat, [0; 3]), libc::SECCOMP_RET_ALLOW);
    }

    #[test]
    fn every_watched_call_is_told_and_no_other() {
        let (always, on_first) = ([libc::SYS_open, libc::SYS_stat], [libc::SYS_read, libc::SYS_dup]);
        let program = watching(&always, &on_first, &[0, 9]);
        let check =
            |arch, nr, first, expected| assert_eq!(run(&program, arch, nr, [first, 0, 0]), expected, "{nr}");
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
        for (nr, _) in WATCHED_32 {
            check(ARCH_32, i64::from(nr), 7, libc::SECCOMP_RET_USER_NOTIF);
        }
        // `brk`
        check(ARCH_32, 45, 7, libc::SECCOMP_RET_ALLOW);
    }
}
