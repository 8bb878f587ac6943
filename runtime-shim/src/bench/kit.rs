//! Thunks of this machine's own tools, put together by hand.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};
use std::process::Command as Process;

use ggr_ir::{BlobId, Command, Entry, Harvest, Mode, Network, OutputName, ReadyThunk, RootPath};

use crate::blobs::Blobs;

/// Inputs, collected and stored.
pub struct Kit {
    blobs: Blobs,
    /// What has been collected.
    pub inputs: BTreeMap<RootPath, Entry<BlobId>>,
}

impl Kit {
    /// An empty one over the store below `root`.
    pub fn new(root: &Path) -> Self {
        Self { blobs: Blobs::at(root), inputs: BTreeMap::new() }
    }

    /// Adds bytes at a path.
    pub fn bytes(&mut self, path: &str, bytes: &[u8], mode: Mode) -> io::Result<()> {
        let object = self.blobs.put(bytes).map_err(io::Error::other)?;
        self.inputs.insert(RootPath::new(path).map_err(io::Error::other)?, Entry { object, mode });
        Ok(())
    }

    /// Adds this machine's file, and every symlink on the way to it.
    pub fn file(&mut self, path: &Path) -> io::Result<()> {
        let mut real = PathBuf::from("/");
        let mut rest: Vec<_> = path.components().rev().map(|part| part.as_os_str().to_owned()).collect();
        while let Some(part) = rest.pop() {
            match Path::new(&part).components().next() {
                Some(Component::Normal(name)) => real.push(name),
                Some(Component::ParentDir) => {
                    real.pop();
                    continue;
                }
                _ => continue,
            }
            let meta = fs::symlink_metadata(&real)?;
            if meta.is_symlink() {
                let target = fs::read_link(&real)?;
                self.add(&real, target.as_os_str().as_bytes(), Mode::Symlink)?;
                rest.extend(target.components().rev().map(|part| part.as_os_str().to_owned()));
                if target.is_absolute() {
                    real = PathBuf::from("/");
                } else {
                    real.pop();
                }
            } else if rest.is_empty() && meta.is_file() {
                let program = meta.permissions().mode() & 0o100 != 0;
                let mode = if program { Mode::Executable } else { Mode::Regular };
                self.add(&real, &fs::read(&real)?, mode)?;
            }
        }
        Ok(())
    }

    /// Adds a program and the shared libraries that `ldd` names.
    pub fn program(&mut self, path: &Path) -> io::Result<()> {
        self.file(path)?;
        let listing = Process::new("ldd").arg(path).output()?.stdout;
        for word in String::from_utf8_lossy(&listing).split_whitespace().filter(|word| word.starts_with('/'))
        {
            self.file(Path::new(word.trim_end_matches(':')))?;
        }
        Ok(())
    }

    /// Adds what `gcc -c` runs, and the headers that `gcc -M` names for this source under these flags.
    pub fn gcc(&mut self, source: &Path, flags: &[&str]) -> io::Result<()> {
        self.program(Path::new("/usr/bin/gcc"))?;
        for tool in ["cc1", "as"] {
            let found = Process::new("gcc").arg(format!("-print-prog-name={tool}")).output()?.stdout;
            let found = String::from_utf8_lossy(&found).trim().to_owned();
            let path =
                if found.starts_with('/') { PathBuf::from(found) } else { Path::new("/usr/bin").join(found) };
            self.program(&path)?;
        }
        let listing = Process::new("gcc").args(flags).arg("-M").arg(source).output()?.stdout;
        for word in String::from_utf8_lossy(&listing).split_whitespace().filter(|word| word.starts_with('/'))
        {
            self.file(Path::new(word))?;
        }
        Ok(())
    }

    /// Adds what `gcc -o` runs and reads beside the caller's own files, with the C library.
    pub fn linker(&mut self) -> io::Result<()> {
        for tool in ["collect2", "lto-wrapper"] {
            self.program(&asked("-print-prog-name=", tool)?)?;
        }
        for file in [
            "Scrt1.o",
            "crt1.o",
            "crti.o",
            "crtn.o",
            "crtbegin.o",
            "crtbeginS.o",
            "crtend.o",
            "crtendS.o",
            "libgcc.a",
            "libgcc_s.so",
            "libgcc_s.so.1",
            "libc.so",
            "libc_nonshared.a",
            "libc.so.6",
            "ld-linux-x86-64.so.2",
            "liblto_plugin.so",
        ] {
            self.file(&asked("-print-file-name=", file)?)?;
        }
        Ok(())
    }

    /// A thunk over what was collected. Outputs are named by their path.
    pub fn thunk(&self, command: Command, outputs: &[&str], harvest: Harvest) -> ReadyThunk {
        let outputs = outputs.iter().map(|text| (OutputName::from(*text), root_path(text))).collect();
        ReadyThunk { command, inputs: self.inputs.clone(), outputs, harvest, network: Network::None }
    }

    fn add(&mut self, path: &Path, bytes: &[u8], mode: Mode) -> io::Result<()> {
        let text = path.to_str().ok_or(io::ErrorKind::InvalidInput)?;
        self.bytes(text, bytes, mode)
    }
}

/// A call of a program, by `argv` with its file in place of the name, in `dir`, with a `PATH` alone.
pub fn command(args: &[&str], dir: &str) -> Command {
    Command {
        program: root_path(args[0]),
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        env: [("PATH".to_owned(), "/usr/bin".to_owned())].into(),
        dir: root_path(dir),
    }
}

fn root_path(text: &str) -> RootPath {
    RootPath::new(text).expect("the caller writes normal paths")
}

/// Where gcc finds one of its files; one that it only names is in `/usr/bin`.
fn asked(option: &str, name: &str) -> io::Result<PathBuf> {
    let found = Process::new("gcc").arg(format!("{option}{name}")).output()?.stdout;
    Ok(Path::new("/usr/bin").join(String::from_utf8_lossy(&found).trim()))
}
