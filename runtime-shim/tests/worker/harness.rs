//! A store in a fresh directory, a worker process over it, and shell scripts to run.

use std::path::{Path, PathBuf};
use std::process::Command;

use ggr_backends::store::FsStore;
use ggr_ir::{
    Attempt, BlobId, Harvest, Kind, Limits, ObjectStore, Outcome, OutputName, Reduction, ToolFailure,
};
use ggr_shim::bench::{Client, Kit, command};
use tempfile::TempDir;

/// The shell and these programs are in every root.
pub(crate) const PROGRAMS: [&str; 12] = [
    "/usr/bin/dash",
    "/usr/bin/cat",
    "/usr/bin/sleep",
    "/usr/bin/ls",
    "/usr/bin/rm",
    "/usr/bin/mkdir",
    "/usr/bin/ln",
    "/usr/bin/cp",
    "/usr/bin/id",
    "/usr/bin/chmod",
    "/usr/bin/mkfifo",
    "/usr/bin/head",
];

/// The worker that `cargo test` built beside this test.
pub(crate) fn worker_program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().unwrap().parent().unwrap().join("examples/worker")
}

pub(crate) struct Place {
    pub(crate) dir: TempDir,
    pub(crate) kit: Kit,
    pub(crate) client: Client,
    /// The last number given by [`sh`](Place::sh) and its like; numbers are used once on a connection.
    pub(crate) last: u64,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self::with_slots(4)
    }

    pub(crate) fn with_slots(slots: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut kit = Kit::new(dir.path());
        for program in PROGRAMS {
            kit.program(Path::new(program)).unwrap();
        }
        let client = Client::start(&mut worker(dir.path(), slots)).unwrap();
        assert_eq!(client.hello.isolation, "namespaces");
        Self { dir, kit, client, last: 1000 }
    }

    /// The worker's scratch directory in memory, which only it sees.
    pub(crate) fn scratch(&self) -> PathBuf {
        let mut workers = std::fs::read_dir(self.dir.path().join("sandboxes")).unwrap().flatten();
        let worker = workers.find(|entry| entry.path().is_dir()).unwrap().path().join("memory");
        PathBuf::from(format!("/proc/{}/root{}", self.client.pid(), worker.display()))
    }

    pub(crate) fn store(&self) -> FsStore {
        FsStore::new(self.dir.path())
    }

    pub(crate) fn start(
        &mut self,
        seq: u64,
        script: &str,
        outputs: &[&str],
        harvest: Harvest,
        limits: Limits,
    ) {
        let call = command(&["/usr/bin/dash", "-c", script], "/work");
        let thunk = self.kit.thunk(call, outputs, harvest);
        self.client.run(seq, thunk, Kind::Other, limits).unwrap();
    }

    /// Runs a shell script in `/work` and takes everything.
    pub(crate) fn sh(&mut self, script: &str) -> Attempt {
        self.run(script, &[], Harvest::Everything, Limits::default())
    }

    /// As [`sh`](Self::sh), with these declared outputs and no others.
    pub(crate) fn declared(&mut self, script: &str, outputs: &[&str]) -> Attempt {
        self.run(script, outputs, Harvest::Declared, Limits::default())
    }

    pub(crate) fn run(
        &mut self,
        script: &str,
        outputs: &[&str],
        harvest: Harvest,
        limits: Limits,
    ) -> Attempt {
        self.last += 1;
        self.start(self.last, script, outputs, harvest, limits);
        let (seq, attempt) = self.client.answer().unwrap();
        assert_eq!(seq, self.last);
        attempt
    }

    pub(crate) fn text(&self, id: BlobId) -> String {
        String::from_utf8_lossy(&self.store().get_bytes(id).unwrap()).into_owned()
    }

    /// Paths and contents of the outputs.
    pub(crate) fn outputs(&self, attempt: &Attempt) -> Vec<(String, String)> {
        let outputs = &reduced(attempt).outputs;
        outputs.values().map(|entry| (entry.path.to_string(), self.text(entry.blob))).collect()
    }

    pub(crate) fn stdout(&self, attempt: &Attempt) -> String {
        self.text(reduced(attempt).stdout)
    }
}

pub(crate) fn worker(root: &Path, slots: u32) -> Command {
    let mut command = Command::new(worker_program());
    command.arg(root).arg(slots.to_string());
    command
}

#[track_caller]
pub(crate) fn reduced(attempt: &Attempt) -> &Reduction {
    match &attempt.outcome {
        Outcome::Reduced(reduction) => reduction,
        Outcome::ToolFailed(failure) => panic!(
            "{:?} {:?}: {}{}",
            (failure.code, failure.signal),
            failure.unrepresentable,
            String::from_utf8_lossy(&failure.stdout),
            String::from_utf8_lossy(&failure.stderr)
        ),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
pub(crate) fn tool_failed(attempt: &Attempt) -> &ToolFailure {
    let Outcome::ToolFailed(failure) = &attempt.outcome else { panic!("{:?}", attempt.outcome) };
    failure
}

#[track_caller]
pub(crate) fn unrepresentable(attempt: &Attempt) -> &str {
    tool_failed(attempt).unrepresentable.as_deref().expect("it is unrepresentable")
}

pub(crate) fn permissions(attempt: &Attempt, name: &str) -> u32 {
    reduced(attempt).outputs[&OutputName::from(name)].permissions
}
