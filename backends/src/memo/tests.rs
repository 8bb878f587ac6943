use super::*;
use crate::store::Remove;
use ggr_ir::ObjectStore;
use std::fs::File;
use tempfile::{TempDir, tempdir};

fn stamp(number: u64) -> Stamp {
    Stamp { dev: 1, ino: number, size: number, mtime: number as i64, ctime: number as i64 }
}

fn memo() -> (TempDir, PathBuf) {
    let dir = tempdir().unwrap();
    let path = dir.path().join("memo/blobs");
    fs::create_dir(dir.path().join("memo")).unwrap();
    (dir, path)
}

#[test]
fn what_was_saved_is_known_to_the_next_process() {
    let (_dir, path) = memo();
    let first = StatMemo::new(path.clone());
    assert!(first.insert(stamp(1), BlobId::of(b"x"), SystemTime::now()));
    drop(first);
    let second = StatMemo::new(path);
    assert_eq!(second.get(&stamp(1)), Some(BlobId::of(b"x")));
    assert_eq!(second.get(&stamp(2)), None);
}

#[test]
fn a_file_that_changed_near_the_time_of_hashing_is_not_remembered() {
    let (_dir, path) = memo();
    let memo = StatMemo::new(path);
    let at = |millis: u64| UNIX_EPOCH + Duration::from_millis(1_000_000 + millis);
    let touched = |mtime: i64, ctime: i64| Stamp { mtime, ctime, ..stamp(1) };
    let now = 1_000_000_000_000;
    assert!(!memo.insert(touched(now, now), BlobId::of(b"x"), at(0)));
    assert!(!memo.insert(touched(0, now), BlobId::of(b"x"), at(10)), "its ctime is recent");
    assert!(!memo.insert(touched(now, 0), BlobId::of(b"x"), at(10)), "its mtime is recent");
    assert!(!memo.insert(touched(now + 3_600_000_000_000, 0), BlobId::of(b"x"), at(10)), "from the future");
    assert!(memo.insert(touched(now, now), BlobId::of(b"x"), at(21)));
}

#[test]
fn a_change_of_any_field_is_another_file() {
    let (_dir, path) = memo();
    let memo = StatMemo::new(path);
    let one = stamp(1);
    memo.insert(one, BlobId::of(b"x"), SystemTime::now());
    for other in [
        Stamp { dev: 9, ..one },
        Stamp { ino: 9, ..one },
        Stamp { size: 9, ..one },
        Stamp { mtime: 9, ..one },
        Stamp { ctime: 9, ..one },
    ] {
        assert_eq!(memo.get(&other), None);
    }
}

#[test]
fn damage_and_other_versions_make_an_empty_memo() {
    let (_dir, path) = memo();
    let saved = StatMemo::new(path.clone());
    saved.insert(stamp(1), BlobId::of(b"x"), SystemTime::now());
    drop(saved);
    let good = fs::read(&path).unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(&path, &bad).unwrap();
        assert!(StatMemo::new(path.clone()).is_empty(), "byte {at}");
        fs::write(&path, &good[..at]).unwrap();
        assert!(StatMemo::new(path.clone()).is_empty(), "length {at}");
    }
}

#[test]
fn the_least_recently_used_entries_are_dropped_beyond_the_bound() {
    let (_dir, path) = memo();
    let memo = StatMemo::new(path.clone());
    for number in 0..MAX_ENTRIES as u64 {
        memo.insert(stamp(number), BlobId::of(b"x"), SystemTime::now());
    }
    memo.save().unwrap();
    let next = StatMemo::new(path.clone());
    assert!(next.get(&stamp(7)).is_some(), "used again");
    for number in 0..1000 {
        next.insert(stamp(1_000_000 + number), BlobId::of(b"y"), SystemTime::now());
    }
    next.save().unwrap();
    let last = StatMemo::new(path);
    assert_eq!(last.len(), MAX_ENTRIES);
    assert!(last.get(&stamp(7)).is_some());
    assert!(last.get(&stamp(1_000_500)).is_some());
}

#[test]
fn a_remembered_file_is_not_read_again_and_a_changed_one_is() {
    let (dir, path) = memo();
    let store = FsStore::new(&dir.path().join("repo"));
    let memo = StatMemo::new(path);
    let file = dir.path().join("a.h");
    fs::write(&file, "one").unwrap();
    assert_eq!(memo.blob(&store, &file).unwrap(), (BlobId::of(b"one"), false));
    assert!(memo.is_empty(), "it was written just now");
    let ready = Stamp::of(&fs::metadata(&file).unwrap());
    while ready.is_racy(SystemTime::now()) {
        std::thread::yield_now();
    }
    memo.blob(&store, &file).unwrap();
    assert_eq!(memo.len(), 1);
    fs::write(&file, "two").unwrap();
    assert_eq!(memo.blob(&store, &file).unwrap().0, BlobId::of(b"two"));
    assert_eq!(store.get_bytes(BlobId::of(b"two")).unwrap(), b"two");
}

#[test]
fn a_remembered_file_whose_blob_is_gone_is_stored_again() {
    let (dir, path) = memo();
    let store = FsStore::new(&dir.path().join("repo"));
    let memo = StatMemo::new(path);
    let file = dir.path().join("a.h");
    fs::write(&file, "one").unwrap();
    let meta = fs::metadata(&file).unwrap();
    memo.insert(Stamp::of(&meta), BlobId::of(b"one"), SystemTime::now() + TICK * 2);
    memo.blob(&store, &file).unwrap();
    assert!(store.contains(BlobId::of(b"one")).unwrap());
    store.remove(BlobId::of(b"one")).unwrap();
    memo.blob(&store, &file).unwrap();
    assert!(File::open(store.path(BlobId::of(b"one"))).is_ok());
}

#[test]
fn twenty_thousand_entries_are_all_there_when_it_is_loaded() {
    let (_dir, path) = memo();
    let memo = StatMemo::new(path.clone());
    let base = 1_700_000_000_000_000_000_i64;
    for number in 0..20_000_u64 {
        let stamp = Stamp {
            dev: 0xfe00,
            ino: 12_000_000 + number * 3,
            size: number * 17,
            mtime: base + number as i64,
            ctime: base - number as i64,
        };
        memo.insert(stamp, BlobId::of(&number.to_le_bytes()), SystemTime::now());
    }
    memo.save().unwrap();
    assert_eq!(StatMemo::new(path).len(), 20_000);
}
