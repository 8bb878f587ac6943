//! A large blob on its way into the local store: unpacked and hashed as it comes.

use std::io::{self, Write};

use ggr_ir::repo::TempFile;
use ggr_ir::{BlobId, Hash};

use crate::store::FsStore;

/// See the module's documentation.
pub(super) struct Unpacking {
    decoder: zstd::stream::write::Decoder<'static, Checked>,
}

struct Checked {
    temp: TempFile,
    hasher: blake3::Hasher,
    id: BlobId,
    left: u64,
}

impl Unpacking {
    /// A blob that goes below this store.
    pub(super) fn new(local: &FsStore, id: BlobId) -> io::Result<Self> {
        let temp = local.temporary().map_err(io::Error::other)?;
        let checked = Checked { temp, hasher: blake3::Hasher::new(), id, left: id.size() };
        Ok(Self { decoder: zstd::stream::write::Decoder::new(checked)? })
    }

    /// The finished file.
    ///
    /// # Errors
    /// If it holds another blob.
    pub(super) fn finish(mut self) -> io::Result<TempFile> {
        self.decoder.flush()?;
        let Checked { temp, hasher, id, left } = self.decoder.into_inner();
        let found = BlobId::new(Hash::from_bytes(*hasher.finalize().as_bytes()), id.size());
        if left == 0 && found == id { Ok(temp) } else { Err(io::ErrorKind::InvalidData.into()) }
    }
}

impl Write for Unpacking {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.decoder.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.decoder.flush()
    }
}

impl Write for Checked {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // More than its id says.
        let left = self.left.checked_sub(bytes.len() as u64).ok_or(io::ErrorKind::InvalidData)?;
        self.temp.file().write_all(bytes)?;
        self.hasher.update(bytes);
        self.left = left;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
