//! The system calls by which a program learns of the file system, changes it, or reaches beyond it: which are watched in a
//! captured run, and what each says.

use ggr_backends::store::captures::Ask;
use libc::seccomp_data;

use crate::intercept::filter;

/// A path as a system call names it: relative to a directory's descriptor, its text in the caller's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct At {
    /// The descriptor, or `AT_FDCWD`.
    pub(super) dir: i32,
    /// The address of the text.
    pub(super) path: u64,
}

/// What a watched call does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Opens a file, with these flags (in memory for `openat2`: then nothing) and the mode for a new one.
    Open(At, Option<i32>, u32),
    /// `stat` and its kind, following symlinks or not.
    Stat(At, bool),
    /// `access` and its kind: existence and permission bits.
    Reach(At),
    /// `readlink`.
    ReadLink(At),
    /// Lists the directory behind a descriptor.
    List(i32),
    /// Executes a file.
    Execute(At),
    /// Removes a file or directory.
    Remove(At),
    /// Renames, with flags.
    Rename(At, At, u32),
    /// Makes a hard link.
    HardLink(At, At),
    /// Makes a symlink or a directory.
    Make(At),
    /// Changes permission bits.
    Mode(At),
    /// Changes permission bits of what is behind a descriptor.
    ModeOf(i32),
    /// Sets times; of the file behind the descriptor if the path's address is 0. Whether they are given or the present.
    Times(At, bool),
    /// Cuts a file short or makes it longer, by name.
    Truncate(At),
    /// Writes from memory: descriptor, address, length.
    Write(i32, u64, u64),
    /// Writes from memory: descriptor, address of the pieces, their number.
    WritePieces(i32, u64, u64),
    /// Moves bytes between two descriptors, or writes at a place: out of the first, into the second.
    Move(Option<i32>, i32),
    /// Reads from a descriptor that is watched, or makes another descriptor of it.
    Read(i32),
    /// Asks what a descriptor that is watched is.
    Look(i32),
    /// Asks about the machine.
    Machine(Ask),
    /// Does nothing that matters.
    Nothing,
    /// Makes a socket of this family.
    Socket(i32),
    /// Connects to an address.
    Connect(u64, u64),
    /// Asks for random bytes: how many, with which flags.
    Random(u64, u32),
    /// Does what cannot be repeated; says what.
    Refused(&'static str),
}

/// How a row of the table becomes an [`Access`].
type Decode = fn(&[u64; 6]) -> Access;

fn here(path: u64) -> At {
    At { dir: libc::AT_FDCWD, path }
}

fn at(args: &[u64; 6]) -> At {
    At { dir: args[0] as i32, path: args[1] }
}

fn follows(flags: u64) -> bool {
    flags as i32 & libc::AT_SYMLINK_NOFOLLOW == 0
}

/// Every call that is watched, and what it does (`x86_64`).
#[rustfmt::skip]
static TABLE: &[(i64, Decode)] = &[
    (libc::SYS_openat, |a| Access::Open(at(a), Some(a[2] as i32), a[3] as u32)),
    (libc::SYS_newfstatat, |a| Access::Stat(at(a), follows(a[3]))),
    (libc::SYS_write, |a| Access::Write(a[0] as i32, a[1], a[2])),
    (libc::SYS_getdents64, |a| Access::List(a[0] as i32)),
    (libc::SYS_stat, |a| Access::Stat(here(a[0]), true)),
    (libc::SYS_lstat, |a| Access::Stat(here(a[0]), false)),
    (libc::SYS_readlink, |a| Access::ReadLink(here(a[0]))),
    (libc::SYS_access, |a| Access::Reach(here(a[0]))),
    (libc::SYS_statx, |a| Access::Stat(at(a), follows(a[2]))),
    (libc::SYS_open, |a| Access::Open(here(a[0]), Some(a[1] as i32), a[2] as u32)),
    (libc::SYS_openat2, |a| Access::Open(at(a), None, 0o666)),
    (libc::SYS_creat, |a| {
        Access::Open(here(a[0]), Some(libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC), a[1] as u32)
    }),
    (libc::SYS_readlinkat, |a| Access::ReadLink(at(a))),
    (libc::SYS_faccessat, |a| Access::Reach(at(a))),
    (libc::SYS_faccessat2, |a| Access::Reach(at(a))),
    (libc::SYS_chdir, |a| Access::Reach(here(a[0]))),
    (libc::SYS_statfs, |a| Access::Reach(here(a[0]))),
    (libc::SYS_getxattr, |a| Access::Reach(here(a[0]))),
    (libc::SYS_lgetxattr, |a| Access::ReadLink(here(a[0]))),
    (libc::SYS_listxattr, |a| Access::Reach(here(a[0]))),
    (libc::SYS_llistxattr, |a| Access::ReadLink(here(a[0]))),
    (libc::SYS_getdents, |a| Access::List(a[0] as i32)),
    (libc::SYS_execve, |a| Access::Execute(here(a[0]))),
    (libc::SYS_execveat, |a| Access::Execute(at(a))),
    (libc::SYS_unlink, |a| Access::Remove(here(a[0]))),
    (libc::SYS_rmdir, |a| Access::Remove(here(a[0]))),
    (libc::SYS_unlinkat, |a| Access::Remove(at(a))),
    (libc::SYS_rename, |a| Access::Rename(here(a[0]), here(a[1]), 0)),
    (libc::SYS_renameat, |a| Access::Rename(at(a), At { dir: a[2] as i32, path: a[3] }, 0)),
    (libc::SYS_renameat2, |a| Access::Rename(at(a), At { dir: a[2] as i32, path: a[3] }, a[4] as u32)),
    (libc::SYS_link, |a| Access::HardLink(here(a[0]), here(a[1]))),
    (libc::SYS_linkat, |a| Access::HardLink(at(a), At { dir: a[2] as i32, path: a[3] })),
    (libc::SYS_symlink, |a| Access::Make(here(a[1]))),
    (libc::SYS_symlinkat, |a| Access::Make(At { dir: a[1] as i32, path: a[2] })),
    (libc::SYS_mkdir, |a| Access::Make(here(a[0]))),
    (libc::SYS_mkdirat, |a| Access::Make(at(a))),
    (libc::SYS_chmod, |a| Access::Mode(here(a[0]))),
    (libc::SYS_fchmodat, |a| Access::Mode(at(a))),
    (libc::SYS_fchmodat2, |a| Access::Mode(at(a))),
    (libc::SYS_fchmod, |a| Access::ModeOf(a[0] as i32)),
    (libc::SYS_utime, |a| Access::Times(here(a[0]), a[1] != 0)),
    (libc::SYS_utimes, |a| Access::Times(here(a[0]), a[1] != 0)),
    (libc::SYS_futimesat, |a| Access::Times(at(a), a[2] != 0)),
    (libc::SYS_utimensat, |a| Access::Times(at(a), a[2] != 0)),
    (libc::SYS_truncate, |a| Access::Truncate(here(a[0]))),
    (libc::SYS_writev, |a| Access::WritePieces(a[0] as i32, a[1], a[2])),
    (libc::SYS_pwrite64, |a| Access::Move(None, a[0] as i32)),
    (libc::SYS_pwritev, |a| Access::Move(None, a[0] as i32)),
    (libc::SYS_pwritev2, |a| Access::Move(None, a[0] as i32)),
    (libc::SYS_sendfile, |a| Access::Move(Some(a[1] as i32), a[0] as i32)),
    (libc::SYS_copy_file_range, |a| Access::Move(Some(a[0] as i32), a[2] as i32)),
    (libc::SYS_splice, |a| Access::Move(Some(a[0] as i32), a[2] as i32)),
    (libc::SYS_tee, |a| Access::Move(Some(a[0] as i32), a[1] as i32)),
    (libc::SYS_vmsplice, |a| Access::Move(None, a[0] as i32)),
    (libc::SYS_socket, |a| Access::Socket(a[0] as i32)),
    (libc::SYS_connect, |a| Access::Connect(a[1], a[2])),
    (libc::SYS_bind, |_| Access::Refused("it opens a socket for others")),
    (libc::SYS_uname, |_| Access::Machine(Ask::System)),
    (libc::SYS_sched_getaffinity, |_| Access::Machine(Ask::Processors)),
    (libc::SYS_getrandom, |a| Access::Random(a[1], a[2] as u32)),
    (libc::SYS_mknod, |_| Access::Refused("it makes a device or pipe")),
    (libc::SYS_mknodat, |_| Access::Refused("it makes a device or pipe")),
    (libc::SYS_chown, |_| Access::Refused("it changes an owner")),
    (libc::SYS_lchown, |_| Access::Refused("it changes an owner")),
    (libc::SYS_fchown, |_| Access::Refused("it changes an owner")),
    (libc::SYS_fchownat, |_| Access::Refused("it changes an owner")),
    (libc::SYS_setxattr, |_| Access::Refused("it sets an extended attribute")),
    (libc::SYS_lsetxattr, |_| Access::Refused("it sets an extended attribute")),
    (libc::SYS_fsetxattr, |_| Access::Refused("it sets an extended attribute")),
    (libc::SYS_mount, |_| Access::Refused("it mounts a file system")),
    (libc::SYS_chroot, |_| Access::Refused("it changes its root")),
    (libc::SYS_unshare, |_| Access::Refused("it makes namespaces")),
    (libc::SYS_setns, |_| Access::Refused("it makes namespaces")),
    (libc::SYS_io_uring_setup, |_| Access::Refused("it uses io_uring")),
    (libc::SYS_inotify_add_watch, |_| Access::Refused("it watches files")),
    (libc::SYS_open_by_handle_at, |_| Access::Refused("it opens files by handle")),
];

/// Watched only for standard input, and for descriptors that the program inherits and whose bytes cannot be compared (a
/// terminal or pipe): reads of them, questions about them, and what makes other descriptors of them. Not watched is who asks
/// whether he could move about in them (`lseek`): perl and m4 do when they start, whatever comes of it.
static ON_INHERITED: &[i64] = &[
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_dup,
    libc::SYS_dup2,
    libc::SYS_dup3,
    libc::SYS_fcntl,
    libc::SYS_fstat,
];

/// The numbers of the calls that are watched with any arguments.
pub(super) fn watched() -> Vec<i64> {
    TABLE.iter().map(|(number, _)| *number).collect()
}

/// The numbers of the calls that are watched if their first argument is an inherited descriptor.
pub(super) fn watched_on_inherited() -> &'static [i64] {
    ON_INHERITED
}

/// What a watched call does.
pub(super) fn decode(data: &seccomp_data) -> Access {
    let number = filter::number(data);
    match TABLE.iter().find(|(row, _)| *row == number) {
        Some((_, decode)) => decode(&data.args),
        None if number == libc::SYS_fcntl && !duplicates(data.args[1] as i32) => Access::Nothing,
        None if number == libc::SYS_fstat => Access::Look(data.args[0] as i32),
        None => Access::Read(data.args[0] as i32),
    }
}

/// Whether a command of `fcntl` makes another descriptor.
fn duplicates(command: i32) -> bool {
    matches!(command, libc::F_DUPFD | libc::F_DUPFD_CLOEXEC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_call_stands_once_and_the_filter_can_jump_over_them_all() {
        let mut all = watched();
        all.extend(watched_on_inherited());
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
        // Jumps in a filter are of eight bits.
        assert!(count < 200);
    }

    #[test]
    fn arguments_are_taken_from_where_the_manual_pages_say() {
        let check = |nr: i64, args: [u64; 6], expected: Access| {
            let data = seccomp_data { nr: nr as i32, arch: 0, instruction_pointer: 0, args };
            assert_eq!(decode(&data), expected);
        };
        let at = |dir, path| At { dir, path };
        check(libc::SYS_unlinkat, [3, 10, 0, 0, 0, 0], Access::Remove(at(3, 10)));
        check(libc::SYS_symlinkat, [1, 3, 10, 0, 0, 0], Access::Make(at(3, 10)));
        check(libc::SYS_renameat, [3, 10, 4, 11, 0, 0], Access::Rename(at(3, 10), at(4, 11), 0));
        let nofollow = libc::AT_SYMLINK_NOFOLLOW as u64;
        check(libc::SYS_newfstatat, [3, 10, 0, nofollow, 0, 0], Access::Stat(at(3, 10), false));
        check(libc::SYS_read, [3, 0, 0, 0, 0, 0], Access::Read(3));
        check(libc::SYS_fcntl, [3, libc::F_DUPFD as u64, 10, 0, 0, 0], Access::Read(3));
        check(libc::SYS_fcntl, [3, libc::F_GETFL as u64, 0, 0, 0, 0], Access::Nothing);
    }
}
