//! Remembered scans and compilers' facts in a file, so that a second build starts warm.
//!
//! The file is a cache: one that is missing, damaged, of another version or too large counts as empty.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use super::facts::Facts;
use super::memo::{Key, Remembered, SeenDir};
use super::request::Compiler;
use super::result::{Dep, Precompiled, Scan};
use super::symbol::{Sym, Symbols};

/// Starts the file; the version is the last byte.
const MAGIC: &[u8; 9] = b"ggr-scan\x03";
/// A reader takes no more than this. Git's 500 units need 2 MB.
const LARGEST: u64 = 256 << 20;
/// A unit that was not asked for in this many sessions is forgotten.
pub(crate) const OLDEST: u8 = 8;

/// The facts of one compiler, as they are kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SavedCompiler {
    pub(crate) compiler: Compiler,
    pub(crate) facts: Facts,
    pub(crate) features: Vec<(Vec<u8>, i64)>,
}

/// A [`SeenDir`], its path an index.
type SavedDir = (u32, Option<(u64, u64)>, Option<u64>, u32);

/// One remembered unit; paths are indices into the table.
#[derive(Debug, Serialize, Deserialize)]
struct SavedUnit {
    deps: Vec<(u32, bool, bool)>,
    dirs: Vec<PathBuf>,
    probed: Vec<PathBuf>,
    uses_time: bool,
    has_incbin: bool,
    precompiled: Option<Precompiled>,
    fails: bool,
    /// Indices into the table of stamps.
    found: Vec<u32>,
    seen: Vec<SavedDir>,
    absent: Vec<u32>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Saved {
    compilers: Vec<SavedCompiler>,
    paths: Vec<Vec<u8>>,
    stamps: Vec<(u32, u64)>,
    /// Each unit as bytes of its own: only those that are asked for are read further.
    units: Vec<(Key, u8, Vec<u8>)>,
}

/// A file that was read, its units not yet.
#[derive(Debug, Default)]
pub(crate) struct Store {
    paths: Vec<Sym>,
    stamps: Vec<(u32, u64)>,
    units: FxHashMap<Key, (u8, Vec<u8>)>,
}

/// Collects paths into a table.
struct Table<'a> {
    symbols: &'a Symbols,
    at: FxHashMap<Sym, u32>,
    paths: Vec<Vec<u8>>,
    stamp_at: FxHashMap<(Sym, u64), u32>,
    stamps: Vec<(u32, u64)>,
}

impl Table<'_> {
    fn path(&mut self, sym: Sym) -> u32 {
        let (symbols, paths) = (self.symbols, &mut self.paths);
        *self.at.entry(sym).or_insert_with(|| {
            paths.push(symbols.text(sym).to_vec());
            paths.len() as u32 - 1
        })
    }

    fn stamp(&mut self, sym: Sym, stamp: u64) -> u32 {
        let path = self.path(sym);
        let stamps = &mut self.stamps;
        *self.stamp_at.entry((sym, stamp)).or_insert_with(|| {
            stamps.push((path, stamp));
            stamps.len() as u32 - 1
        })
    }

    fn unit(&mut self, unit: &Remembered) -> SavedUnit {
        let mut deps = Vec::with_capacity(unit.scan.deps.len());
        for dep in &unit.scan.deps {
            let path = self.symbols.intern(dep.path.as_bytes());
            deps.push((self.path(path), dep.system, dep.generated));
        }
        SavedUnit {
            deps,
            dirs: unit.scan.dirs.clone(),
            probed: unit.scan.probed.clone(),
            uses_time: unit.scan.uses_time,
            has_incbin: unit.scan.has_incbin,
            precompiled: unit.scan.precompiled.clone(),
            fails: unit.scan.fails,
            found: unit.found.iter().map(|(path, stamp)| self.stamp(*path, *stamp)).collect(),
            seen: unit
                .dirs
                .iter()
                .map(|dir| (self.path(dir.path), dir.identity, dir.stamp, dir.absent))
                .collect(),
            absent: unit.absent.iter().map(|path| self.path(*path)).collect(),
        }
    }
}

impl Store {
    /// Reads the file; what cannot be used is nothing.
    pub(crate) fn read(path: &Path, symbols: &Symbols) -> (Store, Vec<SavedCompiler>) {
        let Some(saved) = read_saved(path) else { return (Store::default(), Vec::new()) };
        let mut interning = symbols.lock();
        let paths = saved.paths.iter().map(|path| interning.intern(path)).collect();
        let units = saved.units.into_iter().map(|(key, age, bytes)| (key, (age, bytes))).collect();
        (Store { paths, stamps: saved.stamps, units }, saved.compilers)
    }

    /// Takes a unit out; nothing if it is not there or not in order.
    pub(crate) fn take(&mut self, key: &Key, symbols: &Symbols) -> Option<Remembered> {
        let (_, bytes) = self.units.remove(key)?;
        self.decode(&bytes, symbols)
    }

    fn decode(&self, bytes: &[u8], symbols: &Symbols) -> Option<Remembered> {
        let saved: SavedUnit = postcard::from_bytes(bytes).ok()?;
        let path = |at: u32| self.paths.get(at as usize).copied();
        let mut deps = Vec::with_capacity(saved.deps.len());
        for (at, system, generated) in saved.deps {
            let text = std::str::from_utf8(symbols.text(path(at)?)).ok()?;
            deps.push(Dep { path: text.to_owned(), system, generated });
        }
        let mut found = Vec::with_capacity(saved.found.len());
        for at in saved.found {
            let (at, stamp) = *self.stamps.get(at as usize)?;
            found.push((path(at)?, stamp));
        }
        let mut dirs = Vec::with_capacity(saved.seen.len());
        for (at, identity, stamp, absent) in saved.seen {
            dirs.push(SeenDir { path: path(at)?, identity, stamp, absent });
        }
        let absent: Option<Vec<Sym>> = saved.absent.into_iter().map(path).collect();
        let absent = absent?;
        let vouched: usize = dirs.iter().map(|dir| dir.absent as usize).sum();
        let scan = Scan {
            deps,
            dirs: saved.dirs,
            probed: saved.probed,
            uses_time: saved.uses_time,
            has_incbin: saved.has_incbin,
            precompiled: saved.precompiled,
            fails: saved.fails,
        };
        (vouched == absent.len()).then(|| Remembered { scan: Arc::new(scan), found, dirs, absent })
    }

    /// Writes these units, and those of the file that were not asked for and are not too old.
    pub(crate) fn write<'u>(
        &self,
        path: &Path,
        symbols: &Symbols,
        compilers: Vec<SavedCompiler>,
        units: impl Iterator<Item = (&'u Key, &'u Remembered)>,
    ) -> io::Result<()> {
        let mut table = Table {
            symbols,
            at: FxHashMap::default(),
            paths: Vec::new(),
            stamp_at: FxHashMap::default(),
            stamps: Vec::new(),
        };
        let mut out = Vec::new();
        let mut add = |key: &Key, age: u8, unit: &Remembered| {
            if let Ok(bytes) = postcard::to_allocvec(&table.unit(unit)) {
                out.push((*key, age, bytes));
            }
        };
        units.for_each(|(key, unit)| add(key, 0, unit));
        for (key, (age, bytes)) in &self.units {
            if *age < OLDEST
                && let Some(unit) = self.decode(bytes, symbols)
            {
                add(key, age + 1, &unit);
            }
        }
        out.sort_unstable_by_key(|(key, _, _)| *key);
        let saved = Saved { compilers, paths: table.paths, stamps: table.stamps, units: out };
        let payload = postcard::to_allocvec(&saved).map_err(io::Error::other)?;
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(blake3::hash(&payload).as_bytes());
        bytes.extend_from_slice(&payload);
        if bytes.len() as u64 > LARGEST {
            return Err(io::Error::other("the scanner's cache has grown too large to keep"));
        }
        replace(path, &bytes)
    }
}

fn read_saved(path: &Path) -> Option<Saved> {
    if std::fs::metadata(path).ok()?.len() > LARGEST {
        return None;
    }
    let bytes = std::fs::read(path).ok()?;
    let (sum, payload) = bytes.strip_prefix(MAGIC)?.split_at_checked(32)?;
    if blake3::hash(payload).as_bytes() != sum {
        return None;
    }
    postcard::from_bytes(payload).ok()
}

/// A reader sees the old file or the new one.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", std::process::id()));
    let temporary = PathBuf::from(name);
    let written = std::fs::write(&temporary, bytes).and_then(|()| std::fs::rename(&temporary, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    written
}
