//! The record that a thunk was replaced by its outputs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::hash::BlobId;
use crate::path::RootPath;
use crate::thunk::OutputName;

/// One output of a thunk that ran.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct OutputEntry {
    /// Where the program wrote it.
    pub path: RootPath,
    /// Its bytes.
    pub blob: BlobId,
    /// Its permission bits as the program left them under umask 0 (the caller's umask is applied when it is
    /// materialized).
    pub permissions: u32,
}

/// What a thunk reduced to. Only successful runs (exit status 0) are recorded.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Reduction {
    /// The outputs by name: the declared ones, and under [`Harvest::Everything`](crate::Harvest) the others by path.
    pub outputs: BTreeMap<OutputName, OutputEntry>,
    /// What it wrote to its standard output.
    pub stdout: BlobId,
    /// What it wrote to its standard error.
    pub stderr: BlobId,
    /// How long the program took when it ran (microseconds of wall clock): the scheduler's estimate for the next time.
    pub duration_us: u64,
}

/// The version of the encoding, its first byte.
const VERSION: u8 = 1;

impl Reduction {
    /// Encodes for a cache: a version byte, then postcard.
    pub fn to_bytes(&self) -> Vec<u8> {
        postcard::to_extend(self, vec![VERSION])
            .expect("a reduction holds nothing that postcard cannot encode")
    }

    /// Decodes; nothing when the version is another one or the bytes are damaged (a cache miss, not an error).
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (&version, rest) = bytes.split_first()?;
        if version != VERSION {
            return None;
        }
        postcard::from_bytes(rest).ok()
    }
}
