//! What a guest starts from: a distribution's kernel, found; the initial file system, made; both named by their hash.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ggr_ir::repo::TempFile;

use super::initramfs::{Contents, build};
use super::template::{Image, VERSION};
use super::vmm::{Accelerator, Machine};

/// The module without which a guest has no console for its agent.
const CONSOLE: &str = "kernel/drivers/char/virtio_console.ko";

/// A kernel and its modules.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kernel {
    /// As `6.1.0-56-cloud-amd64`.
    pub release: String,
    /// The file to boot.
    pub file: PathBuf,
    /// The directory of its modules.
    pub modules: PathBuf,
}

impl Kernel {
    /// The kernel in the first of these roots that has one (`boot/vmlinuz-*` with `lib/modules/*`), one made for clouds
    /// rather than another: it starts sooner. Modules that are compressed are passed over.
    pub fn find(roots: &[PathBuf]) -> Option<Self> {
        roots.iter().find_map(|root| Self::all(root).into_iter().max_by_key(Self::rank))
    }

    fn rank(&self) -> (bool, String) {
        (self.release.contains("cloud"), self.release.clone())
    }

    fn all(root: &Path) -> Vec<Self> {
        let Ok(entries) = fs::read_dir(root.join("boot")) else { return Vec::new() };
        let kernel = |entry: fs::DirEntry| {
            let release = entry.file_name().to_str()?.strip_prefix("vmlinuz-")?.to_owned();
            let modules = root.join("lib/modules").join(&release);
            modules.join(CONSOLE).is_file().then(|| Self { release, file: entry.path(), modules })
        };
        entries.flatten().filter_map(kernel).collect()
    }
}

impl Image {
    /// Makes the initial file system for a machine, in `directory`, unless it is there.
    ///
    /// `init` is the agent and `libraries` what its loader opens; `monitor` names the program that runs guests and its
    /// version, as a snapshot is for that version alone.
    ///
    /// # Errors
    /// If a file cannot be read or written.
    pub fn prepare(
        directory: &Path,
        kernel: &Kernel,
        init: (PathBuf, Vec<PathBuf>),
        machine: (Accelerator, u64),
        monitor: &str,
    ) -> io::Result<Self> {
        let (accelerator, memory) = machine;
        let (init, libraries) = init;
        let archive = build(&Contents { init, libraries, modules: kernel.modules.clone() })?;
        let initramfs = directory.join(format!("initramfs-{}", &blake3::hash(&archive).to_hex()[..16]));
        if fs::metadata(&initramfs).map_or(0, |meta| meta.len()) != archive.len() as u64 {
            let temp = TempFile::create(directory, 0o600)?;
            io::Write::write_all(&mut temp.file(), &archive)?;
            temp.publish(&initramfs)?;
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update(&fs::read(&kernel.file)?).update(&archive).update(monitor.as_bytes());
        hasher.update(&memory.to_le_bytes()).update(format!("{accelerator:?}").as_bytes());
        hasher.update(&VERSION.to_le_bytes());
        let key = hasher.finalize().to_hex()[..16].to_owned();
        let machine = Machine { kernel: kernel.file.clone(), initramfs, memory, accelerator };
        Ok(Self { machine, directory: directory.to_owned(), key })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clouds_kernel_is_taken_where_it_has_its_modules() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().to_owned();
        fs::create_dir_all(root.join("boot")).unwrap();
        assert_eq!(Kernel::find(std::slice::from_ref(&root)), None);
        for release in ["6.1.0-5-amd64", "6.1.0-4-cloud-amd64", "6.1.0-9-cloud-amd64"] {
            fs::write(root.join(format!("boot/vmlinuz-{release}")), b"k").unwrap();
            let module = root.join(format!("lib/modules/{release}/{CONSOLE}"));
            if !release.contains("-9-") {
                fs::create_dir_all(module.parent().unwrap()).unwrap();
                fs::write(module, b"m").unwrap();
            }
        }
        let found = Kernel::find(&[root.join("nothing"), root]).unwrap();
        assert_eq!(found.release, "6.1.0-4-cloud-amd64");
    }
}
