//! The watches themselves, and the ways along which they are set.

use std::os::fd::OwnedFd;

use rustc_hash::{FxHashMap, FxHashSet};
use rustix::fs::inotify::{self, WatchFlags};
use rustix::io::Errno;

use super::Name;
use crate::intercept::supervisor::FileId;

/// Symlinks on one way before it is given up; the kernel gives up after 40.
const MAX_LINKS: u32 = 8;

/// File systems that no other machine changes: ext2 to ext4, XFS, Btrfs, tmpfs, F2FS, overlayfs (`statfs(2)`).
const LOCAL: [u64; 6] = [0xEF53, 0x5846_5342, 0x9123_683E, 0x0102_1994, 0xF2F5_2010, 0x794C_7630];

/// For directories: what may change which file a name leads to.
const DIR: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVE)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::MASK_ADD)
    .union(WatchFlags::ONLYDIR)
    .union(WatchFlags::DONT_FOLLOW);

/// For files: what may change the bytes or the permissions.
const FILE: WatchFlags = WatchFlags::MODIFY
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MASK_ADD)
    .union(WatchFlags::DONT_FOLLOW);

/// What is watched, and what rests on it.
#[derive(Debug, Default)]
pub(super) struct Watches {
    /// Directories, by each of the names that they were met under.
    pub(super) dirs: FxHashMap<Name, Dir>,
    /// The paths that a name in a directory decides on. An empty name: those of the watched file itself.
    pub(super) names: FxHashMap<(i32, Name), Vec<Name>>,
    /// The paths of a directory of which is known what identifies it: any change in it ends that.
    pub(super) listed: FxHashMap<i32, Vec<Name>>,
    /// Names of directories and of symlinks to them. If one changes, everything is forgotten.
    pub(super) ways: FxHashSet<(i32, Name)>,
    pub(super) files: FxHashMap<FileId, i32>,
}

#[derive(Clone, Debug)]
pub(super) struct Dir {
    pub(super) watch: i32,
    /// Its name without symlinks and without a slash at the end.
    pub(super) real: Name,
}

/// Where a directory's name leads.
pub(super) enum Way {
    There(Dir),
    /// Nowhere, until this name appears in that watched directory.
    Missing(i32, Name),
    /// Somewhere that cannot be watched.
    Unwatched,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Followed {
    /// Whether the path itself is a symlink.
    pub(super) is_link: bool,
    /// The watch on what stands there, if anything does.
    pub(super) watch: Option<i32>,
}

impl Watches {
    pub(super) fn is_dir(&self, watch: i32) -> bool {
        self.dirs.values().any(|dir| dir.watch == watch)
    }

    /// Watches all that decides what stands at the path.
    pub(super) fn follow(&mut self, inotify: &OwnedFd, path: &Name) -> Option<Followed> {
        let mut spelled = path.clone();
        for links in 0..MAX_LINKS {
            let (above, name) = split(&spelled)?;
            let dir = match self.dir(inotify, above, 0) {
                Way::There(dir) => dir,
                Way::Missing(watch, name) => {
                    self.note((watch, name), path);
                    return Some(Followed { is_link: links > 0, watch: None });
                }
                Way::Unwatched => return None,
            };
            self.note((dir.watch, name.into()), path);
            let real = joined(&dir.real, name);
            match rustix::fs::readlink(&*real, Vec::new()) {
                Ok(target) => spelled = joined(&dir.real, target.as_bytes()),
                Err(Errno::NOENT) => return Some(Followed { is_link: links > 0, watch: None }),
                Err(Errno::INVAL) => {
                    let watch = inotify::add_watch(inotify, &*real, FILE).ok()?;
                    self.note((watch, Name::default()), path);
                    return Some(Followed { is_link: links > 0, watch: Some(watch) });
                }
                Err(_) => return None,
            }
        }
        None
    }

    /// Watches what decides whether the path itself is a symlink, and where to. Says whether that can be had.
    pub(super) fn watch_name(&mut self, inotify: &OwnedFd, path: &Name) -> bool {
        let Some((above, name)) = split(path) else { return false };
        let what = match self.dir(inotify, above, 0) {
            Way::There(dir) => (dir.watch, name.into()),
            Way::Missing(watch, name) => (watch, name),
            Way::Unwatched => return false,
        };
        self.note(what, path);
        true
    }

    pub(super) fn note(&mut self, what: (i32, Name), path: &Name) {
        let paths = self.names.entry(what).or_default();
        if !paths.contains(path) {
            paths.push(path.clone());
        }
    }

    pub(super) fn dir(&mut self, inotify: &OwnedFd, spelled: &[u8], links: u32) -> Way {
        if let Some(dir) = self.dirs.get(spelled) {
            return Way::There(dir.clone());
        }
        let way = match spelled.is_empty() {
            true => self.watch_dir(inotify, b"/", Name::default()).unwrap_or(Way::Unwatched),
            false => self.walk(inotify, spelled, links),
        };
        if let Way::There(dir) = &way {
            self.dirs.insert(spelled.into(), dir.clone());
        }
        way
    }

    fn walk(&mut self, inotify: &OwnedFd, spelled: &[u8], links: u32) -> Way {
        let Some(cut) = spelled.iter().rposition(|byte| *byte == b'/') else { return Way::Unwatched };
        let name = &spelled[cut + 1..];
        let above = match self.dir(inotify, &spelled[..cut], links) {
            Way::There(above) => above,
            other => return other,
        };
        match name {
            b"" | b"." => return Way::There(above),
            b".." => {
                let end = above.real.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
                return self.dir(inotify, &above.real[..end], links);
            }
            _ => {}
        }
        let real = joined(&above.real, name);
        match self.watch_dir(inotify, &real, real.clone()) {
            Ok(way) => {
                self.ways.insert((above.watch, name.into()));
                way
            }
            Err(Errno::NOENT) => Way::Missing(above.watch, name.into()),
            Err(Errno::NOTDIR | Errno::LOOP) if links < MAX_LINKS => {
                match rustix::fs::readlink(&*real, Vec::new()) {
                    Ok(target) => {
                        self.ways.insert((above.watch, name.into()));
                        self.dir(inotify, &joined(&above.real, target.as_bytes()), links + 1)
                    }
                    Err(_) => Way::Unwatched,
                }
            }
            Err(_) => Way::Unwatched,
        }
    }

    fn watch_dir(&mut self, inotify: &OwnedFd, path: &[u8], real: Name) -> Result<Way, Errno> {
        let watch = inotify::add_watch(inotify, path, DIR)?;
        // The type's width and sign differ between platforms; the numbers have 32 bits.
        let kind = rustix::fs::statfs(path)?.f_type as u64 & 0xFFFF_FFFF;
        if LOCAL.contains(&kind) { Ok(Way::There(Dir { watch, real })) } else { Ok(Way::Unwatched) }
    }
}

/// The directory and the name in it; nothing if it names a directory.
fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let cut = path.iter().rposition(|byte| *byte == b'/')?;
    let name = &path[cut + 1..];
    (!matches!(name, b"" | b"." | b"..")).then_some((&path[..cut], name))
}

/// The target of a link in this directory, or a name in it.
fn joined(dir: &[u8], name: &[u8]) -> Name {
    if name.starts_with(b"/") { name.into() } else { [dir, b"/", name].concat().into() }
}
