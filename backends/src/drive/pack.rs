//! Thunks in little memory, for builds whose tracing is far ahead of their running.
//!
//! A compile has hundreds of inputs, and most of them are the same headers for every other compile: as a map, 100 bytes
//! each. Here each distinct input is kept once, and a thunk is a list of numbers. (gg took 4.45 GB for Chromium's 90,000
//! thunks; at 500 inputs each the maps would take as much, the numbers 180 MB.)

use std::hash::BuildHasher;

use ggr_ir::{Command, Entry, Harvest, Network, Object, OutputName, RootPath, Thunk};
use rustc_hash::{FxBuildHasher, FxHashMap};
use serde::{Deserialize, Serialize};

type Input = (RootPath, Entry<Object>);

/// The distinct inputs of the packed thunks. Bound: it only grows, until [`clear`](Self::clear).
#[derive(Debug, Default)]
pub(super) struct Packer {
    inputs: Vec<Input>,
    /// Numbers by the hash of the input. Where two inputs have one hash, the second is kept as often as it comes.
    numbers: FxHashMap<u64, u32>,
}

/// A thunk, packed: the numbers of its inputs in the order of their paths (four bytes each, after their count), then the
/// rest.
#[derive(Debug)]
pub(super) struct Packed(Box<[u8]>);

#[derive(Serialize, Deserialize)]
struct Rest {
    command: Command,
    outputs: Vec<(OutputName, RootPath)>,
    harvest: Harvest,
    network: Network,
}

impl Packer {
    pub(super) fn pack(&mut self, thunk: &Thunk) -> Packed {
        let rest = Rest {
            command: thunk.command.clone(),
            outputs: thunk.outputs.iter().map(|(name, path)| (name.clone(), path.clone())).collect(),
            harvest: thunk.harvest,
            network: thunk.network,
        };
        let count = u32::try_from(thunk.inputs.len()).expect("inputs are numbered with 32 bits");
        let mut bytes = Vec::with_capacity(256 + 4 * thunk.inputs.len());
        bytes.extend_from_slice(&count.to_le_bytes());
        for (path, entry) in &thunk.inputs {
            bytes.extend_from_slice(&self.number(path, entry).to_le_bytes());
        }
        let bytes = postcard::to_extend(&rest, bytes).expect("text, lists and maps can be encoded");
        Packed(bytes.into())
    }

    fn number(&mut self, path: &RootPath, entry: &Entry<Object>) -> u32 {
        let hash = FxBuildHasher.hash_one((path, entry));
        let known = self.numbers.get(&hash).copied();
        if let Some(number) = known
            && let (known_path, known_entry) = &self.inputs[number as usize]
            && (known_path, known_entry) == (path, entry)
        {
            return number;
        }
        let number =
            u32::try_from(self.inputs.len()).expect("four billion distinct inputs do not fit in memory");
        self.inputs.push((path.clone(), entry.clone()));
        self.numbers.entry(hash).or_insert(number);
        number
    }

    pub(super) fn unpack(&self, Packed(bytes): &Packed) -> Thunk {
        let word = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().expect("four bytes are four bytes"));
        let (count, bytes) = bytes.split_at(4);
        let (numbers, rest) = bytes.split_at(4 * word(count) as usize);
        let rest: Rest = postcard::from_bytes(rest).expect("`pack` encoded it");
        Thunk {
            command: rest.command,
            inputs: numbers
                .chunks_exact(4)
                .map(|number| self.inputs[word(number) as usize].clone())
                .collect(),
            outputs: rest.outputs.into_iter().collect(),
            harvest: rest.harvest,
            network: rest.network,
        }
    }

    /// Forgets all inputs: no packed thunk is left.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ggr_ir::{BlobId, Mode, OutputRef, ThunkId};

    use super::*;

    #[test]
    fn what_is_packed_is_unpacked_and_like_inputs_are_kept_once() {
        let path = |text: &str| RootPath::new(text).unwrap();
        let header = |n: u32| {
            let object = Object::Blob(BlobId::of(&n.to_le_bytes()));
            (path(&format!("/usr/include/{n}.h")), Entry { object, mode: Mode::Regular })
        };
        let thunk = |label: &str| {
            let made = OutputRef { thunk: ThunkId::synthetic(1), name: "/x".into() };
            let own = [
                (
                    path(&format!("/{label}.c")),
                    Entry { object: Object::Blob(BlobId::of(b"")), mode: Mode::Regular },
                ),
                (path("/x"), Entry { object: Object::Output(made), mode: Mode::Executable }),
            ];
            Thunk {
                command: Command {
                    program: path("/bin/cc"),
                    args: vec!["cc".to_owned(), label.to_owned()],
                    env: BTreeMap::from([("LANG".to_owned(), "C".to_owned())]),
                    dir: path("/"),
                },
                inputs: (0..300).map(header).chain(own).collect(),
                outputs: BTreeMap::from([("/o".into(), path("/o")), ("/d".into(), path("/d"))]),
                harvest: Harvest::Everything,
                network: Network::Own,
            }
        };
        let mut packer = Packer::default();
        let (a, b) = (thunk("a"), thunk("b"));
        let (packed_a, packed_b) = (packer.pack(&a), packer.pack(&b));
        assert_eq!(packer.unpack(&packed_a), a);
        assert_eq!(packer.unpack(&packed_b), b);
        assert_eq!(packer.unpack(&packed_b).id(), b.id());
        assert_eq!(packer.inputs.len(), 303);
    }
}
