//! The coordinator's end of a worker, blocking.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::Duration;

use ggr_ir::protocol::worker::{self as wire, Hello, Request, Response};
use ggr_ir::{Attempt, Job, Kind, Limits, ReadyThunk};

/// A worker process and the socket to it. Dropping it hangs up and waits for the worker's end.
pub struct Client {
    stream: Option<UnixStream>,
    child: Child,
    /// What the worker said of itself.
    pub hello: Hello,
}

impl Client {
    /// Starts a worker with a socket as its standard input.
    pub fn start(worker: &mut Command) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        let child = worker.stdin(OwnedFd::from(theirs)).spawn()?;
        // The command keeps its end open otherwise, and the worker's death would not be seen.
        worker.stdin(std::process::Stdio::null());
        ours.set_read_timeout(Some(Duration::from_secs(60)))?;
        let hello = wire::read(&ours)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(Self { stream: Some(ours), child, hello })
    }

    fn stream(&self) -> &UnixStream {
        self.stream.as_ref().expect("taken only when dropped")
    }

    /// The worker's process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks for a run.
    pub fn run(&mut self, seq: u64, thunk: ReadyThunk, kind: Kind, limits: Limits) -> io::Result<()> {
        let job = Job { id: thunk.id(), thunk: Arc::new(thunk), limits, kind, label: format!("job {seq}") };
        self.send(seq, job)
    }

    /// Asks for a run of a job as it is.
    pub fn send(&mut self, seq: u64, job: Job) -> io::Result<()> {
        wire::write(self.stream(), &Request::Run { seq, job })
    }

    /// Asks for a stop.
    pub fn cancel(&mut self, seq: u64) -> io::Result<()> {
        wire::write(self.stream(), &Request::Cancel { seq })
    }

    /// The next answer, within a minute.
    pub fn answer(&mut self) -> io::Result<(u64, Attempt)> {
        let response: Response = wire::read(self.stream())?.ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok((response.seq, response.attempt))
    }

    /// Kills the worker as an operator would, and waits for it.
    pub fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.stream = None;
        let _ = self.child.wait();
    }
}
