//! The directory of links: how tools are caught where nothing can be mounted (`--intercept path`).
//!
//! It is first in the build's `PATH`, and holds the launcher under each name by which a tool would be found there. What is
//! called by an absolute path, or with another `PATH`, is not caught; the filter sees and counts it. A build that asks where
//! a tool is (`command -v gcc`) is told of the link.

use std::collections::{BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use ggr_ir::protocol::launcher::Request;

use crate::intercept::supervisor::FileId;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Links {
    dir: PathBuf,
    /// The value of `PATH` without the links.
    path: OsString,
    names: BTreeSet<OsString>,
    /// The tools' real files.
    tools: HashMap<FileId, PathBuf>,
}

impl Links {
    /// Plans links for the tools with these real files, in a directory that does not exist yet. A name that leads to another
    /// program first (a wrapper's directory in front) gets none.
    pub(crate) fn plan(dir: PathBuf, path: OsString, tools: &[PathBuf]) -> Self {
        let mut seen = BTreeSet::new();
        let mut names = BTreeSet::new();
        for entry in std::env::split_paths(&path).filter_map(|dir| fs::read_dir(dir).ok()).flatten().flatten()
        {
            let is_new = seen.insert(entry.file_name());
            if is_new && fs::canonicalize(entry.path()).is_ok_and(|real| tools.contains(&real)) {
                names.insert(entry.file_name());
            }
        }
        let id =
            |tool: &PathBuf| fs::metadata(tool).ok().map(|meta| ((meta.dev(), meta.ino()), tool.clone()));
        Self { dir, path, names, tools: tools.iter().filter_map(id).collect() }
    }

    /// Makes the directory with its links to the session's launcher.
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) fn put(&self, launcher: &Path) -> io::Result<()> {
        fs::create_dir_all(&self.dir)?;
        for name in &self.names {
            let link = self.dir.join(name);
            super::placeholders::remove_if_there(&link)?;
            // The launcher knows its name by its own file (`/proc/self/exe`), which a symbolic link would hide.
            fs::hard_link(launcher, &link).or_else(|_| fs::copy(launcher, &link).map(drop))?;
        }
        Ok(())
    }

    /// The value of `PATH` for the build.
    pub(crate) fn path(&self) -> OsString {
        [self.dir.as_os_str(), &self.path].join(OsStr::new(":"))
    }

    /// The call that the caller would have made without the links; as it is if it did not come through them.
    pub(crate) fn resolve(&self, mut request: Request) -> Request {
        let program = PathBuf::from(OsString::from_vec(request.program.clone()));
        let (Some(name), true) = (program.file_name(), program.parent() == Some(&self.dir)) else {
            return request;
        };
        let mut path = self.path.clone();
        for variable in &mut request.env {
            if let Some(value) = variable.strip_prefix(b"PATH=") {
                path = OsString::from_vec(self.without(value));
                *variable = [b"PATH=", path.as_bytes()].concat();
            }
        }
        let dir = Path::new(OsStr::from_bytes(&request.dir)).to_owned();
        let found = find(name, &path, &dir).or_else(|| find(name, &self.path, &dir));
        let Some(found) = found else { return request };
        if request.args.first().is_some_and(|arg| arg.starts_with(self.dir.as_os_str().as_bytes())) {
            request.args[0] = found.as_os_str().as_bytes().to_vec();
        }
        let real = fs::canonicalize(&found).unwrap_or(found);
        request.program = real.into_os_string().into_vec();
        request
    }

    fn without(&self, path: &[u8]) -> Vec<u8> {
        let kept: Vec<&[u8]> =
            path.split(|&b| b == b':').filter(|dir| *dir != self.dir.as_os_str().as_bytes()).collect();
        kept.join(&b':')
    }

    /// The tool whose real file this is.
    pub(crate) fn tool(&self, file: FileId) -> Option<&Path> {
        self.tools.get(&file).map(PathBuf::as_path)
    }
}

/// The file that a shell in `dir` would execute.
fn find(name: &OsStr, path: &OsStr, dir: &Path) -> Option<PathBuf> {
    let candidates = std::env::split_paths(path).map(|entry| dir.join(entry).join(name));
    let executable = |path: &PathBuf| {
        fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    { candidates }.find(executable)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(path: &Path) -> PathBuf {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        path.to_owned()
    }

    #[test]
    fn a_call_through_a_link_is_the_call_that_would_have_been_made() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().canonicalize().unwrap();
        let gcc = program(&root.join("bin/gcc-12"));
        std::os::unix::fs::symlink("gcc-12", root.join("bin/gcc")).unwrap();
        let wrapped = program(&root.join("wrappers/ar"));
        let ar = program(&root.join("bin/ar"));
        let path = format!("{0}/wrappers:{0}/bin", root.display());
        let links = Links::plan(root.join("links"), path.clone().into(), &[gcc.clone(), ar]);
        links.put(&program(&root.join("launcher"))).unwrap();
        assert!(root.join("links/gcc").exists() && root.join("links/gcc-12").exists());
        assert!(!root.join("links/ar").exists(), "{} comes first", wrapped.display());
        let call = |program: &str, name: &str| {
            links.resolve(Request {
                program: root.join(program).into_os_string().into_vec(),
                args: vec![name.into(), b"-c".to_vec()],
                env: vec![[b"PATH=", links.path().as_bytes()].concat()],
                dir: b"/".to_vec(),
                umask: 0,
            })
        };
        let made = call("links/gcc", "gcc");
        assert_eq!(made.program, gcc.as_os_str().as_bytes());
        assert_eq!(made.args[0], b"gcc");
        assert_eq!(made.env, [format!("PATH={path}").into_bytes()]);
        let by_link = call("links/gcc", root.join("links/gcc").to_str().unwrap());
        assert_eq!(by_link.args[0], root.join("bin/gcc").as_os_str().as_bytes());
        assert_eq!(call("bin/gcc-12", "gcc").program, gcc.as_os_str().as_bytes());
    }
}
