//! Frames to and from a guest, without a thread. Nothing is taken from a guest beyond the bounds of
//! [`guest`](ggr_ir::protocol::guest).

use std::io;
use std::os::unix::net::UnixStream as StdStream;
use std::time::Duration;

use ggr_ir::protocol::guest::{self as wire, FromGuest, ToGuest};
use ggr_ir::protocol::worker;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// A guest that takes nothing for so long hangs: its agent reads whatever else it does.
const STUCK: Duration = Duration::from_secs(60);

/// Bytes read at a time.
const READ: usize = 64 << 10;

/// Our end of a guest's console.
#[derive(Debug)]
pub(super) struct Frames {
    stream: UnixStream,
    /// What has come of the next frame. In here and not in a future, so that a wait for a frame may be given up.
    read: Vec<u8>,
}

impl Frames {
    pub(super) fn new(stream: StdStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self { stream: UnixStream::from_std(stream)?, read: Vec::new() })
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// `TimedOut` if the guest does not take it; the connection cannot be used afterwards.
    pub(super) async fn send(&mut self, frame: &ToGuest) -> io::Result<()> {
        timeout(STUCK, self.stream.write_all(&worker::to_frame(frame))).await?
    }

    /// The next frame, if one comes in this time. Nothing is lost by giving up.
    pub(super) async fn next_within(&mut self, limit: Duration) -> io::Result<Option<FromGuest>> {
        match timeout(limit, self.next()).await {
            Ok(frame) => frame.map(Some),
            Err(_) => Ok(None),
        }
    }

    async fn next(&mut self) -> io::Result<FromGuest> {
        loop {
            if let Some((header, rest)) = self.read.split_first_chunk::<4>() {
                let length = wire::length(*header)?;
                if let Some(frame) = rest.get(..length) {
                    let frame = worker::from_frame(frame);
                    self.read.drain(..4 + length);
                    return frame;
                }
            }
            self.read.reserve(READ);
            if self.stream.read_buf(&mut self.read).await? == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the guest has ended"));
            }
        }
    }
}
