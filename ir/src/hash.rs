//! Ids: what names a blob and a thunk.
//!
//! **Invariant:** equal bytes, equal id; an id is made from bytes or parsed, never assembled.

use std::cell::Cell;
use std::fmt;
use std::io::{self, Read};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A BLAKE3 digest (32 bytes).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Hash([u8; 32]);

impl Hash {
    /// The hash of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// The digest's bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Wraps a digest that was computed elsewhere (a streaming hasher, a file name).
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    fn parse_hex(text: &str) -> Option<Self> {
        if text.len() != 64 || !text.is_ascii() {
            return None;
        }
        let mut bytes = [0u8; 32];
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).ok()?;
        }
        // `from_str_radix` takes a leading `+`; printing back shows whether it did.
        let hash = Self(bytes);
        (hash.to_string() == text).then_some(hash)
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0u8; 64];
        for (i, byte) in self.0.iter().enumerate() {
            text[2 * i] = DIGITS[usize::from(byte >> 4)];
            text[2 * i + 1] = DIGITS[usize::from(byte & 15)];
        }
        f.write_str(std::str::from_utf8(&text).expect("hexadecimal digits are ASCII"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a stream is hashed by, in bytes: BLAKE3 reaches its full speed from 128 KiB on.
const BUFFER_LEN: usize = 128 * 1024;

thread_local! {
    /// Kept between streams: most files are so small that a new buffer would cost more than the hash.
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Names the bytes of a blob by hash and size; prints as `V<64 hex digits>-<size in bytes>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BlobId {
    hash: Hash,
    size: u64,
}

impl BlobId {
    /// The id of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self { hash: Hash::of(bytes), size: bytes.len() as u64 }
    }

    /// Joins a hash and a size that were computed together over the same bytes.
    pub fn new(hash: Hash, size: u64) -> Self {
        Self { hash, size }
    }

    /// Hashes a stream to its end.
    pub fn of_reader(mut reader: impl Read) -> io::Result<Self> {
        let mut hasher = blake3::Hasher::new();
        // Taken, not borrowed: a reader that hashes on its own finds none, and makes one.
        let mut buffer = BUFFER.take();
        buffer.resize(BUFFER_LEN, 0);
        let mut size = 0u64;
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => {
                    hasher.update(&buffer[..n]);
                    size += n as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        BUFFER.set(buffer);
        Ok(Self { hash: Hash(*hasher.finalize().as_bytes()), size })
    }

    /// The hash of the bytes.
    pub fn hash(&self) -> Hash {
        self.hash
    }

    /// How many bytes there are.
    pub fn size(&self) -> u64 {
        self.size
    }
}

impl fmt::Display for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "V{}-{}", self.hash, self.size)
    }
}

impl fmt::Debug for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Names a thunk by the hash of its canonical encoding; prints as `T<64 hex digits>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ThunkId(Hash);

impl ThunkId {
    /// Wraps the hash of a thunk's canonical encoding.
    pub(crate) fn new(hash: Hash) -> Self {
        Self(hash)
    }

    /// The hash of the encoding.
    pub fn hash(&self) -> Hash {
        self.0
    }

    /// The id under which it is recorded that this thunk fails, with what it said then. `together`: as one text, since both
    /// its outputs led to one file.
    pub fn of_failure(self, together: bool) -> Self {
        let what: &[u8] = if together { b"ggr failure 1 together" } else { b"ggr failure 1" };
        Self(Hash::of(&[what, self.0.as_bytes()].concat()))
    }

    /// A made-up id, for schedulers' tests and synthetic graphs.
    pub fn synthetic(number: u64) -> Self {
        Self(Hash::of(&number.to_le_bytes()))
    }
}

impl fmt::Display for ThunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "T{}", self.0)
    }
}

impl fmt::Debug for ThunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An id that could not be read.
#[derive(Debug, thiserror::Error)]
#[error("`{text}` is not an id: expected {expected}")]
pub struct ParseIdError {
    text: String,
    expected: &'static str,
}

impl FromStr for BlobId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let parse = || {
            let (hash, size) = text.strip_prefix('V')?.split_once('-')?;
            let size: u64 = size.parse().ok()?;
            Some(Self { hash: Hash::parse_hex(hash)?, size })
        };
        parse().filter(|id| id.to_string() == text).ok_or_else(|| ParseIdError {
            text: text.to_owned(),
            expected: "`V`, 64 hexadecimal digits, `-`, a size",
        })
    }
}

impl FromStr for ThunkId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        text.strip_prefix('T')
            .and_then(Hash::parse_hex)
            .map(Self)
            .ok_or_else(|| ParseIdError { text: text.to_owned(), expected: "`T` and 64 hexadecimal digits" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_id_prints_and_parses() {
        let id = BlobId::of(b"hello");
        assert_eq!(id.to_string(), "Vea8f163db38682925e4491c5e58d4bb3506ef8c14eb78a86e908c5624a67200f-5");
        assert_eq!(id.to_string().parse::<BlobId>().unwrap(), id);
        assert_eq!(BlobId::of_reader(&b"hello"[..]).unwrap(), id);
    }

    #[test]
    fn what_is_no_id_is_refused() {
        let good = BlobId::of(b"x").to_string();
        let plus = good.replace("-1", "-+1");
        for bad in ["", "V", "T", "Vxx-1", plus.as_str(), &good.to_uppercase(), &good[1..]] {
            assert!(bad.parse::<BlobId>().is_err(), "{bad}");
            assert!(bad.parse::<ThunkId>().is_err(), "{bad}");
        }
    }
}
