use super::*;
use crate::hash::ThunkId;
use crate::testing::sample;
use crate::thunk::OutputRef;
use std::os::unix::fs::PermissionsExt;
use tempfile::{TempDir, tempdir};

fn repo() -> (TempDir, Repo) {
    let dir = tempdir().unwrap();
    let repo = Repo::create(&dir.path().join(NAME)).unwrap();
    (dir, repo)
}

fn output(number: u64) -> OutputRef {
    OutputRef { thunk: ThunkId::synthetic(number), name: "/w/a.o".into() }
}

#[test]
fn the_nearest_parent_is_found() {
    let (dir, repo) = repo();
    let deep = dir.path().join("a/b");
    fs::create_dir_all(&deep).unwrap();
    assert_eq!(Repo::find(None, &deep).unwrap(), Some(repo));
    let near = Repo::create(&dir.path().join("a").join(NAME)).unwrap();
    assert_eq!(Repo::find_or_create(None, &deep).unwrap(), near);
}

#[test]
fn a_given_directory_wins_and_is_made() {
    let (dir, _) = repo();
    assert_eq!(Repo::find(Some(Path::new("cache")), dir.path()).unwrap(), None);
    let made = Repo::find_or_create(Some(Path::new("cache")), dir.path()).unwrap();
    assert_eq!(made.root(), dir.path().join("cache"));
    assert_eq!(fs::read_to_string(made.root().join(".gitignore")).unwrap(), "*\n");
}

#[test]
fn a_newer_version_is_refused_by_number() {
    let (dir, repo) = repo();
    fs::write(repo.root().join("version"), "ggr repository 7\n").unwrap();
    let check = |result: Result<Repo, RepoError>| {
        assert!(matches!(result, Err(RepoError::RepositoryTooNew { found: 7, supported: VERSION, .. })));
    };
    check(Repo::find_or_create(None, dir.path()));
    check(Repo::create(repo.root()));
}

#[test]
fn a_damaged_version_file_is_named() {
    let (_dir, repo) = repo();
    for text in ["", "ggr repository 0\n", "ggr repository x\n", "something"] {
        fs::write(repo.root().join("version"), text).unwrap();
        assert!(matches!(Repo::open(repo.root()), Err(RepoError::BadVersion { .. })), "{text:?}");
    }
}

#[test]
fn a_directory_of_something_else_is_left_alone() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("thesis.tex"), "").unwrap();
    let error = Repo::find_or_create(Some(dir.path()), Path::new("/")).unwrap_err();
    assert!(matches!(error, RepoError::NotARepository { ref holds, .. } if holds == "thesis.tex"));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_creation_that_was_broken_off_is_completed() {
    let (dir, repo) = repo();
    for removed in ["version", "README", "tmp", "blobs"] {
        let path = repo.root().join(removed);
        fs::remove_file(&path).or_else(|_| fs::remove_dir(&path)).unwrap();
        fs::remove_file(repo.root().join("version")).ok();
        assert_eq!(Repo::find_or_create(None, dir.path()).unwrap(), repo, "{removed}");
        assert!(path.exists(), "{removed}");
    }
}

#[test]
fn processes_that_race_to_create_all_get_a_whole_repository() {
    for _ in 0..20 {
        let dir = tempdir().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let repo = Repo::find_or_create(None, dir.path()).unwrap();
                    assert!(DIRECTORIES.iter().all(|name| repo.root().join(name).is_dir()));
                });
            }
        });
        let left = fs::read_dir(dir.path().join(NAME).join("tmp")).unwrap().count();
        assert_eq!(left, 0, "temporary files remain");
    }
}

#[test]
fn thunks_are_found_by_id_and_damage_is_noticed() {
    let (_dir, repo) = repo();
    let thunks = repo.thunks();
    let id = thunks.put(&sample()).unwrap();
    assert_eq!(id, sample().id());
    assert_eq!(thunks.put(&sample()).unwrap(), id);
    assert_eq!(thunks.get(id).unwrap(), sample());
    assert_eq!(thunks.ids().unwrap(), [id]);
    fs::set_permissions(thunks.path(id), fs::Permissions::from_mode(0o644)).unwrap();
    let mut bytes = fs::read(thunks.path(id)).unwrap();
    bytes[20] ^= 1;
    fs::write(thunks.path(id), bytes).unwrap();
    assert!(matches!(thunks.get(id), Err(ThunkStoreError::Corrupt { .. })));
    assert!(matches!(thunks.get(id), Err(ThunkStoreError::Missing(_))));
    fs::write(thunks.path(id), b"").unwrap();
    thunks.put(&sample()).unwrap();
    assert_eq!(thunks.get(id).unwrap(), sample(), "a file cut short is replaced");
}

#[test]
fn putting_an_old_thunk_again_renews_it() {
    let (_dir, repo) = repo();
    let thunks = repo.thunks();
    let id = thunks.put(&sample()).unwrap();
    let modified = || fs::metadata(thunks.path(id)).unwrap().modified().unwrap();
    let old = modified() - std::time::Duration::from_secs(100_000);
    fs::File::open(thunks.path(id)).unwrap().set_modified(old).unwrap();
    assert_eq!(modified(), old);
    thunks.put(&sample()).unwrap();
    assert!(modified() > old);
}

#[test]
fn a_session_lives_until_it_is_dropped() {
    let (_dir, repo) = repo();
    let session = Session::start(&repo).unwrap();
    let live = Session::live(&repo).unwrap();
    assert_eq!(live.len(), 1);
    assert_eq!(live[0].name, session.name());
    drop(session);
    assert!(Session::live(&repo).unwrap().is_empty());
    fs::write(repo.run_dir().join("1-2-3.lock"), "").unwrap();
    assert!(Session::live(&repo).unwrap().is_empty(), "nobody holds this one");
    assert_eq!(fs::read_dir(repo.run_dir()).unwrap().count(), 0);
}

#[test]
fn a_dead_session_s_placeholders_are_swept_once() {
    let (_dir, repo) = repo();
    let dead = Journal::start(&repo).unwrap();
    dead.add(Path::new("/w/a.o"), &output(1)).unwrap();
    dead.add(Path::new("/w/b.o"), &output(2)).unwrap();
    dead.done(Path::new("/w/a.o")).unwrap();
    let live = Journal::start(&repo).unwrap();
    assert!(live.sweep().unwrap().is_empty(), "its session still runs");
    drop(dead);
    let expected = vec![(PathBuf::from("/w/b.o"), output(2))];
    assert_eq!(live.sweep().unwrap(), expected);
    assert!(live.sweep().unwrap().is_empty());
    drop(live);
    let next = Journal::start(&repo).unwrap();
    assert_eq!(next.sweep().unwrap(), expected, "taken over, but never done");
    next.done(Path::new("/w/b.o")).unwrap();
    drop(next);
    assert_eq!(fs::read_dir(repo.placeholders_dir()).unwrap().count(), 0);
}

#[test]
fn a_record_that_was_cut_short_costs_only_itself() {
    let (_dir, repo) = repo();
    let dead = Journal::start(&repo).unwrap();
    dead.add(Path::new("/w/a.o"), &output(1)).unwrap();
    dead.add(Path::new("/w/b.o"), &output(2)).unwrap();
    drop(dead);
    let file = fs::read_dir(repo.placeholders_dir()).unwrap().next().unwrap().unwrap().path();
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() - 1]).unwrap();
    assert_eq!(Journal::start(&repo).unwrap().sweep().unwrap(), [(PathBuf::from("/w/a.o"), output(1))]);
}

#[test]
fn left_placeholders_are_roots_while_they_stand_and_are_never_swept() {
    let (dir, repo) = repo();
    let file = dir.path().join("a.o");
    let journal = Journal::start(&repo).unwrap();
    journal.add(&file, &output(1)).unwrap();
    fs::write(&file, crate::placeholder::bytes(&output(1))).unwrap();
    assert_eq!(Journal::roots(&repo).unwrap(), [output(1)]);
    journal.leave().unwrap();
    assert!(Journal::start(&repo).unwrap().sweep().unwrap().is_empty());
    assert_eq!(Journal::roots(&repo).unwrap(), [output(1)]);
    fs::write(&file, "real bytes").unwrap();
    assert!(Journal::roots(&repo).unwrap().is_empty());
    assert_eq!(fs::read_dir(repo.placeholders_dir()).unwrap().count(), 0);
}
