//! Paths inside a thunk's root.

use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An absolute, normal path: it starts with `/`, is UTF-8, and holds no empty, `.` or `..` component and no NUL.
///
/// **Invariant:** joining it below any directory stays below that directory (as long as no symlink is followed).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RootPath(Arc<str>);

/// Why a path cannot stand inside a thunk's root.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{path}` cannot be a path inside a thunk: {why}")]
pub struct PathError {
    path: String,
    why: &'static str,
}

impl RootPath {
    /// Checks a path that should already be normal.
    pub fn new(text: &str) -> Result<Self, PathError> {
        let fail = |why| Err(PathError { path: text.to_owned(), why });
        if !text.starts_with('/') {
            return fail("it is not absolute");
        }
        if text.contains('\0') {
            return fail("it holds a NUL");
        }
        if text == "/" {
            return Ok(Self(text.into()));
        }
        for part in text[1..].split('/') {
            match part {
                "" => return fail("it has an empty component"),
                "." | ".." => return fail("it holds `.` or `..`"),
                _ => {}
            }
        }
        Ok(Self(text.into()))
    }

    /// Joins `path` to `dir` and removes `.`, `..` and doubled slashes by text alone (no symlink is looked at).
    ///
    /// # Errors
    /// If the path is not UTF-8 or holds a NUL.
    pub fn lexical(dir: &Path, path: &Path) -> Result<Self, PathError> {
        let mut normal = PathBuf::from("/");
        for part in dir.join(path).components() {
            match part {
                Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
                Component::ParentDir => {
                    normal.pop();
                }
                Component::Normal(name) => normal.push(name),
            }
        }
        match normal.to_str() {
            Some(text) => Self::new(text),
            None => Err(PathError { path: normal.to_string_lossy().into_owned(), why: "it is not UTF-8" }),
        }
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path on this machine.
    pub fn as_path(&self) -> &Path {
        Path::new(&*self.0)
    }

    /// Where this path stands when the root is `root`.
    pub fn under(&self, root: &Path) -> PathBuf {
        root.join(&self.0[1..])
    }

    /// The directory above; none for `/`.
    pub fn parent(&self) -> Option<Self> {
        if &*self.0 == "/" {
            return None;
        }
        let cut = self.0.rfind('/').expect("an absolute path holds a slash");
        Some(Self(if cut == 0 { "/".into() } else { self.0[..cut].into() }))
    }

    /// The last component; empty for `/`.
    pub fn file_name(&self) -> &str {
        &self.0[self.0.rfind('/').expect("an absolute path holds a slash") + 1..]
    }
}

impl fmt::Display for RootPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RootPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl AsRef<Path> for RootPath {
    fn as_ref(&self) -> &Path {
        self.as_path()
    }
}

impl Serialize for RootPath {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for RootPath {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        // A visitor, not a conversion afterwards: so a bad path in JSON is reported on its own line.
        struct Text;

        impl Visitor<'_> for Text {
            type Value = RootPath;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an absolute, normal path")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<RootPath, E> {
                RootPath::new(text).map_err(E::custom)
            }
        }

        from.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_normal_absolute_paths_pass() {
        for good in ["/", "/a", "/a/b.c", "/a/..b/...c"] {
            assert_eq!(RootPath::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "a", "/a/", "//a", "/a/./b", "/a/../b", "/..", "/a\0"] {
            assert!(RootPath::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn lexical_removes_dots() {
        let check = |dir: &str, path: &str, expected: &str| {
            assert_eq!(RootPath::lexical(Path::new(dir), Path::new(path)).unwrap().as_str(), expected);
        };
        check("/a/b", "../c/./d", "/a/c/d");
        check("/a", "/x//y/", "/x/y");
        check("/", "../..", "/");
    }

    #[test]
    fn parents_end_at_the_root() {
        let path = RootPath::new("/a/b").unwrap();
        assert_eq!(path.parent().unwrap().as_str(), "/a");
        assert_eq!(path.parent().unwrap().parent().unwrap().as_str(), "/");
        assert!(path.parent().unwrap().parent().unwrap().parent().is_none());
        assert_eq!(path.file_name(), "b");
    }
}
