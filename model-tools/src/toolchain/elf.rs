//! What an ELF program needs in order to start: its interpreter and its shared libraries, found as `ld.so(8)` finds them.
//!
//! The order is that of the manual page, without `LD_LIBRARY_PATH`, `LD_PRELOAD` and `/etc/ld.so.preload` (a sandbox
//! has none): `DT_RPATH` or `DT_RUNPATH`, the directories of `/etc/ld.so.conf`, the default ones.

use std::collections::{BTreeSet, VecDeque};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use object::read::elf::{Dyn, FileHeader, ProgramHeader, SectionHeader};
use object::{Endianness, FileKind, ReadCache, ReadRef, elf};

/// The names that a loader built for any of the usual distributions searches without a cache.
const DEFAULT_DIRS: [&str; 7] = [
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib/aarch64-linux-gnu",
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
];

/// Subdirectories with variants for newer processors, which the loader prefers where the processor allows.
const HARDWARE_DIRS: [&str; 3] =
    ["glibc-hwcaps/x86-64-v4", "glibc-hwcaps/x86-64-v3", "glibc-hwcaps/x86-64-v2"];

/// The loader's cache, which is shipped only if a library is found by it alone.
const CACHE: &str = "/etc/ld.so.cache";

/// Why the files of a program could not be told.
#[derive(Debug, thiserror::Error)]
pub enum ElfError {
    /// The file cannot be read.
    #[error("`{}` cannot be read", path.display())]
    Io {
        /// The program or library.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is a script, an archive, or damaged.
    #[error("`{}` is no ELF program: {why}", path.display())]
    NotElf {
        /// The program or library.
        path: PathBuf,
        /// What the reader said.
        why: String,
    },
    /// A library is nowhere to be found.
    #[error("`{name}`, which `{}` needs, is not installed", path.display())]
    NoLibrary {
        /// Who needs it.
        path: PathBuf,
        /// The library's name.
        name: String,
    },
}

/// What one ELF file asks for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Needs {
    interpreter: Option<PathBuf>,
    libraries: Vec<String>,
    /// `DT_RPATH` and `DT_RUNPATH`, with `$ORIGIN` replaced.
    run_path: Vec<PathBuf>,
    is_64: bool,
}

/// The program and all that the loader opens for it, each by the name that the loader uses.
///
/// # Errors
/// As [`ElfError`] says.
pub fn closure(program: &Path) -> Result<Vec<PathBuf>, ElfError> {
    let (configured, mut found) = (configured_dirs(), BTreeSet::from([program.to_owned()]));
    let mut names = BTreeSet::new();
    let mut queue = VecDeque::from([(program.to_owned(), Vec::new())]);
    while let Some((file, inherited)) = queue.pop_front() {
        let mut needs = needs_of(&file)?;
        if let Some(interpreter) = needs.interpreter.take() {
            // Libraries need the interpreter by name, and get the one that runs already.
            names.extend(interpreter.file_name().map(|name| name.to_string_lossy().into_owned()));
            found.insert(interpreter);
        }
        // `DT_RPATH` of the programs above holds for what they load; `DT_RUNPATH` does not, but searching it too finds
        // the same files in every installation that works.
        needs.run_path.extend(inherited);
        for name in &needs.libraries {
            if !names.insert(name.clone()) {
                continue;
            }
            let places = find(name, &needs, &configured);
            let Some(first) = places.first() else {
                return Err(ElfError::NoLibrary { path: file.clone(), name: name.clone() });
            };
            if !is_default(first) && !needs.run_path.iter().any(|dir| first.starts_with(dir)) {
                found.insert(CACHE.into());
            }
            queue.push_back((first.clone(), needs.run_path.clone()));
            found.extend(places);
        }
    }
    Ok(found.into_iter().collect())
}

fn is_default(library: &Path) -> bool {
    DEFAULT_DIRS.iter().any(|dir| library.parent() == Some(Path::new(dir)))
}

/// The library in the first directory that has it, with its variants for newer processors.
fn find(name: &str, needs: &Needs, configured: &[PathBuf]) -> Vec<PathBuf> {
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(|path| path.is_file()).into_iter().collect();
    }
    let dirs = needs
        .run_path
        .iter()
        .cloned()
        .chain(configured.iter().cloned())
        .chain(DEFAULT_DIRS.map(PathBuf::from));
    for dir in dirs {
        let plain = dir.join(name);
        if needs_of(&plain).is_ok_and(|library| library.is_64 == needs.is_64) {
            let variants =
                HARDWARE_DIRS.iter().map(|sub| dir.join(sub).join(name)).filter(|path| path.is_file());
            return std::iter::once(plain.clone()).chain(variants).collect();
        }
    }
    Vec::new()
}

/// The directories of `/etc/ld.so.conf` and of the files that it includes (`*.conf` in one directory), in their order.
fn configured_dirs() -> Vec<PathBuf> {
    let mut dirs = Vec::new();
    let text = std::fs::read_to_string("/etc/ld.so.conf").unwrap_or_default();
    for line in text.lines().map(str::trim) {
        match line.strip_prefix("include") {
            Some(pattern) => included(Path::new(pattern.trim())).iter().for_each(|file| {
                let text = std::fs::read_to_string(file).unwrap_or_default();
                dirs.extend(
                    text.lines().map(str::trim).filter(|line| line.starts_with('/')).map(PathBuf::from),
                );
            }),
            None if line.starts_with('/') => dirs.push(line.into()),
            None => {}
        }
    }
    dirs
}

fn included(pattern: &Path) -> Vec<PathBuf> {
    let dir = Path::new("/etc").join(pattern.parent().unwrap_or(Path::new("")));
    let Ok(listing) = std::fs::read_dir(dir) else { return Vec::new() };
    let mut files: Vec<_> = listing.flatten().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "conf"));
    files.sort();
    files
}

fn needs_of(path: &Path) -> Result<Needs, ElfError> {
    let file = File::open(path).map_err(|source| ElfError::Io { path: path.to_owned(), source })?;
    let data = ReadCache::new(file);
    let kind = FileKind::parse(&data);
    let needs = match kind {
        Ok(FileKind::Elf64) => parse::<elf::FileHeader64<Endianness>, _>(&data, path),
        Ok(FileKind::Elf32) => parse::<elf::FileHeader32<Endianness>, _>(&data, path),
        Ok(other) => return Err(ElfError::NotElf { path: path.to_owned(), why: format!("{other:?}") }),
        Err(error) => Err(error),
    };
    let mut needs =
        needs.map_err(|error| ElfError::NotElf { path: path.to_owned(), why: error.to_string() })?;
    needs.is_64 = matches!(kind, Ok(FileKind::Elf64));
    Ok(needs)
}

fn parse<'data, H, R>(data: R, path: &Path) -> object::Result<Needs>
where
    H: FileHeader<Endian = Endianness>,
    R: ReadRef<'data>,
{
    let header = H::parse(data)?;
    let endian = header.endian()?;
    let mut needs = Needs::default();
    for segment in header.program_headers(endian, data)? {
        if let Some(text) = segment.interpreter(endian, data)? {
            needs.interpreter = Some(String::from_utf8_lossy(text).as_ref().into());
        }
    }
    let sections = header.sections(endian, data)?;
    for section in sections.iter() {
        let Some((entries, strings)) = section.dynamic(endian, data)? else { continue };
        let strings = sections.strings(endian, data, strings)?;
        for entry in entries {
            let Some(tag) = entry.tag32(endian) else { continue };
            if !matches!(tag, elf::DT_NEEDED | elf::DT_RPATH | elf::DT_RUNPATH) {
                continue;
            }
            let text = strings.get(entry.val32(endian).unwrap_or(0)).unwrap_or_default();
            let text = String::from_utf8_lossy(text).into_owned();
            match tag {
                elf::DT_NEEDED => needs.libraries.push(text),
                _ => needs.run_path.extend(text.split(':').map(|dir| run_dir(dir, path))),
            }
        }
    }
    Ok(needs)
}

fn run_dir(dir: &str, file: &Path) -> PathBuf {
    let real = file.canonicalize().unwrap_or_else(|_| file.to_owned());
    let origin = real.parent().unwrap_or(Path::new("/")).to_string_lossy().into_owned();
    dir.replace("$ORIGIN", &origin).replace("${ORIGIN}", &origin).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_libraries_of_a_program_are_those_that_the_loader_maps() {
        for program in ["/bin/true", "/usr/bin/gcc", "/usr/bin/as"] {
            let output = std::process::Command::new("ldd").arg(program).output().unwrap();
            let listed = String::from_utf8(output.stdout).unwrap();
            let expected: BTreeSet<PathBuf> = listed
                .split_whitespace()
                .filter(|word| word.starts_with('/'))
                .map(PathBuf::from)
                .chain([program.into()])
                .collect();
            assert_eq!(closure(Path::new(program)).unwrap().into_iter().collect::<BTreeSet<_>>(), expected);
        }
    }

    #[test]
    fn a_script_is_no_elf_program() {
        let temp = tempfile::tempdir().unwrap();
        let script = temp.path().join("as");
        std::fs::write(&script, "#!/bin/sh\nexec /usr/bin/as \"$@\"\n").unwrap();
        assert!(matches!(closure(&script), Err(ElfError::NotElf { .. })));
    }
}
