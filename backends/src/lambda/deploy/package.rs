//! The functions' program as Lambda takes it: a zip with one file, `bootstrap`.

use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ggr_ir::protocol::lambda::mark_in;
use sha2::{Digest, Sha256};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

/// The most that Lambda takes in a request (docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html).
const LARGEST: usize = 50 << 20;

/// A program that cannot be deployed.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// It cannot be read.
    #[error("the functions' program `{}` cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is not a program that runs on Lambda, or not ggr's.
    #[error("`{}` {why}", path.display())]
    Unfit {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

/// A program, packed.
pub(super) struct Package {
    pub(super) zip: Vec<u8>,
    /// As Lambda shows it: SHA-256 of the zip in base64. The same program gives the same zip.
    pub(super) sha256: String,
}

impl Package {
    /// Packs the program at `path`, which has to be of this version of ggr.
    pub(super) fn of(path: &Path) -> Result<Self, PackageError> {
        let program =
            std::fs::read(path).map_err(|source| PackageError::Read { path: path.to_owned(), source })?;
        let unfit = |why: String| PackageError::Unfit { path: path.to_owned(), why };
        check(&program).map_err(&unfit)?;
        let zip = pack(&program).map_err(|error| unfit(format!("cannot be packed: {error}")))?;
        if zip.len() > LARGEST {
            return Err(unfit(format!("has {} bytes when packed, and Lambda takes {LARGEST}", zip.len())));
        }
        let sha256 = STANDARD.encode(Sha256::digest(&zip));
        Ok(Self { zip, sha256 })
    }
}

/// Static, for x86-64 and of this version: what else would be found out only in the first build.
fn check(program: &[u8]) -> Result<(), String> {
    use object::read::elf::{FileHeader, ProgramHeader};
    let no = || "is no program for x86-64 Linux".to_owned();
    let header = object::elf::FileHeader64::<object::Endianness>::parse(program).map_err(|_| no())?;
    let endian = header.endian().map_err(|_| no())?;
    if header.e_machine(endian) != object::elf::EM_X86_64 {
        return Err(no());
    }
    let segments = header.program_headers(endian, program).map_err(|_| no())?;
    if segments.iter().any(|segment| segment.p_type(endian) == object::elf::PT_INTERP) {
        return Err("is linked dynamically: its libraries are not on Lambda".to_owned());
    }
    let ours = ggr_ir::protocol::lambda::mark();
    match mark_in(program) {
        None => Err("is not ggr's program for functions".to_owned()),
        Some(theirs) if theirs != ours => Err(format!("is of {theirs}, and this is {ours}")),
        Some(_) => Ok(()),
    }
}

fn pack(program: &[u8]) -> zip::result::ZipResult<Vec<u8>> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    // A fixed time: equal programs give equal zips.
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .last_modified_time(DateTime::default())
        .unix_permissions(0o755);
    zip.start_file("bootstrap", options)?;
    zip.write_all(program)?;
    Ok(zip.finish()?.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_program_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bootstrap");
        std::fs::write(&path, "#!/bin/sh\n").unwrap();
        let error = Package::of(&path).err().unwrap().to_string();
        assert!(error.ends_with("is no program for x86-64 Linux"), "{error}");
        // This test itself is linked dynamically.
        let error = Package::of(&std::env::current_exe().unwrap()).err().unwrap().to_string();
        assert!(error.ends_with("is linked dynamically: its libraries are not on Lambda"), "{error}");
    }

    #[test]
    fn equal_programs_are_equal_zips() {
        let zip = pack(b"program").unwrap();
        assert_eq!(zip, pack(b"program").unwrap());
        let mut archive = zip::ZipArchive::new(Cursor::new(zip)).unwrap();
        let file = archive.by_name("bootstrap").unwrap();
        assert_eq!((file.unix_mode(), file.size()), (Some(0o100_755), 7));
    }
}
