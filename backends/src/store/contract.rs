//! What every [`ObjectStore`] and every [`ReductionCache`] must do: one test each, run on each implementation.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use ggr_ir::{
    BlobId, Lookup, ObjectStore, OutputEntry, Reduction, ReductionCache, RootPath, StoreError, ThunkId,
};

/// Runs the whole contract on an empty store, with files in `dir`.
pub(super) fn check(store: &dyn ObjectStore, dir: &Path) {
    bytes_come_back(store);
    absence_is_reported_per_blob(store, dir);
    files_come_back(store, dir);
    existing_targets_are_replaced_not_written_through(store, dir);
    wrong_bytes_are_refused(store, dir);
    a_batch_answers_each_and_does_the_rest(store, dir);
    calls_may_overlap(store);
    local_stores_show_their_files(store);
}

/// Runs the contract of caches on an empty one, whose reductions speak of blobs in `store`.
pub(super) fn check_cache(cache: &dyn ReductionCache, store: &dyn ObjectStore) {
    let id = ThunkId::synthetic(1);
    assert_eq!((cache.get(id), cache.look(id)), (None, Lookup::Miss));
    for text in ["first", "second"] {
        let reduction = reduction(store, text);
        cache.put(id, &reduction).unwrap();
        assert_eq!(cache.get(id).as_ref(), Some(&reduction), "the last one put is found");
        assert_eq!(cache.look(id), Lookup::Hit(reduction), "what was brought here is here");
    }
    assert_eq!(cache.get(ThunkId::synthetic(2)), None);
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            scope.spawn(move || {
                for number in 0..10 {
                    let reduction = reduction(store, &format!("{number}"));
                    let id = ThunkId::synthetic(10 + 100 * thread + number);
                    cache.put(id, &reduction).unwrap();
                    assert_eq!(cache.get(id), Some(reduction));
                }
            });
        }
    });
}

/// A result whose blobs are in the store.
pub(super) fn reduction(store: &dyn ObjectStore, text: &str) -> Reduction {
    let blob = store.put_bytes(text.as_bytes()).unwrap();
    let none = store.put_bytes(b"").unwrap();
    let path = RootPath::new("/w/a.o").unwrap();
    let output = OutputEntry { path, blob, permissions: 0o666 };
    Reduction { outputs: [("/w/a.o".into(), output)].into(), stdout: none, stderr: none, duration_us: 7 }
}

fn file(dir: &Path, name: &str, bytes: &[u8]) -> (BlobId, PathBuf) {
    let path = dir.join(name);
    fs::write(&path, bytes).unwrap();
    (BlobId::of(bytes), path)
}

fn all(results: Vec<Result<(), StoreError>>) {
    results.into_iter().collect::<Result<(), _>>().unwrap();
}

fn bytes_come_back(store: &dyn ObjectStore) {
    for bytes in [b"".as_slice(), b"a", &[7; 100_000]] {
        let id = store.put_bytes(bytes).unwrap();
        assert_eq!(id, BlobId::of(bytes));
        assert_eq!(store.put_bytes(bytes).unwrap(), id, "putting twice is harmless");
        assert_eq!(store.get_bytes(id).unwrap(), bytes);
    }
}

fn absence_is_reported_per_blob(store: &dyn ObjectStore, dir: &Path) {
    let here = store.put_bytes(b"here").unwrap();
    let absent = BlobId::of(b"absent");
    assert_eq!(store.missing(&[here, absent, here]).unwrap(), [absent]);
    assert!(store.missing(&[]).unwrap().is_empty());
    assert!(matches!(store.get_bytes(absent), Err(StoreError::Missing(id)) if id == absent));
    assert!(matches!(store.get(&[(absent, dir.join("absent"))])[..], [Err(StoreError::Missing(_))]));
    assert!(!dir.join("absent").exists(), "a failed get leaves no file");
}

fn files_come_back(store: &dyn ObjectStore, dir: &Path) {
    // Larger than what is read into memory at once, and not a multiple of any buffer.
    let large: Vec<u8> = (0..5_000_003_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for (name, bytes) in [("empty", b"".as_slice()), ("small", b"small"), ("large", &large)] {
        let (id, path) = file(dir, name, bytes);
        all(store.put(&[(id, path.clone())]));
        assert_eq!(fs::read(&path).unwrap(), bytes, "the file is left alone");
        let to = dir.join("out");
        all(store.get(&[(id, to.clone())]));
        assert_eq!(fs::read(&to).unwrap(), bytes);
        assert_eq!(fs::metadata(&to).unwrap().permissions().mode() & 0o7777, 0o644);
    }
}

fn existing_targets_are_replaced_not_written_through(store: &dyn ObjectStore, dir: &Path) {
    let id = store.put_bytes(b"new").unwrap();
    let (_, other_name) = file(dir, "other-name", b"old");
    let to = dir.join("target");
    fs::hard_link(&other_name, &to).unwrap();
    all(store.get(&[(id, to.clone())]));
    assert_eq!(fs::read(&to).unwrap(), b"new");
    assert_eq!(fs::read(&other_name).unwrap(), b"old");
}

fn wrong_bytes_are_refused(store: &dyn ObjectStore, dir: &Path) {
    for wrong in [b"otherwise".as_slice(), b"of another length"] {
        let (_, path) = file(dir, "wrong", wrong);
        let claimed = BlobId::of(b"as-it-was");
        assert!(matches!(store.put(&[(claimed, path)])[..], [Err(StoreError::Changed { .. })]));
        assert_eq!(store.missing(&[claimed]).unwrap(), [claimed]);
    }
}

fn a_batch_answers_each_and_does_the_rest(store: &dyn ObjectStore, dir: &Path) {
    let good = file(dir, "good", b"good");
    let gone = (BlobId::of(b"gone"), dir.join("no-such-file"));
    let fine = file(dir, "fine", b"fine");
    let put = store.put(&[good.clone(), gone.clone(), fine.clone()]);
    assert!(matches!(put[..], [Ok(()), Err(StoreError::Io { .. }), Ok(())]), "{put:?}");
    assert_eq!(store.missing(&[good.0, gone.0, fine.0]).unwrap(), [gone.0]);
    let wanted = [(good.0, dir.join("1")), (gone.0, dir.join("2")), (fine.0, dir.join("3"))];
    let got = store.get(&wanted);
    assert!(matches!(got[..], [Ok(()), Err(StoreError::Missing(_)), Ok(())]), "{got:?}");
    assert_eq!(fs::read(dir.join("3")).unwrap(), b"fine");
}

fn calls_may_overlap(store: &dyn ObjectStore) {
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for number in 0..50_u32 {
                    let id = store.put_bytes(&number.to_le_bytes()).unwrap();
                    assert!(store.missing(&[id]).unwrap().is_empty());
                    assert_eq!(store.get_bytes(id).unwrap(), number.to_le_bytes());
                }
            });
        }
    });
}

fn local_stores_show_their_files(store: &dyn ObjectStore) {
    let id = store.put_bytes(b"shown").unwrap();
    assert_eq!(store.local_path(id).is_some(), store.local_root().is_some());
    if let (Some(path), Some(root)) = (store.local_path(id), store.local_root()) {
        assert!(path.starts_with(root));
        assert_eq!(fs::read(&path).unwrap(), b"shown");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o444);
    }
    assert_eq!(store.local_path(BlobId::of(b"never put")), None);
}
