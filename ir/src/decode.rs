//! Reads the canonical encoding back. Takes exactly what [`Thunk::encode`] writes: maps in strict order, nothing after
//! the end, so decoding and encoding again gives the same bytes and the same id.

use std::collections::BTreeMap;

use crate::encode::VERSION;
use crate::hash::{BlobId, Hash, ThunkId};
use crate::job::Network;
use crate::path::{PathError, RootPath};
use crate::thunk::{Command, Entry, Harvest, Mode, Object, OutputName, OutputRef, Thunk};

/// The longest encoding that a reader takes, in bytes. A link of 100,000 objects takes about 15 MB.
pub const MAX_LEN: usize = 256 << 20;

/// Why bytes are not an encoded thunk.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// They do not start with `ggr-thunk`.
    #[error("these bytes are no encoded thunk")]
    NotAThunk,
    /// Another version of the encoding.
    #[error("encoding version {0}, expected {VERSION}")]
    Version(u8),
    /// Longer than [`MAX_LEN`].
    #[error("an encoded thunk of {0} bytes is too long")]
    TooLong(usize),
    /// The bytes end inside a field, or a length points past their end.
    #[error("the encoding ends early, at byte {0}")]
    Short(usize),
    /// A text is not UTF-8.
    #[error("a text at byte {0} is not UTF-8")]
    NotUtf8(usize),
    /// A tag has no meaning.
    #[error("unknown tag {tag} at byte {at}")]
    Tag {
        /// The byte.
        tag: u8,
        /// Where.
        at: usize,
    },
    /// A map's keys are not in strict order.
    #[error("keys out of order at byte {0}")]
    Order(usize),
    /// Bytes follow the end.
    #[error("{0} bytes follow the end")]
    Trailing(usize),
    /// A path is not normal.
    #[error(transparent)]
    Path(#[from] PathError),
}

/// How an input's object is read from the encoding.
pub trait DecodeObject: Sized {
    #[doc(hidden)]
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError>;
}

impl DecodeObject for BlobId {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match from.byte()? {
            b'V' => from.blob(),
            tag => Err(from.unknown(tag)),
        }
    }
}

impl DecodeObject for Object {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match from.byte()? {
            b'V' => from.blob().map(Object::Blob),
            b'T' => {
                let thunk = ThunkId::new(Hash::from_bytes(from.array()?));
                Ok(Object::Output(OutputRef { thunk, name: from.text()?.into() }))
            }
            tag => Err(from.unknown(tag)),
        }
    }
}

impl<O: DecodeObject> Thunk<O> {
    /// Reads what [`encode`](Thunk::encode) wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > MAX_LEN {
            return Err(DecodeError::TooLong(bytes.len()));
        }
        let mut from = Reader { bytes, at: 0 };
        if from.take(9).ok() != Some(b"ggr-thunk".as_slice()) {
            return Err(DecodeError::NotAThunk);
        }
        match from.byte()? {
            VERSION => {}
            other => return Err(DecodeError::Version(other)),
        }
        let command = from.command()?;
        let inputs = from.map(Reader::path, |from| {
            let mode = from.mode()?;
            Ok(Entry { object: O::decode(from)?, mode })
        })?;
        let outputs = from.map(|from| from.text().map(OutputName::from), Reader::path)?;
        let harvest = match from.byte()? {
            0 => Harvest::Declared,
            1 => Harvest::Everything,
            tag => return Err(from.unknown(tag)),
        };
        let network = match bytes[from.at..] {
            [] => Network::None,
            [1] => Network::Tenant,
            [2] => Network::Own,
            ref rest => return Err(DecodeError::Trailing(rest.len())),
        };
        Ok(Self { command, inputs, outputs, harvest, network })
    }
}

/// Walks an encoding.
#[doc(hidden)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let end = self.at.checked_add(len).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or(DecodeError::Short(self.at))?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        Ok(self.take(N)?.try_into().expect("`take` gives as many bytes as asked"))
    }

    fn byte(&mut self) -> Result<u8, DecodeError> {
        Ok(self.array::<1>()?[0])
    }

    fn number(&mut self) -> Result<usize, DecodeError> {
        Ok(u32::from_le_bytes(self.array()?) as usize)
    }

    fn text(&mut self) -> Result<&'a str, DecodeError> {
        let at = self.at;
        let len = self.number()?;
        std::str::from_utf8(self.take(len)?).map_err(|_| DecodeError::NotUtf8(at))
    }

    fn path(&mut self) -> Result<RootPath, DecodeError> {
        Ok(RootPath::new(self.text()?)?)
    }

    fn blob(&mut self) -> Result<BlobId, DecodeError> {
        let hash = Hash::from_bytes(self.array()?);
        Ok(BlobId::new(hash, u64::from_le_bytes(self.array()?)))
    }

    fn mode(&mut self) -> Result<Mode, DecodeError> {
        match self.byte()? {
            0 => Ok(Mode::Regular),
            1 => Ok(Mode::Executable),
            2 => Ok(Mode::Symlink),
            3 => Ok(Mode::Directory),
            tag => Err(self.unknown(tag)),
        }
    }

    /// A count of items; each takes at least four bytes, so a larger one is a lie, not a reason to allocate.
    fn count(&mut self) -> Result<usize, DecodeError> {
        let count = self.number()?;
        if count > (self.bytes.len() - self.at) / 4 {
            return Err(DecodeError::Short(self.at));
        }
        Ok(count)
    }

    fn map<K: Ord, V>(
        &mut self,
        key: impl Fn(&mut Self) -> Result<K, DecodeError>,
        value: impl Fn(&mut Self) -> Result<V, DecodeError>,
    ) -> Result<BTreeMap<K, V>, DecodeError> {
        let mut map = BTreeMap::new();
        for _ in 0..self.count()? {
            let at = self.at;
            let key = key(self)?;
            if map.last_key_value().is_some_and(|(last, _)| *last >= key) {
                return Err(DecodeError::Order(at));
            }
            map.insert(key, value(self)?);
        }
        Ok(map)
    }

    fn command(&mut self) -> Result<Command, DecodeError> {
        let program = self.path()?;
        let count = self.count()?;
        let args = (0..count).map(|_| self.text().map(str::to_owned)).collect::<Result<_, _>>()?;
        let env = self.map(|from| from.text().map(str::to_owned), |from| from.text().map(str::to_owned))?;
        Ok(Command { program, args, env, dir: self.path()? })
    }

    fn unknown(&self, tag: u8) -> DecodeError {
        DecodeError::Tag { tag, at: self.at - 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{sample, thunks};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn decoding_gives_back_what_was_encoded(thunk in thunks()) {
            prop_assert_eq!(Thunk::decode(&thunk.encode()), Ok(thunk));
        }

        #[test]
        fn whatever_is_decoded_encodes_to_the_same_bytes(
            thunk in thunks(), at in any::<prop::sample::Index>(), byte: u8,
        ) {
            let mut bytes = thunk.encode();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if let Ok(changed) = Thunk::<Object>::decode(&bytes) {
                prop_assert_eq!(changed.encode(), bytes);
            }
        }

        #[test]
        fn random_bytes_do_no_harm(tail: Vec<u8>) {
            let bytes = [b"ggr-thunk\x01".as_slice(), &tail].concat();
            let _ = Thunk::<Object>::decode(&bytes);
        }
    }

    #[test]
    fn every_cut_is_noticed() {
        let bytes = sample().encode();
        for end in 0..bytes.len() {
            assert!(Thunk::<Object>::decode(&bytes[..end]).is_err(), "cut at {end}");
        }
        let longer = [&bytes[..], b"x"].concat();
        assert_eq!(Thunk::<Object>::decode(&longer), Err(DecodeError::Trailing(1)));
    }

    #[test]
    fn another_version_is_named() {
        let mut bytes = sample().encode();
        bytes[9] = 9;
        assert_eq!(Thunk::<Object>::decode(&bytes), Err(DecodeError::Version(9)));
    }

    #[test]
    fn a_thunk_with_outputs_as_inputs_is_not_ready() {
        let bytes = sample().encode();
        assert!(matches!(Thunk::<BlobId>::decode(&bytes), Err(DecodeError::Tag { tag: b'T', .. })));
    }
}
