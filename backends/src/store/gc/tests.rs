use super::*;
use crate::store::inventory::Kind;
use crate::store::seal;
use crate::store::{FsReductionCache, FsStore};
use ggr_ir::{
    BlobId, Command, Entry, Harvest, Mode, ObjectStore, OutputEntry, Reduction, ReductionCache, RootPath,
    Thunk, ThunkId, placeholder,
};
use std::sync::Arc;
use tempfile::{TempDir, tempdir};

/// Nothing can set a ctime, so tests put the collector's clock forward.
const LATER: Duration = Duration::from_secs(30 * 24 * 3600);

fn repo() -> (TempDir, Repo, Arc<FsStore>) {
    let dir = tempdir().unwrap();
    let repo = Repo::create(&dir.path().join(".ggr")).unwrap();
    let store = Arc::new(FsStore::new(repo.root()));
    (dir, repo, store)
}

fn bytes(seed: u8) -> Vec<u8> {
    vec![seed; 100_000]
}

fn collect_later(repo: &Repo, limit: u64) -> Collected {
    collect(repo, limit, SystemTime::now() + LATER, |_| ()).unwrap()
}

fn room(repo: &Repo) -> u64 {
    Inventory::of(repo).unwrap().items.iter().fold(Usage::default(), Usage::with).room
}

fn thunk(input: Object) -> Thunk {
    let path = |text| RootPath::new(text).unwrap();
    Thunk {
        command: Command { program: path("/p"), args: vec![], env: [].into(), dir: path("/") },
        inputs: [(path("/in"), Entry { object: input, mode: Mode::Regular })].into(),
        outputs: [("/out".into(), path("/out"))].into(),
        harvest: Harvest::Declared,
        network: ggr_ir::Network::None,
    }
}

#[test]
fn nothing_is_removed_below_the_limit() {
    let (_dir, repo, store) = repo();
    store.put_bytes(&bytes(1)).unwrap();
    let collected = collect_later(&repo, 1 << 20);
    assert_eq!(collected.removed, Usage::default());
    assert!(collected.before.room >= 100_000);
}

#[test]
fn what_was_not_used_for_longest_goes_first() {
    let (_dir, repo, store) = repo();
    let ids: Vec<BlobId> = (0..10).map(|seed| store.put_bytes(&bytes(seed)).unwrap()).collect();
    let used = |id| last_use(Kind::Blob, &fs::metadata(store.path(id)).unwrap());
    let staged = repo.sandboxes_dir().join("staged");
    // Used again, as a hard link into a sandbox does it; until the file system's clock has moved on.
    while used(ids[0]) <= used(ids[9]) {
        fs::hard_link(store.path(ids[0]), &staged).unwrap();
        fs::remove_file(&staged).unwrap();
    }
    let limit = room(&repo) / 2;
    let collected = collect_later(&repo, limit);
    assert!(room(&repo) <= limit);
    assert!(collected.removed.files >= 5);
    let fresh = FsStore::new(repo.root());
    assert!(fresh.contains(ids[0]).unwrap(), "it was used last");
}

#[test]
fn what_was_used_lately_is_kept_whatever_the_limit() {
    let (_dir, repo, store) = repo();
    let id = store.put_bytes(&bytes(1)).unwrap();
    let collected = collect(&repo, 0, SystemTime::now(), |_| ()).unwrap();
    assert_eq!((collected.removed.files, collected.in_use.files), (0, 1));
    assert!(FsStore::new(repo.root()).contains(id).unwrap());
}

#[test]
fn what_a_running_session_may_have_seen_is_kept() {
    let (_dir, repo, store) = repo();
    let session = Session::start(&repo).unwrap();
    store.put_bytes(&bytes(1)).unwrap();
    assert_eq!(collect_later(&repo, 0).removed.files, 0);
    drop(session);
    assert_eq!(collect_later(&repo, 0).removed.files, 1);
}

#[test]
fn reductions_thunks_and_twins_count_and_go_too() {
    let (_dir, repo, store) = repo();
    let blob = store.put_bytes(b"x").unwrap();
    store.executable_path(blob).unwrap();
    repo.thunks().put(&thunk(Object::Blob(blob))).unwrap();
    let output = OutputEntry { path: RootPath::new("/out").unwrap(), blob, permissions: 0o644 };
    let reduction =
        Reduction { outputs: [("/out".into(), output)].into(), stdout: blob, stderr: blob, duration_us: 1 };
    FsReductionCache::new(repo.root(), store).put(ThunkId::synthetic(1), &reduction).unwrap();
    let inventory = Inventory::of(&repo).unwrap();
    for kind in [Kind::Blob, Kind::Twin, Kind::Reduction, Kind::Thunk] {
        assert_eq!(inventory.usage(&[kind]).files, 1, "{kind:?}");
    }
    assert_eq!(collect_later(&repo, 0).removed.files, 4);
    assert_eq!(room(&repo), 0);
}

#[test]
fn what_a_standing_placeholder_needs_is_kept_with_all_that_stands_behind_it() {
    let (dir, repo, store) = repo();
    let blob = store.put_bytes(b"source").unwrap();
    let unneeded = store.put_bytes(b"unneeded").unwrap();
    let first = repo.thunks().put(&thunk(Object::Blob(blob))).unwrap();
    let middle = Object::Output(OutputRef { thunk: first, name: "/out".into() });
    let last = repo.thunks().put(&thunk(middle)).unwrap();
    let output = OutputRef { thunk: last, name: "/out".into() };
    let file = dir.path().join("out");
    let journal = Journal::start(&repo).unwrap();
    journal.add(&file, &output).unwrap();
    fs::write(&file, placeholder::bytes(&output)).unwrap();
    journal.leave().unwrap();
    assert_eq!(collect_later(&repo, 0).removed.files, 1);
    let fresh = FsStore::new(repo.root());
    assert!(fresh.contains(blob).unwrap());
    assert!(!fresh.contains(unneeded).unwrap());
    assert!(repo.thunks().contains(first) && repo.thunks().contains(last));
    fs::remove_file(&file).unwrap();
    assert_eq!(collect_later(&repo, 0).removed.files, 3);
}

#[test]
fn one_collector_at_a_time() {
    let (_dir, repo, _) = repo();
    let _first = lock(&repo).unwrap();
    assert!(matches!(collect(&repo, 0, SystemTime::now(), |_| ()), Err(GcError::Running(_))));
}

#[test]
fn only_old_temporary_files_are_removed() {
    let (_dir, repo, _) = repo();
    fs::write(repo.tmp_dir().join("x"), "").unwrap();
    // As a blob that is about to get its name: its time of modification is years ago.
    seal::put(&repo.tmp_dir().join("x")).unwrap();
    assert_eq!(collect(&repo, 0, SystemTime::now(), |_| ()).unwrap().abandoned, 0);
    assert_eq!(collect_later(&repo, 0).abandoned, 1);
}

#[test]
fn builds_that_run_beside_the_collector_find_their_blobs() {
    let (_dir, repo, _) = repo();
    let _session = Session::start(&repo).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..2_u32 {
            let store = FsStore::new(repo.root());
            scope.spawn(move || {
                for number in 0..300_u32 {
                    let id = store.put_bytes(&[number, thread].map(u32::to_le_bytes).concat()).unwrap();
                    assert!(store.get_bytes(id).is_ok());
                }
            });
        }
        for _ in 0..10 {
            collect_later(&repo, 0);
        }
    });
}
