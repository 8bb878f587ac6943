//! Where headers are looked for (`incpath.cc`) and which file a name is (`files.cc`).
//!
//! GCC's cache of searches decides when one file counts as two (two spellings, two entries in the depfile), so it is kept here
//! too: a file is known by its name and the directory that its search started in.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use rustc_hash::FxBuildHasher;

use super::request::{DirClass, DirFlag, ScanRequest};
use super::result::ScanMiss;
use super::symbol::Sym;
use super::unit::Unit;
use super::watch::Hit;
use crate::model::Directory;

/// No directory: the end of a chain.
pub(crate) const NONE: u32 = u32::MAX;
/// The directory of names that are not searched for: absolute ones, and the source itself.
pub(crate) const NO_SEARCH: u32 = 0;

/// A directory of a chain.
#[derive(Clone, Debug)]
pub(crate) struct Dir {
    pub(crate) name: Sym,
    pub(crate) next: u32,
    pub(crate) system: bool,
}

/// A file as libcpp knows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CppFile {
    pub(crate) path: Sym,
    pub(crate) absolute: Sym,
    /// Where it was found; [`NONE`] if it was not.
    pub(crate) dir: u32,
    pub(crate) found: bool,
    pub(crate) stamp: u64,
    pub(crate) source: Option<u32>,
    pub(crate) stacked: u32,
    pub(crate) once: bool,
    pub(crate) guard: Option<Sym>,
    pub(crate) implicit: bool,
    /// The directory that its quoted includes start in, once one was met; or [`NONE`].
    pub(crate) made: u32,
}

/// Chains and the cache of searches.
#[derive(Debug, Default)]
pub(crate) struct Search {
    pub(crate) dirs: Vec<Dir>,
    pub(crate) quote: u32,
    pub(crate) bracket: u32,
    pub(crate) ignore_source_dir: bool,
    made: HashMap<Sym, u32, FxBuildHasher>,
    cache: HashMap<(Sym, u32), u32, FxBuildHasher>,
    pub(crate) files: Vec<CppFile>,
}

/// Why a file is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Include,
    HasInclude,
    Preinclude,
}

/// How a search starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    Quoted,
    Angled,
    Next,
    CommandLine,
}

/// A directory of the command line, before duplicates are removed.
struct Given {
    name: String,
    class: DirClass,
}

/// The directories of a request in their chains: quote, bracket, system with after.
fn given(request: &ScanRequest, defaults: &[String]) -> (Vec<Given>, bool) {
    let mut list: Vec<Given> = Vec::new();
    let mut split = false;
    let rooted = |name: &str| match &request.sysroot {
        Some(root) => match (name.strip_prefix('='), name.strip_prefix("$SYSROOT")) {
            (Some(rest), _) | (_, Some(rest)) => format!("{root}{rest}"),
            _ => name.to_owned(),
        },
        None => name.to_owned(),
    };
    for flag in &request.dirs {
        match flag {
            DirFlag::Add(class, name) => list.push(Given { name: rooted(name), class: *class }),
            DirFlag::Split => {
                split = true;
                list.retain(|dir| dir.class != DirClass::Quote);
                for dir in list.iter_mut().filter(|dir| dir.class == DirClass::Bracket) {
                    dir.class = DirClass::Quote;
                }
            }
        }
    }
    let variables = [(&request.cpath, DirClass::Bracket), (&request.language_path, DirClass::System)];
    for (value, class) in variables {
        for part in value.iter().filter(|value| !value.is_empty()).flat_map(|value| value.split(':')) {
            let name = if part.is_empty() { "." } else { part };
            list.push(Given { name: name.to_owned(), class });
        }
    }
    // The default directories stand behind `-isystem` ones and before `-idirafter` ones.
    list.extend(defaults.iter().map(|name| Given { name: name.clone(), class: DirClass::System }));
    (list, split)
}

impl Unit<'_> {
    /// Builds the chains (`register_include_chains`).
    pub(crate) fn set_up_search(&mut self) -> Result<(), ScanMiss> {
        let setup = std::sync::Arc::clone(&self.setup);
        for dir in &setup.facts.absent_dirs {
            if self.directory(dir).is_some() {
                return Err(ScanMiss::unsure(format!("the default directory `{dir}` has appeared")));
            }
        }
        let (list, split) = given(self.request, &setup.facts.dirs);
        self.search.ignore_source_dir = split;
        self.search.dirs.push(Dir { name: Sym::EMPTY, next: NONE, system: false });
        let mut chain = |classes: &[DirClass]| -> Vec<(String, Directory)> {
            let mut found = Vec::new();
            for class in classes {
                for dir in list.iter().filter(|dir| dir.class == *class) {
                    found.extend(self.directory(&dir.name).map(|directory| (dir.name.clone(), directory)));
                }
            }
            found
        };
        let system = chain(&[DirClass::System, DirClass::After]);
        let bracket = chain(&[DirClass::Bracket]);
        let quote = chain(&[DirClass::Quote]);
        let system = without_duplicates(system, &[], None);
        let bracket = without_duplicates(bracket, &system, system.first());
        let head = bracket.first().or(system.first()).cloned();
        let quote = without_duplicates(quote, &system, head.as_ref());
        let mut next = self.add_chain(&system, NONE, true);
        next = self.add_chain(&bracket, next, false);
        self.search.bracket = next;
        self.search.quote = self.add_chain(&quote, next, false);
        if self.search.bracket == NONE {
            self.search.bracket = self.search.quote;
        }
        Ok(())
    }

    fn add_chain(&mut self, list: &[(String, Directory)], join: u32, system: bool) -> u32 {
        let mut next = join;
        for (name, _) in list.iter().rev() {
            let name = self.scanner.symbols().intern(name.as_bytes());
            self.search.dirs.push(Dir { name, next, system });
            next = self.search.dirs.len() as u32 - 1;
            self.note_dir(name);
        }
        next
    }

    fn directory(&mut self, name: &str) -> Option<Directory> {
        let sym = self.scanner.symbols().intern(name.as_bytes());
        self.look_at_dir(sym)
    }

    /// The directory that quoted includes start in (`make_cpp_dir`); the first that asks decides whether it is a system one.
    fn made_dir(&mut self, name: Sym, system: bool) -> u32 {
        if let Some(&found) = self.search.made.get(&name) {
            return found;
        }
        self.search.dirs.push(Dir { name, next: self.search.quote, system });
        let made = self.search.dirs.len() as u32 - 1;
        self.search.made.insert(name, made);
        made
    }

    /// `search_path_head`
    pub(crate) fn search_head(&mut self, name: Sym, start: Start, angled: bool) -> Result<u32, ScanMiss> {
        if self.scanner.symbols().text(name).first() == Some(&b'/') {
            return Ok(NO_SEARCH);
        }
        let file = &self.search.files[self.current.file as usize];
        let dir = if start == Start::Next && file.dir != NONE && file.dir != NO_SEARCH {
            self.search.dirs[file.dir as usize].next
        } else if angled {
            self.search.bracket
        } else if start == Start::CommandLine {
            return Ok(self.made_dir(Sym::DOT_SLASH, false));
        } else if self.search.ignore_source_dir {
            self.search.quote
        } else if file.made != NONE {
            return Ok(file.made);
        } else {
            let path = self.scanner.symbols().text(file.path);
            let length = memchr::memrchr(b'/', path).map_or(0, |slash| slash + 1);
            let name = self.scanner.symbols().intern(&path[..length]);
            let made = self.made_dir(name, self.current.system);
            self.search.files[self.current.file as usize].made = made;
            return Ok(made);
        };
        if dir == NONE { Err(ScanMiss::unsure("an include with nowhere to search")) } else { Ok(dir) }
    }

    /// `_cpp_find_file`: the file of that name from that directory on. None for a missing preinclude.
    pub(crate) fn find_file(
        &mut self,
        name: Sym,
        start: u32,
        purpose: Purpose,
    ) -> Result<Option<u32>, ScanMiss> {
        if let Some(&found) = self.search.cache.get(&(name, start)) {
            return Ok(Some(found));
        }
        let parent = self.search.files.get(self.current.file as usize);
        let implicit = purpose == Purpose::Preinclude || parent.is_some_and(|file| file.implicit);
        let mut dir = start;
        let (mut saw_bracket, mut saw_quote) = (false, false);
        let mut cached = None;
        let found = loop {
            if let Some(hit) = self.probe(dir, name)? {
                break Some(hit);
            }
            dir = self.search.dirs[dir as usize].next;
            if dir == NONE {
                break None;
            }
            if dir == self.search.bracket {
                saw_bracket = true;
            } else if dir == self.search.quote {
                saw_quote = true;
            } else {
                continue;
            }
            if let Some(&file) = self.search.cache.get(&(name, dir)) {
                cached = Some((file, dir));
                break None;
            }
        };
        if !self.pch.is_empty() && (found.is_none() || purpose != Purpose::Include) {
            return Err(ScanMiss::unsure("a precompiled header without the header, or not included at once"));
        }
        if found.is_none() && cached.is_none() {
            match purpose {
                Purpose::Preinclude => return Ok(None),
                Purpose::HasInclude => {}
                Purpose::Include => self.missing(name, start)?,
            }
        }
        let file = match cached {
            Some((file, _)) => file,
            None => {
                let hit = found.unwrap_or(Hit { path: name, absolute: name, stamp: 0 });
                self.pch_possible &= implicit;
                self.search.files.push(CppFile {
                    path: hit.path,
                    absolute: hit.absolute,
                    dir,
                    found: found.is_some(),
                    stamp: hit.stamp,
                    source: None,
                    stacked: 0,
                    once: false,
                    guard: None,
                    implicit,
                    made: NONE,
                });
                self.search.files.len() as u32 - 1
            }
        };
        if purpose == Purpose::HasInclude {
            self.probed.push(file);
        }
        self.search.cache.insert((name, start), file);
        let found_in = cached.map(|(_, dir)| dir);
        for (saw, head) in [(saw_bracket, self.search.bracket), (saw_quote, self.search.quote)] {
            if saw && head != start && found_in != Some(head) {
                self.search.cache.insert((name, head), file);
            }
        }
        Ok(Some(file))
    }

    /// Whether the file stands in the directory.
    fn probe(&mut self, dir: u32, name: Sym) -> Result<Option<Hit>, ScanMiss> {
        let Dir { name: dir_name, system, .. } = self.search.dirs[dir as usize];
        let found = self.look_in(dir_name, name, system)?;
        if self.pch_possible {
            let symbols = self.scanner.symbols();
            let path = match found {
                Some(hit) => symbols.text(hit.path).to_vec(),
                None => joined(symbols.text(dir_name), symbols.text(name)),
            };
            self.look_for_pch(path)?;
        }
        Ok(found)
    }
}

/// `append_file_to_dir`
pub(crate) fn joined(dir: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = dir.to_vec();
    if path.last().is_some_and(|&byte| byte != b'/') {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

/// `remove_duplicates`: keeps the first of each directory, and none that is in `system`.
fn without_duplicates(
    list: Vec<(String, Directory)>,
    system: &[(String, Directory)],
    join: Option<&(String, Directory)>,
) -> Vec<(String, Directory)> {
    let same = |left: &Directory, right: &Directory| (left.device, left.inode) == (right.device, right.inode);
    let mut kept: Vec<(String, Directory)> = Vec::with_capacity(list.len());
    let count = list.len();
    for (at, (name, found)) in list.into_iter().enumerate() {
        let duplicate = system.iter().chain(&kept).any(|(_, other)| same(other, &found));
        let joins = at + 1 == count && join.is_some_and(|(_, other)| same(other, &found));
        if !duplicate && !joins {
            kept.push((name, found));
        }
    }
    kept
}

/// The prefixes of a path that it leaves again by `..`.
pub(crate) fn left_dirs(path: &Path) -> Vec<PathBuf> {
    let mut dirs = Vec::new();
    let mut prefix = PathBuf::new();
    for part in path.components() {
        if part == std::path::Component::ParentDir {
            dirs.push(prefix.clone());
        }
        prefix.push(part);
    }
    dirs
}
