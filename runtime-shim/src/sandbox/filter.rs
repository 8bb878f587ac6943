//! The seccomp filter of sandboxes: calls that no tool of a build needs, and that reach deep into the kernel, fail.
//!
//! A list of what is refused and not of what is allowed: a tool that does something new must work. What a sandbox may not do
//! at all is refused by its missing capabilities; the filter keeps programs from the code behind it as well.
//!
//! The numbers are searched as a tree: when a filter is installed, the kernel carries it out once for each call that it knows
//! (`seccomp_cache_prepare`), some 900 times. As a list that was 0.1 ms for each sandbox.

use libc::{BPF_ABS, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, sock_filter};

/// `AUDIT_ARCH_X86_64` and `AUDIT_ARCH_I386` (`linux/audit.h`).
const ARCH: u32 = 0xc000_003e;
const ARCH_32: u32 = 0x4000_0003;

/// Numbers from here on are those of the x32 ABI: the same calls by other numbers.
const X32: u32 = 0x4000_0000;

/// Refused calls: their numbers in 64-bit and in 32-bit programs (`syscall_64.tbl`, `syscall_32.tbl`).
const REFUSED: [(i64, u32); 38] = [
    // Mounts and namespaces.
    (libc::SYS_mount, 21),
    (libc::SYS_umount2, 52),
    (libc::SYS_pivot_root, 217),
    (libc::SYS_move_mount, 429),
    (libc::SYS_open_tree, 428),
    (libc::SYS_fsopen, 430),
    (libc::SYS_fsconfig, 431),
    (libc::SYS_fsmount, 432),
    (libc::SYS_fspick, 433),
    (libc::SYS_mount_setattr, 442),
    (libc::SYS_setns, 346),
    (libc::SYS_unshare, 310),
    (libc::SYS_open_by_handle_at, 342),
    // The machine itself.
    (libc::SYS_reboot, 88),
    (libc::SYS_kexec_load, 283),
    (libc::SYS_init_module, 128),
    (libc::SYS_finit_module, 350),
    (libc::SYS_delete_module, 129),
    (libc::SYS_swapon, 87),
    (libc::SYS_swapoff, 115),
    (libc::SYS_acct, 51),
    (libc::SYS_quotactl, 131),
    (libc::SYS_settimeofday, 79),
    (libc::SYS_clock_settime, 264),
    (libc::SYS_iopl, 110),
    (libc::SYS_ioperm, 101),
    (libc::SYS_syslog, 103),
    (libc::SYS_vhangup, 111),
    (libc::SYS_sethostname, 74),
    (libc::SYS_setdomainname, 121),
    // Large parts of the kernel that builds have no use for.
    (libc::SYS_bpf, 357),
    (libc::SYS_perf_event_open, 336),
    (libc::SYS_userfaultfd, 374),
    (libc::SYS_add_key, 286),
    (libc::SYS_request_key, 287),
    (libc::SYS_keyctl, 288),
    (libc::SYS_io_uring_setup, 425),
    (libc::SYS_lookup_dcookie, 253),
];

/// Refused with `ENOSYS`, so that a program takes its other way; the others give `EPERM`.
const UNKNOWN: i64 = libc::SYS_io_uring_setup;

fn statement(code: u32, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

fn jump(how: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code: (BPF_JMP | how | BPF_K) as u16, jt, jf, k }
}

fn fail(errno: i32) -> sock_filter {
    statement(BPF_RET | BPF_K, libc::SECCOMP_RET_ERRNO | errno as u32)
}

/// The filter's program.
pub(super) fn program() -> Vec<sock_filter> {
    let mut program = vec![statement(BPF_LD | BPF_W | BPF_ABS, 4)];
    let wide = block(&REFUSED.map(|(number, _)| (number as u32, number == UNKNOWN)), Some(X32));
    let narrow = block(&REFUSED.map(|(number, old)| (old, number == UNKNOWN)), None);
    for (arch, block) in [(ARCH, wide), (ARCH_32, narrow)] {
        program.push(jump(BPF_JEQ, arch, 0, block.len() as u8));
        program.extend(block);
    }
    // Another architecture than this build's: nothing of it runs here.
    program.push(fail(libc::ENOSYS));
    program
}

/// Refuses these numbers, and those from `above` on, and allows the others; nothing gets past its end.
fn block(refused: &[(u32, bool)], above: Option<u32>) -> Vec<sock_filter> {
    let mut block = vec![statement(BPF_LD | BPF_W | BPF_ABS, 0)];
    if let Some(above) = above {
        block.push(jump(BPF_JGE, above, 0, 1));
        block.push(fail(libc::ENOSYS));
    }
    let mut refused = refused.to_vec();
    refused.sort_unstable();
    let mut tree = Vec::new();
    search(&refused, &mut tree);
    let count = tree.len();
    // Behind the tree: allow, EPERM, ENOSYS.
    let resolve = |at: usize, to: To| match to {
        To::On(steps) => steps,
        To::Allow => (count - at - 1) as u8,
        To::Refuse => (count - at) as u8,
        To::Unknown => (count - at + 1) as u8,
    };
    let jumps = tree.iter().enumerate();
    block.extend(
        jumps.map(|(at, step)| jump(step.how, step.number, resolve(at, step.yes), resolve(at, step.no))),
    );
    block.push(statement(BPF_RET | BPF_K, libc::SECCOMP_RET_ALLOW));
    block.push(fail(libc::EPERM));
    block.push(fail(libc::ENOSYS));
    block
}

/// Where a jump leads: so many steps on, or to one of the answers behind the tree.
#[derive(Clone, Copy)]
enum To {
    On(u8),
    Allow,
    Refuse,
    Unknown,
}

/// A comparison.
struct Branch {
    how: u32,
    number: u32,
    yes: To,
    no: To,
}

/// Appends a search for these numbers, in order: by halves, the last three one after the other.
fn search(refused: &[(u32, bool)], tree: &mut Vec<Branch>) {
    if refused.len() > 3 {
        let (low, high) = refused.split_at(refused.len() / 2);
        let mut below = Vec::new();
        search(low, &mut below);
        let yes = To::On(below.len() as u8);
        tree.push(Branch { how: BPF_JGE, number: high[0].0, yes, no: To::On(0) });
        tree.append(&mut below);
        return search(high, tree);
    }
    for (left, (number, unknown)) in (0..refused.len()).rev().zip(refused) {
        let yes = if *unknown { To::Unknown } else { To::Refuse };
        let no = if left == 0 { To::Allow } else { To::On(0) };
        tree.push(Branch { how: BPF_JEQ, number: *number, yes, no });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the program answers: the few instructions that it is made of, carried out.
    fn run(arch: u32, number: u32) -> u32 {
        run_counted(arch, number).0
    }

    /// As [`run`], with how many instructions it took.
    fn run_counted(arch: u32, number: u32) -> (u32, usize) {
        let (program, mut loaded, mut at, mut steps) = (program(), 0, 0, 0);
        loop {
            let step = program[at];
            at += 1;
            steps += 1;
            let code = u32::from(step.code);
            match (code & 0x07, step.k) {
                (BPF_LD, 4) => loaded = arch,
                (BPF_LD, _) => loaded = number,
                (BPF_JMP, k) => {
                    let holds = if code & 0xf0 == BPF_JGE { loaded >= k } else { loaded == k };
                    at += usize::from(if holds { step.jt } else { step.jf });
                }
                (_, k) => return (k, steps),
            }
        }
    }

    #[test]
    fn every_call_is_decided_in_a_few_steps_and_its_neighbours_are_allowed() {
        let refused = REFUSED.map(|(number, _)| number as u32);
        for number in 0..600 {
            let (answer, steps) = run_counted(ARCH, number);
            assert_eq!(answer == libc::SECCOMP_RET_ALLOW, !refused.contains(&number), "{number}");
            assert!(steps <= 14, "{number}: {steps}");
        }
    }

    #[test]
    fn what_is_on_the_list_fails_and_nothing_else() {
        let error = |number| {
            let errno = if number == UNKNOWN { libc::ENOSYS } else { libc::EPERM };
            libc::SECCOMP_RET_ERRNO | errno as u32
        };
        for (number, old) in REFUSED {
            assert_eq!(run(ARCH, number as u32), error(number), "{number}");
            assert_eq!(run(ARCH_32, old), error(number), "32-bit {old}");
        }
        for number in [libc::SYS_read, libc::SYS_execve, libc::SYS_clone3, libc::SYS_ptrace, libc::SYS_socket]
        {
            assert_eq!(run(ARCH, number as u32), libc::SECCOMP_RET_ALLOW, "{number}");
        }
        assert_eq!(run(ARCH_32, 11), libc::SECCOMP_RET_ALLOW);
        assert_eq!(run(ARCH, X32 | 1), libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32);
        assert_eq!(run(0, 0), libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32);
    }
}
