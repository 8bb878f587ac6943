//! Interned spellings: a [`Sym`] for each distinct identifier, number, string and path.

use std::hash::Hasher;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use rustc_hash::{FxHashMap, FxHasher};
use serde::{Deserialize, Serialize};

/// An interned byte string. Only means something with the [`Symbols`] that made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Sym(pub(crate) u32);

macro_rules! known {
    ($($index:literal $name:ident $text:literal)*) => {
        /// The spellings that the scanner knows by number.
        const KNOWN: &[&str] = &[$($text),*];
        #[allow(missing_docs)]
        impl Sym { $(pub(crate) const $name: Sym = Sym($index);)* }
    };
}

known! {
    0 EMPTY ""
    1 DEFINED "defined"
    2 VA_ARGS "__VA_ARGS__"
    3 VA_OPT "__VA_OPT__"
    4 TRUE "true"
    5 ELLIPSIS "..."
    6 AND "and"
    7 AND_EQ "and_eq"
    8 BITAND "bitand"
    9 BITOR "bitor"
    10 COMPL "compl"
    11 NOT "not"
    12 NOT_EQ "not_eq"
    13 OR "or"
    14 OR_EQ "or_eq"
    15 XOR "xor"
    16 XOR_EQ "xor_eq"
    17 HAS_INCLUDE "__has_include"
    18 HAS_INCLUDE_NEXT "__has_include_next"
    19 DOT_SLASH "./"
    20 STDC_PREDEF "stdc-predef.h"
}

/// Chunk `n` of the table holds `FIRST << n` spellings.
const FIRST: u32 = 1024;
const CHUNKS: usize = 20;

type Chunk = Box<[OnceLock<Arc<[u8]>>]>;

/// The table: append-only, read without a lock.
pub(crate) struct Symbols {
    map: Mutex<Map>,
    chunks: [OnceLock<Chunk>; CHUNKS],
}

#[derive(Default)]
struct Map {
    /// From the hash of a spelling to its symbols; more than one only on a collision.
    by_hash: FxHashMap<u64, u32>,
    collided: FxHashMap<Arc<[u8]>, u32>,
    len: u32,
}

/// The table while spellings are being added.
pub(crate) struct Interning<'a> {
    symbols: &'a Symbols,
    map: MutexGuard<'a, Map>,
}

impl Symbols {
    pub(crate) fn new() -> Symbols {
        let symbols = Symbols { map: Mutex::default(), chunks: Default::default() };
        let mut interning = symbols.lock();
        for text in KNOWN {
            interning.intern(text.as_bytes());
        }
        drop(interning);
        symbols
    }

    pub(crate) fn lock(&self) -> Interning<'_> {
        let map = self.map.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        Interning { symbols: self, map }
    }

    pub(crate) fn intern(&self, text: &[u8]) -> Sym {
        self.lock().intern(text)
    }

    /// The spelling.
    pub(crate) fn text(&self, sym: Sym) -> &[u8] {
        let (chunk, at) = place(sym.0);
        let slot = self.chunks[chunk].get().and_then(|chunk| chunk[at].get());
        slot.expect("a symbol comes from this table")
    }
}

impl Interning<'_> {
    pub(crate) fn intern(&mut self, text: &[u8]) -> Sym {
        let hash = hash(text);
        let at = self.map.len;
        match self.map.by_hash.get(&hash) {
            Some(&found) if self.symbols.text(Sym(found)) == text => return Sym(found),
            Some(_) => {
                if let Some(&found) = self.map.collided.get(text) {
                    return Sym(found);
                }
                self.map.collided.insert(text.into(), at);
            }
            None => {
                self.map.by_hash.insert(hash, at);
            }
        }
        let (chunk, slot) = place(at);
        let chunk = self.symbols.chunks[chunk]
            .get_or_init(|| (0..(FIRST as usize) << chunk).map(|_| OnceLock::new()).collect());
        // Only the holder of the lock fills slots, each once.
        let _ = chunk[slot].set(text.into());
        self.map.len += 1;
        Sym(at)
    }
}

fn place(index: u32) -> (usize, usize) {
    let shifted = index + FIRST;
    let chunk = (31 - shifted.leading_zeros()) - (31 - FIRST.leading_zeros());
    (chunk as usize, (shifted - (FIRST << chunk)) as usize)
}

/// A 64-bit hash of bytes; equal hashes are always followed by a comparison.
pub(crate) fn hash(text: &[u8]) -> u64 {
    let mut hasher = FxHasher::default();
    hasher.write(text);
    hasher.write_usize(text.len());
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_has_one_symbol() {
        let symbols = Symbols::new();
        let made: Vec<Sym> = (0..5000).map(|n| symbols.intern(format!("name{n}").as_bytes())).collect();
        for (n, sym) in made.iter().enumerate() {
            let text = format!("name{n}");
            assert_eq!(symbols.text(*sym), text.as_bytes());
            assert_eq!(symbols.intern(text.as_bytes()), *sym);
        }
        assert_eq!(symbols.text(Sym::STDC_PREDEF), b"stdc-predef.h");
    }
}
