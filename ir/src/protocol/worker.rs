//! Coordinator to worker: postcard frames behind a little-endian `u32` length, over a stream socket.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::job::{Attempt, Job};

/// The version of this protocol, exchanged in [`Hello`].
pub const VERSION: u32 = 3;

/// The longest frame that a reader takes, in bytes.
pub const MAX_FRAME: u32 = 256 << 20;

/// The worker's first frame.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// [`VERSION`] of the worker.
    pub version: u32,
    /// How many jobs it runs side by side.
    pub slots: u32,
    /// `namespaces` or `plain`, and why if plain.
    pub isolation: String,
}

/// To the worker.
#[derive(Serialize, Deserialize, Debug, Clone)]
pub enum Request {
    /// Run this; the answer carries the same number.
    Run {
        /// Chosen by the coordinator, unique on this connection.
        seq: u64,
        /// What to run.
        job: Job,
    },
    /// Stop this one; it is still answered, with `Cancelled` or with what it came to.
    Cancel {
        /// The number given with `Run`.
        seq: u64,
    },
}

/// From the worker.
#[derive(Serialize, Deserialize, Debug, Clone)]
pub struct Response {
    /// The number given with `Run`.
    pub seq: u64,
    /// How it ended.
    pub attempt: Attempt,
}

/// Encodes one frame, length in front.
pub fn to_frame<T: Serialize>(message: &T) -> Vec<u8> {
    let mut out =
        postcard::to_extend(message, vec![0; 4]).expect("messages hold nothing that postcard cannot encode");
    let len = u32::try_from(out.len() - 4).unwrap_or(u32::MAX);
    out[..4].copy_from_slice(&len.to_le_bytes());
    out
}

/// Writes one frame.
pub fn write<T: Serialize>(mut to: impl Write, message: &T) -> io::Result<()> {
    to.write_all(&to_frame(message))
}

/// Decodes a frame's bytes (without the length).
///
/// # Errors
/// `InvalidData` if the bytes are damaged.
pub fn from_frame<T: DeserializeOwned>(frame: &[u8]) -> io::Result<T> {
    postcard::from_bytes(frame).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
}

/// Reads one frame; nothing at the end of the stream.
///
/// # Errors
/// `InvalidData` if the frame is longer than [`MAX_FRAME`] or damaged; the stream's own errors.
pub fn read<T: DeserializeOwned>(from: impl Read) -> io::Result<Option<T>> {
    read_within(from, MAX_FRAME)
}

/// As [`read`], with a bound of the caller's, in bytes.
pub(super) fn read_within<T: DeserializeOwned>(mut from: impl Read, bound: u32) -> io::Result<Option<T>> {
    let mut header = [0u8; 4];
    match from.read_exact(&mut header) {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let mut frame = vec![0; length(header, bound)?];
    from.read_exact(&mut frame)?;
    from_frame(&frame).map(Some)
}

/// The length of a frame, if it keeps the bound.
pub(super) fn length(header: [u8; 4], bound: u32) -> io::Result<usize> {
    let length = u32::from_le_bytes(header);
    if length > bound {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "frame too long"));
    }
    Ok(length as usize)
}
