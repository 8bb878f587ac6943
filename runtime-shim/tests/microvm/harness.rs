//! A store, a pool of guests over it, and jobs to run.

use std::path::{Path, PathBuf};
use std::process::Command as Process;
use std::sync::Arc;
use std::time::Duration;

use ggr_backends::microvm::{Accelerator, Image, Kernel, MicrovmBackend, MicrovmOptions, Qemu, Vmm};
use ggr_backends::store::FsStore;
use ggr_ir::{BlobId, Harvest, Job, Kind, Limits, ObjectStore};
use ggr_shim::bench::{Kit, command};
use tempfile::TempDir;

pub(crate) struct Place {
    dir: TempDir,
    pub(crate) kit: Kit,
    pub(crate) backend: Arc<MicrovmBackend>,
}

impl Place {
    /// Nothing if there is no QEMU or no kernel here; the test's name is printed then.
    pub(crate) fn new(test: &str, slots: usize) -> Option<Self> {
        let qemu = Qemu::new("/usr/bin/qemu-system-x86_64");
        let (Ok(version), Some(kernel)) = (qemu.version(), kernel()) else {
            eprintln!("skipped: {test}: no QEMU or no guest kernel (tests/setup gets them)");
            return None;
        };
        let dir = tempfile::tempdir().unwrap();
        let mut kit = Kit::new(dir.path());
        for program in ["/usr/bin/dash", "/usr/bin/sleep", "/usr/bin/cat", "/usr/bin/head", "/usr/bin/tail"] {
            kit.program(Path::new(program)).unwrap();
        }
        let images = dir.path().join("images");
        let machine = (Accelerator::Tcg, 512 << 20);
        let image = Image::prepare(&images, &kernel, agent(), machine, &version).unwrap();
        let store = Arc::new(FsStore::new(dir.path()));
        let patience = Duration::from_secs(8);
        let vmm: Arc<dyn Vmm> = Arc::new(qemu);
        let backend = Arc::new(MicrovmBackend::new(MicrovmOptions { vmm, image, slots, patience, store }));
        Some(Self { dir, kit, backend })
    }

    /// Where everything of this place is.
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn bytes(&self, id: BlobId) -> Vec<u8> {
        FsStore::new(self.dir.path()).get_bytes(id).unwrap()
    }
}

fn kernel() -> Option<Kernel> {
    let home = std::env::var_os("HOME").map(PathBuf::from)?;
    Kernel::find(&[home.join(".cache/ggr/guest"), "/".into()])
}

/// The agent that `cargo test` built beside this test, and its libraries.
fn agent() -> (PathBuf, Vec<PathBuf>) {
    let test = std::env::current_exe().unwrap();
    let agent = test.parent().unwrap().parent().unwrap().join("examples/guest");
    let listed = Process::new("ldd").arg(&agent).output().unwrap();
    let text = String::from_utf8(listed.stdout).unwrap();
    let libraries = text.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect();
    (agent, libraries)
}

pub(crate) fn sh(kit: &mut Kit, script: &str, outputs: &[&str]) -> Job {
    limited(kit, script, outputs, Limits::default())
}

pub(crate) fn limited(kit: &mut Kit, script: &str, outputs: &[&str], limits: Limits) -> Job {
    let call = command(&["/usr/bin/dash", "-c", script], "/work");
    let thunk = kit.thunk(call, outputs, Harvest::Declared);
    Job { id: thunk.id(), thunk: Arc::new(thunk), limits, kind: Kind::Other, label: script.to_owned() }
}

/// A compile (of GCC's own part, which needs no other program), and the bytes that it gives here.
pub(crate) fn compile(kit: &mut Kit, source: &str) -> (Job, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("in.i"), source).unwrap();
    let cc1 = Process::new("gcc").arg("-print-prog-name=cc1").output().unwrap();
    let cc1 = PathBuf::from(String::from_utf8(cc1.stdout).unwrap().trim());
    for program in [cc1.as_path(), Path::new("/usr/bin/as")] {
        kit.program(program).unwrap();
    }
    kit.bytes("/work/in.i", source.as_bytes(), ggr_ir::Mode::Regular).unwrap();
    let cc1 = cc1.to_str().unwrap();
    let script = format!("{cc1} -fpreprocessed -quiet -O2 in.i -o t.s && /usr/bin/as t.s -o out.o");
    let here = Process::new("/usr/bin/dash").args(["-c", &script]).current_dir(dir.path()).status().unwrap();
    assert!(here.success());
    let limits = Limits { wall: Duration::from_secs(120), ..Limits::default() };
    let job = Job { kind: Kind::Compile, ..limited(kit, &script, &["/work/out.o"], limits) };
    (job, std::fs::read(dir.path().join("out.o")).unwrap())
}
