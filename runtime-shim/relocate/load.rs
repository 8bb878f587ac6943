//! Maps a program and its interpreter as the kernel's `execve` does (`fs/binfmt_elf.c`).

use crate::copy::open_file;
use crate::paths::PATH_MAX;
use crate::sys::{self, AT_FDCWD, call, call4, nr};

/// A file that cannot be loaded, and why.
pub struct Unfit(pub &'static [u8]);

/// A mapped file.
#[derive(Default)]
pub struct Image {
    /// Its first instruction.
    pub entry: u64,
    /// What was added to its addresses.
    pub base: u64,
    /// Where its program headers are in memory, and how many.
    pub headers: u64,
    /// How many there are.
    pub count: u64,
    /// The address of its interpreter's path in `text`; 0 if it has none.
    interpreter: Option<[u8; 256]>,
}

/// A program header (`Elf64_Phdr`).
#[derive(Clone, Copy, Default)]
struct Header {
    kind: u32,
    flags: u32,
    offset: u64,
    address: u64,
    in_file: u64,
    in_memory: u64,
}

const LOAD: u32 = 1;
const INTERP: u32 = 3;
const PHDR: u32 = 6;
const HEADER: usize = 56;
const MOST_HEADERS: usize = 64;
const PAGE: u64 = 4096;
const X86_64: u16 = 62;
const PROT: [(u32, u64); 3] = [(4, 1), (2, 2), (1, 4)];
const MAP_PRIVATE: u64 = 0x2;
const MAP_FIXED: u64 = 0x10;
const MAP_ANONYMOUS: u64 = 0x20;
const MAP_NORESERVE: u64 = 0x4000;
const MAP_FIXED_NOREPLACE: u64 = 0x10_0000;

/// Loads the program that `path` names and, if it has one, its interpreter: the program, and the interpreter.
pub fn load(path: u64) -> Result<(Image, Option<Image>), Unfit> {
    let program = map(path)?;
    let interpreter = match &program.interpreter {
        Some(path) => Some(map(path.as_ptr() as u64)?),
        None => None,
    };
    Ok((program, interpreter))
}

fn map(path: u64) -> Result<Image, Unfit> {
    if sys::text(path, PATH_MAX).is_none() {
        return Err(Unfit(b"its name is too long"));
    }
    let fd = open_file(AT_FDCWD, path);
    if fd < 0 {
        return Err(Unfit(b"it, or its interpreter, is not there (is it among the inputs?)"));
    }
    let image = map_file(fd as u64);
    call4(nr::CLOSE, fd as u64, 0, 0, 0);
    image
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> u64 {
    let mut wide = [0; 8];
    wide[..N].copy_from_slice(&bytes[at..at + N]);
    u64::from_le_bytes(wide)
}

fn read(fd: u64, bytes: &mut [u8], at: u64) -> Result<(), Unfit> {
    let read = call4(nr::PREAD64, fd, bytes.as_mut_ptr() as u64, bytes.len() as u64, at);
    if read == bytes.len() as i64 { Ok(()) } else { Err(Unfit(b"it is cut short")) }
}

fn map_file(fd: u64) -> Result<Image, Unfit> {
    let mut start = [0u8; 64];
    read(fd, &mut start, 0)?;
    let kind = number::<2>(&start, 16);
    if !start.starts_with(b"\x7fELF\x02\x01") || number::<2>(&start, 18) != u64::from(X86_64) {
        return Err(Unfit(b"it is no x86-64 program"));
    }
    let (table, count) = (number::<8>(&start, 32), number::<2>(&start, 56) as usize);
    let mut bytes = [0u8; HEADER * MOST_HEADERS];
    if count == 0 || count > MOST_HEADERS || number::<2>(&start, 54) as usize != HEADER {
        return Err(Unfit(b"its program headers are odd"));
    }
    read(fd, &mut bytes[..HEADER * count], table)?;
    let mut headers = [Header::default(); MOST_HEADERS];
    for (header, bytes) in headers.iter_mut().zip(bytes.chunks_exact(HEADER)).take(count) {
        *header = Header {
            kind: number::<4>(bytes, 0) as u32,
            flags: number::<4>(bytes, 4) as u32,
            offset: number::<8>(bytes, 8),
            address: number::<8>(bytes, 16),
            in_file: number::<8>(bytes, 32),
            in_memory: number::<8>(bytes, 40),
        };
    }
    let headers = &headers[..count];
    let base = reserve(headers, kind)?;
    headers.iter().filter(|header| header.kind == LOAD).try_for_each(|header| segment(fd, header, base))?;
    Ok(Image {
        entry: base + number::<8>(&start, 24),
        base,
        headers: base + address_of_headers(headers, table),
        count: count as u64,
        interpreter: interpreter(fd, headers)?,
    })
}

fn address_of_headers(headers: &[Header], table: u64) -> u64 {
    let loaded = |header: &&Header| {
        header.kind == LOAD && header.offset <= table && table < header.offset + header.in_file
    };
    match (headers.iter().find(|header| header.kind == PHDR), headers.iter().find(loaded)) {
        (Some(own), _) => own.address,
        (None, Some(load)) => load.address + (table - load.offset),
        (None, None) => 0,
    }
}

fn interpreter(fd: u64, headers: &[Header]) -> Result<Option<[u8; 256]>, Unfit> {
    let Some(header) = headers.iter().find(|header| header.kind == INTERP) else { return Ok(None) };
    let mut path = [0u8; 256];
    if header.in_file as usize >= path.len() {
        return Err(Unfit(b"its interpreter's name is too long"));
    }
    read(fd, &mut path[..header.in_file as usize], header.offset)?;
    Ok(Some(path))
}

fn down(address: u64) -> u64 {
    address & !(PAGE - 1)
}

fn up(address: u64) -> u64 {
    down(address + PAGE - 1)
}

/// Finds room for all segments together; what is to be added to their addresses.
fn reserve(headers: &[Header], kind: u64) -> Result<u64, Unfit> {
    const EXECUTABLE: u64 = 2;
    let loads = || headers.iter().filter(|header| header.kind == LOAD);
    let first = loads().map(|header| down(header.address)).min().ok_or(Unfit(b"it has nothing to load"))?;
    let end = loads().map(|header| up(header.address + header.in_memory)).max().unwrap_or(first);
    let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    let (at, flags) = if kind == EXECUTABLE { (first, flags | MAP_FIXED_NOREPLACE) } else { (0, flags) };
    let got = call(nr::MMAP, [at, end - first, 0, flags, u64::MAX, 0]);
    match got {
        got if got < 0 && got > -4096 => Err(Unfit(b"there is no room for it in memory")),
        got if kind == EXECUTABLE && got as u64 != first => Err(Unfit(b"its addresses are taken")),
        got => Ok(got as u64 - first),
    }
}

fn segment(fd: u64, header: &Header, base: u64) -> Result<(), Unfit> {
    let failed =
        |result: i64| if result < 0 && result > -4096 { Err(Unfit(b"it cannot be mapped")) } else { Ok(()) };
    let protection =
        PROT.iter().filter(|(flag, _)| header.flags & flag != 0).map(|(_, bit)| bit).sum::<u64>();
    let start = base + down(header.address);
    let (file_end, end) = (base + header.address + header.in_file, base + header.address + header.in_memory);
    if header.in_file > 0 {
        let length = file_end - start;
        let flags = MAP_PRIVATE | MAP_FIXED;
        failed(call(nr::MMAP, [start, length, protection, flags, fd, down(header.offset)]))?;
    }
    let filled = if header.in_file > 0 { up(file_end) } else { start };
    if end > file_end && header.in_file > 0 && protection & 2 != 0 {
        // To the end of the page: ld.so takes what lies behind its own data for its first allocations.
        sys::zero(file_end, filled - file_end);
    }
    if end > filled {
        let flags = MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS;
        failed(call(nr::MMAP, [filled, up(end) - filled, protection, flags, u64::MAX, 0]))?;
    }
    Ok(())
}
