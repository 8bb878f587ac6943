//! What is done about each trapped call: one table.

use crate::copy;
use crate::exec;
use crate::paths::{self, Buffer, PATH_MAX};
use crate::sys::{self, AT_FDCWD, Frame, call, call4, err, nr};

/// A trapped call.
pub struct Request<'a> {
    number: u32,
    /// Its arguments.
    pub args: [u64; 6],
    row: &'static Row,
    /// The interrupted program.
    pub frame: &'a mut Frame,
}

/// A row of the table.
pub struct Row {
    /// The call.
    pub number: u32,
    /// Its paths: the argument with the directory's descriptor (if it has one), and the one with the path.
    paths: &'static [(Option<usize>, usize)],
    answer: fn(Request<'_>) -> i64,
}

const fn row(number: u32, paths: &'static [(Option<usize>, usize)], answer: fn(Request<'_>) -> i64) -> Row {
    Row { number, paths, answer }
}

const FIRST: &[(Option<usize>, usize)] = &[(None, 0)];
const BOTH: &[(Option<usize>, usize)] = &[(None, 0), (None, 1)];
const AT: &[(Option<usize>, usize)] = &[(Some(0), 1)];
const SECOND: &[(Option<usize>, usize)] = &[(None, 1)];
const AT_BOTH: &[(Option<usize>, usize)] = &[(Some(0), 1), (Some(2), 3)];

/// Every call that names a file, and those that could switch the handler off.
pub static TABLE: &[Row] = &[
    row(nr::OPEN, FIRST, open),
    row(nr::STAT, FIRST, plain),
    row(nr::LSTAT, FIRST, plain),
    row(nr::RT_SIGACTION, &[], signal_action),
    row(nr::RT_SIGPROCMASK, &[], signal_mask),
    row(nr::ACCESS, FIRST, access),
    row(nr::EXECVE, FIRST, execute),
    row(nr::TRUNCATE, FIRST, change),
    row(nr::GETCWD, &[], current_directory),
    row(nr::CHDIR, FIRST, plain),
    row(nr::RENAME, BOTH, plain),
    row(nr::MKDIR, FIRST, plain),
    row(nr::RMDIR, FIRST, plain),
    row(nr::CREAT, FIRST, change_if_there),
    row(nr::LINK, BOTH, plain),
    row(nr::UNLINK, FIRST, plain),
    row(nr::SYMLINK, SECOND, symlink),
    row(nr::READLINK, FIRST, read_link),
    row(nr::CHMOD, FIRST, change),
    row(nr::FCHMOD, &[], change_open),
    row(nr::CHOWN, FIRST, change),
    row(nr::LCHOWN, FIRST, change),
    row(nr::UTIME, FIRST, change),
    row(nr::MKNOD, FIRST, plain),
    row(nr::STATFS, FIRST, plain),
    row(nr::CHROOT, FIRST, forbidden),
    row(nr::SETXATTR, FIRST, change),
    row(nr::LSETXATTR, FIRST, change),
    row(nr::GETXATTR, FIRST, plain),
    row(nr::LGETXATTR, FIRST, plain),
    row(nr::LISTXATTR, FIRST, plain),
    row(nr::LLISTXATTR, FIRST, plain),
    row(nr::REMOVEXATTR, FIRST, change),
    row(nr::LREMOVEXATTR, FIRST, change),
    row(nr::UTIMES, FIRST, change),
    row(nr::INOTIFY_ADD_WATCH, SECOND, plain),
    row(nr::OPENAT, AT, open),
    row(nr::MKDIRAT, AT, plain),
    row(nr::MKNODAT, AT, plain),
    row(nr::FCHOWNAT, AT, change),
    row(nr::FUTIMESAT, AT, change),
    row(nr::NEWFSTATAT, AT, plain),
    row(nr::UNLINKAT, AT, plain),
    row(nr::RENAMEAT, AT_BOTH, plain),
    row(nr::LINKAT, AT_BOTH, plain),
    row(nr::SYMLINKAT, &[(Some(1), 2)], symlink),
    row(nr::READLINKAT, AT, read_link),
    row(nr::FCHMODAT, AT, change),
    row(nr::FACCESSAT, AT, access),
    row(nr::UTIMENSAT, AT, change),
    row(nr::NAME_TO_HANDLE_AT, AT, forbidden),
    row(nr::RENAMEAT2, AT_BOTH, plain),
    row(nr::EXECVEAT, AT, execute),
    row(nr::STATX, AT, plain),
    row(nr::OPENAT2, AT, open),
    row(nr::FACCESSAT2, AT, access),
    row(nr::FCHMODAT2, AT, change),
];

/// Answers a call: a result, or minus an error number.
pub fn answer(number: u32, args: [u64; 6], frame: &mut Frame) -> i64 {
    match TABLE.iter().find(|row| row.number == number) {
        Some(row) => (row.answer)(Request { number, args, row, frame }),
        None => err::PERM,
    }
}

impl Request<'_> {
    /// The call with its paths replaced.
    #[inline(never)]
    fn issue(&self) -> i64 {
        let mut args = self.args;
        let mut buffers = [Buffer::new(), Buffer::new()];
        for (&(dir, path), buffer) in self.row.paths.iter().zip(&mut buffers) {
            let fd = dir.map_or(AT_FDCWD, |index| args[index]);
            match locate(fd, args[path], buffer) {
                Ok(address) => args[path] = address,
                Err(error) => return error,
            }
        }
        call(self.number, args)
    }

    /// Where the call's first path stands: a directory's descriptor and an address.
    fn place(&self, buffer: &mut Buffer) -> Result<(u64, u64), i64> {
        let (dir, path) = self.row.paths[0];
        let fd = dir.map_or(AT_FDCWD, |index| self.args[index]);
        Ok((fd, locate(fd, self.args[path], buffer)?))
    }
}

/// Where a path of the program stands: the address of another text, or the same one.
#[inline(never)]
pub fn locate(fd: u64, address: u64, buffer: &mut Buffer) -> Result<u64, i64> {
    // Nothing is mapped there: the kernel answers as it would have.
    if address < 4096 {
        return Ok(address);
    }
    let path = sys::text(address, PATH_MAX).ok_or(err::NAMETOOLONG)?;
    let moved = match path.first() {
        None => false,
        Some(b'/') => locate_absolute(path, buffer).map_err(|_| err::NAMETOOLONG)?,
        Some(_) => locate_climbing(fd, path, buffer)?,
    };
    Ok(if moved { buffer.address() } else { address })
}

fn locate_absolute(path: &[u8], buffer: &mut Buffer) -> Result<bool, paths::TooLong> {
    let config = sys::config();
    if paths::is_host(path) && !has_parent(path) {
        let pid = sys::call4(nr::GETPID, 0, 0, 0, 0) as u64;
        if paths::is_own_program(path, pid) {
            paths::place(config.root, config.program, buffer)?;
        } else if let Some(rest) = paths::below_own_root(path, pid) {
            paths::place(config.root, rest, buffer)?;
        } else {
            return Ok(false);
        }
        return Ok(true);
    }
    paths::place(config.root, path, buffer).map(|()| true)
}

/// A relative path stays as it is, unless its `..` would lead out of the root.
#[inline(never)]
fn locate_climbing(fd: u64, path: &[u8], buffer: &mut Buffer) -> Result<bool, i64> {
    let climbs = paths::climbs(path);
    if climbs == 0 {
        return Ok(false);
    }
    let root = sys::config().root;
    let mut start = Buffer::new();
    directory(fd, &mut start)?;
    let shown = paths::shown(root, start.text());
    if !paths::below(start.text(), root) || climbs <= paths::depth(shown) {
        return Ok(false);
    }
    let mut whole = Buffer::new();
    whole
        .push(shown)
        .and_then(|()| whole.push(b"/"))
        .and_then(|()| whole.push(path))
        .and_then(|()| paths::place(root, whole.text(), buffer))
        .map(|()| true)
        .map_err(|_| err::NAMETOOLONG)
}

fn has_parent(path: &[u8]) -> bool {
    path.split(|&byte| byte == b'/').any(|part| part == b"..")
}

/// The machine's path of a directory.
fn directory(fd: u64, to: &mut Buffer) -> Result<(), i64> {
    let length = if fd as i32 == AT_FDCWD as i32 {
        call4(nr::GETCWD, to.room(), PATH_MAX as u64, 0, 0) - 1
    } else {
        return descriptor(fd, to);
    };
    if length < 0 {
        return Err(length + 1);
    }
    to.set_length(length as usize);
    Ok(())
}

/// The machine's path of an open file.
#[inline(never)]
pub fn descriptor(fd: u64, to: &mut Buffer) -> Result<(), i64> {
    let mut link = Buffer::new();
    let mut digits = [0u8; 20];
    let name = decimal(fd, &mut digits);
    link.push(b"/proc/self/fd/").and_then(|()| link.push(name)).map_err(|_| err::NAMETOOLONG)?;
    let length = call4(nr::READLINK, link.address(), to.room(), PATH_MAX as u64 - 1, 0);
    if length < 0 {
        return Err(length);
    }
    to.set_length(length as usize);
    Ok(())
}

fn decimal(mut number: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &digits[at..];
        }
    }
}

fn plain(request: Request<'_>) -> i64 {
    request.issue()
}

fn forbidden(_: Request<'_>) -> i64 {
    err::PERM
}

const O_ACCMODE: u64 = 3;
const O_TRUNC: u64 = 0o1000;
const O_PATH: u64 = 0o10_000_000;

fn open(request: Request<'_>) -> i64 {
    let flags = match request.number {
        nr::OPEN => request.args[1],
        nr::OPENAT => request.args[2],
        // `struct open_how` begins with them.
        _ => sys::word(request.args[2]),
    };
    let writes = flags & (O_ACCMODE | O_TRUNC) != 0 && flags & O_PATH == 0;
    if writes { change_if_there(request) } else { request.issue() }
}

/// A call that changes a file: an input gets a copy of its own first.
fn change(request: Request<'_>) -> i64 {
    // Without a path these calls are about the descriptor itself.
    if request.args[request.row.paths[0].1] == 0 {
        return change_open(request);
    }
    change_if_there(request)
}

fn change_if_there(request: Request<'_>) -> i64 {
    let mut buffer = Buffer::new();
    match request.place(&mut buffer) {
        Ok((fd, address)) => copy::own(fd, address),
        Err(error) => return error,
    }
    request.issue()
}

/// A change by descriptor: nothing of ours may change, and a file of its own is not ours.
fn change_open(request: Request<'_>) -> i64 {
    if copy::is_shared(request.args[0]) { err::PERM } else { call(request.number, request.args) }
}

const W_OK: u64 = 2;

/// Whether a file may be written: an input may, since it gets a copy.
fn access(mut request: Request<'_>) -> i64 {
    let mode = if request.number == nr::ACCESS { 1 } else { 2 };
    let result = request.issue();
    if result != err::ACCES || request.args[mode] & W_OK == 0 {
        return result;
    }
    let mut buffer = Buffer::new();
    let Ok((fd, address)) = request.place(&mut buffer) else { return result };
    if !copy::is_shared_at(fd, address) {
        return result;
    }
    request.args[mode] &= !W_OK;
    request.issue()
}

fn current_directory(request: Request<'_>) -> i64 {
    let mut now = Buffer::new();
    if let Err(error) = directory(AT_FDCWD, &mut now) {
        return error;
    }
    let root = sys::config().root;
    if !paths::below(now.text(), root) {
        return err::NOENT;
    }
    let shown = paths::shown(root, now.text());
    let [to, size, ..] = request.args;
    if (size as usize) < shown.len() + 1 {
        return err::RANGE;
    }
    sys::put(to, shown);
    sys::put(to + shown.len() as u64, &[0]);
    shown.len() as i64 + 1
}

fn symlink(mut request: Request<'_>) -> i64 {
    let mut target = Buffer::new();
    let path = match request.args[0] {
        0..4096 => b"".as_slice(),
        address => match sys::text(address, PATH_MAX) {
            Some(path) => path,
            None => return err::NAMETOOLONG,
        },
    };
    // A relative target is relative to the link, and stays.
    if path.starts_with(b"/") {
        match locate(AT_FDCWD, request.args[0], &mut target) {
            Ok(address) => request.args[0] = address,
            Err(error) => return error,
        }
    }
    request.issue()
}

fn read_link(request: Request<'_>) -> i64 {
    let at = usize::from(request.number == nr::READLINKAT);
    let [to, size] = [request.args[at + 1], request.args[at + 2]];
    if size as i32 <= 0 {
        return err::INVAL;
    }
    let config = sys::config();
    let path = request.args[at];
    let mut target = Buffer::new();
    let own = path >= 4096
        && sys::text(path, PATH_MAX)
            .is_some_and(|path| paths::is_own_program(path, call4(nr::GETPID, 0, 0, 0, 0) as u64));
    let shown = if own {
        config.program
    } else {
        let mut inner = Request { frame: request.frame, ..request };
        inner.args[at + 1] = target.room();
        inner.args[at + 2] = PATH_MAX as u64 - 1;
        let length = inner.issue();
        if length < 0 {
            return length;
        }
        target.set_length(length as usize);
        paths::shown(config.root, target.text())
    };
    let length = shown.len().min(size as usize);
    sys::put(to, &shown[..length]);
    length as i64
}

fn execute(request: Request<'_>) -> i64 {
    let [a, b, c, d, flags, _] = request.args;
    match request.number {
        nr::EXECVE => exec::execute(AT_FDCWD, a, b, c, 0),
        _ => exec::execute(a, b, c, d, flags),
    }
}

/// `SIGSYS` is ours: a program's handler for it is taken and forgotten, and no handler blocks it.
fn signal_action(request: Request<'_>) -> i64 {
    let [signal, action, old, size, ..] = request.args;
    if signal == sys::SIGSYS {
        if old >= 4096 {
            sys::put(old, &[0; 32]);
        }
        return 0;
    }
    if action < 4096 {
        return call(request.number, request.args);
    }
    let mut words: [u64; 4] = core::array::from_fn(|index| sys::word(action + 8 * index as u64));
    words[3] &= !(1 << (sys::SIGSYS - 1));
    call4(request.number, signal, words.as_mut_ptr() as u64, old, size)
}

const SIG_BLOCK: u64 = 0;
const SIG_UNBLOCK: u64 = 1;
const SIG_SETMASK: u64 = 2;

/// The mask is set by the return from our handler, so it is changed there.
fn signal_mask(request: Request<'_>) -> i64 {
    let [how, set, old, size, ..] = request.args;
    if size != 8 {
        return err::INVAL;
    }
    let mask = request.frame.mask();
    let changed = match (set, how) {
        (0, _) => mask,
        (set, SIG_BLOCK) => mask | sys::word(set),
        (set, SIG_UNBLOCK) => mask & !sys::word(set),
        (set, SIG_SETMASK) => sys::word(set),
        _ => return err::INVAL,
    };
    if old != 0 {
        sys::set_word(old, mask);
    }
    request.frame.set_mask(changed & !(1 << (sys::SIGSYS - 1)));
    0
}
