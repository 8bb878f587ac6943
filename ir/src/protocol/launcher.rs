//! Launcher to coordinator: one request, one reply, over a Unix stream socket.
//!
//! Uses `std` alone, because the launcher includes this file by path: it must stay tiny and static.
//!
//! A frame is a little-endian `u32` length and that many bytes. Strings are a `u32` length and bytes. The coordinator
//! learns the caller's process from the socket (`SO_PEERCRED`). After [`Reply::Exec`] the socket stays open as long as
//! the tool runs, and the launcher writes the tool's wait status to it as four bytes.

use std::io::{self, Read, Write};

/// The version of this protocol; a reader refuses another.
pub const VERSION: u32 = 2;

/// The longest frame that a reader takes, in bytes: Linux bounds arguments and environment to 6 MiB for an 8 MiB stack.
pub const MAX_FRAME: usize = 64 << 20;

/// Marks the socket path inside the launcher's file, to be overwritten when a session writes its copy.
pub const SOCKET_MARK: &[u8; 16] = b"GGR-SOCKET-PATH:";

/// How many bytes the socket path may have (`sun_path` holds 108 with its NUL). Two bytes more are left behind it.
pub const SOCKET_MAX: usize = 107;

/// Stands behind the socket path's NUL in a launcher that is found through `PATH` (`--intercept path`).
pub const LINKED: u8 = b'L';

/// One tool call, as the launcher saw it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Request {
    /// The real path of the file that was executed (`/proc/self/exe`).
    pub program: Vec<u8>,
    /// The arguments, `argv[0]` first.
    pub args: Vec<Vec<u8>>,
    /// The environment, as `NAME=value`.
    pub env: Vec<Vec<u8>>,
    /// The working directory.
    pub dir: Vec<u8>,
    /// The file mode creation mask.
    pub umask: u32,
}

/// What the launcher is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Write these bytes and exit with this status.
    Exit {
        /// The exit status.
        code: u8,
        /// For its standard output.
        stdout: Vec<u8>,
        /// For its standard error.
        stderr: Vec<u8>,
    },
    /// Run this file with the same arguments and environment, report its wait status, and end as it ended.
    Exec(Vec<u8>),
    /// Become this file's program, with the same arguments and environment: nothing stays in between.
    Become(Vec<u8>),
    /// End by this signal.
    Signal(u8),
    /// Say this on standard error and exit with status 125: the coordinator could not serve the call.
    Fail(Vec<u8>),
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

fn put_list(out: &mut Vec<u8>, list: &[Vec<u8>]) {
    out.extend_from_slice(&(list.len() as u32).to_le_bytes());
    list.iter().for_each(|item| put_bytes(out, item));
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "broken frame")
}

struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn number(&mut self) -> io::Result<u32> {
        let (head, rest) = self.0.split_first_chunk::<4>().ok_or_else(broken)?;
        self.0 = rest;
        Ok(u32::from_le_bytes(*head))
    }

    fn bytes(&mut self) -> io::Result<Vec<u8>> {
        let len = self.number()? as usize;
        let (head, rest) = self.0.split_at_checked(len).ok_or_else(broken)?;
        self.0 = rest;
        Ok(head.to_vec())
    }

    fn list(&mut self) -> io::Result<Vec<Vec<u8>>> {
        let len = self.number()? as usize;
        // Each item takes at least four bytes: a larger count is a lie, not a reason to allocate.
        if len > self.0.len() / 4 {
            return Err(broken());
        }
        (0..len).map(|_| self.bytes()).collect()
    }

    fn end(&self) -> io::Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(broken()) }
    }
}

impl Request {
    /// The frame's bytes, length in front.
    pub fn to_frame(&self) -> Vec<u8> {
        let mut out = vec![0; 4];
        out.extend_from_slice(&VERSION.to_le_bytes());
        put_bytes(&mut out, &self.program);
        put_list(&mut out, &self.args);
        put_list(&mut out, &self.env);
        put_bytes(&mut out, &self.dir);
        out.extend_from_slice(&self.umask.to_le_bytes());
        finish(out)
    }

    /// Reads a frame's bytes (without the length).
    ///
    /// # Errors
    /// `InvalidData` if the version is another one or the bytes are damaged.
    pub fn from_frame(frame: &[u8]) -> io::Result<Self> {
        let mut cursor = Cursor(frame);
        if cursor.number()? != VERSION {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "launcher of another ggr version"));
        }
        let request = Self {
            program: cursor.bytes()?,
            args: cursor.list()?,
            env: cursor.list()?,
            dir: cursor.bytes()?,
            umask: cursor.number()?,
        };
        cursor.end()?;
        Ok(request)
    }
}

impl Reply {
    /// The frame's bytes, length in front.
    pub fn to_frame(&self) -> Vec<u8> {
        let mut out = vec![0; 4];
        match self {
            Reply::Exit { code, stdout, stderr } => {
                out.extend_from_slice(&[0, *code]);
                put_bytes(&mut out, stdout);
                put_bytes(&mut out, stderr);
            }
            Reply::Exec(path) => {
                out.push(1);
                put_bytes(&mut out, path);
            }
            Reply::Signal(signal) => out.extend_from_slice(&[2, *signal]),
            Reply::Fail(message) => {
                out.push(3);
                put_bytes(&mut out, message);
            }
            Reply::Become(path) => {
                out.push(4);
                put_bytes(&mut out, path);
            }
        }
        finish(out)
    }

    /// Reads a frame's bytes (without the length).
    ///
    /// # Errors
    /// `InvalidData` if the bytes are damaged.
    pub fn from_frame(frame: &[u8]) -> io::Result<Self> {
        let (&tag, rest) = frame.split_first().ok_or_else(broken)?;
        match tag {
            0 => {
                let (&code, rest) = rest.split_first().ok_or_else(broken)?;
                let mut cursor = Cursor(rest);
                let reply = Reply::Exit { code, stdout: cursor.bytes()?, stderr: cursor.bytes()? };
                cursor.end()?;
                Ok(reply)
            }
            1 => Ok(Reply::Exec(Cursor(rest).bytes()?)),
            2 if rest.len() == 1 => Ok(Reply::Signal(rest[0])),
            3 => Ok(Reply::Fail(Cursor(rest).bytes()?)),
            4 => Ok(Reply::Become(Cursor(rest).bytes()?)),
            _ => Err(broken()),
        }
    }
}

fn finish(mut out: Vec<u8>) -> Vec<u8> {
    let len = (out.len() - 4) as u32;
    out[..4].copy_from_slice(&len.to_le_bytes());
    out
}

/// Reads one frame's bytes, bounded by [`MAX_FRAME`].
pub fn read_frame(mut from: impl Read) -> io::Result<Vec<u8>> {
    let mut len = [0u8; 4];
    from.read_exact(&mut len)?;
    let len = u32::from_le_bytes(len) as usize;
    if len > MAX_FRAME {
        return Err(broken());
    }
    let mut frame = vec![0; len];
    from.read_exact(&mut frame)?;
    Ok(frame)
}

/// Writes a frame made by `to_frame`.
pub fn write_frame(mut to: impl Write, frame: &[u8]) -> io::Result<()> {
    to.write_all(frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back_as_they_went() {
        let request = Request {
            program: b"/usr/bin/gcc-12".to_vec(),
            args: vec![b"gcc".to_vec(), b"-c".to_vec(), vec![], vec![0xff]],
            env: vec![b"A=1".to_vec()],
            dir: b"/tmp".to_vec(),
            umask: 0o22,
        };
        let frame = request.to_frame();
        let body = read_frame(&frame[..]).unwrap();
        assert_eq!(Request::from_frame(&body).unwrap(), request);
        for reply in [
            Reply::Exit { code: 3, stdout: b"o".to_vec(), stderr: vec![] },
            Reply::Exec(b"/x".to_vec()),
            Reply::Signal(9),
            Reply::Become(b"/y".to_vec()),
            Reply::Fail(b"why".to_vec()),
        ] {
            let body = read_frame(&reply.to_frame()[..]).unwrap();
            assert_eq!(Reply::from_frame(&body).unwrap(), reply);
        }
    }

    #[test]
    fn a_cut_or_lying_frame_is_an_error() {
        let frame = Request { args: vec![b"gcc".to_vec()], ..Request::default() }.to_frame();
        for cut in 4..frame.len() {
            assert!(Request::from_frame(&frame[4..cut]).is_err(), "cut at {cut}");
        }
        assert!(read_frame(&[0xff, 0xff, 0xff, 0xff][..]).is_err());
        let mut lying = frame[4..].to_vec();
        lying[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(Request::from_frame(&lying).is_err());
        assert!(Reply::from_frame(&[9]).is_err());
    }
}
