//! Coordinator to function: what one invocation carries, and what it answers.
//!
//! Lambda takes and gives JSON of at most 6 MB. So a message is `{"ggr": VERSION, "body": "…"}`, whose body is base64 of
//! zstd of postcard. A reader looks at the version first, and takes no more than [`MAX_BODY`] bytes out of a body.

use std::io::Read;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::hash::BlobId;
use crate::job::{Attempt, Job};

/// The version of this format. A function answers the version that it was built with, and no other.
pub const VERSION: u32 = 3;

/// The version of ggr, for people: it stands in each message and in the functions' program.
pub const GGR: &str = env!("CARGO_PKG_VERSION");

/// What stands in the functions' program, so that a deployment knows what it sends: versions of ggr and of messages.
pub const MARK: &str = concat!("ggr-function-program:", env!("CARGO_PKG_VERSION"), ":3\n");

/// What [`MARK`] begins with.
const MARK_HEAD: &str = "ggr-function-program:";

/// The longest message, in bytes of JSON: Lambda's bound on a synchronous payload, both ways.
pub const MAX_MESSAGE: usize = 6 << 20;

/// How much of a message blobs may fill, in bytes before compression: base64 of it stays a fifth below the bound.
pub const MAX_INLINE: usize = 3 << 20;

/// The most that a reader unpacks, in bytes.
pub const MAX_BODY: u64 = 64 << 20;

/// The most jobs of one invocation.
pub const MAX_JOBS: usize = 64;

/// Fast, and within a few percent of the default on paths and hashes.
const LEVEL: i32 = 1;

/// Where a function finds what is not in the message, and puts what does not fit into the answer.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub enum StoreAddress {
    /// Nowhere: everything travels in the message.
    None,
    /// A directory that functions mount (Amazon EFS), in the layout of a local store.
    Directory(String),
    /// An S3 bucket. The function's own role gives it access; no credential is in the message.
    S3 {
        /// The bucket and a prefix in it: `s3://bucket/prefix`.
        place: String,
        /// The namespace of objects in there.
        namespace: String,
        /// Another service than AWS.
        endpoint: Option<String>,
    },
}

/// A small blob that travels in the message.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct Inline {
    /// Its id; the reader checks it.
    pub id: BlobId,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// What a function is asked to do.
#[derive(Serialize, Deserialize, Debug, Clone)]
pub struct Invocation {
    /// Where blobs are that are not here.
    pub store: StoreAddress,
    /// What to run, one after the other.
    pub jobs: Vec<Job>,
    /// Small inputs.
    pub inline: Vec<Inline>,
}

/// What it answers.
#[derive(Serialize, Deserialize, Debug, Clone)]
pub struct Answer {
    /// One for each job, in their order.
    pub attempts: Vec<Attempt>,
    /// Outputs that fit, those of the first jobs first. The others are in the store.
    pub inline: Vec<Inline>,
    /// What it took from the store and put there.
    pub traffic: Traffic,
    /// The environment: how many invocations it has served before this one.
    pub served: u64,
}

/// Calls to the store and bytes.
#[derive(Serialize, Deserialize, Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Blobs fetched.
    pub fetched: u64,
    /// Their bytes.
    pub fetched_bytes: u64,
    /// Blobs stored.
    pub stored: u64,
    /// Their bytes.
    pub stored_bytes: u64,
}

/// A message that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// It is not in this form at all.
    #[error("the message is not ggr's")]
    Foreign(#[source] serde_json::Error),
    /// It was written by another version.
    #[error("the message has version {found} (ggr {by}), and its reader version {VERSION} (ggr {GGR})")]
    Version {
        /// Its version.
        found: u32,
        /// The version of ggr that wrote it.
        by: String,
    },
    /// The body is damaged or too long.
    #[error("the message's body is damaged: {0}")]
    Damaged(String),
}

#[derive(Serialize, Deserialize)]
struct Envelope {
    ggr: u32,
    /// The version of ggr that wrote it; for people.
    #[serde(default = "unknown")]
    by: String,
    #[serde(default)]
    body: String,
}

fn unknown() -> String {
    "of another version".to_owned()
}

/// What the program of this ggr says of itself.
pub fn mark() -> String {
    described(MARK.trim_start_matches(MARK_HEAD).trim_end())
}

/// What a functions' program says of itself: as [`mark`], if it is of this version. Nothing if it is none of ggr's.
pub fn mark_in(program: &[u8]) -> Option<String> {
    let head = MARK_HEAD.as_bytes();
    let places = program.windows(head.len()).enumerate().filter(|(_, window)| *window == head);
    // The head alone is in any program that looks for it.
    places.map(|(at, _)| &program[at + head.len()..]).find_map(|rest| {
        let line = rest.iter().take(32).position(|byte| *byte == b'\n')?;
        let text = std::str::from_utf8(&rest[..line]).ok()?;
        let versions = text.contains(':') && text.bytes().all(|byte| byte.is_ascii_graphic());
        versions.then(|| described(text))
    })
}

fn described(versions: &str) -> String {
    let (ggr, messages) = versions.split_once(':').unwrap_or((versions, "?"));
    format!("ggr {ggr} with messages of version {messages}")
}

/// Encodes a message.
pub fn encode<T: Serialize>(message: &T) -> String {
    let plain = postcard::to_allocvec(message).expect("messages hold nothing that postcard cannot encode");
    let packed = zstd::bulk::compress(&plain, LEVEL).expect("memory is all that packing needs");
    let envelope = Envelope { ggr: VERSION, by: GGR.to_owned(), body: STANDARD.encode(packed) };
    serde_json::to_string(&envelope).expect("a number and a text are JSON")
}

/// Decodes a message.
///
/// # Errors
/// See [`MessageError`].
pub fn decode<T: DeserializeOwned>(message: &[u8]) -> Result<T, MessageError> {
    let envelope: Envelope = serde_json::from_slice(message).map_err(MessageError::Foreign)?;
    if envelope.ggr != VERSION {
        return Err(MessageError::Version { found: envelope.ggr, by: envelope.by });
    }
    let damaged = |error: &dyn std::fmt::Display| MessageError::Damaged(error.to_string());
    let packed = STANDARD.decode(envelope.body).map_err(|e| damaged(&e))?;
    let mut plain = Vec::new();
    let reader = zstd::stream::read::Decoder::new(&*packed).map_err(|e| damaged(&e))?;
    reader.take(MAX_BODY + 1).read_to_end(&mut plain).map_err(|e| damaged(&e))?;
    if plain.len() as u64 > MAX_BODY {
        return Err(damaged(&"it is too long"));
    }
    postcard::from_bytes(&plain).map_err(|e| damaged(&e))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> Answer {
        let inline = vec![Inline { id: BlobId::of(b"x"), bytes: b"x".to_vec() }];
        Answer { attempts: Vec::new(), inline, traffic: Traffic::default(), served: 7 }
    }

    #[test]
    fn a_message_comes_back_as_it_was() {
        let back: Answer = decode(encode(&answer()).as_bytes()).unwrap();
        assert_eq!((back.served, back.inline), (7, answer().inline));
    }

    #[test]
    fn another_version_is_told_and_not_guessed_at() {
        let newer = br#"{"ggr": 99, "body": "AAAA", "more": [1]}"#;
        assert!(matches!(decode::<Answer>(newer), Err(MessageError::Version { found: 99, .. })));
        let named = decode::<Answer>(br#"{"ggr": 99, "by": "9.1.0", "body": ""}"#).unwrap_err().to_string();
        assert!(named.contains("ggr 9.1.0") && named.contains(&format!("ggr {GGR}")), "{named}");
        assert!(matches!(decode::<Answer>(br#"{"errorMessage": "x"}"#), Err(MessageError::Foreign(_))));
    }

    #[test]
    fn a_program_says_what_it_is() {
        assert!(MARK.ends_with(&format!(":{VERSION}\n")));
        let program = format!("\0{MARK_HEAD}\0\0{MARK}\0");
        assert_eq!(mark_in(program.as_bytes()), Some(mark()));
        assert_eq!(mark_in(MARK_HEAD.as_bytes()), None);
    }

    #[test]
    fn a_damaged_body_or_one_that_unpacks_to_too_much_is_refused() {
        let mut cut = encode(&answer());
        cut.truncate(cut.len() - 12);
        cut.push_str("\"}");
        assert!(decode::<Answer>(cut.as_bytes()).is_err());
        let bomb = zstd::bulk::compress(&vec![0; MAX_BODY as usize + 1], 1).unwrap();
        let bomb = format!(r#"{{"ggr":3,"body":"{}"}}"#, STANDARD.encode(bomb));
        assert!(matches!(decode::<Answer>(bomb.as_bytes()), Err(MessageError::Damaged(_))));
    }
}
