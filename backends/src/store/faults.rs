//! Faults, for real: a full disk, a read-only store, writers that are killed, writers that race.
//!
//! The tests that mount need root; without it they say so and count as passed.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use ggr_ir::repo::{Journal, Repo, RepoError, Session};
use ggr_ir::{
    BlobId, ObjectStore, OutputEntry, OutputRef, Reduction, ReductionCache, RootPath, StoreError, ThunkId,
};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};
use tempfile::{TempDir, tempdir};

use super::{FsReductionCache, FsStore};

/// A tmpfs of two MiB; unmounted when dropped.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn new(test: &str) -> Option<Self> {
        let dir = tempdir().unwrap();
        match mount("none", dir.path(), "tmpfs", MountFlags::empty(), c"size=2m") {
            Ok(()) => Some(Self(dir)),
            Err(e) => {
                println!("SKIPPED {test}: cannot mount a tmpfs: {e}");
                None
            }
        }
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = unmount(self.0.path(), UnmountFlags::DETACH);
    }
}

/// Runs an ignored test in a process of its own.
fn child(test: &str, root: &Path, seed: u32) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("store::faults::{test}"), "--ignored", "--nocapture"])
        .env("STORE_FAULTS_ROOT", root)
        .env("STORE_FAULTS_SEED", seed.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn writer(root: &Path, seed: u32) -> Child {
    child("writer_process", root, seed)
}

fn blob(number: u32) -> Vec<u8> {
    number.to_le_bytes().repeat(1 + (number as usize * 7919) % 30_000)
}

fn reduction(blob: BlobId) -> Reduction {
    let path = RootPath::new("/w/a.o").unwrap();
    let output = OutputEntry { path, blob, permissions: 0o666 };
    Reduction { outputs: [("/w/a.o".into(), output)].into(), stdout: blob, stderr: blob, duration_us: 1 }
}

/// Not a test of its own: puts blobs and reductions until it is killed, and says how far it is.
#[test]
#[ignore = "a child process of other tests"]
fn writer_process() {
    let (Ok(root), Ok(seed)) = (std::env::var("STORE_FAULTS_ROOT"), std::env::var("STORE_FAULTS_SEED"))
    else {
        return;
    };
    let root = PathBuf::from(root);
    let store = Arc::new(FsStore::new(&root));
    let cache = FsReductionCache::new(&root, store.clone());
    let seed: u32 = seed.parse().unwrap();
    for round in 0..400_u32 {
        let number = (round + seed) % 400;
        let id = store.put_bytes(&blob(number)).unwrap();
        cache.put(ThunkId::synthetic(number.into()), &reduction(id)).unwrap();
        if round % 20 == 0 {
            println!("\nreached {round}");
        }
    }
}

/// Not a test of its own: a session with one placeholder made and one still open, which waits to be killed.
#[test]
#[ignore = "a child process of other tests"]
fn session_process() {
    let Ok(root) = std::env::var("STORE_FAULTS_ROOT") else { return };
    let repo = Repo::open(Path::new(&root)).unwrap();
    let _session = Session::start(&repo).unwrap();
    let journal = Journal::start(&repo).unwrap();
    for name in ["/w/made.o", "/w/open.o"] {
        journal.add(Path::new(name), &output()).unwrap();
    }
    journal.done(Path::new("/w/made.o")).unwrap();
    println!("\nreached 0");
    // Until the parent kills it: nobody writes to this pipe.
    io::copy(&mut io::stdin(), &mut io::sink()).unwrap();
}

fn output() -> OutputRef {
    OutputRef { thunk: ThunkId::synthetic(1), name: "/w/a.o".into() }
}

#[test]
fn a_killed_session_s_placeholders_are_found_by_the_next_one() {
    let dir = tempdir().unwrap();
    let repo = Repo::create(&dir.path().join(".ggr")).unwrap();
    let journal = Journal::start(&repo).unwrap();
    let mut child = child("session_process", repo.root(), 0);
    wait_until(&mut child, 0);
    assert_eq!(Session::live(&repo).unwrap().len(), 1);
    assert!(journal.sweep().unwrap().is_empty(), "it still runs");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(Session::live(&repo).unwrap().is_empty());
    assert_eq!(journal.sweep().unwrap(), [(PathBuf::from("/w/open.o"), output())]);
}

#[test]
fn a_disk_that_fills_up_leaves_whole_journals_and_thunks() {
    let Some(disk) = SmallDisk::new("a_disk_that_fills_up_leaves_whole_journals_and_thunks") else { return };
    let repo = Repo::create(&disk.path().join(".ggr")).unwrap();
    let journal = Journal::start(&repo).unwrap();
    fill(disk.path());
    let path = |number: u32| PathBuf::from(format!("/w/{number}.o"));
    let noted = (0..).take_while(|number| journal.add(&path(*number), &output()).is_ok()).count();
    assert_eq!(journal.pending().len(), noted);
    fs::remove_file(disk.path().join("filler")).unwrap();
    journal.add(&path(1_000_000), &output()).unwrap();
    drop(journal);
    assert_eq!(Journal::start(&repo).unwrap().sweep().unwrap().len(), noted + 1);
}

#[test]
fn a_repository_that_could_not_be_made_on_a_full_disk_is_made_later() {
    let Some(disk) = SmallDisk::new("a_repository_that_could_not_be_made_on_a_full_disk_is_made_later")
    else {
        return;
    };
    fill(disk.path());
    let root = disk.path().join(".ggr");
    let error = Repo::create(&root).unwrap_err();
    assert!(
        matches!(&error, RepoError::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull),
        "{error:?}"
    );
    fs::remove_file(disk.path().join("filler")).unwrap();
    Repo::create(&root).unwrap();
}

fn wait_until(child: &mut Child, reached: u32) {
    let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line == format!("reached {reached}")), "the writer never reached {reached}");
}

/// Every file under a blob's name holds that blob, and every reduction is whole and has its outputs.
fn check_whole(root: &Path) -> usize {
    let store = Arc::new(FsStore::new(root));
    let cache = FsReductionCache::new(root, store.clone());
    let mut blobs = 0;
    for number in 0..400_u32 {
        let bytes = blob(number);
        let id = BlobId::of(&bytes);
        if store.path(id).exists() {
            assert_eq!(store.get_bytes(id).unwrap(), bytes);
            blobs += 1;
        }
        let thunk = ThunkId::synthetic(number.into());
        if cache.path(thunk).exists() {
            assert_eq!(cache.get(thunk), Some(reduction(id)), "a reduction without its outputs");
        }
    }
    blobs
}

#[test]
fn writers_that_are_killed_leave_whole_blobs_and_reductions() {
    let dir = tempdir().unwrap();
    for round in 0..12 {
        let mut child = writer(dir.path(), round * 37);
        wait_until(&mut child, 20 * round);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(check_whole(dir.path()) > 0);
    }
    let mut last = writer(dir.path(), 0);
    assert!(last.wait().unwrap().success(), "the store is usable");
    assert_eq!(check_whole(dir.path()), 400);
}

#[test]
fn two_processes_may_put_the_same_blobs() {
    let dir = tempdir().unwrap();
    let mut children = [0, 0, 0].map(|seed| writer(dir.path(), seed));
    for child in &mut children {
        // Drained, so that no child waits for its reader.
        io::copy(child.stdout.as_mut().unwrap(), &mut io::sink()).unwrap();
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(check_whole(dir.path()), 400);
    assert_eq!(fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0);
}

#[test]
fn a_full_disk_is_an_error_and_leaves_nothing_behind() {
    let Some(disk) = SmallDisk::new("a_full_disk_is_an_error_and_leaves_nothing_behind") else { return };
    let files = tempdir().unwrap();
    let root = disk.path().join("repo");
    let store = Arc::new(FsStore::new(&root));
    let small = store.put_bytes(b"small").unwrap();
    for size in [3 << 20, 5 << 20] {
        // One that is read into memory, one that is written while it is hashed.
        let bytes = vec![1; size];
        let path = files.path().join("big");
        fs::write(&path, &bytes).unwrap();
        let id = BlobId::of(&bytes);
        assert!(full(&store.ingest(&path)), "{size}");
        assert!(full(&store.put(&[(id, path.clone())]).pop().unwrap()), "{size}");
        assert!(full(&store.put_bytes(&bytes)), "{size}");
        assert_eq!(store.missing(&[id]).unwrap(), [id]);
        assert_eq!(fs::read_dir(root.join("tmp")).unwrap().count(), 0);
    }
    assert_eq!(store.get_bytes(small).unwrap(), b"small");
    fill(disk.path());
    let cache = FsReductionCache::new(&root, store.clone());
    let thunk = ThunkId::synthetic(1);
    assert!(full(&cache.put(thunk, &reduction(small))));
    assert_eq!(cache.get(thunk), None);
    fs::remove_file(disk.path().join("filler")).unwrap();
    cache.put(thunk, &reduction(small)).unwrap();
    assert_eq!(cache.get(thunk), Some(reduction(small)));
}

fn full<T>(result: &Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::StorageFull)
}

fn fill(dir: &Path) {
    let error = io::copy(&mut io::repeat(1), &mut fs::File::create(dir.join("filler")).unwrap()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
}

#[test]
fn a_read_only_store_can_be_read_and_says_why_it_cannot_be_written() {
    let Some(disk) = SmallDisk::new("a_read_only_store_can_be_read_and_says_why_it_cannot_be_written") else {
        return;
    };
    let writable = FsStore::new(disk.path());
    let id = writable.put_bytes(b"kept").unwrap();
    let thunk = ThunkId::synthetic(1);
    FsReductionCache::new(disk.path(), Arc::new(writable)).put(thunk, &reduction(id)).unwrap();
    mount_remount(disk.path(), MountFlags::RDONLY, c"").unwrap();

    let store = Arc::new(FsStore::new(disk.path()));
    assert_eq!(store.get_bytes(id).unwrap(), b"kept");
    assert_eq!(store.put_bytes(b"kept").unwrap(), id, "it is there: nothing to write");
    let error = store.put_bytes(b"new").unwrap_err();
    assert!(
        matches!(&error, StoreError::Io { source, .. } if source.kind() == io::ErrorKind::ReadOnlyFilesystem),
        "{error}"
    );
    assert!(FsReductionCache::new(disk.path(), store).get(thunk).is_some());
}

#[test]
fn a_store_that_cannot_be_entered_is_an_error_not_a_miss() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("blobs"), "a file where a directory should be").unwrap();
    let store = FsStore::new(dir.path());
    let error = store.missing(&[BlobId::of(b"x")]).unwrap_err();
    assert!(matches!(error, StoreError::Io { .. }), "{error}");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
}
