//! What a linker would learn by opening a file: which other files it leads to.
//!
//! Read once per version of a file (by stamp) and remembered. What a thunk that has not run will make is remembered by
//! its output, so that a link of placeholders need not wait: [`Knowledge::promise`].

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};

use ggr_ir::OutputRef;
use object::elf;
use object::read::elf::{Dyn, FileHeader, SectionHeader};
use rustc_hash::FxHashMap;

use super::Halt;
use super::script::{self, Script};
use crate::model::{FileView, Found, Reason};

/// The kind of machine a file is for: ELF class and machine number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
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
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Shared {
    /// Its name at run time (`DT_SONAME`).
    pub soname: Option<String>,
    /// The libraries that it needs (`DT_NEEDED`), or may need.
    pub needed: Vec<String>,
    /// Where it looks for them (`DT_RUNPATH`, else `DT_RPATH`), with `$ORIGIN` as written.
    pub run_path: Vec<String>,
}

/// What a file leads to.
#[derive(Clone, PartialEq, Eq, Debug)]
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
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Facts {
    /// What it was made for, where that can be told.
    pub target: Option<Target>,
    /// Where it leads.
    pub leads: Leads,
    /// Whether it is a program or a shared library: what tools make of it is executable.
    pub linked: bool,
    /// Whether it is LLVM bitcode.
    pub bitcode: bool,
}

impl Facts {
    /// Of an ELF object, an archive, or a file that a linker does not look into.
    pub fn plain(leads: Leads) -> Self {
        Self { target: None, leads, linked: false, bitcode: false }
    }
}

/// Remembers facts.
#[derive(Default, Debug)]
pub struct Knowledge {
    read: RwLock<FxHashMap<PathBuf, (u64, Arc<Facts>)>>,
    promised: RwLock<FxHashMap<OutputRef, Arc<Facts>>>,
}

impl Knowledge {
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
        let facts = Arc::new(look(path, files)?);
        self.read.write().expect("no writer panics").insert(path.to_owned(), (stamp, facts.clone()));
        Ok(facts)
    }
}

/// The most that is looked at to tell what a file is, in bytes: an archive's magic, the header of its first member, and
/// an ELF header.
const HEAD: u64 = 512;

/// How LLVM bitcode starts.
pub const BITCODE: &[u8] = b"BC\xc0\xde";

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
        return Ok(Facts::plain(Leads::Nowhere));
    }
    if head.starts_with(BITCODE) {
        return Ok(Facts { bitcode: true, ..Facts::plain(Leads::Nowhere) });
    }
    // ld takes what it does not recognise for a script.
    let bytes = whole()?;
    let leads = std::str::from_utf8(&bytes).map_or(Leads::Nowhere, |text| Leads::Script(script::parse(text)));
    Ok(Facts::plain(leads))
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
