//! The worker process, and the thread that owns it.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use ggr_ir::protocol::worker::{self, Hello, Response, VERSION};
use rustix::fs::MemfdFlags;

use super::cgroup::{Bounds, Cgroup};
use super::shared::{Connection, Shared};
use crate::sys;

/// A worker that dies so often without having answered anything in between is not started again.
const DEATHS: u32 = 5;

/// A worker says hello within this: it only parses its arguments and tries what sandboxes it can build.
const HELLO: Duration = Duration::from_secs(20);

/// A worker that was told to end has this long for it, as it has sandboxes to take down.
const GRACE: Duration = Duration::from_secs(3);

/// How much of what the worker wrote to its standard error goes into messages, in bytes.
const TAIL: u64 = 4096;

/// When it has written more than this, it is thrown away, in bytes.
const MOST_STDERR: u64 = 1 << 20;

/// Bytes read at a time: an answer is a kilobyte or so.
const READ: usize = 64 * 1024;

/// Runs workers one after the other until the pool closes. Stays on one thread, as the kernel sends the death signal
/// when the *thread* that forked ends (prctl(2), `PR_SET_PDEATHSIG`).
pub(super) fn supervise(shared: &Shared, command: &[OsString], user: Option<u32>, bounds: Option<Bounds>) {
    let mut deaths = 0;
    if !shared.wait_until_wanted() {
        return shared.give_up("the local pool has been closed");
    }
    loop {
        let (why, answered) = match Worker::start(command, user, bounds) {
            Ok(worker) => worker.serve(shared),
            Err(e) => (format!("`{}` could not be started: {e}", command[0].to_string_lossy()), false),
        };
        shared.lost(&why);
        if shared.closing() {
            return shared.give_up("the local pool has been closed");
        }
        deaths = if answered { 1 } else { deaths + 1 };
        if deaths >= DEATHS {
            return shared.give_up(&format!("the worker died {deaths} times in a row; the last time: {why}"));
        }
        // The first restart is at once; the later ones leave a machine in trouble some air.
        std::thread::sleep(Duration::from_millis(50) * (deaths - 1));
    }
}

/// A worker process.
struct Worker {
    child: Child,
    socket: UnixStream,
    stderr: File,
    /// Removed after the process, which `serve` waits for.
    _cgroup: Option<Cgroup>,
}

impl Worker {
    fn start(command: &[OsString], user: Option<u32>, bounds: Option<Bounds>) -> io::Result<Self> {
        let (socket, theirs) = UnixStream::pair()?;
        let stderr = File::from(rustix::fs::memfd_create("ggr-worker-stderr", MemfdFlags::CLOEXEC)?);
        rustix::fs::fcntl_setfl(&stderr, rustix::fs::OFlags::APPEND)?;
        let mut process = Command::new(&command[0]);
        process
            .args(&command[1..])
            // Nothing of ours reaches a thunk, not even by way of the worker.
            .env_clear()
            .current_dir("/")
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .stderr(stderr.try_clone()?)
            // A Ctrl-C at the terminal is for us to handle.
            .process_group(0);
        if let Some(id) = user {
            // All other groups go too (`Command::uid` as root).
            process.uid(id).gid(id);
        }
        sys::die_with_parent(&mut process);
        let cgroup = bounds.map(|bounds| Cgroup::make(bounds, user));
        let child = process.spawn()?;
        if let Some(cgroup) = &cgroup {
            cgroup.add(child.id());
        }
        Ok(Self { child, socket, stderr, _cgroup: cgroup })
    }

    /// Serves until the worker is gone. Says why it is, and whether it ever answered a job.
    fn serve(mut self, shared: &Shared) -> (String, bool) {
        let mut answered = false;
        let result = self.talk(shared, &mut answered);
        // Also takes a writer out of a full socket, and is the order to end for a worker that still lives.
        let _ = self.socket.shutdown(Shutdown::Both);
        shared.disconnect();
        let status = self.end();
        let mut why = match result {
            Ok(()) => status,
            Err(e) => format!("{e} ({status})"),
        };
        let tail = self.stderr_tail();
        if !tail.is_empty() {
            why = format!("{why}; it wrote: {tail}");
        }
        (why, answered)
    }

    fn talk(&mut self, shared: &Shared, answered: &mut bool) -> io::Result<()> {
        if !shared.starting(self.socket.try_clone()?) {
            return Ok(());
        }
        let mut reader = BufReader::with_capacity(READ, self.socket.try_clone()?);
        self.socket.set_read_timeout(Some(HELLO))?;
        let Some(hello) = worker::read::<Hello>(&mut reader)? else { return Ok(()) };
        if hello.version != VERSION {
            let text = format!("it speaks version {} of the protocol, and we speak {VERSION}", hello.version);
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        self.socket.set_read_timeout(None)?;
        let (frames, outbox) = mpsc::channel();
        let writing = self.socket.try_clone()?;
        std::thread::scope(|scope| {
            scope.spawn(move || write_frames(writing, &outbox));
            let result = match shared.open(Connection { frames }, hello) {
                true => self.read_answers(&mut reader, shared, answered),
                false => Ok(()),
            };
            let _ = self.socket.shutdown(Shutdown::Both);
            shared.disconnect();
            result
        })
    }

    fn read_answers(&self, reader: &mut impl Read, shared: &Shared, answered: &mut bool) -> io::Result<()> {
        let mut count = 0u64;
        while let Some(Response { seq, attempt }) = worker::read(&mut *reader)? {
            if !shared.answer(seq, attempt) {
                let text = format!("it answered number {seq}, which nobody asked");
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
            *answered = true;
            count += 1;
            if count.is_multiple_of(1024) && self.stderr.metadata()?.len() > MOST_STDERR {
                self.stderr.set_len(0)?;
            }
        }
        Ok(())
    }

    /// Waits for the process, and kills it if that takes too long.
    fn end(&mut self) -> String {
        let deadline = Instant::now() + GRACE;
        while Instant::now() < deadline {
            match self.child.try_wait() {
                Ok(Some(status)) => return status.to_string(),
                Ok(None) => std::thread::sleep(Duration::from_millis(2)),
                Err(e) => return e.to_string(),
            }
        }
        let _ = self.child.kill();
        self.child.wait().map_or_else(|e| e.to_string(), |status| format!("killed: {status}"))
    }

    fn stderr_tail(&mut self) -> String {
        let mut bytes = Vec::new();
        let mut read = || {
            let length = self.stderr.metadata()?.len();
            self.stderr.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
            (&self.stderr).take(TAIL).read_to_end(&mut bytes)
        };
        match read() {
            Ok(_) => String::from_utf8_lossy(&bytes).trim().to_owned(),
            Err(_) => String::new(),
        }
    }
}

/// Writes frames until there are no more or the socket is shut; what has queued up goes out in one write.
fn write_frames(mut socket: UnixStream, outbox: &mpsc::Receiver<Vec<u8>>) {
    while let Ok(mut bytes) = outbox.recv() {
        outbox.try_iter().take(64).for_each(|frame| bytes.extend_from_slice(&frame));
        if socket.write_all(&bytes).is_err() {
            return;
        }
    }
}
