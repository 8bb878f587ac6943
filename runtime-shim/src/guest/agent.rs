//! The agent: takes blobs and jobs from the host, gives the jobs to a worker on a socket, sends outputs and answers back.
//!
//! One thread reads the host, one reads the worker. The host's blobs are stored as they come (the host is who owns this
//! machine: nothing would be gained by hashing them again); the host hashes what it gets.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ggr_backends::store::FsStore;
use ggr_ir::protocol::guest::{self as wire, FromGuest, PIECE, ToGuest, VERSION};
use ggr_ir::protocol::worker::{self, Hello, Request, Response};
use ggr_ir::repo::TempFile;
use ggr_ir::{BlobId, Outcome};
use rustix::time::{ClockId, Timespec, clock_settime};

/// Serves the host until it hangs up or the worker ends. `root` is a store's root, which the worker at the other end of
/// `worker` shares.
///
/// # Errors
/// Why it cannot go on: the host has been told, if it listens.
pub fn serve(
    mut from_host: impl Read + Send,
    to_host: impl Write + Send,
    root: &Path,
    worker: UnixStream,
) -> io::Result<()> {
    let agent =
        Agent { root, store: FsStore::new(root), host: Mutex::new(to_host), shared: Mutex::default() };
    let hello: Hello = worker::read(&worker)?.ok_or_else(|| io::Error::other("the worker did not start"))?;
    agent.send(&FromGuest::Hello { version: VERSION, isolation: hello.isolation })?;
    let answers = worker.try_clone()?;
    std::thread::scope(|scope| {
        let forward = scope.spawn(|| {
            let done = agent.forward_answers(&answers);
            if let Err(error) = &done {
                let _ = agent.send(&FromGuest::Broken(error.to_string()));
            }
            done
        });
        let done = agent.take(&mut from_host, &worker);
        let _ = worker.shutdown(std::net::Shutdown::Both);
        done.and(forward.join().unwrap_or_else(|_| Err(io::Error::other("the agent panicked"))))
    })
}

struct Agent<'a, W> {
    root: &'a Path,
    store: FsStore,
    host: Mutex<W>,
    /// What both sides have.
    shared: Mutex<HashSet<BlobId>>,
}

impl<W: Write> Agent<'_, W> {
    fn send(&self, frame: &FromGuest) -> io::Result<()> {
        let mut host = self.host.lock().unwrap_or_else(PoisonError::into_inner);
        host.write_all(&worker::to_frame(frame))
    }

    /// Marks a blob as one that the host has. False if it was marked before.
    fn share(&self, id: BlobId) -> bool {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).insert(id)
    }

    fn take(&self, from: &mut impl Read, mut worker: &UnixStream) -> io::Result<()> {
        let mut incoming = None;
        while let Some(frame) = wire::read(&mut *from)? {
            match frame {
                ToGuest::Wake { now_us, seed } => {
                    wake(now_us, seed);
                    self.send(&FromGuest::Pong)?;
                }
                ToGuest::Ping => self.send(&FromGuest::Pong)?,
                ToGuest::Blob { id, bytes, last } => self.add(&mut incoming, id, &bytes, last)?,
                ToGuest::Run { seq, job } => {
                    worker.write_all(&worker::to_frame(&Request::Run { seq, job }))?;
                }
                ToGuest::Cancel { seq } => worker.write_all(&worker::to_frame(&Request::Cancel { seq }))?,
            }
        }
        Ok(())
    }

    fn add(&self, incoming: &mut Option<TempFile>, id: BlobId, bytes: &[u8], last: bool) -> io::Result<()> {
        let file = match incoming.take() {
            Some(file) => file,
            None => TempFile::create(&self.root.join("tmp"), 0o444)?,
        };
        file.file().write_all(bytes)?;
        if last {
            // Gone from its temporary name afterwards, which dropping the file takes well.
            self.store.adopt(file.path(), id).map_err(io::Error::other)?;
            self.share(id);
        } else {
            *incoming = Some(file);
        }
        Ok(())
    }

    fn forward_answers(&self, worker: &UnixStream) -> io::Result<()> {
        while let Some(response) = worker::read::<Response>(worker)? {
            if let Outcome::Reduced(reduction) = &response.attempt.outcome {
                let outputs = reduction.outputs.values().map(|entry| entry.blob);
                for id in outputs.chain([reduction.stdout, reduction.stderr]) {
                    if self.share(id) {
                        self.send_blob(id)?;
                    }
                }
            }
            self.send(&FromGuest::Done(response))?;
        }
        Ok(())
    }

    fn send_blob(&self, id: BlobId) -> io::Result<()> {
        let mut file = self.store.open(id).map_err(io::Error::other)?;
        let mut left = id.size();
        loop {
            let size = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
            let mut bytes = vec![0; size];
            file.read_exact(&mut bytes)?;
            left -= size as u64;
            self.send(&FromGuest::Blob { id, bytes, last: left == 0 })?;
            if left == 0 {
                return Ok(());
            }
        }
    }
}

/// Sets the clock and stirs the random pool. Neither can fail in a guest; where the agent is no PID 1 (its tests) neither is
/// allowed, nor needed.
fn wake(now_us: u64, seed: [u8; 32]) {
    let now = Duration::from_micros(now_us);
    let time = Timespec {
        tv_sec: i64::try_from(now.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: now.subsec_nanos().into(),
    };
    if std::process::id() == 1 {
        let _ = clock_settime(ClockId::Realtime, time);
        let _ = File::options().write(true).open("/dev/urandom").and_then(|mut pool| pool.write_all(&seed));
    }
}
