use super::*;
use crate::store::contract;
use std::sync::atomic::{AtomicBool, Ordering};
use tempfile::{TempDir, tempdir};

fn store() -> (TempDir, FsStore) {
    let dir = tempdir().unwrap();
    let store = FsStore::new(&dir.path().join("repo"));
    (dir, store)
}

fn temporary_files(store: &FsStore) -> usize {
    fs::read_dir(store.tmp()).unwrap().count()
}

#[test]
fn it_keeps_the_contract() {
    let (dir, store) = store();
    contract::check(&store, dir.path());
    assert_eq!(temporary_files(&store), 0);
}

#[test]
fn a_file_is_taken_in_with_its_stamp() {
    let (dir, store) = store();
    let file = dir.path().join("a.sh");
    fs::write(&file, "echo").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    let taken = store.ingest(&file).unwrap();
    assert_eq!(taken.id, BlobId::of(b"echo"));
    assert!(taken.executable);
    assert_eq!(taken.stamp, crate::memo::Stamp::of(&fs::metadata(&file).unwrap()));
    assert_eq!(store.get_bytes(taken.id).unwrap(), b"echo");
}

#[test]
fn what_is_no_regular_file_is_refused() {
    let (dir, store) = store();
    for path in [dir.path().to_owned(), PathBuf::from("/dev/null"), dir.path().join("absent")] {
        assert!(matches!(store.ingest(&path), Err(StoreError::Io { .. })), "{}", path.display());
    }
}

#[test]
fn a_file_that_changes_while_it_is_taken_in_gives_one_of_its_states_or_an_error() {
    let (dir, store) = store();
    let file = dir.path().join("busy");
    let states = [vec![b'a'; 9 << 20], vec![b'b'; 9 << 20]];
    fs::write(&file, &states[0]).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let to = File::options().write(true).open(&file).unwrap();
                (&to).write_all(&states[round % 2]).unwrap();
            }
        });
        for _ in 0..5 {
            match store.ingest(&file) {
                // Only the hash is compared with the bytes: a torn state would be a blob of its own, and true to its id.
                Ok(taken) => assert_eq!(BlobId::of(&store.get_bytes(taken.id).unwrap()), taken.id),
                Err(error) => assert!(matches!(error, StoreError::Changed { .. }), "{error}"),
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn adopting_moves_the_file_and_never_keeps_another_name_s_inode() {
    let (dir, store) = store();
    let id = BlobId::of(b"made");
    let alone = dir.path().join("alone");
    fs::write(&alone, b"made").unwrap();
    let inode = fs::metadata(&alone).unwrap().ino();
    store.adopt(&alone, id).unwrap();
    let meta = fs::metadata(store.path(id)).unwrap();
    assert_eq!((meta.ino(), meta.permissions().mode() & 0o7777), (inode, BLOB_MODE));
    assert!(!alone.exists());

    let id = BlobId::of(b"linked");
    let (linked, keeper) = (dir.path().join("linked"), dir.path().join("keeper"));
    fs::write(&linked, b"linked").unwrap();
    fs::hard_link(&linked, &keeper).unwrap();
    store.adopt(&linked, id).unwrap();
    assert_ne!(fs::metadata(store.path(id)).unwrap().ino(), fs::metadata(&keeper).unwrap().ino());
    assert!(!linked.exists());

    fs::write(&alone, b"shorter than it was").unwrap();
    assert!(matches!(store.adopt(&alone, BlobId::of(b"x")), Err(StoreError::Changed { .. })));
}

#[test]
fn the_executable_twin_is_made_on_demand() {
    let (_dir, store) = store();
    let id = store.put_bytes(b"#!/bin/sh\n").unwrap();
    let twin = store.executable_path(id).unwrap();
    assert_eq!(fs::metadata(&twin).unwrap().permissions().mode() & 0o7777, TWIN_MODE);
    assert_eq!(fs::read(&twin).unwrap(), b"#!/bin/sh\n");
    let inode = fs::metadata(&twin).unwrap().ino();
    assert_eq!(store.executable_path(id).unwrap(), twin);
    assert_eq!(fs::metadata(&twin).unwrap().ino(), inode, "made once");
    assert!(matches!(store.executable_path(BlobId::of(b"absent")), Err(StoreError::Missing(_))));
}

#[test]
fn materializing_fills_the_same_inode() {
    let (dir, store) = store();
    let id = store.put_bytes(b"real bytes").unwrap();
    let path = dir.path().join("a.o");
    fs::write(&path, "a placeholder that is longer than the bytes").unwrap();
    let file = File::options().read(true).write(true).open(&path).unwrap();
    let inode = file.metadata().unwrap().ino();
    // Whatever the descriptor's offset is.
    io::Seek::seek(&mut &file, io::SeekFrom::End(0)).unwrap();
    store.materialize(id, &file).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"real bytes");
    assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
}

#[test]
fn a_blob_that_power_loss_cut_short_is_missing_until_it_is_put_again() {
    let (dir, store) = store();
    let id = store.put_bytes(b"whole").unwrap();
    fs::set_permissions(store.path(id), fs::Permissions::from_mode(0o644)).unwrap();
    for left in [b"".as_slice(), b"who"] {
        fs::write(store.path(id), left).unwrap();
        let next = FsStore::new(&dir.path().join("repo"));
        assert_eq!(next.missing(&[id]).unwrap(), [id]);
        assert!(matches!(next.get_bytes(id), Err(StoreError::Missing(_))));
        assert_eq!(next.local_path(id), None);
        next.put_bytes(b"whole").unwrap();
        assert_eq!(next.get_bytes(id).unwrap(), b"whole");
        fs::set_permissions(next.path(id), fs::Permissions::from_mode(0o644)).unwrap();
    }
}

#[test]
fn a_blob_that_somebody_removed_is_healed_by_the_next_put() {
    let (_dir, store) = store();
    let id = store.put_bytes(b"x").unwrap();
    fs::remove_file(store.path(id)).unwrap();
    assert!(store.contains(id).unwrap(), "seen before, and nobody said otherwise");
    assert!(matches!(store.get_bytes(id), Err(StoreError::Missing(_))));
    assert!(!store.contains(id).unwrap());
    store.put_bytes(b"x").unwrap();
    assert_eq!(store.get_bytes(id).unwrap(), b"x");
}

#[test]
fn presence_of_many_known_blobs_is_answered_without_the_disk() {
    let (_dir, store) = store();
    let ids: Vec<BlobId> = (0..300_u32).map(|n| store.put_bytes(&n.to_le_bytes()).unwrap()).collect();
    fs::remove_dir_all(store.root.join("blobs")).unwrap();
    assert!(store.missing(&ids).unwrap().is_empty());
}

/// Changes one byte of a blob's file in place, as its owner could.
fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    bytes[0] ^= 1;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_blob_that_was_written_to_counts_as_missing_and_is_replaced() {
    let (dir, store) = store();
    let file = dir.path().join("source");
    fs::write(&file, b"source").unwrap();
    let id = store.ingest(&file).unwrap().id;
    let program = store.executable_path(id).unwrap();
    flip(&store.path(id));
    assert!(matches!(store.open(id), Err(StoreError::Missing(_))));
    store.ingest(&file).unwrap();
    assert_eq!(store.get_bytes(id).unwrap(), b"source");
    flip(&store.path(id));
    assert!(matches!(store.sound_path(id), Err(StoreError::Missing(_))));
    assert!(!store.path(id).exists());
    store.ingest(&file).unwrap();
    store.executable_path(id).unwrap();
    flip(&program);
    assert_eq!(fs::read(store.executable_path(id).unwrap()).unwrap(), b"source");
}

#[test]
fn a_blob_whose_time_alone_was_changed_is_read_once_and_sealed_again() {
    let (_dir, store) = store();
    let id = store.put_bytes(b"copied back by hand").unwrap();
    let path = store.path(id);
    File::open(&path).unwrap().set_modified(SystemTime::now()).unwrap();
    assert_eq!(store.sound_path(id).unwrap(), path);
    assert_eq!(fs::metadata(&path).unwrap().mtime(), seal::SEALED);
}
