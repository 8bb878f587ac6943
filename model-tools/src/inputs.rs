//! The files of a thunk, gathered under the names that the tool will use for them.
//!
//! A tool names a file through symlinks and `..`; in a sandbox that holds nothing but the inputs, each symlink on the
//! way must be there as a symlink, and each directory that `..` leaves must exist. [`InputSet::add`] sees to that.
//!
//! **Invariant:** in a root made of the entries, opening a path that was added gives the bytes that were added, and its
//! canonical path is the one it has here.
//!
//! Cost: a path that was met before takes one look-up and [`FileView::blob`]. Directories are walked once a session;
//! the symlinks among them are read again by each set, so that a link that was turned elsewhere is noticed.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock, RwLock};

use ggr_ir::{BlobId, Entry, Mode, Object, RootPath};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::model::{FileView, Found, Reason};

/// How many symlinks a path may go through; the kernel's own bound (`path_resolution(7)`).
const MAX_LINKS: u32 = 40;

/// What must stand on the way to a file: symlinks, and directories that `..` leaves.
type Way = Arc<[(RootPath, Entry<Object>)]>;

/// Where a path leads, and what must stand on the way.
#[derive(Clone, Debug)]
struct Trail {
    /// The canonical path.
    real: RootPath,
    /// In the order they are met.
    way: Way,
}

/// The trails that were walked, shared by all sets of a session.
///
/// Only paths at which something stands are remembered, so nothing is known of what may appear later.
#[derive(Default, Debug)]
pub struct Trails {
    known: RwLock<FxHashMap<Box<str>, Trail>>,
    empty: OnceLock<BlobId>,
}

impl Trails {
    /// Knows nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    fn known(&self, path: &str) -> Option<Trail> {
        self.known.read().expect("no writer panics").get(path).cloned()
    }

    fn forget(&self) {
        self.known.write().expect("no writer panics").clear();
    }

    fn walk(&self, path: &str, links: u32, files: &dyn FileView) -> Result<Trail, Reason> {
        if let Some(trail) = self.known(path) {
            return Ok(trail);
        }
        let path = trimmed(path);
        if path.is_empty() {
            return Ok(Trail { real: root(), way: Arc::new([]) });
        }
        let cut = path.rfind('/').expect("the path is absolute");
        let (above, name) = (self.walk(&path[..cut], links, files)?, &path[cut + 1..]);
        let trail = match name {
            "" | "." => above,
            ".." => self.leave(above, files)?,
            _ => self.enter(&above, name, links, files)?,
        };
        if files.find(trail.real.as_path()) != Found::Missing {
            self.known.write().expect("no writer panics").insert(path.into(), trail.clone());
        }
        Ok(trail)
    }

    fn leave(&self, from: Trail, files: &dyn FileView) -> Result<Trail, Reason> {
        let Some(real) = from.real.parent() else { return Ok(from) };
        let way = longer(&from.way, [(from.real, self.directory(files)?)], &[]);
        Ok(Trail { real, way })
    }

    fn enter(&self, above: &Trail, name: &str, links: u32, files: &dyn FileView) -> Result<Trail, Reason> {
        let base = above.real.as_str().trim_end_matches('/');
        let here = RootPath::new(&format!("{base}/{name}")).map_err(|_| Reason::NotUtf8)?;
        let Some(target) = files.link_target(here.as_path()) else {
            return Ok(Trail { real: here, way: above.way.clone() });
        };
        if links == MAX_LINKS {
            return Err(Reason::MissingInput(here.to_string()));
        }
        let target = target.to_str().ok_or(Reason::NotUtf8)?;
        let object = files.blob_of_bytes(target.as_bytes()).map_err(|error| unreadable(&here, &error))?;
        let onward = if target.starts_with('/') { target.to_owned() } else { format!("{base}/{target}") };
        let rest = self.walk(&onward, links + 1, files)?;
        let link = Entry { object: Object::Blob(object), mode: Mode::Symlink };
        Ok(Trail { real: rest.real, way: longer(&above.way, [(here, link)], &rest.way) })
    }

    fn directory(&self, files: &dyn FileView) -> Result<Entry<Object>, Reason> {
        let blob = match self.empty.get() {
            Some(blob) => *blob,
            None => {
                let blob = files.blob_of_bytes(b"").map_err(|error| Reason::Other(error.to_string()))?;
                *self.empty.get_or_init(|| blob)
            }
        };
        Ok(Entry { object: Object::Blob(blob), mode: Mode::Directory })
    }
}

fn root() -> RootPath {
    RootPath::new("/").expect("the root is a path")
}

/// Without slashes at the end, unless one is all there is.
fn trimmed(path: &str) -> &str {
    path.trim_end_matches('/')
}

fn longer(start: &Way, new: [(RootPath, Entry<Object>); 1], rest: &[(RootPath, Entry<Object>)]) -> Way {
    start.iter().cloned().chain(new).chain(rest.iter().cloned()).collect()
}

fn unreadable(path: &RootPath, error: &io::Error) -> Reason {
    Reason::Other(format!("`{path}` cannot be read: {error}"))
}

/// Collects the inputs of one thunk.
pub struct InputSet<'a> {
    files: &'a dyn FileView,
    trails: &'a Trails,
    entries: Vec<(RootPath, Entry<Object>)>,
    /// The ways that are in `entries` already, by address.
    ways: FxHashSet<usize>,
    /// Keeps those addresses from being used again.
    held: Vec<Way>,
}

impl<'a> InputSet<'a> {
    /// Holds nothing yet.
    pub fn new(files: &'a dyn FileView, trails: &'a Trails) -> Self {
        Self { files, trails, entries: Vec::with_capacity(128), ways: FxHashSet::default(), held: Vec::new() }
    }

    /// Adds the file that `path` names for a process in `dir` (absolute), and returns its canonical path. A directory is
    /// added as [`InputSet::add_dir`] does; a placeholder as the output that it stands for.
    ///
    /// # Errors
    /// [`Reason::MissingInput`] with the path as given if nothing is there, [`Reason::NotUtf8`],
    /// [`Reason::Other`] if it is a device or cannot be read.
    pub fn add(&mut self, dir: &Path, path: &Path) -> Result<RootPath, Reason> {
        let real = self.follow(dir, path)?;
        let entry = match self.files.blob(real.as_path()) {
            Ok((blob, executable)) => {
                let mode = if executable { Mode::Executable } else { Mode::Regular };
                Entry { object: Object::Blob(blob), mode }
            }
            Err(error) => match self.files.find(real.as_path()) {
                Found::Placeholder(output) => Entry { object: Object::Output(output), mode: Mode::Regular },
                Found::Directory => self.trails.directory(self.files)?,
                Found::Missing => return Err(Reason::MissingInput(path.display().to_string())),
                Found::File { .. } => return Err(unreadable(&real, &error)),
                Found::Other => {
                    return Err(Reason::Other(format!("`{}` is no regular file", path.display())));
                }
            },
        };
        self.entries.push((real.clone(), entry));
        Ok(real)
    }

    /// Makes sure that the directory that `path` names for a process in `dir` is there, with nothing in it. One that does
    /// not exist here is left out, for the tool to miss it as it would here.
    ///
    /// # Errors
    /// As [`InputSet::add`], but for what is missing or no directory.
    pub fn add_dir(&mut self, dir: &Path, path: &Path) -> Result<(), Reason> {
        let real = self.follow(dir, path)?;
        if self.files.find(real.as_path()) == Found::Directory {
            let entry = self.trails.directory(self.files)?;
            self.entries.push((real, entry));
        }
        Ok(())
    }

    /// Adds entries that were gathered before (a toolchain's).
    pub fn add_all(&mut self, entries: &[(RootPath, Entry<Object>)]) {
        self.entries.extend_from_slice(entries);
    }

    /// The canonical path that `path` has for a process in `dir`; the way to it is added, the file itself is not.
    ///
    /// # Errors
    /// As [`InputSet::add`].
    pub fn follow(&mut self, dir: &Path, path: &Path) -> Result<RootPath, Reason> {
        let joined;
        let text = if path.is_absolute() {
            path.to_str()
        } else {
            joined = dir.join(path);
            joined.to_str()
        };
        let text = text.ok_or(Reason::NotUtf8)?;
        let trail = self.trails.walk(text, 0, self.files)?;
        if self.take(&trail.way)? {
            return Ok(trail.real);
        }
        self.trails.forget();
        let trail = self.trails.walk(text, 0, self.files)?;
        self.take(&trail.way)?;
        Ok(trail.real)
    }

    /// The thunk's inputs.
    pub fn finish(self) -> BTreeMap<RootPath, Entry<Object>> {
        self.entries.into_iter().collect()
    }

    /// Adds a way, unless one of its links points elsewhere by now.
    fn take(&mut self, way: &Way) -> Result<bool, Reason> {
        if way.is_empty() || self.ways.contains(&(Arc::as_ptr(way).cast::<u8>() as usize)) {
            return Ok(true);
        }
        for (path, entry) in way.iter().filter(|(_, entry)| entry.mode == Mode::Symlink) {
            let target = self.files.link_target(path.as_path());
            let blob = target.map(|target| BlobId::of(target.as_os_str().as_encoded_bytes()));
            if blob.map(Object::Blob).as_ref() != Some(&entry.object) {
                return Ok(false);
            }
        }
        self.entries.extend_from_slice(way);
        self.ways.insert(Arc::as_ptr(way).cast::<u8>() as usize);
        self.held.push(way.clone());
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::testing::DiskView;

    fn entries(paths: &[&str], make: impl Fn(&Path)) -> Vec<String> {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().canonicalize().unwrap();
        make(&dir);
        let (view, trails) = (DiskView::new(), Trails::new());
        let mut set = InputSet::new(&view, &trails);
        for path in paths {
            set.add(&dir, Path::new(path)).unwrap();
        }
        set.finish()
            .iter()
            .map(|(path, entry)| {
                let path = path.as_str().strip_prefix(dir.to_str().unwrap()).unwrap();
                format!("{path} {:?}", entry.mode)
            })
            .collect()
    }

    #[test]
    fn symlinks_on_the_way_become_entries() {
        let found = entries(&["lib/a.h", "b.h"], |dir| {
            std::fs::create_dir_all(dir.join("usr/lib")).unwrap();
            symlink("usr/lib", dir.join("lib")).unwrap();
            std::fs::write(dir.join("usr/lib/a-1.h"), "a").unwrap();
            symlink("a-1.h", dir.join("usr/lib/a.h")).unwrap();
            symlink(dir.join("usr/lib/a.h"), dir.join("b.h")).unwrap();
        });
        assert_eq!(found, ["/b.h Symlink", "/lib Symlink", "/usr/lib/a-1.h Regular", "/usr/lib/a.h Symlink"]);
    }

    #[test]
    fn a_directory_left_by_dots_exists() {
        let found = entries(&["src/../inc//./x.h", "sub/deep/.."], |dir| {
            for sub in ["src", "inc", "sub/deep"] {
                std::fs::create_dir_all(dir.join(sub)).unwrap();
            }
            std::fs::write(dir.join("inc/x.h"), "x").unwrap();
        });
        assert_eq!(found, ["/inc/x.h Regular", "/src Directory", "/sub Directory", "/sub/deep Directory"]);
    }

    #[test]
    fn dots_after_a_symlink_leave_its_target() {
        let found = entries(&["link/../x.h"], |dir| {
            std::fs::create_dir_all(dir.join("far/away")).unwrap();
            symlink("far/away", dir.join("link")).unwrap();
            std::fs::write(dir.join("far/x.h"), "x").unwrap();
        });
        assert_eq!(found, ["/far/away Directory", "/far/x.h Regular", "/link Symlink"]);
    }

    #[test]
    fn a_link_that_was_turned_is_followed_anew() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().canonicalize().unwrap();
        for name in ["one", "two"] {
            std::fs::create_dir(dir.join(name)).unwrap();
            std::fs::write(dir.join(name).join("x.h"), name).unwrap();
        }
        let (view, trails) = (DiskView::new(), Trails::new());
        let add = || InputSet::new(&view, &trails).add(&dir, Path::new("now/x.h"));
        assert!(matches!(add(), Err(Reason::MissingInput(path)) if path == "now/x.h"));
        for name in ["one", "two"] {
            let _ = std::fs::remove_file(dir.join("now"));
            symlink(name, dir.join("now")).unwrap();
            assert_eq!(add().unwrap().as_path(), dir.join(name).join("x.h"));
        }
    }

    #[test]
    fn a_loop_of_links_is_missing() {
        let temp = tempfile::tempdir().unwrap();
        symlink("b", temp.path().join("a")).unwrap();
        symlink("a", temp.path().join("b")).unwrap();
        let (view, trails) = (DiskView::new(), Trails::new());
        let found = InputSet::new(&view, &trails).add(temp.path(), Path::new("a"));
        assert!(matches!(found, Err(Reason::MissingInput(_))), "{found:?}");
    }
}
