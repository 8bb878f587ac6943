//! Client to worker service (`ggr worker serve`): jobs and answers, with the blobs that they need, over one byte stream (a
//! Unix socket, TCP, or TLS). Frames are postcard behind a little-endian `u32` length, as those of the
//! [worker](super::worker).
//!
//! The client says [`Hello`] first. Until it has been answered with [`FromService::Welcome`] it may send nothing else, and
//! the service reads no frame above [`MAX_HELLO`]. After that requests with numbers overlap freely. Blobs go one at a time in
//! each direction, their pieces in order, with other frames between them; one that is broken off is begun again at offset 0.
//! What one side has sent before a request is there when the request is looked at, so blobs need no answer.
//! [`ToService::Fetch`] is all that a second service needs to take a blob from its peer ([`ToService::Gather`]): it is then the
//! client.
//!
//! **Invariant:** a reader takes no frame above [`MAX_FRAME`]; a sender makes no piece of a blob above [`PIECE`] and names
//! no more than [`MAX_IDS`] blobs in one frame.

use std::io;

use serde::{Deserialize, Serialize};

use super::worker;
use crate::hash::BlobId;
use crate::job::{Attempt, Job};

/// The version of this protocol, exchanged in [`Hello`] and [`FromService::Welcome`].
/// 2: [`ToService::Gather`], what a pool owes to a build's announcements, and whether jobs run in guests. 3: packed streams.
pub const VERSION: u32 = 3;

/// The longest frame that a reader takes, in bytes: a failed program's two streams of 16 MiB, and room.
pub const MAX_FRAME: u32 = 48 << 20;

/// The longest frame of somebody who has not shown a token, in bytes.
pub const MAX_HELLO: u32 = 4 << 10;

/// The longest token, in bytes.
pub const MAX_TOKEN: usize = 1024;

/// The most bytes of a blob in one frame.
pub const PIECE: usize = 256 << 10;

/// The most blobs that one frame names: 600 KiB of ids.
pub const MAX_IDS: usize = 16 << 10;

/// The client's first frame.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq)]
pub struct Hello {
    /// [`VERSION`] of the client.
    pub version: u32,
    /// The tenant's token; empty over a Unix socket, whose kernel says who is there.
    pub token: String,
    /// Whether all that follows, behind this frame and behind [`FromService::Welcome`], is packed: in each direction one zstd
    /// frame that does not end, with a window of 8 MiB at most.
    pub packed: bool,
}

impl std::fmt::Debug for Hello {
    /// Without the token: what is printed is kept in logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("Hello");
        shown.field("version", &self.version).field("packed", &self.packed).finish_non_exhaustive()
    }
}

/// To the service, after [`Hello`].
#[derive(Serialize, Deserialize, Debug, Clone)]
pub enum ToService {
    /// Are you there? Answered by [`FromService::Pong`], whatever runs.
    Ping,
    /// Which of these does the tenant's store lack?
    Missing {
        /// Unique among the open requests of this connection.
        seq: u64,
        /// At most [`MAX_IDS`].
        ids: Vec<BlobId>,
    },
    /// The next piece of a blob for the tenant's store.
    Blob(Piece),
    /// Run this; all of its inputs have been sent or were not missing.
    Run {
        /// As above.
        seq: u64,
        /// What to run.
        job: Job,
    },
    /// Stop this job; it is not answered.
    Cancel {
        /// The number given with `Run`.
        seq: u64,
    },
    /// Send these blobs of the tenant's store.
    Fetch {
        /// As above.
        seq: u64,
        /// At most [`MAX_IDS`].
        ids: Vec<BlobId>,
    },
    /// Take these blobs from your peer, as this tenant: it is shown the token that this connection began with. Answered by
    /// [`FromService::Fetched`], which names all of them if the operator has not named that peer.
    Gather {
        /// As above.
        seq: u64,
        /// The peer's address, as `http://HOST:PORT`.
        from: String,
        /// At most [`MAX_IDS`].
        ids: Vec<BlobId>,
    },
    /// A running build's graph says that so many thunks of this program are ready soon: have it warm.
    Expect {
        /// The program's path, as in a thunk.
        program: String,
        /// How many.
        count: u32,
        /// How long from now they may still come, in milliseconds.
        within_ms: u32,
    },
    /// What is warm, and why?
    Status {
        /// As above.
        seq: u64,
    },
    /// Make a place for this program ready now.
    Warm {
        /// As above.
        seq: u64,
        /// The program's path, as in a thunk.
        program: String,
    },
    /// Take no more jobs, finish those that run, and end.
    Drain {
        /// As above.
        seq: u64,
    },
}

/// A piece of a blob.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Whose.
    pub id: BlobId,
    /// Where in the blob it begins; at 0 the blob begins (again).
    pub offset: u64,
    /// At most [`PIECE`] bytes; none only of an empty blob.
    pub bytes: Vec<u8>,
}

impl std::fmt::Debug for Piece {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes at {} of {}", self.bytes.len(), self.offset, self.id)
    }
}

/// From the service.
#[derive(Serialize, Deserialize, Debug, Clone)]
pub enum FromService {
    /// The token is right.
    Welcome {
        /// [`VERSION`] of the service.
        version: u32,
        /// Differs after each start of the service.
        instance: u64,
        /// Whose token it was.
        tenant: String,
        /// How many jobs run side by side, those of other tenants included.
        slots: u32,
        /// What they run in: `sandbox` or `microvm`.
        isolation: String,
    },
    /// The connection ends here; says why, for the user.
    Refused(String),
    /// Answers `Ping`.
    Pong,
    /// Answers `Missing`.
    Missing {
        /// The request's number.
        seq: u64,
        /// Those of its blobs that are not there.
        ids: Vec<BlobId>,
    },
    /// The next piece of a blob: a small output before its job's answer, or what was asked for by `Fetch`.
    Blob(Piece),
    /// Answers `Fetch` and `Gather`; all that could be sent has been sent.
    Fetched {
        /// The request's number.
        seq: u64,
        /// Those of its blobs that are not there.
        missing: Vec<BlobId>,
    },
    /// Answers `Run`.
    Done {
        /// The request's number.
        seq: u64,
        /// How it ended. Its outputs are in the tenant's store.
        attempt: Attempt,
    },
    /// No more jobs are taken: the service ends when those that run have ended.
    Draining,
    /// Answers `Status`.
    Status {
        /// The request's number.
        seq: u64,
        /// What there is.
        status: Box<Status>,
    },
    /// Answers `Warm` and `Drain`: done, or why not.
    Carried {
        /// The request's number.
        seq: u64,
        /// Why not, for the user.
        outcome: Result<(), String>,
    },
}

/// What a service says of itself.
#[derive(Serialize, Deserialize, Debug, Clone, Default, PartialEq)]
pub struct Status {
    /// What jobs run in: `sandbox` or `microvm`.
    pub isolation: String,
    /// How many jobs run side by side.
    pub slots: u32,
    /// How many run now.
    pub running: u32,
    /// How many wait for a slot.
    pub waiting: u32,
    /// Jobs answered since the start.
    pub answered: u64,
    /// Whether it takes no more.
    pub draining: bool,
    /// Seconds since the start.
    pub up_s: f64,
    /// Bytes that idle places are taken to use, and the bound.
    pub idle_bytes: u64,
    /// Bytes that they may use.
    pub memory: u64,
    /// Idle places times seconds, since the start.
    pub idle_seconds: f64,
    /// Places that were given up for the sake of the bound.
    pub evicted: u64,
    /// The pools that the asker may see.
    pub pools: Vec<PoolStatus>,
}

/// The places for one program of one tenant.
#[derive(Serialize, Deserialize, Debug, Clone, Default, PartialEq)]
pub struct PoolStatus {
    /// Whose.
    pub tenant: String,
    /// The program, or `*` for all that are no part of a toolchain.
    pub program: String,
    /// Jobs that run in it now.
    pub running: u32,
    /// Whether it is ready now.
    pub warm: bool,
    /// Times that it was wanted and ready.
    pub hits: u64,
    /// Times that it was wanted and had to be made.
    pub misses: u64,
    /// Of the hits, those whose place was made ready because a running build had announced its thunk.
    pub foreseen: u64,
    /// Whether a running build has announced a thunk of it that has not come yet.
    pub expected: bool,
    /// How its window was found: `fallback`, `histogram of 5 s bins`, `forecast of 90 s`.
    pub mode: String,
    /// When it is made ready again after it became idle, in seconds; 0: it stays ready.
    pub head_s: f64,
    /// Until when it is kept after it became idle, in seconds.
    pub tail_s: f64,
}

/// Decodes a frame's bytes (without the length), as [`worker::from_frame`], and checks what the types do not: how long
/// pieces and lists are.
///
/// # Errors
/// `InvalidData` if the bytes are damaged or hold too much.
pub fn to_service(frame: &[u8]) -> io::Result<ToService> {
    let message: ToService = worker::from_frame(frame)?;
    match &message {
        ToService::Blob(piece) => check_piece(piece)?,
        ToService::Missing { ids, .. } | ToService::Fetch { ids, .. } | ToService::Gather { ids, .. } => {
            check_ids(ids)?;
        }
        _ => {}
    }
    Ok(message)
}

/// As [`to_service`], for the other direction.
///
/// # Errors
/// `InvalidData` if the bytes are damaged or hold too much.
pub fn from_service(frame: &[u8]) -> io::Result<FromService> {
    let message: FromService = worker::from_frame(frame)?;
    match &message {
        FromService::Blob(piece) => check_piece(piece)?,
        FromService::Missing { ids, .. } | FromService::Fetched { missing: ids, .. } => check_ids(ids)?,
        _ => {}
    }
    Ok(message)
}

/// Decodes the client's first frame. Of another version's only the version is read, and there is no token.
///
/// # Errors
/// `InvalidData` if the bytes are damaged or the token is too long.
pub fn hello(frame: &[u8]) -> io::Result<Hello> {
    let version: u32 = worker::from_frame(frame)?;
    if version != VERSION {
        return Ok(Hello { version, token: String::new(), packed: false });
    }
    let hello: Hello = worker::from_frame(frame)?;
    if hello.token.len() > MAX_TOKEN { Err(too_much("token")) } else { Ok(hello) }
}

/// Checks a frame's length before a byte of it is taken; `bound` is [`MAX_FRAME`] or [`MAX_HELLO`].
///
/// # Errors
/// `InvalidData` if it is over the bound.
pub fn length(header: [u8; 4], bound: u32) -> io::Result<usize> {
    worker::length(header, bound)
}

fn check_piece(piece: &Piece) -> io::Result<()> {
    // An empty piece is the whole of an empty blob; others would go on for ever.
    let empty = piece.bytes.is_empty() && piece.id.size() > 0;
    let end = piece.offset.checked_add(piece.bytes.len() as u64);
    if piece.bytes.len() > PIECE || empty || end.is_none_or(|end| end > piece.id.size()) {
        Err(too_much("piece of a blob"))
    } else {
        Ok(())
    }
}

fn check_ids(ids: &[BlobId]) -> io::Result<()> {
    if ids.len() > MAX_IDS { Err(too_much("list of blobs")) } else { Ok(()) }
}

fn too_much(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("a {what} of a wrong length"))
}

#[cfg(test)]
mod tests;
