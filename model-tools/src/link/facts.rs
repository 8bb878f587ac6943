//! What a linker would learn by opening a file: which other files it leads to.
//!
//! Read once per version of a file (by stamp) and remembered. What a thunk that has not run will make is remembered by
//! its output, so that a link of placeholders need not wait: [`Knowledge::promise`].

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};

use ggr_ir::OutputRef;
use object::ReadRef;
use object::elf;
use object::read::ReadCache;
use object::read::archive::ArchiveFile;
use object::read::elf::{Dyn, FileHeader, SectionHeader};
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use super::Halt;
use super::script::{self, Script};
use crate::model::{FileView, Found, Reason};

/// The kind of machine a file is for: ELF class and machine number.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Target {
    class: u8,
    machine: u16,
}

impl Target {
    /// What an emulation of GNU ld (`-m`) links for; nothing for one that is not known here.
    pub fn of_emulation(name: &str) -> Option<Self> {
        let (class, machine) = match name {
            "elf_x86_64" => (elf::ELFCLASS64, elf::EM_X86_64),
            "elf32_x86_64" => (elf::ELFCLASS32, elf::EM_X86_64),
            "elf_i386" => (elf::ELFCLASS32, elf::EM_386),
            _ => return None,
        };
        Some(Self { class, machine })
    }
}

/// A shared library's own needs.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Shared {
    /// Its name at run time (`DT_SONAME`).
    pub soname: Option<String>,
    /// The libraries that it needs (`DT_NEEDED`), or may need.
    pub needed: Vec<String>,
    /// Where it looks for them (`DT_RUNPATH`, else `DT_RPATH`), with `$ORIGIN` as written.
    pub run_path: Vec<String>,
}

/// What a file leads to.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub enum Leads {
    /// To nothing: an object, a program, an archive.
    Nowhere,
    /// To the libraries that it needs.
    Shared(Shared),
    /// To its members, named relative to its directory: a thin archive.
    Members(Vec<String>),
    /// To the files that it names: a linker script.
    Script(Script),
}

/// What is known of one file.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Facts {
    /// What it was made for, where that can be told.
    pub target: Option<Target>,
    /// Where it leads.
    pub leads: Leads,
    /// Whether it is a program or a shared library: what tools make of it is executable.
    pub linked: bool,
    /// Whether it is LLVM bitcode, or an archive that may hold some.
    pub bitcode: bool,
}

impl Facts {
    /// Of an ELF object, an archive, or a file that a linker does not look into.
    pub fn plain(leads: Leads) -> Self {
        Self { target: None, leads, linked: false, bitcode: false }
    }
}

/// The version of the records, their first byte: another one when [`look`] answers something else.
const VERSION: u8 = 1;

/// The most files of which facts are remembered between sessions: some megabytes.
const MOST: usize = 50_000;

/// Remembers facts.
#[derive(Default, Debug)]
pub struct Knowledge {
    read: RwLock<FxHashMap<PathBuf, (u64, Arc<Facts>)>>,
    /// By stamp, which says what the bytes are: from an earlier session.
    earlier: FxHashMap<u64, Arc<Facts>>,
    promised: RwLock<FxHashMap<OutputRef, Arc<Facts>>>,
}

impl Knowledge {
    /// Begins with what [`Knowledge::records`] gave; with nothing if it is damaged or of another version.
    pub fn new(records: &[u8]) -> Self {
        let facts: Option<Vec<(u64, Facts)>> = match records.split_first() {
            Some((&VERSION, rest)) => postcard::from_bytes(rest).ok(),
            _ => None,
        };
        let earlier = facts.unwrap_or_default().into_iter().map(|(stamp, facts)| (stamp, Arc::new(facts)));
        Self { earlier: earlier.collect(), ..Self::default() }
    }

    /// What is worth remembering, for a file: this session's, and of the earlier ones' as much as there is room for.
    pub fn records(&self) -> Vec<u8> {
        let read = self.read.read().expect("no writer panics");
        let met: FxHashMap<u64, &Facts> = read.values().map(|(stamp, facts)| (*stamp, &**facts)).collect();
        let earlier = self.earlier.iter().filter(|(stamp, _)| !met.contains_key(stamp));
        let earlier = earlier.map(|(stamp, facts)| (*stamp, &**facts)).take(MOST.saturating_sub(met.len()));
        let mut facts: Vec<_> = met.iter().map(|(stamp, facts)| (*stamp, *facts)).chain(earlier).collect();
        facts.sort_unstable_by_key(|(stamp, _)| *stamp);
        postcard::to_extend(&facts, vec![VERSION]).expect("names and numbers can be encoded")
    }

    /// Remembers what an output that is still to be made will be.
    pub fn promise(&self, output: OutputRef, facts: Facts) {
        self.promised.write().expect("no writer panics").insert(output, Arc::new(facts));
    }

    /// What was promised of an output.
    pub fn promised(&self, output: &OutputRef) -> Option<Arc<Facts>> {
        self.promised.read().expect("no writer panics").get(output).cloned()
    }

    /// What is known of the file at this absolute path.
    ///
    /// # Errors
    /// [`Halt::Force`] if it is a placeholder of which nothing was promised.
    pub fn of(&self, path: &Path, files: &dyn FileView) -> Result<Arc<Facts>, Halt> {
        let Some(stamp) = files.stamp(path) else {
            return match files.find(path) {
                Found::Placeholder(output) => {
                    self.promised(&output).ok_or_else(|| Halt::Force(path.to_owned()))
                }
                _ => Err(Reason::MissingInput(path.display().to_string()).into()),
            };
        };
        if let Some((known, facts)) = self.read.read().expect("no writer panics").get(path)
            && *known == stamp
        {
            return Ok(facts.clone());
        }
        let facts = match self.earlier.get(&stamp) {
            Some(facts) => facts.clone(),
            None => Arc::new(look(path, files)?),
        };
        self.read.write().expect("no writer panics").insert(path.to_owned(), (stamp, facts.clone()));
        Ok(facts)
    }
}

/// The most that is looked at to tell what a file is, in bytes: an archive's magic, the header of its first member, and
/// an ELF header.
const HEAD: u64 = 512;

/// How LLVM bitcode starts.
const BITCODE: &[u8] = b"BC\xc0\xde";

fn look(path: &Path, files: &dyn FileView) -> Result<Facts, Halt> {
    let unreadable =
        |error| Halt::from(Reason::Other(format!("`{}` cannot be read: {error}", path.display())));
    let mut head = Vec::new();
    // Not through the view: it gives whole files, and static libraries are large.
    File::open(path).and_then(|file| file.take(HEAD).read_to_end(&mut head)).map_err(unreadable)?;
    let whole = || match files.read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Err(Halt::Force(path.to_owned())),
        read => read.map_err(unreadable),
    };
    if head.starts_with(&elf::ELFMAG) {
        let kind = elf_type(&head);
        let leads = match kind {
            Some(elf::ET_DYN) => shared(&whole()?).map_or(Leads::Nowhere, Leads::Shared),
            _ => Leads::Nowhere,
        };
        let linked = matches!(kind, Some(elf::ET_DYN | elf::ET_EXEC));
        return Ok(Facts { target: target(&head), linked, ..Facts::plain(leads) });
    }
    if head.starts_with(b"!<thin>\n") {
        let members = thin_members(&whole()?)
            .ok_or_else(|| Reason::Other(format!("`{}` is damaged", path.display())))?;
        return Ok(Facts::plain(Leads::Members(members)));
    }
    if head.starts_with(b"!<arch>\n") {
        let bitcode = holds_bitcode(path).map_err(unreadable)?;
        return Ok(Facts { bitcode, ..Facts::plain(Leads::Nowhere) });
    }
    if head.starts_with(BITCODE) {
        return Ok(Facts { bitcode: true, ..Facts::plain(Leads::Nowhere) });
    }
    // ld takes what it does not recognise for a script.
    let bytes = whole()?;
    let leads = std::str::from_utf8(&bytes).map_or(Leads::Nowhere, |text| Leads::Script(script::parse(text)));
    Ok(Facts::plain(leads))
}

/// Whether a member of this archive may be bitcode. Reads no more than its headers and how each member starts; what is no sound
/// archive may hold anything.
///
/// # Errors
/// That it cannot be opened.
fn holds_bitcode(archive: &Path) -> io::Result<bool> {
    let file = ReadCache::new(File::open(archive)?);
    let Ok(parsed) = ArchiveFile::parse(&file) else { return Ok(true) };
    let mut members = parsed.members();
    Ok(members.any(|member| {
        let Ok((offset, size)) = member.map(|member| member.file_range()) else { return true };
        let start = (&file).read_bytes_at(offset, size.min(BITCODE.len() as u64));
        start.map_or(true, |start| start == BITCODE)
    }))
}

fn target(head: &[u8]) -> Option<Target> {
    let machine = u16::from_le_bytes(head.get(18..20)?.try_into().expect("two bytes"));
    Some(Target { class: *head.get(4)?, machine })
}

fn elf_type(head: &[u8]) -> Option<u16> {
    head.get(16..18).map(|kind| u16::from_le_bytes([kind[0], kind[1]]))
}

fn shared(bytes: &[u8]) -> Option<Shared> {
    match bytes.get(4)? {
        &elf::ELFCLASS64 => dynamic::<elf::FileHeader64<object::Endianness>>(bytes),
        _ => dynamic::<elf::FileHeader32<object::Endianness>>(bytes),
    }
}

fn dynamic<H: FileHeader<Endian = object::Endianness>>(bytes: &[u8]) -> Option<Shared> {
    let header = H::parse(bytes).ok()?;
    let endian = header.endian().ok()?;
    let sections = header.sections(endian, bytes).ok()?;
    let (entries, strings) = sections.dynamic(endian, bytes).ok()??;
    let strings = sections.section(strings).ok()?;
    let (offset, size) = strings.file_range(endian)?;
    let table = object::StringTable::new(bytes, offset, offset + size);
    let (mut shared, mut old_path) = (Shared::default(), None);
    for entry in entries {
        let Some(tag) = entry.tag32(endian) else { continue };
        if !matches!(tag, elf::DT_NEEDED | elf::DT_SONAME | elf::DT_RUNPATH | elf::DT_RPATH) {
            continue;
        }
        let text = table.get(entry.val32(endian)?).ok().and_then(|text| std::str::from_utf8(text).ok())?;
        match tag {
            elf::DT_NEEDED => shared.needed.push(text.to_owned()),
            elf::DT_SONAME => shared.soname = Some(text.to_owned()),
            elf::DT_RUNPATH => shared.run_path = split(text),
            _ => old_path = Some(split(text)),
        }
    }
    if shared.run_path.is_empty() {
        shared.run_path = old_path.unwrap_or_default();
    }
    Some(shared)
}

/// The directories of a list separated by colons.
pub fn split(list: &str) -> Vec<String> {
    list.split(':').filter(|dir| !dir.is_empty()).map(str::to_owned).collect()
}

/// The members of a thin archive: `ar(5)`'s headers without bodies, names in the `//` table.
fn thin_members(bytes: &[u8]) -> Option<Vec<String>> {
    const HEADER: usize = 60;
    let (mut at, mut names, mut members) = (8, &bytes[..0], Vec::new());
    while at + HEADER <= bytes.len() {
        let header = &bytes[at..at + HEADER];
        let name = std::str::from_utf8(&header[..16]).ok()?.trim_end();
        let size: usize = std::str::from_utf8(&header[48..58]).ok()?.trim().parse().ok()?;
        at += HEADER;
        match name {
            "/" | "/SYM64/" => at += size + size % 2,
            "//" => {
                names = bytes.get(at..at + size)?;
                at += size + size % 2;
            }
            // `/12:345`: the member at 345 of the archive whose name is at 12.
            name => members.push(match name.strip_prefix('/') {
                Some(offset) => long_name(names, offset.split(':').next()?.parse().ok()?)?,
                None => name.trim_end_matches('/').to_owned(),
            }),
        }
    }
    Some(members)
}

fn long_name(names: &[u8], offset: usize) -> Option<String> {
    let name = names.get(offset..)?.split(|&byte| byte == b'\n').next()?;
    let name = std::str::from_utf8(name).ok()?;
    Some(name.strip_suffix('/').unwrap_or(name).to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use super::*;
    use crate::testing::DiskView;

    #[test]
    fn another_session_looks_only_into_what_has_changed() {
        let (dir, files) = (tempfile::tempdir().unwrap(), DiskView::new());
        let path = dir.path().join("libc.so");
        fs::write(&path, "GROUP ( libc.so.6 )").unwrap();
        let first = Knowledge::default();
        let facts = first.of(&path, &files).unwrap();
        assert!(matches!(&facts.leads, Leads::Script(script) if script.files.len() == 1));

        let second = Knowledge::new(&first.records());
        assert_eq!(second.earlier.values().collect::<Vec<_>>(), [&facts]);
        assert_eq!(second.of(&path, &files).unwrap(), facts);
        assert_eq!(Knowledge::new(&second.records()).earlier, second.earlier);
        fs::write(&path, "!<arch>\n").unwrap();
        assert_eq!(second.of(&path, &files).unwrap().leads, Leads::Nowhere);

        let records = first.records();
        for bad in [&records[1..], &records[..records.len() - 1], b""] {
            assert!(Knowledge::new(bad).earlier.is_empty());
        }
    }

    #[test]
    fn bitcode_is_found_in_an_archive() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| std::fs::write(dir.path().join(name), bytes).unwrap();
        write("bitcode.o", b"BC\xc0\xde and more");
        write("mentions.o", b"it says BC\xc0\xde in the middle");
        write("short.o", b"B");
        let facts = |name: &str| look(&dir.path().join(name), &DiskView::new()).unwrap();
        let archive = |name: &str, members: &[&str]| {
            let ar = Command::new("ar").args(["rcS", name]).args(members).current_dir(&dir).status();
            assert!(ar.unwrap().success());
            facts(name).bitcode
        };
        assert!(archive("with.a", &["mentions.o", "short.o", "bitcode.o"]));
        assert!(!archive("without.a", &["mentions.o", "short.o"]));
        write("damaged.a", b"!<arch>\nno header");
        assert!(facts("damaged.a").bitcode, "who knows");
        assert!(facts("bitcode.o").bitcode);
    }
}
