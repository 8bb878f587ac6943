//! A byte stream that is packed: one zstd frame that never ends, for each direction of a connection.
//!
//! What was sent before is what the next bytes are packed with, so what is like it travels as a reference: an archive after its
//! members, a program after what it was linked from, a job after one with the same headers. No list of who has which piece is
//! needed for that, as the window is the connection itself. What comes out is checked by each blob's hash, as ever.
//!
//! **Bound:** a window of [`WINDOW`] for each direction at each end, whose memory is touched as bytes pass; a reader refuses a
//! frame that claims more.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};
use zstd::stream::raw::{CParameter, DParameter, Decoder, Encoder, InBuffer, Operation, OutBuffer};

/// How far back bytes are found again, as a power of two: 8 MiB. An archive of 300 KiB behind its 25 members takes 1 KiB, and a program
/// is found in what it was linked from as long as that fits.
const WINDOW: u32 = 23;

/// zstd's level: 3 packs 13 KiB objects to a twentieth behind others of their kind, and 6 does no better.
const LEVEL: i32 = 3;

/// Bytes that are read, and room that is made for what is packed, at a time.
const CHUNK: usize = 64 << 10;

/// Packs what is written.
pub(super) struct Packer(Encoder<'static>);

impl Packer {
    /// # Errors
    /// If zstd has no memory.
    pub(super) fn new() -> io::Result<Self> {
        let mut encoder = Encoder::new(LEVEL)?;
        encoder.set_parameter(CParameter::WindowLog(WINDOW))?;
        encoder.set_parameter(CParameter::EnableLongDistanceMatching(true))?;
        Ok(Self(encoder))
    }

    /// Packs these bytes behind what was packed before; some of it may stay inside until [`flush`](Self::flush).
    pub(super) fn pack(&mut self, bytes: &[u8], into: &mut Vec<u8>) -> io::Result<()> {
        let mut from = InBuffer::around(bytes);
        while from.pos() < bytes.len() {
            append(into, |to| self.0.run(&mut from, to))?;
        }
        Ok(())
    }

    /// Everything that was packed can be read by the other end now.
    pub(super) fn flush(&mut self, into: &mut Vec<u8>) -> io::Result<()> {
        while append(into, |to| self.0.flush(to))? > 0 {}
        Ok(())
    }
}

/// Gives zstd room at the end of `into`, and what it answers back.
fn append(
    into: &mut Vec<u8>,
    work: impl FnOnce(&mut OutBuffer<'_, Vec<u8>>) -> io::Result<usize>,
) -> io::Result<usize> {
    into.reserve(CHUNK);
    let at = into.len();
    let mut to = OutBuffer::around_pos(into, at);
    work(&mut to)
}

/// Unpacks what is read.
pub(super) struct Unpacker<R> {
    from: R,
    decoder: Decoder<'static>,
    chunk: Box<[u8]>,
    /// What of the chunk is not unpacked yet.
    left: std::ops::Range<usize>,
    /// The last call filled all the room that it had, so there may be more without reading.
    full: bool,
}

impl<R> Unpacker<R> {
    /// # Errors
    /// If zstd has no memory.
    pub(super) fn new(from: R) -> io::Result<Self> {
        let mut decoder = Decoder::new()?;
        decoder.set_parameter(DParameter::WindowLogMax(WINDOW))?;
        Ok(Self { from, decoder, chunk: vec![0; CHUNK].into(), left: 0..0, full: false })
    }

    /// Unpacks into `out` what is there without reading; whether that was anything.
    fn unpack(&mut self, out: &mut ReadBuf<'_>) -> io::Result<bool> {
        while self.full || !self.left.is_empty() {
            let mut from = InBuffer::around(&self.chunk[self.left.clone()]);
            let mut to = OutBuffer::around(out.initialize_unfilled());
            self.decoder.run(&mut from, &mut to)?;
            let (taken, made, room) = (from.pos(), to.pos(), to.capacity());
            self.left.start += taken;
            self.full = made == room;
            if made > 0 {
                out.advance(made);
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Unpacker<R> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while out.remaining() > 0 && !this.unpack(out)? {
            let mut chunk = ReadBuf::new(&mut this.chunk);
            ready!(Pin::new(&mut this.from).poll_read(context, &mut chunk))?;
            this.left = 0..chunk.filled().len();
            if this.left.is_empty() {
                break;
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    /// Bytes that nothing packs.
    fn noise(length: usize, seed: u64) -> Vec<u8> {
        let mut dice = crate::dice::Dice(seed);
        (0..length).map(|_| dice.below(256) as u8).collect()
    }

    #[tokio::test]
    async fn each_flush_is_read_at_once_and_what_was_sent_before_costs_next_to_nothing() {
        let (mut packer, mut packed) = (Packer::new().unwrap(), Vec::new());
        let (near, mut far) = tokio::io::duplex(1 << 20);
        let mut unpacker = Unpacker::new(near).unwrap();
        let (one, other) = (noise(300_000, 1), noise(300_000, 2));
        let mut costs = Vec::new();
        for bytes in [&one, &other, &b"x".to_vec(), &one, &[&other[..], &one].concat()] {
            packed.clear();
            packer.pack(bytes, &mut packed).unwrap();
            packer.flush(&mut packed).unwrap();
            costs.push(packed.len());
            tokio::io::AsyncWriteExt::write_all(&mut far, &packed).await.unwrap();
            let mut read = vec![0; bytes.len()];
            unpacker.read_exact(&mut read).await.unwrap();
            assert!(read == **bytes);
        }
        assert!(costs[0] >= 300_000 && costs[2] < 32 && costs[3] < 1000 && costs[4] < 1000, "{costs:?}");
        drop(far);
        assert_eq!(unpacker.read(&mut [0; 8]).await.unwrap(), 0, "it ends where the other end hangs up");
    }

    #[tokio::test]
    async fn what_is_no_packed_stream_or_claims_a_larger_window_is_an_error() {
        let mut encoder = Encoder::new(1).unwrap();
        encoder.set_parameter(CParameter::WindowLog(WINDOW + 1)).unwrap();
        let mut wide = Vec::new();
        append(&mut wide, |to| encoder.run(&mut InBuffer::around(b"abc"), to)).unwrap();
        append(&mut wide, |to| encoder.flush(to)).unwrap();
        for bytes in [&wide[..], b"not packed at all"] {
            assert!(Unpacker::new(bytes).unwrap().read(&mut [0; 8]).await.is_err());
        }
    }
}
