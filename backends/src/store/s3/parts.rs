//! Objects that are written in parts.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use aws_sdk_s3::types::CompletedPart;
use tokio::task::JoinHandle;

use super::{Bucket, S3Error};

/// Parts on their way at a time: with [`PART`](super::PART) the bound on memory.
const SENDING: usize = 3;

/// Why an object was not written.
pub(crate) enum PartsError {
    /// The bucket refused.
    Bucket(S3Error),
    /// What was to be written could not be read.
    Source(io::Error),
}

impl From<S3Error> for PartsError {
    fn from(error: S3Error) -> Self {
        Self::Bucket(error)
    }
}

impl Bucket {
    /// Stores an object of whatever `next` gives, until it gives nothing: one request if that is one piece, else parts.
    /// Nothing is there if `next` fails.
    pub(crate) async fn put_pieces(
        self: &Arc<Self>,
        key: &str,
        mut next: impl FnMut() -> io::Result<Option<Vec<u8>>>,
    ) -> Result<(), PartsError> {
        let mut piece = || next().map_err(PartsError::Source);
        let first = piece()?.unwrap_or_default();
        let Some(second) = piece()? else { return Ok(self.put(key, first).await?) };
        let upload = self.begin(key).await?;
        let sent = self.send(key, &upload, [first, second], piece).await;
        let done = match sent {
            Ok(parts) => self.complete(key, &upload, parts).await.map_err(PartsError::Bucket),
            Err(error) => Err(error),
        };
        if done.is_err() {
            self.abort(key, &upload).await;
        }
        done
    }

    async fn send(
        self: &Arc<Self>,
        key: &str,
        upload: &str,
        begun: [Vec<u8>; 2],
        mut piece: impl FnMut() -> Result<Option<Vec<u8>>, PartsError>,
    ) -> Result<Vec<CompletedPart>, PartsError> {
        let mut sending: VecDeque<JoinHandle<Result<CompletedPart, S3Error>>> = VecDeque::new();
        let mut parts = Vec::new();
        let mut begun = begun.into_iter();
        for number in 1.. {
            let bytes = match begun.next() {
                Some(bytes) => Some(bytes),
                None => piece()?,
            };
            let Some(bytes) = bytes else { break };
            if sending.len() >= SENDING {
                parts.extend(sent(sending.pop_front()).await?);
            }
            let (bucket, key, upload) = (Arc::clone(self), key.to_owned(), upload.to_owned());
            sending.push_back(tokio::spawn(async move { bucket.part(&key, &upload, number, bytes).await }));
        }
        while !sending.is_empty() {
            parts.extend(sent(sending.pop_front()).await?);
        }
        Ok(parts)
    }
}

async fn sent(
    part: Option<JoinHandle<Result<CompletedPart, S3Error>>>,
) -> Result<Option<CompletedPart>, PartsError> {
    let Some(part) = part else { return Ok(None) };
    let part = part.await.map_err(|e| PartsError::Source(io::Error::other(e)))?;
    Ok(Some(part?))
}
