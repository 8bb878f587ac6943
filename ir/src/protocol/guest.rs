//! Host to guest agent: the [worker](super::worker)'s jobs and answers, with the blobs that they need beside them, over one
//! byte stream (a virtio console). Frames are postcard behind a little-endian `u32` length.
//!
//! The host sends the blobs that the guest lacks, then the job; the agent sends the outputs that the host lacks, then the
//! answer. So neither ever waits for the other in the middle of a job.
//!
//! **Invariant:** a reader takes no frame above [`MAX_FRAME`] and a sender makes no piece of a blob above [`PIECE`].

use std::io::{self, Read};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::worker::{self, Response};
use crate::hash::BlobId;
use crate::job::Job;

/// The version of this protocol, exchanged in [`FromGuest::Hello`].
pub const VERSION: u32 = 3;

/// The longest frame that a reader takes, in bytes: a failed program's two streams of 16 MiB, and room.
pub const MAX_FRAME: u32 = 48 << 20;

/// The most bytes of a blob in one frame.
pub const PIECE: usize = 256 << 10;

/// To the agent.
#[derive(Serialize, Deserialize, Debug, Clone)]
pub enum ToGuest {
    /// First after a start and after a restore: all guests of one snapshot would have one time and one random pool.
    Wake {
        /// Microseconds since 1970.
        now_us: u64,
        /// Fresh random bytes.
        seed: [u8; 32],
    },
    /// Are you there? Answered at once by [`FromGuest::Pong`], whatever runs.
    Ping,
    /// The next piece of a blob, pieces in their order, one blob at a time.
    Blob {
        /// Whose.
        id: BlobId,
        /// At most [`PIECE`] bytes.
        bytes: Vec<u8>,
        /// Whether the blob ends here.
        last: bool,
    },
    /// Run this. All of its inputs have been sent.
    Run {
        /// Unique on this connection.
        seq: u64,
        /// What to run.
        job: Job,
    },
    /// Stop this one; it is still answered.
    Cancel {
        /// The number given with `Run`.
        seq: u64,
    },
}

/// From the agent.
#[derive(Serialize, Deserialize, Debug, Clone)]
pub enum FromGuest {
    /// The agent is up; its first frame.
    Hello {
        /// [`VERSION`] of the agent.
        version: u32,
        /// What the worker inside says of itself.
        isolation: String,
    },
    /// Answers `Wake` and `Ping`.
    Pong,
    /// The next piece of an output that the host has not sent itself.
    Blob {
        /// Whose.
        id: BlobId,
        /// At most [`PIECE`] bytes.
        bytes: Vec<u8>,
        /// Whether the blob ends here.
        last: bool,
    },
    /// How a job ended; its outputs have been sent.
    Done(Response),
    /// The agent cannot go on.
    Broken(String),
}

/// Reads one frame; nothing at the end of the stream.
///
/// # Errors
/// `InvalidData` if the frame is longer than [`MAX_FRAME`] or damaged; the stream's own errors.
pub fn read<T: DeserializeOwned>(from: impl Read) -> io::Result<Option<T>> {
    worker::read_within(from, MAX_FRAME)
}

/// Checks a frame's length before a byte of it is taken.
///
/// # Errors
/// `InvalidData` if it is over [`MAX_FRAME`].
pub fn length(header: [u8; 4]) -> io::Result<usize> {
    worker::length(header, MAX_FRAME)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_frame_comes_back_as_it_was() {
        let sent = ToGuest::Blob { id: BlobId::of(b"abc"), bytes: b"abc".to_vec(), last: true };
        let frame = worker::to_frame(&sent);
        let Some(ToGuest::Blob { id, bytes, last: true }) = read(&frame[..]).unwrap() else { panic!() };
        assert_eq!((id, bytes), (BlobId::of(b"abc"), b"abc".to_vec()));
    }

    #[test]
    fn a_frame_over_the_bound_is_refused_before_it_is_read() {
        let frame = (MAX_FRAME + 1).to_le_bytes();
        let error = read::<FromGuest>(&frame[..]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    proptest! {
        /// What a guest sends is read by the host: any bytes give a frame, the end, or an error.
        #[test]
        fn no_bytes_of_a_guest_make_the_host_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let mut frame = u32::try_from(bytes.len()).unwrap().to_le_bytes().to_vec();
            frame.extend_from_slice(&bytes);
            let _ = read::<FromGuest>(&frame[..]);
            let _ = read::<FromGuest>(&bytes[..]);
        }
    }
}
