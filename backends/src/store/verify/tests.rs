use super::*;
use crate::store::FsReductionCache;
use ggr_ir::{Reduction, ReductionCache};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use tempfile::{TempDir, tempdir};

fn repo() -> (TempDir, Repo, Arc<FsStore>) {
    let dir = tempdir().unwrap();
    let repo = Repo::create(&dir.path().join(".ggr")).unwrap();
    let store = Arc::new(FsStore::new(repo.root()));
    (dir, repo, store)
}

fn damage(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(path, "bad").unwrap();
}

fn reduction(blob: BlobId) -> Reduction {
    Reduction { outputs: [].into(), stdout: blob, stderr: blob, duration_us: 1 }
}

#[test]
fn a_sound_repository_has_no_findings() {
    let (_dir, repo, store) = repo();
    for number in 0..100_u32 {
        let id = store.put_bytes(&number.to_le_bytes()).unwrap();
        store.executable_path(id).unwrap();
        FsReductionCache::new(repo.root(), store.clone())
            .put(ThunkId::synthetic(number.into()), &reduction(id))
            .unwrap();
    }
    let mut seen = Vec::new();
    let checked =
        verify(&repo, Repair::Remove, |progress| seen.push((progress.done, progress.total))).unwrap();
    assert_eq!((checked.good, checked.findings.len()), (300, 0));
    assert_eq!(seen, (1..=300).map(|done| (done, 300)).collect::<Vec<_>>());
}

#[test]
fn every_kind_of_damage_is_found_then_removed() {
    let (_dir, repo, store) = repo();
    let cache = FsReductionCache::new(repo.root(), store.clone());
    let good = store.put_bytes(b"good").unwrap();
    let bad = store.put_bytes(b"worse").unwrap();
    damage(&store.executable_path(good).unwrap());
    cache.put(ThunkId::synthetic(1), &reduction(good)).unwrap();
    cache.put(ThunkId::synthetic(2), &reduction(bad)).unwrap();
    cache.put(ThunkId::synthetic(3), &reduction(good)).unwrap();
    damage(&cache.path(ThunkId::synthetic(3)));
    damage(&store.path(bad));
    let thunk = repo.thunks().path(ThunkId::synthetic(4));
    fs::create_dir_all(thunk.parent().unwrap()).unwrap();
    fs::write(&thunk, "no thunk").unwrap();

    let words = |checked: &Checked| {
        let mut words: Vec<String> = checked.findings.iter().map(|found| found.damage.to_string()).collect();
        words.sort();
        words
    };
    let expected = [
        "2 of its outputs are not in the store",
        "it is no reduction that this version can read",
        "it is not the thunk that it is named for",
        "its bytes are not those that it is named for",
        "its bytes are not those that it is named for",
    ];
    let checked = verify(&repo, Repair::Report, |_| ()).unwrap();
    assert_eq!(words(&checked), expected);
    assert!(checked.findings.iter().all(|found| matches!(found.removed, Ok(false)) && found.path.exists()));
    let checked = verify(&repo, Repair::Remove, |_| ()).unwrap();
    assert_eq!(words(&checked), expected);
    assert!(checked.findings.iter().all(|found| matches!(found.removed, Ok(true)) && !found.path.exists()));
    let checked = verify(&repo, Repair::Report, |_| ()).unwrap();
    assert_eq!((checked.good, checked.findings.len()), (2, 0));
}

#[test]
fn what_does_not_belong_is_named_and_left() {
    let (_dir, repo, store) = repo();
    store.put_bytes(b"x").unwrap();
    let stray = repo.root().join("blobs/notes.txt");
    fs::write(&stray, "mine").unwrap();
    let checked = verify(&repo, Repair::Remove, |_| ()).unwrap();
    assert!(matches!(&checked.findings[..], [Finding { path, damage: Damage::Stray, .. }] if *path == stray));
    assert!(stray.exists(), "ggr removes only what it wrote");
}

#[test]
fn the_first_use_after_a_boot_finds_blobs_that_never_reached_the_disk() {
    let (_dir, repo, store) = repo();
    store.put_bytes(b"arrived").unwrap();
    assert_eq!(after_reboot(&repo).unwrap().unwrap().good, 1, "never checked before");
    assert!(after_reboot(&repo).unwrap().is_none(), "the same boot");
    let lost = store.put_bytes(b"lost").unwrap();
    fs::set_permissions(store.path(lost), fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(store.path(lost), [0; 4]).unwrap();
    fs::write(repo.run_dir().join("boot"), "another boot").unwrap();
    let checked = after_reboot(&repo).unwrap().unwrap();
    assert_eq!((checked.good, checked.findings.len()), (1, 1));
    assert!(!FsStore::new(repo.root()).contains(lost).unwrap());
    assert!(after_reboot(&repo).unwrap().is_none());
}
