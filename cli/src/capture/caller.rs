//! Who calls a program that is to be captured: its descriptors, and the key under which its command is known.

use std::fs::{self, File};
use std::io::{self, Seek};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use ggr_ir::protocol::launcher::Request;
use ggr_ir::{BlobId, Hash};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::FileType;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

/// How many further descriptors a program may inherit.
const MAX_INHERITED: usize = 16;

/// Hashed in front of every key: another version of what is recorded, another key.
const KEY_VERSION: &[u8] = b"ggr capture key 3";

/// Variables that differ from one run of a build to the next and that no generator writes into what it makes: make's own
/// notes to its children, what a login leaves behind, and credentials. So do ggr's own, `GGR_*`. SPECIFICATION.md lists them.
const VOLATILE: &[&str] = &[
    "AWS_ACCESS_KEY_ID",
    "AWS_CREDENTIAL_EXPIRATION",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "COLUMNS",
    "DBUS_SESSION_BUS_ADDRESS",
    "DISPLAY",
    "LINES",
    "MAKEFLAGS",
    "MAKELEVEL",
    "MAKE_TERMERR",
    "MAKE_TERMOUT",
    "MFLAGS",
    "NINJA_STATUS",
    "OLDPWD",
    "SHLVL",
    "SSH_AUTH_SOCK",
    "SSH_CLIENT",
    "SSH_CONNECTION",
    "SSH_TTY",
    "STY",
    "TERM_SESSION_ID",
    "TMUX",
    "TMUX_PANE",
    "WAYLAND_DISPLAY",
    "WINDOWID",
    "XDG_RUNTIME_DIR",
    "XDG_SESSION_ID",
    "_",
];

/// What a descriptor leads to: device, inode, device number.
pub(super) type Sink = (u64, u64, u64);

/// Standard input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Input {
    /// Nothing can be read from it.
    Null,
    /// A regular file: the bytes in it, and where it stands.
    File(BlobId, u64),
    /// A terminal, pipe or socket: who reads it cannot be captured.
    Watched,
}

/// A caller, understood.
pub(super) struct Caller {
    /// Its descriptors 0 to 2: the same open files.
    pub(super) fds: [OwnedFd; 3],
    /// Standard input.
    pub(super) input: Input,
    /// Where standard input leads.
    pub(super) stdin: Sink,
    /// Where standard output and standard error lead; nothing for the null device.
    pub(super) sinks: [Option<Sink>; 2],
    /// Further descriptors, and where they lead.
    others: Vec<(u32, Sink)>,
    terminals: [bool; 3],
}

impl Caller {
    /// Looks at the descriptors of process `pid`.
    ///
    /// # Errors
    /// Says why a program that is called so is not captured.
    pub(super) fn of(pid: u32) -> Result<Self, &'static str> {
        let gone = |_| "its caller has ended";
        let others = others(pid).map_err(gone)??;
        if !status_field(pid, "SigBlk:").is_ok_and(|bits| bits.trim_start_matches('0').is_empty()) {
            return Err("its caller blocks signals");
        }
        let target = Pid::from_raw(pid as i32).ok_or("its caller has ended")?;
        let process = pidfd_open(target, PidfdFlags::empty()).map_err(|_| "its caller has ended")?;
        let take = |number| pidfd_getfd(&process, number, PidfdGetfdFlags::empty());
        let fds = [0, 1, 2].map(take);
        let [Ok(stdin), Ok(stdout), Ok(stderr)] = fds else {
            return Err("one of descriptors 0 to 2 is closed");
        };
        let fds = [stdin, stdout, stderr];
        for fd in &fds[1..] {
            let flags = rustix::fs::fcntl_getfl(fd).map_err(|_| "its output is closed")?;
            if flags.contains(rustix::fs::OFlags::NONBLOCK) {
                return Err("its output does not block");
            }
        }
        let input = input(&fds[0]).map_err(|_| "its standard input cannot be looked at")?;
        let stdin = rustix::fs::fstat(&fds[0]).map_err(|_| "its standard input cannot be looked at")?;
        let sinks = [sink(&fds[1]), sink(&fds[2])];
        let terminals = [0, 1, 2].map(|n| rustix::termios::isatty(&fds[n]));
        Ok(Self { fds, input, stdin: (stdin.st_dev, stdin.st_ino, stdin.st_rdev), sinks, others, terminals })
    }

    /// The key of its command: for runs that care for their standard input, or for runs that do not. Of the jobs that make
    /// runs side by side one has the input of make, and all others have a pipe that nobody writes to; which one has it is
    /// chance.
    pub(super) fn key(&self, request: &Request, with_input: bool) -> Hash {
        let mut bytes = Vec::new();
        let mut put = |field: &[u8]| {
            bytes.extend_from_slice(&(field.len() as u64).to_le_bytes());
            bytes.extend_from_slice(field);
        };
        put(KEY_VERSION);
        put(&request.program);
        put(&request.dir);
        put(&request.umask.to_le_bytes());
        put(&(request.args.len() as u64).to_le_bytes());
        request.args.iter().for_each(|arg| put(arg));
        request.env.iter().filter(|variable| !is_volatile(variable)).for_each(|variable| put(variable));
        put(format!("{:?} {:?}", self.terminals, with_input.then_some(self.input)).as_bytes());
        put(&[u8::from(self.sinks[0] == self.sinks[1])]);
        Hash::of(&bytes)
    }

    /// The descriptors whose use is told, as text.
    pub(super) fn watched_descriptors(&self) -> String {
        let others = self.others.iter().map(|(number, _)| *number);
        std::iter::once(0).chain(others).map(|number| number.to_string()).collect::<Vec<_>>().join(",")
    }

    /// Its outputs, for whoever watches the run.
    pub(super) fn outputs(&self) -> Outputs {
        let stdin = (self.input == Input::Watched).then_some(self.stdin);
        Outputs {
            sinks: self.sinks,
            others: self.others.iter().map(|(_, file)| *file).chain(stdin).collect(),
            fds: [1, 2].map(|n| self.fds[n].try_clone().ok()),
        }
    }

    /// Where standard input stands now, if that is a regular file.
    pub(super) fn input_position(&self) -> Option<u64> {
        matches!(self.input, Input::File(..)).then(|| position(&self.fds[0])).flatten()
    }

    /// Puts standard input where a run left it.
    pub(super) fn move_input(&self, to: u64) -> io::Result<()> {
        rustix::fs::seek(&self.fds[0], rustix::fs::SeekFrom::Start(to)).map(drop).map_err(Into::into)
    }

    /// Whether an output (0 or 1) is always written to at its end.
    pub(super) fn appends(&self, output: usize) -> bool {
        rustix::fs::fcntl_getfl(&self.fds[output + 1])
            .is_ok_and(|flags| flags.contains(rustix::fs::OFlags::APPEND))
    }

    /// The regular file that an output (0 or 1) is, if somebody can find it.
    pub(super) fn named_file(&self, output: usize) -> Option<PathBuf> {
        let fd = &self.fds[output + 1];
        let found = rustix::fs::fstat(fd).is_ok_and(|stat| stat.st_nlink > 0) && is_regular(fd);
        let number = std::os::fd::AsRawFd::as_raw_fd(fd);
        found.then(|| fs::read_link(format!("/proc/self/fd/{number}")).ok()).flatten()
    }

    /// Where each output stands, if that is a regular file.
    pub(super) fn output_positions(&self) -> [Option<u64>; 2] {
        [1, 2].map(|n| is_regular(&self.fds[n]).then(|| position(&self.fds[n])).flatten())
    }
}

/// The outputs of a run, to tell what a descriptor leads to.
pub(super) struct Outputs {
    sinks: [Option<Sink>; 2],
    others: Vec<Sink>,
    fds: [Option<OwnedFd>; 2],
}

impl Outputs {
    /// Which of the two a file is.
    pub(super) fn position(&self, file: Sink) -> Option<usize> {
        self.sinks.iter().position(|sink| *sink == Some(file))
    }

    /// Whether a file is behind an inherited descriptor, and no output: nobody can say what is read from it or written.
    pub(super) fn is_other(&self, file: Sink) -> bool {
        self.others.contains(&file) && self.position(file).is_none()
    }

    /// Whether a file is behind an inherited descriptor.
    pub(super) fn is_inherited(&self, file: Sink) -> bool {
        self.others.contains(&file)
    }

    /// Whether both lead to the same file.
    pub(super) fn are_one(&self) -> bool {
        self.sinks[0].is_some() && self.sinks[0] == self.sinks[1]
    }

    /// Whether a write of this length to it is sure to be carried out as a whole: to a regular file, or to a pipe that has
    /// room for it (`PIPE_BUF`, `pipe(7)`).
    pub(super) fn is_steady(&self, output: usize, len: u64) -> bool {
        let Some(fd) = &self.fds[output] else { return false };
        if is_regular(fd) {
            return true;
        }
        let mut fds = [PollFd::new(fd, PollFlags::OUT)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        len <= libc::PIPE_BUF as u64 && poll(&mut fds, Some(&now)).is_ok_and(|ready| ready == 1)
    }
}

fn is_volatile(variable: &[u8]) -> bool {
    let name = variable.split(|&b| b == b'=').next().unwrap_or_default();
    name.starts_with(b"GGR_") || VOLATILE.iter().any(|volatile| volatile.as_bytes() == name)
}

/// The descriptors above 2 that would reach the program. Those that ggr itself was started with reach it anyway, through the
/// helper; use of them is told.
fn others(pid: u32) -> io::Result<Result<Vec<(u32, Sink)>, &'static str>> {
    let mut others = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        let entry = entry?;
        let number = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()).unwrap_or(0);
        if number <= 2 {
            continue;
        }
        let info = fs::read_to_string(entry.path())?;
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
        let flags = flags.and_then(|text| i32::from_str_radix(text.trim(), 8).ok()).unwrap_or(0);
        if flags & libc::O_CLOEXEC != 0 {
            continue;
        }
        let found = rustix::fs::stat(format!("/proc/{pid}/fd/{number}"))?;
        let ours = rustix::fs::stat(format!("/proc/self/fd/{number}"));
        let of_ggr = ours.is_ok_and(|ours| (ours.st_dev, ours.st_ino) == (found.st_dev, found.st_ino));
        if is_null(&found) && of_ggr {
            continue;
        }
        if !of_ggr || others.len() >= MAX_INHERITED {
            return Ok(Err("it inherits further open files"));
        }
        others.push((number, (found.st_dev, found.st_ino, found.st_rdev)));
    }
    Ok(Ok(others))
}

/// A field of `/proc/PID/status`.
fn status_field(pid: u32, name: &str) -> io::Result<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let field = status.lines().find_map(|line| line.strip_prefix(name));
    field.map(|text| text.trim().to_owned()).ok_or(io::ErrorKind::InvalidData.into())
}

fn is_regular(fd: &OwnedFd) -> bool {
    let stat = rustix::fs::fstat(fd);
    stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile)
}

fn position(fd: &OwnedFd) -> Option<u64> {
    rustix::fs::tell(fd).ok()
}

/// The null device: character device 1, 3 (`Documentation/admin-guide/devices.txt`).
fn is_null(stat: &rustix::fs::Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
        && (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev)) == (1, 3)
}

fn sink(fd: &OwnedFd) -> Option<Sink> {
    let stat = rustix::fs::fstat(fd).ok()?;
    (!is_null(&stat)).then_some((stat.st_dev, stat.st_ino, stat.st_rdev))
}

fn input(fd: &OwnedFd) -> io::Result<Input> {
    let stat = rustix::fs::fstat(fd)?;
    if is_null(&stat) {
        return Ok(Input::Null);
    }
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Ok(Input::Watched);
    }
    let at = rustix::fs::tell(fd)?;
    // Opened anew: reading through the caller's own descriptor would move it.
    let number = std::os::fd::AsRawFd::as_raw_fd(&fd.as_fd());
    let mut file = File::open(format!("/proc/self/fd/{number}"))?;
    let same = file.metadata()?;
    if (same.dev(), same.ino()) != (stat.st_dev, stat.st_ino) {
        return Ok(Input::Watched);
    }
    file.rewind()?;
    Ok(Input::File(BlobId::of_reader(file)?, at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(env: &[&str]) -> Request {
        Request {
            program: b"/usr/bin/m4".to_vec(),
            args: vec![b"m4".to_vec(), b"a.m4".to_vec()],
            env: env.iter().map(|variable| variable.as_bytes().to_vec()).collect(),
            dir: b"/w".to_vec(),
            umask: 0o22,
        }
    }

    fn caller() -> Caller {
        let null = || OwnedFd::from(File::options().read(true).write(true).open("/dev/null").unwrap());
        Caller {
            fds: [null(), null(), null()],
            input: Input::Null,
            stdin: (0, 0, 0),
            sinks: [None; 2],
            others: Vec::new(),
            terminals: [false; 3],
        }
    }

    #[test]
    fn volatile_variables_do_not_count_and_all_else_does() {
        let key = |env: &[&str]| caller().key(&request(env), true);
        assert_eq!(key(&["A=1", "MAKEFLAGS=-j2", "_=/usr/bin/m4"]), key(&["A=1", "MAKEFLAGS= -j8"]));
        assert_eq!(key(&["A=1", "AWS_SESSION_TOKEN=x", "GGR_STORE_MODE=read-only"]), key(&["A=1"]));
        assert_ne!(key(&["A=1"]), key(&["A=2"]));
        let mut other = caller();
        other.input = Input::File(BlobId::of(b"x"), 0);
        assert_ne!(other.key(&request(&[]), true), key(&[]));
        assert_eq!(other.key(&request(&[]), false), caller().key(&request(&[]), false));
        assert_ne!(other.key(&request(&[]), false), other.key(&request(&[]), true));
        let mut argument = request(&[]);
        argument.args = vec![b"m4".to_vec(), b"a".to_vec(), b".m4".to_vec()];
        assert_ne!(caller().key(&argument, true), key(&[]));
    }

    #[test]
    fn a_file_on_standard_input_counts_with_its_bytes_and_place() {
        let mut file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut file, b"hello").unwrap();
        assert_eq!(input(&file.try_clone().unwrap().into()).unwrap(), Input::File(BlobId::of(b"hello"), 5));
        assert_eq!(position(&file.into()), Some(5));
        let (reader, _writer) = io::pipe().unwrap();
        assert_eq!(input(&reader.into()).unwrap(), Input::Watched);
        assert_eq!(input(&File::open("/dev/null").unwrap().into()).unwrap(), Input::Null);
    }
}
