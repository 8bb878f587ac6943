//! Remembered durations: what the next build's critical path is computed from.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ggr_ir::Kind;
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

/// The version of the file's format, its first byte.
const VERSION: u8 = 3;

/// Keys kept; past this the least recently learned half is forgotten. At about 24 bytes each, the file stays under 10 MB.
const MOST: usize = 400_000;

/// The longest file that is read, in bytes.
const MAX_FILE: u64 = 32 << 20;

/// How much a new duration moves the remembered one: a quarter, so that one slow run on a busy machine is forgotten soon.
const WEIGHT: f64 = 0.25;

/// A file of durations that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("durations could not be saved to `{}`", path.display())]
pub struct SaveError {
    /// The file.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// How long one key took.
#[derive(Clone, Copy, Serialize, Deserialize, Debug)]
struct Remembered {
    micros: u64,
    /// The value of `Durations::clock` when it was last learned.
    at: u64,
}

/// How long one kind takes in the mean at one size.
#[derive(Clone, Copy, Default, Serialize, Deserialize, Debug)]
struct Mean {
    micros: f64,
    samples: u64,
}

impl Mean {
    /// Old samples fade: the mean is that of about the last thousand.
    fn learn(&mut self, micros: u64) {
        self.samples += 1;
        self.micros += (micros as f64 - self.micros) / self.samples.min(1000) as f64;
    }
}

/// How large what a thunk works on is, in steps of half a power of two: durations grow with it, but no straight line fits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Debug)]
pub struct SizeClass(u8);

impl SizeClass {
    /// The class of this many bytes.
    pub fn of(bytes: u64) -> Self {
        let bytes = bytes.max(2);
        let half = (bytes >> (bytes.ilog2() - 1)) & 1;
        Self((2 * bytes.ilog2()) as u8 + half as u8)
    }

    /// How many times as large things of this class are as those of the other, at most eight or an eighth: further than that
    /// nothing can be said.
    fn times(self, other: Self) -> f64 {
        f64::exp2((f64::from(self.0) - f64::from(other.0)) / 2.0).clamp(0.125, 8.0)
    }
}

/// How long thunks took, by label and kind. Keys are 64-bit hashes of both: a collision gives a wrong estimate, no more.
#[derive(Clone, Default, Serialize, Deserialize, Debug)]
pub struct Durations {
    exact: FxHashMap<u64, Remembered>,
    sizes: BTreeMap<(Kind, SizeClass), Mean>,
    clock: u64,
}

fn key(label: &str, kind: Kind) -> u64 {
    let hash = ggr_ir::Hash::of(format!("{kind:?} {label}").as_bytes());
    u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("a hash has eight bytes"))
}

impl Durations {
    /// Reads a file that [`save`](Self::save) wrote. A missing, damaged or newer file is an empty memory: estimates are
    /// worth no error.
    pub fn load(path: &Path) -> Self {
        let read = || {
            let bounded = fs::metadata(path).ok()?.len() <= MAX_FILE;
            let bytes = bounded.then(|| fs::read(path).ok())??;
            let (&version, rest) = bytes.split_first()?;
            (version == VERSION).then(|| postcard::from_bytes(rest).ok())?
        };
        read().unwrap_or_default()
    }

    /// Writes the file through a temporary one beside it, so that a reader sees the old or the new.
    ///
    /// # Errors
    /// The file system's.
    pub fn save(&self, path: &Path) -> Result<(), SaveError> {
        let bytes = postcard::to_extend(self, vec![VERSION]).expect("numbers and maps can be encoded");
        let temporary = path.with_extension(format!("tmp.{}", std::process::id()));
        fs::write(&temporary, bytes)
            .and_then(|()| fs::rename(&temporary, path))
            .map_err(|source| SaveError { path: path.to_owned(), source })
    }

    /// Takes in how long one took.
    pub fn learn(&mut self, label: &str, kind: Kind, size: SizeClass, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.clock += 1;
        let at = self.clock;
        self.exact
            .entry(key(label, kind))
            .and_modify(|known| {
                let moved = known.micros as f64 * (1.0 - WEIGHT) + micros as f64 * WEIGHT;
                *known = Remembered { micros: moved as u64, at };
            })
            .or_insert(Remembered { micros, at });
        self.sizes.entry((kind, size)).or_default().learn(micros);
        if self.exact.len() > MOST {
            self.forget();
        }
    }

    /// How long it will take: what it took before, or what its kind takes in the mean at such a size, or at the nearest that
    /// is known, and in proportion; nothing if none of these is known.
    pub fn estimate(&self, label: &str, kind: Kind, size: SizeClass) -> Option<Duration> {
        let exact = self.exact.get(&key(label, kind)).map(|known| known.micros);
        exact.or_else(|| self.of_size(kind, size)).map(Duration::from_micros)
    }

    fn of_size(&self, kind: Kind, size: SizeClass) -> Option<u64> {
        let known = self.sizes.range((kind, SizeClass(0))..=(kind, SizeClass(u8::MAX)));
        let (&(_, nearest), mean) = known.min_by_key(|((_, known), _)| known.0.abs_diff(size.0))?;
        Some((mean.micros * size.times(nearest)) as u64)
    }

    /// How long it took before; nothing if it did not run.
    pub fn remembered(&self, label: &str, kind: Kind) -> Option<Duration> {
        self.exact.get(&key(label, kind)).map(|known| Duration::from_micros(known.micros))
    }

    /// Forgets the half that was learned longest ago.
    fn forget(&mut self) {
        let mut ages: Vec<u64> = self.exact.values().map(|known| known.at).collect();
        let middle = ages.len() / 2;
        let (_, &mut cut, _) = ages.select_nth_unstable(middle);
        self.exact.retain(|_, known| known.at >= cut);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: SizeClass = SizeClass(2);

    #[test]
    fn an_exact_key_wins_over_the_kind() {
        let mut durations = Durations::default();
        assert_eq!(durations.estimate("gcc a.o", Kind::Compile, SMALL), None);
        durations.learn("gcc a.o", Kind::Compile, SMALL, Duration::from_secs(4));
        durations.learn("gcc b.o", Kind::Compile, SMALL, Duration::from_secs(2));
        assert_eq!(durations.estimate("gcc a.o", Kind::Compile, SMALL), Some(Duration::from_secs(4)));
        assert_eq!(durations.estimate("gcc c.o", Kind::Compile, SMALL), Some(Duration::from_secs(3)));
        assert_eq!(durations.estimate("gcc a.o", Kind::Link, SMALL), None);
    }

    #[test]
    fn an_unknown_key_is_estimated_by_its_size() {
        let mut durations = Durations::default();
        let large = SizeClass::of(1 << 20);
        durations.learn("gcc a.o", Kind::Compile, SMALL, Duration::from_secs(1));
        durations.learn("gcc b.o", Kind::Compile, large, Duration::from_secs(9));
        let estimate = |size| durations.estimate("gcc c.o", Kind::Compile, size).unwrap().as_secs();
        assert_eq!((estimate(SMALL), estimate(large), estimate(SizeClass::of(4 << 20))), (1, 9, 36));
        assert_eq!(estimate(SizeClass::of(u64::MAX)), 72, "further than that nothing can be said");
    }

    #[test]
    fn size_classes_are_half_octaves() {
        let classes = [0, 1, 2, 3, 4, 5, 6, 7, 8, u64::MAX].map(|bytes| SizeClass::of(bytes).0);
        assert_eq!(classes, [2, 2, 2, 3, 4, 4, 5, 5, 6, 127]);
    }

    #[test]
    fn what_is_saved_is_loaded_and_damage_is_an_empty_memory() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("durations");
        let mut durations = Durations::default();
        durations.learn("gcc a.o", Kind::Compile, SMALL, Duration::from_secs(4));
        durations.save(&path).unwrap();
        let loaded = Durations::load(&path);
        assert_eq!(loaded.estimate("gcc a.o", Kind::Compile, SMALL), Some(Duration::from_secs(4)));

        let good = fs::read(&path).unwrap();
        for bad in [&good[..good.len() / 2], b"", b"\xffwhatever"] {
            fs::write(&path, bad).unwrap();
            assert_eq!(Durations::load(&path).estimate("gcc a.o", Kind::Compile, SMALL), None);
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file stays");
    }

    #[test]
    fn a_full_memory_forgets_the_oldest_half() {
        let mut durations = Durations::default();
        for i in 0..=MOST {
            durations.learn(&i.to_string(), Kind::Other, SMALL, Duration::from_millis(7));
        }
        assert!(durations.exact.len() <= MOST / 2 + 1);
        assert!(durations.exact.contains_key(&key(&MOST.to_string(), Kind::Other)));
        assert!(!durations.exact.contains_key(&key("0", Kind::Other)));
    }
}
