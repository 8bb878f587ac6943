//! The guest's initial file system: a cpio archive in the `newc` form (Documentation/driver-api/early-userspace/
//! buffer-format.rst), made here, so that it holds what it is told and nothing else.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Modules by file name, in the order in which they are loaded. A kernel that has one built in has no such file.
const MODULES: [&str; 8] = [
    "virtio_ring.ko",
    "virtio.ko",
    "virtio_mmio.ko",
    "virtio_pci_modern_dev.ko",
    "virtio_pci_legacy_dev.ko",
    "virtio_pci.ko",
    "virtio_console.ko",
    "overlay.ko",
];

/// Directories that are empty until the guest mounts something there.
const DIRECTORIES: [&str; 7] = ["dev", "proc", "sys", "work", "modules", "tmp", "covered"];

/// What does not fit in a `newc` header is no file that a guest needs.
const LARGEST: u64 = 1 << 30;

/// What goes in.
#[derive(Clone, Debug)]
pub(super) struct Contents {
    /// The program that becomes `/init`.
    pub(super) init: PathBuf,
    /// What its loader opens, each put at the path that it has here.
    pub(super) libraries: Vec<PathBuf>,
    /// The directory of the kernel's modules, as `/lib/modules/6.1.0-56-cloud-amd64`.
    pub(super) modules: PathBuf,
}

/// Makes the archive.
///
/// # Errors
/// If a file cannot be read.
pub(super) fn build(contents: &Contents) -> io::Result<Vec<u8>> {
    let mut archive = Archive::default();
    DIRECTORIES.iter().for_each(|name| archive.directory(name));
    // PID 1 has its standard streams from /dev/console, and Rust's start-up wants /dev/null if it has none.
    archive.entry("dev/console", 0o020_600, (5, 1), &[]);
    archive.entry("dev/null", 0o020_666, (1, 3), &[]);
    archive.file_as("init", 0o100_755, &contents.init, without_sections)?;
    for library in &contents.libraries {
        archive.file(&library.to_string_lossy(), 0o100_755, library)?;
    }
    let mut order = String::new();
    for name in MODULES {
        if let Some(path) = find(&contents.modules, name) {
            archive.file(&format!("modules/{name}"), 0o100_644, &path)?;
            order.push_str(name);
            order.push('\n');
        }
    }
    archive.entry("modules/order", 0o100_644, (0, 0), order.as_bytes());
    Ok(archive.finish())
}

/// A program as far as the kernel and the loader map it: what lies behind its last segment (symbols, the lines of a debugger)
/// is three quarters of a ggr that was built from its sources, and each guest would hold it in memory, twice while it boots.
/// Bytes that are no 64-bit ELF file stay as they are.
fn without_sections(mut bytes: Vec<u8>) -> Vec<u8> {
    use object::read::elf::{FileHeader, ProgramHeader};
    let parse = |bytes: &[u8]| -> object::Result<u64> {
        let header = object::elf::FileHeader64::<object::Endianness>::parse(bytes)?;
        let endian = header.endian()?;
        let segments = header.program_headers(endian, bytes)?;
        let table = header.e_phoff.get(endian) + std::mem::size_of_val(segments) as u64;
        let ends = segments.iter().map(|one| one.p_offset(endian).saturating_add(one.p_filesz(endian)));
        Ok(ends.fold(table, u64::max))
    };
    let Ok(end) = parse(&bytes) else { return bytes };
    bytes.truncate(usize::try_from(end).unwrap_or(usize::MAX));
    // Where the table of sections was (elf(5): `e_shoff`; `e_shentsize`, `e_shnum`, `e_shstrndx`): there is none.
    bytes[0x28..0x30].fill(0);
    bytes[0x3a..0x40].fill(0);
    bytes
}

/// The file of this name somewhere below a directory.
fn find(dir: &Path, name: &str) -> Option<PathBuf> {
    let all = walkdir::WalkDir::new(dir).sort_by_file_name().into_iter().flatten();
    all.into_iter().find(|entry| entry.file_name() == name).map(walkdir::DirEntry::into_path)
}

#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    entries: u32,
    directories: BTreeSet<String>,
}

impl Archive {
    fn directory(&mut self, path: &str) {
        if self.directories.insert(path.to_owned()) {
            self.entry(path, 0o040_755, (0, 0), &[]);
        }
    }

    fn file(&mut self, path: &str, mode: u32, from: &Path) -> io::Result<()> {
        self.file_as(path, mode, from, |bytes| bytes)
    }

    fn file_as(
        &mut self,
        path: &str,
        mode: u32,
        from: &Path,
        change: fn(Vec<u8>) -> Vec<u8>,
    ) -> io::Result<()> {
        let named = |e: io::Error| io::Error::new(e.kind(), format!("`{}`: {e}", from.display()));
        if fs::metadata(from).map_err(named)?.len() > LARGEST {
            return Err(named(io::ErrorKind::FileTooLarge.into()));
        }
        let bytes = change(fs::read(from).map_err(named)?);
        let path = path.trim_start_matches('/');
        let mut parents: Vec<_> = Path::new(path).ancestors().skip(1).collect();
        parents.pop();
        parents.iter().rev().for_each(|dir| self.directory(&dir.to_string_lossy()));
        self.entry(path, mode, (0, 0), &bytes);
        Ok(())
    }

    /// The header is thirteen numbers of eight hexadecimal digits behind a magic one; name and bytes are padded to four.
    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), bytes: &[u8]) {
        self.entries += 1;
        let size = u32::try_from(bytes.len()).expect("bounded by LARGEST");
        let name = u32::try_from(path.len() + 1).expect("a path is short");
        let (number, links) = (self.entries, 1 + u32::from(mode & 0o170_000 == 0o040_000));
        self.bytes.extend_from_slice(b"070701");
        for field in [number, mode, 0, 0, links, 0, size, 0, 0, device.0, device.1, name, 0] {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(bytes);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_holds_what_it_was_told_and_its_directories_first() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("program"), b"12345").unwrap();
        fs::create_dir(at("kernel")).unwrap();
        fs::write(at("kernel/virtio.ko"), b"module").unwrap();
        let contents =
            Contents { init: at("program"), libraries: vec![at("program")], modules: at("kernel") };
        let archive = build(&contents).unwrap();
        assert_eq!(archive.len() % 4, 0);
        let names = names(&archive);
        let library = at("program").to_string_lossy().trim_start_matches('/').to_owned();
        let place = |name: &str| names.iter().position(|found| found == name).expect(name);
        assert!(place("init") > place("dev"));
        assert!(place(&library) > place(Path::new(&library).parent().unwrap().to_str().unwrap()));
        assert!(place("modules/virtio.ko") < place("modules/order"));
        assert!(!names.contains(&"modules/overlay.ko".to_owned()), "the kernel has none");
        assert_eq!(names.last().unwrap(), "TRAILER!!!");
    }

    #[test]
    fn a_program_without_its_sections_runs_as_before() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let source = fs::read("/proc/self/exe").unwrap();
        let bytes = without_sections(source.clone());
        assert!(bytes.len() < source.len());
        let program = dir.path().join("program");
        fs::write(&program, bytes).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        // This very test program: it lists its tests.
        let listed = std::process::Command::new(&program).arg("--list").output().unwrap();
        assert!(
            String::from_utf8_lossy(&listed.stdout).contains("a_program_without_its_sections_runs_as_before")
        );
        assert_eq!(without_sections(b"#!/bin/sh".to_vec()), b"#!/bin/sh");
    }

    /// Reads the archive as the kernel does (`init/initramfs.c`).
    fn names(mut archive: &[u8]) -> Vec<String> {
        let mut names = Vec::new();
        while !archive.is_empty() {
            assert_eq!(&archive[..6], b"070701");
            let field = |n: usize| {
                let text = std::str::from_utf8(&archive[6 + 8 * n..14 + 8 * n]).unwrap();
                usize::from_str_radix(text, 16).unwrap()
            };
            let (size, name) = (field(6), field(11));
            names.push(String::from_utf8(archive[110..110 + name - 1].to_vec()).unwrap());
            archive = &archive[(110 + name).next_multiple_of(4) + size.next_multiple_of(4)..];
        }
        names
    }
}
