//! The scanner: what all units of a process share.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use rustc_hash::{FxBuildHasher, FxHashSet};

use super::facts::{CompilerFacts, Facts};
use super::lexed::Lexed;
use super::macros::{Builtin, MacroTable};
use super::memo::{self, Key, Remembered, Verdict};
use super::mode::Mode;
use super::persist::{SavedCompiler, Store};
use super::request::{Compiler, Language, MacroFlag, ScanRequest};
use super::result::{Scan, ScanMiss};
use super::symbol::{Sym, Symbols};
use super::unit::Unit;
use super::watch::Absent;
use crate::model::FileView;

type FastMap<K, V> = HashMap<K, V, FxBuildHasher>;

/// Scans translation units. Cheap to share: all methods take `&self`, from any number of threads.
pub struct Scanner {
    compilers: Box<dyn CompilerFacts>,
    symbols: Symbols,
    setups: Mutex<FastMap<Compiler, Result<Arc<Setup>, ScanMiss>>>,
    lexed: RwLock<LexedFiles>,
    probes: RwLock<FastMap<ProbeKey, Probed>>,
    listings: RwLock<FastMap<Sym, Listing>>,
    tables: Mutex<Vec<MacroTable>>,
    remembered: RwLock<FastMap<Key, Arc<Remembered>>>,
    store: Mutex<Store>,
    saved_compilers: Mutex<FastMap<Compiler, SavedCompiler>>,
}

/// Lexed files by absolute path and mode, with the stamp that they had.
type LexedFiles = FastMap<(Sym, Mode), (u64, Arc<Lexed>)>;

/// Working directory (if it matters), directory of the chain, name, and whether the directory is a system one.
pub(crate) type ProbeKey = (Sym, Sym, Sym, bool);

/// What a search in one directory came to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Probed {
    Absent(Absent),
    File { path: Sym, absolute: Sym },
}

/// How often something was looked for in a directory in vain before its names are listed: listing costs as much as some
/// dozen of questions.
const LISTED_AFTER: u32 = 6;

/// The names in a directory, as long as it has this stamp.
#[derive(Debug, Default)]
struct Listing {
    stamp: u64,
    misses: u32,
    names: Option<FxHashSet<Vec<u8>>>,
}

/// A feature test: its operator, the scope of its name if it has one, and the name.
pub(crate) type FeatureTest = (Sym, Sym, Sym);

/// What a compiler with its flags comes to.
pub(crate) struct Setup {
    pub(crate) facts: Facts,
    pub(crate) mode: Mode,
    pub(crate) predefined: Arc<Lexed>,
    pub(crate) special: Vec<(Sym, Builtin)>,
    /// Whether `stdc-predef.h` comes first.
    pub(crate) preinclude: bool,
    /// Predefined macros that `#pragma GCC target` may change.
    pub(crate) target_macros: Vec<Sym>,
    /// Predefined macros that `#pragma GCC optimize` may change.
    pub(crate) optimize_macros: Vec<Sym>,
    /// Values of feature tests; none where the compiler gave none.
    features: Mutex<FastMap<Vec<u8>, Option<i64>>>,
    /// Those of them that were asked for, again, without their text.
    answers: RwLock<FastMap<FeatureTest, i64>>,
}

impl Setup {
    /// The value of a test, if it is known by its symbols.
    pub(crate) fn answer(&self, test: FeatureTest) -> Option<i64> {
        self.answers.read().unwrap_or_else(PoisonError::into_inner).get(&test).copied()
    }

    /// Keeps the value of a test.
    pub(crate) fn keep_answer(&self, test: FeatureTest, value: i64) {
        self.answers.write().unwrap_or_else(PoisonError::into_inner).insert(test, value);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Scanner {
    /// A scanner that knows nothing yet.
    pub fn new(compilers: Box<dyn CompilerFacts>) -> Scanner {
        Scanner {
            compilers,
            symbols: Symbols::new(),
            setups: Mutex::default(),
            lexed: RwLock::default(),
            probes: RwLock::default(),
            listings: RwLock::default(),
            tables: Mutex::default(),
            remembered: RwLock::default(),
            store: Mutex::default(),
            saved_compilers: Mutex::default(),
        }
    }

    /// A scanner that starts with what [`Scanner::save`] left; a file that is missing, damaged or of another version is
    /// no error. One reader and one writer at a time is up to the caller; two writers lose one's work, no more.
    pub fn load(compilers: Box<dyn CompilerFacts>, path: &Path) -> Scanner {
        let scanner = Scanner::new(compilers);
        let (store, saved) = Store::read(path, &scanner.symbols);
        *lock(&scanner.store) = store;
        *lock(&scanner.saved_compilers) =
            saved.into_iter().map(|saved| (saved.compiler.clone(), saved)).collect();
        scanner
    }

    /// Writes what a later process can use: remembered scans and the compilers' facts. Atomic: a rename.
    pub fn save(&self, path: &Path) -> std::io::Result<()> {
        let mut compilers = lock(&self.saved_compilers).clone();
        for (compiler, setup) in lock(&self.setups).iter() {
            let Ok(setup) = setup else { continue };
            let features = lock(&setup.features);
            let features = features.iter().filter_map(|(test, value)| Some((test.clone(), (*value)?)));
            let features = features.collect();
            let saved = SavedCompiler { compiler: compiler.clone(), facts: setup.facts.clone(), features };
            compilers.insert(compiler.clone(), saved);
        }
        let mut compilers: Vec<SavedCompiler> = compilers.into_values().collect();
        compilers.sort_by(|left, right| left.compiler.cmp(&right.compiler));
        let remembered = self.remembered.read().unwrap_or_else(PoisonError::into_inner);
        let units = remembered.iter().map(|(key, unit)| (key, &**unit));
        lock(&self.store).write(path, &self.symbols, compilers, units)
    }

    /// The files that preprocessing the unit reads, exactly as `gcc -M` lists them.
    ///
    /// Costs some tens of microseconds for each hundred headers once they have been lexed; a first run lexes them, and asks the
    /// compiler twice or three times for each new set of flags.
    pub fn scan(&self, request: &ScanRequest, files: &dyn FileView) -> Result<Arc<Scan>, ScanMiss> {
        let key = memo::key(request);
        if let Some(scan) = key.and_then(|key| self.recall(&key, files)) {
            return Ok(scan);
        }
        self.scan_again(request, files, key)
    }

    /// As [`Scanner::scan`], but runs the directives even if the same answer was given before; for measuring and checking.
    pub fn scan_afresh(&self, request: &ScanRequest, files: &dyn FileView) -> Result<Arc<Scan>, ScanMiss> {
        self.scan_again(request, files, None)
    }

    fn scan_again(
        &self,
        request: &ScanRequest,
        files: &dyn FileView,
        key: Option<Key>,
    ) -> Result<Arc<Scan>, ScanMiss> {
        let setup = self.setup(request)?;
        let table = lock(&self.tables).pop().unwrap_or_default();
        let mut unit = Unit::new(self, request, files, setup, table);
        let result = unit.run();
        let (table, watch) = unit.into_parts();
        lock(&self.tables).push(table);
        let scan = Arc::new(result?);
        if let Some(key) = key
            && !watch.fleeting
        {
            self.keep(key, Remembered::new(Arc::clone(&scan), &watch));
        }
        Ok(scan)
    }

    /// An earlier answer, if nothing that it rests on has changed.
    fn recall(&self, key: &Key, files: &dyn FileView) -> Option<Arc<Scan>> {
        let known = self.remembered.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned();
        let (remembered, new) = match known {
            Some(remembered) => (remembered, false),
            None => (Arc::new(lock(&self.store).take(key, &self.symbols)?), true),
        };
        match remembered.verdict(&self.symbols, files) {
            Verdict::Holds => {
                let scan = Arc::clone(&remembered.scan);
                if new {
                    let mut all = self.remembered.write().unwrap_or_else(PoisonError::into_inner);
                    all.insert(*key, remembered);
                }
                Some(scan)
            }
            Verdict::HoldsWith(renewed) => {
                self.keep(*key, renewed);
                Some(Arc::clone(&remembered.scan))
            }
            Verdict::Outdated => None,
        }
    }

    fn keep(&self, key: Key, remembered: Remembered) {
        self.remembered.write().unwrap_or_else(PoisonError::into_inner).insert(key, Arc::new(remembered));
    }

    /// Asks the compiler what a scan of this request would need to know, if it has not been asked yet.
    pub fn prepare(&self, request: &ScanRequest) -> Result<(), ScanMiss> {
        let setup = self.setup(request)?;
        if request.compiler.language != Language::Assembler {
            self.feature(request, &setup, b"__has_attribute(noreturn)")?;
        }
        Ok(())
    }

    pub(crate) fn symbols(&self) -> &Symbols {
        &self.symbols
    }

    pub(crate) fn probed(&self, key: ProbeKey) -> Option<Probed> {
        self.probes.read().unwrap_or_else(PoisonError::into_inner).get(&key).copied()
    }

    pub(crate) fn remember(&self, key: ProbeKey, probed: Probed) {
        self.probes.write().unwrap_or_else(PoisonError::into_inner).insert(key, probed);
    }

    /// Whether nothing of that name stands in the directory, which has this stamp; false if that is not known.
    pub(crate) fn is_not_listed(&self, dir: Sym, stamp: u64, name: &[u8]) -> bool {
        let listings = self.listings.read().unwrap_or_else(PoisonError::into_inner);
        let listing = listings.get(&dir).filter(|listing| listing.stamp == stamp);
        listing.and_then(|listing| listing.names.as_ref()).is_some_and(|names| !names.contains(name))
    }

    /// Notes that something was looked for in vain in a directory, which had this stamp before and has it after its names
    /// were listed. `list` gives the names, if the directory still has the stamp.
    pub(crate) fn note_miss(&self, dir: Sym, stamp: u64, list: impl FnOnce() -> Option<FxHashSet<Vec<u8>>>) {
        let mut listings = self.listings.write().unwrap_or_else(PoisonError::into_inner);
        let listing = listings.entry(dir).or_default();
        if listing.stamp != stamp {
            *listing = Listing { stamp, ..Listing::default() };
        }
        listing.misses += 1;
        if listing.misses == LISTED_AFTER {
            listing.names = list();
        }
    }

    pub(crate) fn lexed(&self, absolute: Sym, mode: Mode, stamp: u64) -> Option<Arc<Lexed>> {
        let lexed = self.lexed.read().unwrap_or_else(PoisonError::into_inner);
        let (known, found) = lexed.get(&(absolute, mode))?;
        (*known == stamp).then(|| Arc::clone(found))
    }

    pub(crate) fn keep_lexed(&self, absolute: Sym, mode: Mode, stamp: u64, lexed: Arc<Lexed>) {
        let mut all = self.lexed.write().unwrap_or_else(PoisonError::into_inner);
        all.insert((absolute, mode), (stamp, lexed));
    }

    /// Setups are made one at a time, so that threads that need the same one ask the compiler once. A failure is kept too.
    fn setup(&self, request: &ScanRequest) -> Result<Arc<Setup>, ScanMiss> {
        let mut setups = lock(&self.setups);
        if let Some(found) = setups.get(&request.compiler) {
            return found.clone();
        }
        let compiler = &request.compiler;
        let saved = lock(&self.saved_compilers).get(compiler).cloned();
        let setup = match saved {
            Some(saved) => self.set_up(compiler, saved.facts, saved.features),
            None => match self.compilers.facts(compiler, &request.dir) {
                Ok(facts) => self.set_up(compiler, facts, Vec::new()),
                Err(error) => Err(ScanMiss::unsure(format!("the compiler cannot be asked: {error}"))),
            },
        };
        let setup = setup.map(Arc::new);
        setups.insert(compiler.clone(), setup.clone());
        setup
    }

    fn set_up(
        &self,
        compiler: &Compiler,
        facts: Facts,
        features: Vec<(Vec<u8>, i64)>,
    ) -> Result<Setup, ScanMiss> {
        let mode = Mode::of(compiler, &facts)?;
        let plain = Mode(mode.0 & !(Mode::TRIGRAPHS.0 | Mode::C90.0));
        let predefined = super::lex::lex(&facts.macros, plain, &self.symbols);
        if predefined.unsure.is_some() {
            return Err(ScanMiss::unsure("the compiler's predefined macros"));
        }
        let special =
            facts.special.iter().map(|name| (self.symbols.intern(name.as_bytes()), Builtin::of(name)));
        let special = special.collect();
        let hosted = memchr::memmem::find(&facts.macros, b"#define __STDC_HOSTED__ 1").is_some();
        let standard = !compiler.flags.iter().any(|flag| flag == "-nostdinc");
        let names =
            |list: &str| list.split_whitespace().map(|name| self.symbols.intern(name.as_bytes())).collect();
        Ok(Setup {
            mode,
            predefined: Arc::new(predefined),
            special,
            preinclude: hosted && standard,
            target_macros: names(TARGET_MACROS),
            optimize_macros: names(OPTIMIZE_MACROS),
            facts,
            features: Mutex::new(features.into_iter().map(|(test, value)| (test, Some(value))).collect()),
            answers: RwLock::default(),
        })
    }

    /// The value of a test such as `__has_attribute(noreturn)`.
    pub(crate) fn feature(&self, request: &ScanRequest, setup: &Setup, test: &[u8]) -> Result<i64, ScanMiss> {
        let no_answer = || ScanMiss::unsure("the compiler gave no answer to a feature test");
        let mut features = lock(&setup.features);
        if let Some(value) = features.get(test) {
            return value.ok_or_else(no_answer);
        }
        let text = std::str::from_utf8(test).map_err(|_| no_answer())?;
        let ask = |tests: &[String]| self.compilers.features(&request.compiler, &request.dir, tests).ok();
        if features.is_empty() {
            let tests = request.compiler.language.usual_features();
            let values = ask(&tests).unwrap_or_default();
            features.extend(tests.into_iter().map(String::into_bytes).zip(values.into_iter().map(Some)));
        }
        if let Some(value) = features.get(test) {
            return value.ok_or_else(no_answer);
        }
        let value = ask(&[text.to_owned()]).and_then(|values| values.first().copied());
        features.insert(test.to_vec(), value);
        value.ok_or_else(no_answer)
    }
}

/// `-D` and `-U` as directives (`cpp_define`).
pub(crate) fn command_line_macros(flags: &[MacroFlag]) -> Result<Vec<u8>, ScanMiss> {
    let mut text = Vec::new();
    for flag in flags {
        let (MacroFlag::Define(given) | MacroFlag::Undefine(given)) = flag;
        if given.contains('\n') || given.trim_end().ends_with('\\') {
            return Err(ScanMiss::unsure("a macro of the command line"));
        }
        match flag {
            MacroFlag::Define(given) => {
                text.extend_from_slice(b"#define ");
                match given.split_once('=') {
                    Some((name, value)) => text.extend_from_slice(format!("{name} {value}").as_bytes()),
                    None => text.extend_from_slice(format!("{given} 1").as_bytes()),
                }
            }
            MacroFlag::Undefine(name) => text.extend_from_slice(format!("#undef {name}").as_bytes()),
        }
        text.push(b'\n');
    }
    Ok(text)
}

/// From `ix86_target_macros_internal` and the generic part (`i386-c.cc`): what a target option may define.
const TARGET_MACROS: &str = include_str!("target_macros.txt");

/// What an optimization option may define (`c_cpp_builtins_optimize_pragma`).
const OPTIMIZE_MACROS: &str = "__OPTIMIZE__ __OPTIMIZE_SIZE__ __FAST_MATH__ __NO_INLINE__ __SUPPORT_SNAN__ \
    __FINITE_MATH_ONLY__ __NO_MATH_ERRNO__ __RECIPROCAL_MATH__ __NO_SIGNED_ZEROS__ __NO_TRAPPING_MATH__ \
    __ASSOCIATIVE_MATH__ __ROUNDING_MATH__ __GNUC_STDC_INLINE__ __GNUC_GNU_INLINE__ __GCC_IEC_559 \
    __GCC_IEC_559_COMPLEX __FLT_EVAL_METHOD__ __FLT_EVAL_METHOD_TS_18661_3__ __FP_FAST_FMA __FP_FAST_FMAF \
    __FP_FAST_FMAL __pic__ __PIC__ __pie__ __PIE__";
