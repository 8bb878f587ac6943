//! The client's side of GNU make's jobserver, for when ggr is called by a recipe of `make -jN`.
//!
//! The rules are those of the manual's section "Sharing Job Slots with GNU make": the caller of ggr holds one implicit
//! slot, which the first local job uses; each further one reads a byte from make's pipe and writes the same byte back. If
//! the pipe is not there (a recipe without `+`), or breaks, ggr says so once and goes on without.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, OnceLock};

use futures_util::future::{Either, select};
use rustix::fs::{FileType, OFlags, fstat};
use tokio::net::unix::pipe;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A jobserver that `MAKEFLAGS` names cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JobserverError {
    /// The descriptors or the pipe are not there: make closes them for recipes that it does not take for a sub-make.
    #[error(
        "make's jobserver `{auth}` cannot be opened; put `+` in front of the recipe's line to share its slots"
    )]
    Closed {
        /// The value of `--jobserver-auth`.
        auth: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The value has a form that is not known.
    #[error("make's jobserver `{auth}` has a form that is not known")]
    Unknown {
        /// The value of `--jobserver-auth`.
        auth: String,
    },
}

/// Where tokens are read and written. Opened anew through `/proc` or by path, so that making it non-blocking leaves make's
/// own descriptors as they are.
#[derive(Debug)]
struct Pipe {
    read: pipe::Receiver,
    write: File,
}

/// A make's pool of job slots.
#[derive(Debug, Clone)]
pub struct Jobserver {
    pipe: Arc<Pipe>,
    /// The slot that came with the call of ggr itself.
    implicit: Arc<Semaphore>,
    broken: Arc<OnceLock<String>>,
}

/// The right to run one local job; given back when dropped.
#[derive(Debug)]
pub struct Token(#[allow(dead_code, reason = "held for its drop; tests look into it")] Held);

#[derive(Debug)]
enum Held {
    Implicit(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit),
    Byte(#[expect(dead_code, reason = "held for its drop")] Byte),
    /// The jobserver broke: jobs run without.
    Free,
}

/// A byte that belongs to make.
#[derive(Debug)]
struct Byte {
    pipe: Arc<Pipe>,
    byte: u8,
}

impl Drop for Byte {
    fn drop(&mut self) {
        // The pipe had room for this byte when it was read. If make is gone, nobody wants it back.
        let _ = (&self.pipe.write).write_all(&[self.byte]);
    }
}

/// The jobserver's address in the value of `MAKEFLAGS`: the last one counts, as sub-makes append theirs.
fn address(makeflags: &str) -> Option<&str> {
    // What follows ` -- ` are variables of the command line.
    let flags = makeflags.split(" -- ").next()?;
    flags
        .split(' ')
        .filter_map(|word| {
            word.strip_prefix("--jobserver-auth=").or_else(|| word.strip_prefix("--jobserver-fds="))
        })
        .next_back()
}

impl Jobserver {
    /// Joins the jobserver that this value of `MAKEFLAGS` names; nothing if it names none. Must be called inside a
    /// tokio runtime.
    ///
    /// # Errors
    /// If one is named and cannot be used. The caller tells the user and goes on without.
    pub fn from_makeflags(makeflags: &str) -> Result<Option<Self>, JobserverError> {
        let Some(auth) = address(makeflags) else { return Ok(None) };
        let (read, write) = if let Some(fifo) = auth.strip_prefix("fifo:") {
            (PathBuf::from(fifo), PathBuf::from(fifo))
        } else {
            let pair = auth
                .split_once(',')
                .and_then(|(r, w)| Some((r.parse::<i32>().ok()?, w.parse::<i32>().ok()?)));
            let Some((read, write)) = pair else {
                return Err(JobserverError::Unknown { auth: auth.to_owned() });
            };
            // Make says `-2,-2` or the like to recipes that get no access.
            (format!("/proc/self/fd/{read}").into(), format!("/proc/self/fd/{write}").into())
        };
        let pipe = Pipe::open(&read, &write)
            .map_err(|source| JobserverError::Closed { auth: auth.to_owned(), source })?;
        Ok(Some(Self {
            pipe: Arc::new(pipe),
            implicit: Arc::new(Semaphore::new(1)),
            broken: Arc::new(OnceLock::new()),
        }))
    }

    /// Waits for a slot. Dropping the future takes none.
    pub async fn acquire(&self) -> Token {
        if self.broken.get().is_some() {
            return Token(Held::Free);
        }
        if let Ok(permit) = self.implicit.clone().try_acquire_owned() {
            return Token(Held::Implicit(permit));
        }
        let implicit = pin!(self.implicit.clone().acquire_owned());
        let byte = pin!(self.read_byte());
        match select(implicit, byte).await {
            Either::Left((permit, _)) => {
                Token(Held::Implicit(permit.expect("the semaphore is never closed")))
            }
            Either::Right((Ok(byte), _)) => Token(Held::Byte(byte)),
            Either::Right((Err(e), _)) => {
                let _ = self.broken.set(format!("make's jobserver broke: {e}; local jobs go on without it"));
                Token(Held::Free)
            }
        }
    }

    /// What to tell the user if the jobserver broke on the way.
    pub fn warning(&self) -> Option<&str> {
        self.broken.get().map(String::as_str)
    }

    async fn read_byte(&self) -> io::Result<Byte> {
        loop {
            self.pipe.read.readable().await?;
            let mut byte = [0u8];
            match self.pipe.read.try_read(&mut byte) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => return Ok(Byte { pipe: self.pipe.clone(), byte: byte[0] }),
                // Would block: another process took the byte.
                Err(e) if matches!(e.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {}
                Err(e) => return Err(e),
            }
        }
    }
}

impl Pipe {
    fn open(read: &Path, write: &Path) -> io::Result<Self> {
        let nonblocking = OFlags::NONBLOCK.bits() as i32;
        let read = OpenOptions::new().read(true).custom_flags(nonblocking).open(read)?;
        let write = OpenOptions::new().write(true).custom_flags(nonblocking).open(write)?;
        // Where make has closed its descriptors, their numbers may stand for any other file by now: one that a byte must
        // not be written to.
        let (one, other) = (fstat(&read)?, fstat(&write)?);
        let same = (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino);
        if !same || !FileType::from_raw_mode(one.st_mode).is_fifo() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the descriptors are not the two ends of a pipe",
            ));
        }
        Ok(Self { read: pipe::Receiver::from_file(read)?, write })
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;
    use std::time::Duration;

    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn the_last_address_before_the_variables_counts() {
        let check = |flags: &str, expected| assert_eq!(address(flags), expected, "{flags}");
        check("", None);
        check("k", None);
        check(" -j4 --jobserver-auth=3,4", Some("3,4"));
        check("k -j --jobserver-fds=3,4 --jobserver-auth=fifo:/tmp/GMfifo1", Some("fifo:/tmp/GMfifo1"));
        check("k -- CFLAGS=--jobserver-auth=9,9", None);
    }

    #[tokio::test]
    async fn the_first_job_is_free_and_the_others_take_make_s_bytes() {
        let (read, write) = rustix::pipe::pipe().unwrap();
        rustix::io::write(&write, b"ab").unwrap();
        let flags = format!(" -j3 --jobserver-auth={},{}", read.as_raw_fd(), write.as_raw_fd());
        let jobserver = Jobserver::from_makeflags(&flags).unwrap().unwrap();

        let first = jobserver.acquire().await;
        let second = jobserver.acquire().await;
        let third = jobserver.acquire().await;
        assert!(jobserver.acquire().now_or_never().is_none(), "make gave two slots and the implicit one");

        drop(second);
        let fourth = tokio::time::timeout(Duration::from_secs(5), jobserver.acquire()).await.unwrap();
        drop((first, third, fourth));
        let mut back = [0; 8];
        let n = rustix::io::read(&read, &mut back).unwrap();
        back[..n].sort_unstable();
        assert_eq!(&back[..n], b"ab", "each byte went back");
        let flags = rustix::fs::fcntl_getfl(&read).unwrap();
        assert!(!flags.contains(OFlags::NONBLOCK), "make's own descriptor still blocks");
    }

    #[tokio::test]
    async fn closed_descriptors_are_an_error_with_a_hint() {
        let check = |auth: &str| {
            let error = Jobserver::from_makeflags(&format!(" --jobserver-auth={auth}")).unwrap_err();
            assert!(error.to_string().contains(auth), "{error}");
        };
        check("-2,-2");
        check("998,999");
        let (read, write) =
            (File::open("/dev/null").unwrap(), File::options().write(true).open("/dev/null").unwrap());
        check(&format!("{},{}", read.as_raw_fd(), write.as_raw_fd()));
        let ((read, _one), (_two, write)) = (rustix::pipe::pipe().unwrap(), rustix::pipe::pipe().unwrap());
        check(&format!("{},{}", read.as_raw_fd(), write.as_raw_fd()));
        check("fifo:/nonexistent/fifo");
        check("what");
        check("0,1x");
    }

    #[tokio::test]
    async fn a_pipe_that_ends_lets_jobs_run_without_it() {
        let (read, write) = rustix::pipe::pipe().unwrap();
        let flags = format!(" --jobserver-auth={},{}", read.as_raw_fd(), write.as_raw_fd());
        let mut jobserver = Jobserver::from_makeflags(&flags).unwrap().unwrap();
        drop((read, write));
        // Our own write end keeps the pipe open: take it away, as if make had been the only one.
        Arc::get_mut(&mut jobserver.pipe).unwrap().write = File::open("/dev/null").unwrap();
        let _first = jobserver.acquire().await;
        let second = tokio::time::timeout(Duration::from_secs(5), jobserver.acquire()).await.unwrap();
        assert!(matches!(second.0, Held::Free));
        assert!(jobserver.warning().is_some());
    }
}
