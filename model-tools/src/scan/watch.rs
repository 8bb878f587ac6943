//! Looking at the user's files, and keeping account of what was looked at, so that the answer can be used again.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustc_hash::{FxBuildHasher, FxHashSet};

use super::lexed::Lexed;
use super::result::ScanMiss;
use super::scanner::Probed;
use super::search::joined;
use super::symbol::Sym;
use super::unit::Unit;
use crate::model::{Directory, Found};

/// What a unit looked at.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// Directories, by absolute path, as they were when first looked at.
    dirs: HashMap<Sym, Option<Directory>, FxBuildHasher>,
    /// The directories of the chains, by absolute path.
    chain: Vec<PathBuf>,
    /// The directories that searches begin in, by the name that they are searched under: their absolute path and stamp.
    places: HashMap<Sym, Option<(Sym, u64)>, FxBuildHasher>,
    /// Files that were found, with their stamps.
    pub(crate) found: Vec<(Sym, u64)>,
    /// A placeholder was found, which has no stamp.
    pub(crate) fleeting: bool,
    /// Paths where nothing was, each with the directory whose stamp vouches for it.
    pub(crate) absent: Vec<Absent>,
}

/// A path where nothing was.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Absent {
    /// The path, absolute.
    pub(crate) path: Sym,
    /// The deepest directory on the way to it that exists.
    pub(crate) dir: Sym,
    /// That directory's stamp; none if it cannot vouch.
    pub(crate) stamp: Option<u64>,
}

/// A file that was found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hit {
    /// As GCC spells it.
    pub(crate) path: Sym,
    pub(crate) absolute: Sym,
    pub(crate) stamp: u64,
}

impl Watch {
    pub(crate) fn existing_dirs(&self) -> Vec<PathBuf> {
        self.chain.clone()
    }

    /// The directories that were looked at, with what makes each the one that it was.
    pub(crate) fn dirs(&self) -> impl Iterator<Item = (Sym, Option<Directory>)> + '_ {
        self.dirs.iter().map(|(path, found)| (*path, *found))
    }
}

pub(crate) fn as_path(text: &[u8]) -> &Path {
    Path::new(std::ffi::OsStr::from_bytes(text))
}

impl<'a> Unit<'a> {
    fn absolute(&self, path: &[u8]) -> PathBuf {
        self.request.dir.join(as_path(path))
    }

    /// What identifies a directory, by the name that a flag or chain gives it.
    pub(crate) fn look_at_dir(&mut self, name: Sym) -> Option<Directory> {
        let absolute = self.absolute(self.scanner.symbols().text(name));
        let sym = self.scanner.symbols().intern(absolute.as_os_str().as_bytes());
        self.look_at(sym)
    }

    fn look_at(&mut self, absolute: Sym) -> Option<Directory> {
        let (files, scanner) = (self.files, self.scanner);
        *self
            .watch
            .dirs
            .entry(absolute)
            .or_insert_with(|| files.directory(as_path(scanner.symbols().text(absolute))))
    }

    pub(crate) fn note_dir(&mut self, name: Sym) {
        let absolute = self.absolute(self.scanner.symbols().text(name));
        self.watch.chain.push(absolute);
    }

    /// Looks for `name` in `dir`.
    pub(crate) fn look_in(&mut self, dir: Sym, name: Sym, system: bool) -> Result<Option<Hit>, ScanMiss> {
        let symbols = self.scanner.symbols();
        let starts_at_root = |sym: Sym| symbols.text(sym).first() == Some(&b'/');
        let base = if starts_at_root(dir) || (dir == Sym::EMPTY && starts_at_root(name)) {
            Sym::EMPTY
        } else {
            self.dir
        };
        let key = (base, dir, name, system);
        match self.scanner.probed(key) {
            Some(Probed::Absent(absent)) => {
                let now = self.look_at(absent.dir).and_then(|dir| dir.stamp);
                if absent.stamp.is_some() && now == absent.stamp {
                    self.watch.absent.push(absent);
                    return Ok(None);
                }
            }
            Some(Probed::File { path, absolute }) => {
                if let Some(stamp) = self.files.stamp(as_path(self.scanner.symbols().text(absolute))) {
                    self.watch.found.push((absolute, stamp));
                    return Ok(Some(Hit { path, absolute, stamp }));
                }
            }
            None => {}
        }
        let place = self.place(dir, name);
        if let Some((place, stamp, first)) = place
            && self.scanner.is_not_listed(place, stamp, first)
        {
            let symbols = self.scanner.symbols();
            let path = symbols.intern(&joined(symbols.text(place), symbols.text(name)));
            let absent = Absent { path, dir: place, stamp: Some(stamp) };
            self.scanner.remember(key, Probed::Absent(absent));
            self.watch.absent.push(absent);
            return Ok(None);
        }
        let path = joined(self.scanner.symbols().text(dir), self.scanner.symbols().text(name));
        let absolute = self.absolute(&path);
        let symbols = self.scanner.symbols();
        match self.files.find(&absolute) {
            Found::Missing | Found::Directory => {
                if let Some((place, stamp, _)) = place {
                    self.scanner.note_miss(place, stamp, || self.list(place, stamp));
                }
                let absent = self.absent(&absolute);
                if absent.stamp.is_some() {
                    self.scanner.remember(key, Probed::Absent(absent));
                }
                self.watch.absent.push(absent);
                Ok(None)
            }
            Found::Placeholder(_) => Err(ScanMiss::NeedReal(absolute)),
            Found::Other => Err(ScanMiss::unsure(format!("`{}` is no regular file", absolute.display()))),
            Found::File { .. } => {
                let Some(stamp) = self.files.stamp(&absolute) else {
                    return Err(ScanMiss::unsure(format!("`{}` is changing", absolute.display())));
                };
                let shorter = if system { self.shorter(&absolute, path.len()) } else { None };
                let path = symbols.intern(&shorter.unwrap_or(path));
                let absolute = symbols.intern(absolute.as_os_str().as_bytes());
                self.scanner.remember(key, Probed::File { path, absolute });
                self.watch.found.push((absolute, stamp));
                Ok(Some(Hit { path, absolute, stamp }))
            }
        }
    }

    /// The directory in which a search for `name` begins, its stamp, and the first part of the name, which must stand in it.
    fn place(&mut self, dir: Sym, name: Sym) -> Option<(Sym, u64, &'a [u8])> {
        let symbols = self.scanner.symbols();
        let name = symbols.text(name);
        let first = &name[..memchr::memchr(b'/', name).unwrap_or(name.len())];
        if dir == Sym::EMPTY || matches!(first, b"" | b"." | b"..") {
            return None;
        }
        let known = self.watch.places.get(&dir).copied();
        let found = known.unwrap_or_else(|| {
            let absolute = self.absolute(symbols.text(dir));
            let place = symbols.intern(absolute.components().as_path().as_os_str().as_bytes());
            let found = self.look_at(place).and_then(|dir| Some((place, dir.stamp?)));
            self.watch.places.insert(dir, found);
            found
        });
        found.map(|(place, stamp)| (place, stamp, first))
    }

    /// The names in a directory, if it has this stamp when they have been listed.
    fn list(&self, place: Sym, stamp: u64) -> Option<FxHashSet<Vec<u8>>> {
        let path = as_path(self.scanner.symbols().text(place));
        let names = self.files.names(path)?.into_iter().map(OsStringExt::into_vec).collect();
        (self.files.directory(path)?.stamp == Some(stamp)).then_some(names)
    }

    /// The directory that vouches for nothing standing at the path.
    fn absent(&mut self, absolute: &Path) -> Absent {
        let symbols = self.scanner.symbols();
        let path = symbols.intern(absolute.as_os_str().as_bytes());
        let mut entry = absolute;
        loop {
            let Some(parent) = entry.parent() else {
                return Absent { path, dir: Sym::EMPTY, stamp: None };
            };
            let dir = self.scanner.symbols().intern(parent.as_os_str().as_bytes());
            if let Some(found) = self.look_at(dir) {
                // A symlink without a target may get one without its directory changing.
                let dangling = self.files.link_target(entry).is_some();
                return Absent { path, dir, stamp: if dangling { None } else { found.stamp } };
            }
            entry = parent;
        }
    }

    /// `maybe_shorter_path`: system headers are named by their real path if that is shorter.
    fn shorter(&self, absolute: &Path, length: usize) -> Option<Vec<u8>> {
        let real = self.real_path(absolute)?.into_os_string().into_vec();
        (real.len() < length).then_some(real)
    }

    fn real_path(&self, absolute: &Path) -> Option<PathBuf> {
        let mut real = PathBuf::from("/");
        let mut rest: Vec<std::ffi::OsString> = Vec::new();
        let push = |rest: &mut Vec<std::ffi::OsString>, path: &Path| {
            rest.extend(path.components().rev().map(|part| part.as_os_str().to_owned()));
        };
        push(&mut rest, absolute);
        let mut links = 0;
        while let Some(part) = rest.pop() {
            if part == "/" {
                real = PathBuf::from("/");
            } else if part == ".." {
                real.pop();
            } else if part != "." {
                real.push(&part);
                if let Some(target) = self.files.link_target(&real) {
                    links += 1;
                    if links > 40 {
                        return None;
                    }
                    real.pop();
                    push(&mut rest, &target);
                }
            }
        }
        Some(real)
    }

    /// Looks for a precompiled header beside a header that may be replaced by one.
    pub(crate) fn look_for_pch(&mut self, mut path: Vec<u8>) -> Result<(), ScanMiss> {
        path.extend_from_slice(b".gch");
        let absolute = self.absolute(&path);
        let sym = self.scanner.symbols().intern(absolute.as_os_str().as_bytes());
        match self.files.find(&absolute) {
            Found::Missing => {
                let absent = self.absent(&absolute);
                self.watch.absent.push(absent);
                return Ok(());
            }
            Found::Placeholder(_) => self.watch.fleeting = true,
            Found::Directory => drop(self.look_at(sym)),
            Found::File { .. } => {
                let Some(stamp) = self.files.stamp(&absolute) else {
                    return Err(ScanMiss::unsure(format!("`{}` is changing", absolute.display())));
                };
                self.watch.found.push((sym, stamp));
            }
            Found::Other => {
                return Err(ScanMiss::unsure(format!("`{}` is no regular file", absolute.display())));
            }
        }
        self.pch.push(absolute);
        Ok(())
    }

    /// The lexed file, from the scanner's store if it still is what it was.
    pub(crate) fn lexed(&self, absolute: Sym, stamp: u64) -> Result<Arc<Lexed>, ScanMiss> {
        if let Some(lexed) = self.scanner.lexed(absolute, self.mode, stamp) {
            return Ok(lexed);
        }
        let path = as_path(self.scanner.symbols().text(absolute));
        let bytes = self.files.read(path).map_err(|error| match error.kind() {
            ErrorKind::WouldBlock => ScanMiss::NeedReal(path.to_owned()),
            _ => ScanMiss::unsure(format!("`{}` cannot be read: {error}", path.display())),
        })?;
        if self.files.stamp(path) != Some(stamp) {
            return Err(ScanMiss::unsure(format!("`{}` is changing", path.display())));
        }
        let lexed = Arc::new(super::lex::lex(&bytes, self.mode, self.scanner.symbols()));
        self.scanner.keep_lexed(absolute, self.mode, stamp, Arc::clone(&lexed));
        Ok(lexed)
    }
}
