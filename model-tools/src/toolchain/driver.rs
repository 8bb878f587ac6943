//! What a compiler driver (`gcc`, `g++`, `clang`, …) says of itself.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

/// The programs and plugins that a driver starts or hands on, looked for in its directories.
const PARTS: [&str; 11] = [
    "cc1",
    "cc1plus",
    "collect2",
    "lto1",
    "lto-wrapper",
    "liblto_plugin.so",
    "as",
    "ld",
    "ld.bfd",
    "ld.gold",
    "specs",
];

/// Which compiler a driver belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub enum Family {
    /// GNU: `cc1` and `cc1plus` are programs of their own.
    Gcc,
    /// Clang: the driver is the compiler, and starts itself again.
    Clang,
}

/// Why a driver did not answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum DriverError {
    /// It could not be started.
    #[error("`{}` could not be asked", program.display())]
    Start {
        /// The driver.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It answered otherwise than a compiler driver does.
    #[error("`{} {question}` gave no answer", program.display())]
    NoAnswer {
        /// The driver.
        program: PathBuf,
        /// The flag.
        question: &'static str,
    },
}

/// Where the parts of a compiler are.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Driver {
    /// The driver's file, as it was asked for.
    pub program: PathBuf,
    /// Which compiler.
    pub family: Family,
    /// The target, as `x86_64-linux-gnu`.
    pub machine: String,
    /// The directory of the compiler's own files (Clang: its resource directory).
    pub install: PathBuf,
    /// Where it looks for programs before `PATH`, in order, as it spells them.
    pub program_dirs: Vec<PathBuf>,
    /// Where it looks for startup files and libraries, in order, as it spells them.
    pub library_dirs: Vec<PathBuf>,
    /// Its programs and plugins by name, as it spells the paths; those that are not here are not there, or in `PATH`.
    pub parts: BTreeMap<String, PathBuf>,
}

impl Driver {
    /// A program or plugin of the compiler; none if it comes from `PATH` or is not installed.
    pub fn part(&self, name: &str) -> Option<&Path> {
        self.parts.get(name).map(PathBuf::as_path)
    }

    /// Asks the driver: two or three short processes.
    ///
    /// # Errors
    /// As [`DriverError`] says.
    pub(super) fn ask(program: &Path) -> Result<Self, DriverError> {
        let dirs = answer(program, "-print-search-dirs")?;
        let machine = answer(program, "-dumpmachine")?;
        let list = |label: &str| -> Vec<PathBuf> {
            let line = dirs.lines().find_map(|line| line.strip_prefix(label)).unwrap_or_default();
            let dirs = line.trim().trim_start_matches('=').split(':').filter(|dir| !dir.is_empty());
            unique(dirs.map(PathBuf::from))
        };
        let (program_dirs, library_dirs) = (list("programs:"), list("libraries:"));
        let install = dirs.lines().find_map(|line| line.strip_prefix("install:"));
        let (family, install) = match install {
            Some(install) => (Family::Gcc, install.trim().to_owned()),
            None => (Family::Clang, answer(program, "-print-resource-dir")?),
        };
        let all_dirs = || program_dirs.iter().chain(&library_dirs);
        let find = |name: &str| all_dirs().map(|dir| dir.join(name)).find(|path| path.is_file());
        let parts = PARTS.iter().filter_map(|name| Some((name.to_string(), find(name)?))).collect();
        Ok(Self {
            program: program.to_owned(),
            family,
            machine,
            install: install.into(),
            program_dirs,
            library_dirs,
            parts,
        })
    }
}

/// Keeps the first of each.
fn unique(paths: impl Iterator<Item = PathBuf>) -> Vec<PathBuf> {
    let mut seen = Vec::new();
    paths.for_each(|path| {
        if !seen.contains(&path) {
            seen.push(path);
        }
    });
    seen
}

fn answer(program: &Path, question: &'static str) -> Result<String, DriverError> {
    let output = Command::new(program)
        .arg(question)
        .env_clear()
        .env("LC_ALL", "C")
        .env("PATH", "/usr/bin:/bin")
        .output()
        .map_err(|source| DriverError::Start { program: program.to_owned(), source })?;
    match String::from_utf8(output.stdout) {
        Ok(text) if output.status.success() && !text.trim().is_empty() => Ok(text.trim().to_owned()),
        _ => Err(DriverError::NoAnswer { program: program.to_owned(), question }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gcc_says_where_its_parts_are() {
        let driver = Driver::ask(Path::new("/usr/bin/gcc")).unwrap();
        assert_eq!(driver.family, Family::Gcc);
        for part in ["cc1", "collect2", "lto1", "lto-wrapper", "liblto_plugin.so"] {
            assert!(driver.part(part).is_some_and(Path::is_file), "{part}");
        }
    }

    #[test]
    fn a_program_that_is_no_driver_is_an_error() {
        assert!(matches!(Driver::ask(Path::new("/bin/false")), Err(DriverError::NoAnswer { .. })));
        assert!(matches!(Driver::ask(Path::new("/nowhere/gcc")), Err(DriverError::Start { .. })));
    }
}
