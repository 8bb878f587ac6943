//! What both ends of the service's protocol do: frames over an asynchronous stream, and blobs in pieces.

use std::io::{self, Read, Write};

use ggr_ir::protocol::service::{PIECE, Piece, length};
use ggr_ir::repo::TempFile;
use ggr_ir::{BlobId, Hash};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use super::packing::{Packer, Unpacker};
use crate::store::FsStore;

/// Frames that wait to be written: with pieces of blobs 16 MiB at most.
pub(crate) const QUEUE: usize = 64;

/// Frames that go out in one write.
const TOGETHER: usize = 32;

/// Reads one frame's bytes; nothing at the end of the stream. Memory is taken as bytes come, not as the length claims.
///
/// # Errors
/// `InvalidData` if it is longer than `bound`; the stream's own.
pub(crate) async fn read_frame(
    from: &mut (impl AsyncRead + Unpin),
    bound: u32,
) -> io::Result<Option<Vec<u8>>> {
    let mut header = [0; 4];
    match from.read_exact(&mut header).await {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    };
    let length = length(header, bound)?;
    let mut frame = Vec::with_capacity(length.min(PIECE + 64));
    from.take(length as u64).read_to_end(&mut frame).await?;
    if frame.len() == length { Ok(Some(frame)) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// Writes frames until nobody can send any more, then ends the stream.
pub(crate) async fn write_frames(
    mut to: impl AsyncWrite + Unpin,
    mut frames: mpsc::Receiver<Vec<u8>>,
    packed: bool,
) {
    let Ok(mut packer) = packed.then(Packer::new).transpose() else { return };
    let mut ready = Vec::with_capacity(TOGETHER);
    while frames.recv_many(&mut ready, TOGETHER).await > 0 {
        let written = match &mut packer {
            Some(packer) => write_packed(&mut to, packer, &ready).await,
            None => to.write_all(&ready.concat()).await,
        };
        ready.clear();
        if written.is_err() || to.flush().await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}

/// A frame is packed in a millisecond at most; between two of them others get the thread.
async fn write_packed(
    to: &mut (impl AsyncWrite + Unpin),
    packer: &mut Packer,
    frames: &[Vec<u8>],
) -> io::Result<()> {
    let mut packed = Vec::new();
    for frame in frames {
        packer.pack(frame, &mut packed)?;
        if packed.len() >= PIECE {
            to.write_all(&packed).await?;
            packed.clear();
        }
        tokio::task::yield_now().await;
    }
    packer.flush(&mut packed)?;
    to.write_all(&packed).await
}

/// What is read of a stream, unpacked if it is `packed`.
///
/// # Errors
/// If there is no memory for that.
pub(crate) fn reading<'a>(
    from: impl AsyncRead + Send + Unpin + 'a,
    packed: bool,
) -> io::Result<Box<dyn AsyncRead + Send + Unpin + 'a>> {
    Ok(if packed { Box::new(Unpacker::new(from)?) } else { Box::new(from) })
}

/// A blob on its way in, one at a time.
#[derive(Default)]
pub(crate) struct Intake(Option<Incoming>);

struct Incoming {
    id: BlobId,
    file: TempFile,
    hasher: blake3::Hasher,
    size: u64,
}

impl Intake {
    /// Takes the next piece; the blob's id when it was the last one and the blob is in the store. A blob that was broken
    /// off is forgotten. `owner` is the user that the file is given to.
    ///
    /// # Errors
    /// If the piece does not fit, if the blob is not what it is called, or if it cannot be stored.
    pub(crate) fn take(
        &mut self,
        store: &FsStore,
        piece: &Piece,
        owner: Option<u32>,
    ) -> io::Result<Option<BlobId>> {
        let id = piece.id;
        if piece.offset == 0 {
            let file = store.temporary().map_err(io::Error::other)?;
            if owner.is_some() {
                std::os::unix::fs::fchown(file.file(), owner, owner)?;
            }
            self.0 = Some(Incoming { id, file, hasher: blake3::Hasher::new(), size: 0 });
        }
        let fits = |blob: &&mut Incoming| blob.id == id && blob.size == piece.offset;
        let Some(blob) = self.0.as_mut().filter(fits) else {
            return Err(invalid(format!("a piece of {id} out of order")));
        };
        blob.size += piece.bytes.len() as u64;
        blob.hasher.update(&piece.bytes);
        blob.file.file().write_all(&piece.bytes)?;
        if blob.size < id.size() {
            return Ok(None);
        }
        let Some(blob) = self.0.take() else { return Ok(None) };
        if BlobId::new(Hash::from_bytes(*blob.hasher.finalize().as_bytes()), blob.size) != id {
            return Err(invalid(format!("what was sent as {id} is something else")));
        }
        store.adopt(blob.file.path(), id).map_err(io::Error::other)?;
        Ok(Some(id))
    }
}

fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// The pieces of an open blob, in order.
pub(crate) struct Pieces<R> {
    id: BlobId,
    from: R,
    offset: u64,
    ended: bool,
}

impl<R: Read> Pieces<R> {
    pub(crate) fn of(id: BlobId, from: R) -> Self {
        Self { id, from, offset: 0, ended: false }
    }

    /// The next piece; nothing after the last.
    ///
    /// # Errors
    /// If the blob cannot be read, or is shorter than its id says.
    pub(crate) fn next(&mut self) -> io::Result<Option<Piece>> {
        if self.ended {
            return Ok(None);
        }
        let left = self.id.size() - self.offset;
        let mut bytes = vec![0; usize::try_from(left).unwrap_or(PIECE).min(PIECE)];
        self.from.read_exact(&mut bytes)?;
        let piece = Piece { id: self.id, offset: self.offset, bytes };
        self.offset += piece.bytes.len() as u64;
        self.ended = self.offset == self.id.size();
        Ok(Some(piece))
    }
}

#[cfg(test)]
mod tests {
    use ggr_ir::ObjectStore;

    use super::*;

    fn pieces(bytes: &[u8]) -> Vec<Piece> {
        let mut pieces = Pieces::of(BlobId::of(bytes), bytes);
        std::iter::from_fn(|| pieces.next().unwrap()).collect()
    }

    #[test]
    fn a_blob_arrives_whole_and_after_one_that_was_broken_off() {
        let dir = tempfile::tempdir().unwrap();
        let store = FsStore::new(dir.path());
        let mut intake = Intake::default();
        let long = vec![7; 2 * PIECE + 1];
        let broken = pieces(&vec![8; PIECE + 1]);
        assert_eq!(intake.take(&store, &broken[0], None).unwrap(), None);
        for bytes in [&long[..], b"", b"short"] {
            let all = pieces(bytes);
            for piece in &all[..all.len() - 1] {
                assert_eq!(intake.take(&store, piece, None).unwrap(), None);
            }
            let id = BlobId::of(bytes);
            assert_eq!(intake.take(&store, &all[all.len() - 1], None).unwrap(), Some(id));
            assert_eq!(store.get_bytes(id).unwrap(), bytes);
        }
        drop(intake);
        assert_eq!(std::fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0);
    }

    #[test]
    fn bytes_under_a_wrong_name_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let store = FsStore::new(dir.path());
        let id = BlobId::of(b"good");
        let lie = Piece { id, offset: 0, bytes: b"evil".to_vec() };
        assert!(Intake::default().take(&store, &lie, None).is_err());
        let late = Piece { id, offset: 2, bytes: b"od".to_vec() };
        assert!(Intake::default().take(&store, &late, None).is_err());
        assert!(!store.contains(id).unwrap());
    }

    #[tokio::test]
    async fn a_frame_over_the_bound_is_refused_and_a_cut_one_is_an_error() {
        let long = 100u32.to_le_bytes();
        assert!(read_frame(&mut &long[..], 99).await.is_err());
        assert!(read_frame(&mut &long[..], 100).await.is_err());
        assert!(read_frame(&mut &b""[..], 100).await.unwrap().is_none());
    }
}
