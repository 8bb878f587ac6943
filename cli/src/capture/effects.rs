//! What a run left: found when it has ended, and done again when the run is repeated.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ggr_backends::store::captures::{Effect, Left, Run};
use rustix::fs::{AtFlags, CWD, FileType, Timespec, Timestamps};

use super::answers::{lstat, mtime};
use super::recorder::{Recorder, Touched};
use crate::coordinator::Session;

/// How many files a run may leave, and be remembered.
pub(super) const MAX_EFFECTS: usize = 10_000;

/// What is left at the paths that a run touched. `began` is when it started.
///
/// # Errors
/// Says why it cannot be repeated.
pub(super) fn of_run(
    session: &Session,
    recorder: &Recorder,
    began: SystemTime,
) -> Result<Vec<Effect>, String> {
    let mut effects = Vec::new();
    for (path, touched) in &recorder.touched {
        session.make_real(path);
        collect(session, path, touched, began, &mut effects)?;
    }
    effects.sort_by(|a: &Effect, b| a.path.cmp(&b.path));
    effects.dedup_by(|a, b| a.path == b.path);
    Ok(effects)
}

fn collect(
    session: &Session,
    path: &Path,
    touched: &Touched,
    began: SystemTime,
    effects: &mut Vec<Effect>,
) -> Result<(), String> {
    if effects.len() > MAX_EFFECTS {
        return Err("it leaves too many files".into());
    }
    let text = path.to_str().ok_or("a path that it leaves is not UTF-8")?.to_owned();
    let failed = |error: io::Error| format!("`{}` cannot be read: {error}", path.display());
    let Ok(found) = lstat(path) else {
        if touched.before.is_some() {
            effects.push(Effect { path: text, left: Left::Nothing });
        }
        return Ok(());
    };
    let mode = found.st_mode & 0o7777;
    let left = match FileType::from_raw_mode(found.st_mode) {
        FileType::RegularFile => file(session, path, touched, &found, began)?,
        FileType::Symlink => {
            let target = fs::read_link(path).map_err(failed)?;
            Left::Symlink(target.to_str().ok_or("a symlink that it leaves is not UTF-8")?.to_owned())
        }
        FileType::Directory => {
            effects.push(Effect { path: text, left: Left::Directory(mode) });
            if touched.before.is_none() {
                for entry in fs::read_dir(path).map_err(failed)? {
                    let inside =
                        Touched { replaced: true, set_times: touched.set_times, ..Touched::default() };
                    collect(session, &entry.map_err(failed)?.path(), &inside, began, effects)?;
                }
            }
            return Ok(());
        }
        _ => return Err("it leaves a device or pipe".into()),
    };
    effects.push(Effect { path: text, left });
    Ok(())
}

fn file(
    session: &Session,
    path: &Path,
    touched: &Touched,
    found: &rustix::fs::Stat,
    began: SystemTime,
) -> Result<Left, String> {
    let same = touched
        .before
        .as_ref()
        .is_some_and(|before| (before.st_dev, before.st_ino) == (found.st_dev, found.st_ino));
    if found.st_nlink > 1 && !same {
        return Err("it leaves a file with several names".into());
    }
    let mode = found.st_mode & 0o7777;
    let unchanged_mode = same && !touched.set_mode;
    let blob = session.ingest(path).map_err(|e| format!("`{}` cannot be stored: {e}", path.display()))?;
    // A time that lies in the run is what the clock said: a repetition has its own.
    let began = began.duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(Duration::from_secs(1));
    let given = touched.set_times && i128::from(mtime(found)) < began.as_nanos() as i128;
    Ok(Left::File {
        blob,
        mode: if unchanged_mode { touched.created.unwrap_or(mode) } else { mode },
        mode_was_set: touched.set_mode,
        in_place: !touched.replaced,
        mtime: given.then(|| mtime(found)),
    })
}

/// Does again what a run did.
///
/// # Errors
/// Those of the file system, and a way that leads elsewhere than a foreign run says; the program itself then does the whole.
pub(super) fn repeat(session: &Session, run: &Run) -> io::Result<()> {
    let check = |path: &Path| if run.foreign { check_way(path) } else { Ok(()) };
    for effect in run.effects.iter().rev() {
        if effect.left == Left::Nothing {
            check(Path::new(&effect.path))?;
            remove(Path::new(&effect.path))?;
        }
    }
    for Effect { path, left } in &run.effects {
        let path = Path::new(path);
        // Just before: what the run itself has left may be a symlink.
        check(path)?;
        match left {
            Left::Nothing => {}
            Left::Directory(mode) => {
                if !path.is_dir() {
                    fs::create_dir(path)?;
                } else if run.foreign && path.is_symlink() {
                    return Err(leads_elsewhere(path));
                }
                fs::set_permissions(path, Permissions::from_mode(*mode))?;
            }
            Left::Symlink(target) => {
                remove(path)?;
                std::os::unix::fs::symlink(target, path)?;
            }
            Left::File { blob, mode, mode_was_set, in_place, mtime } => {
                let bytes = session.checked_bytes(*blob)?;
                write(path, &bytes, *mode, *mode_was_set, *in_place)?;
                if let Some(mtime) = mtime {
                    set_time(path, *mtime)?;
                }
                session.remember(path, *blob);
            }
        }
    }
    Ok(())
}

/// What a path names is where it says: no symlink is on its way.
fn check_way(path: &Path) -> io::Result<()> {
    let parent = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    if fs::canonicalize(parent)? == parent { Ok(()) } else { Err(leads_elsewhere(path)) }
}

fn leads_elsewhere(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, format!("`{}` leads elsewhere", path.display()))
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir(path),
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn write(path: &Path, bytes: &[u8], mode: u32, mode_was_set: bool, in_place: bool) -> io::Result<()> {
    let there = fs::symlink_metadata(path).is_ok_and(|found| found.is_file());
    if there && in_place {
        let mut file = OpenOptions::new().write(true).truncate(true).open(path)?;
        file.write_all(bytes)?;
        if mode_was_set {
            file.set_permissions(Permissions::from_mode(mode))?;
        }
        return Ok(());
    }
    // As a program that writes a file of its own and renames it: nobody sees half of it.
    let beside = beside(path);
    let write = |mut file: File| {
        file.write_all(bytes)?;
        file.set_permissions(Permissions::from_mode(mode))?;
        fs::rename(&beside, path)
    };
    let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside).and_then(write);
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written
}

fn beside(path: &Path) -> PathBuf {
    path.with_file_name(format!(".ggr-{}", ggr_ir::repo::unique_name()))
}

fn set_time(path: &Path, mtime: i64) -> io::Result<()> {
    let found = fs::symlink_metadata(path)?;
    let (seconds, rest) = (mtime.div_euclid(1_000_000_000), mtime.rem_euclid(1_000_000_000));
    let times = Timestamps {
        last_access: Timespec { tv_sec: found.atime(), tv_nsec: found.atime_nsec() as _ },
        last_modification: Timespec { tv_sec: seconds, tv_nsec: rest as _ },
    };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(Into::into)
}
