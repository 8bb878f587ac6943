//! What a linker searches without being told to: its built-in directories, and those of `/etc/ld.so.conf`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use rustc_hash::FxHashMap;

use super::script;
use crate::glob;
use crate::model::FileView;

/// What gold and lld search (gold's `options.cc`, lld's manual), and what is taken for a linker that does not say.
const PLAIN_DIRS: &[&str] = &["=/lib", "=/usr/lib", "=/lib64", "=/usr/lib64", "=/usr/local/lib"];

/// `/etc/ld.so.conf`, read: GNU ld looks into its directories for the libraries that shared libraries need.
#[derive(Clone, Default, Debug)]
pub struct LoaderConf {
    /// The file and those that it includes.
    pub files: Vec<PathBuf>,
    /// The directories, in order.
    pub dirs: Vec<PathBuf>,
}

/// Directories as written, by linker and emulation.
type BuiltIn = FxHashMap<(PathBuf, String), Arc<[String]>>;

/// Remembers both, for the life of a session: neither changes during a build.
#[derive(Default, Debug)]
pub struct Defaults {
    built_in: Mutex<BuiltIn>,
    conf: Mutex<FxHashMap<PathBuf, Arc<LoaderConf>>>,
}

impl Defaults {
    /// The built-in directories of this linker for this emulation (empty for its first), as written: `=` stands for the
    /// sysroot. Costs one run of `ld --verbose` the first time.
    pub fn built_in(&self, linker: &Path, emulation: &str) -> Arc<[String]> {
        let key = (linker.to_owned(), emulation.to_owned());
        let mut known = self.built_in.lock().expect("no holder panics");
        known.entry(key).or_insert_with(|| ask(linker, emulation).into()).clone()
    }

    /// The loader's configuration below a sysroot (`/` for this machine's own).
    pub fn loader_conf(&self, sysroot: &Path, files: &dyn FileView) -> Arc<LoaderConf> {
        let mut known = self.conf.lock().expect("no holder panics");
        let read = || {
            let mut conf = LoaderConf::default();
            read_conf(&sysroot.join("etc/ld.so.conf"), sysroot, files, &mut conf);
            Arc::new(conf)
        };
        known.entry(sysroot.to_owned()).or_insert_with(read).clone()
    }
}

fn ask(linker: &Path, emulation: &str) -> Vec<String> {
    let mut command = Command::new(linker);
    if !emulation.is_empty() {
        command.args(["-m", emulation]);
    }
    command.arg("--verbose").env_clear().env("LC_ALL", "C").stdin(Stdio::null()).stderr(Stdio::null());
    let said = command.output().map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let dirs = script::parse(&said.unwrap_or_default()).dirs;
    if dirs.is_empty() { PLAIN_DIRS.iter().map(|&dir| dir.to_owned()).collect() } else { dirs }
}

/// The most files that a configuration may include; glibc has no bound, a loop must end.
const MAX_CONF: usize = 256;

fn read_conf(path: &Path, sysroot: &Path, files: &dyn FileView, conf: &mut LoaderConf) {
    let Ok(bytes) = files.read(path) else { return };
    if conf.files.len() == MAX_CONF || conf.files.iter().any(|file| file == path) {
        return;
    }
    conf.files.push(path.to_owned());
    for line in String::from_utf8_lossy(&bytes).lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        match line.strip_prefix("include") {
            Some(patterns) if patterns.starts_with([' ', '\t']) => {
                for pattern in patterns.split_whitespace() {
                    let pattern = match pattern.strip_prefix('/') {
                        Some(below) => sysroot.join(below),
                        None => path.with_file_name(pattern),
                    };
                    for file in matching(&pattern) {
                        read_conf(&file, sysroot, files, conf);
                    }
                }
            }
            _ if line.is_empty() || line.starts_with("hwcap") => {}
            _ => {
                let dirs = line.split([' ', '\t', ',', ':']).filter(|dir| !dir.is_empty());
                conf.dirs.extend(dirs.map(|dir| sysroot.join(dir.trim_start_matches('/'))));
            }
        }
    }
}

/// The files that a pattern matches, sorted; stars in the last component only, which is all that is in use.
fn matching(pattern: &Path) -> Vec<PathBuf> {
    let (Some(dir), Some(name)) = (pattern.parent(), pattern.file_name().and_then(|name| name.to_str()))
    else {
        return Vec::new();
    };
    let mut found: Vec<PathBuf> = std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(|entry| glob::matches_name(name, entry)))
        .map(|entry| entry.path())
        .collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::DiskView;

    #[test]
    fn a_configuration_includes_others() {
        let temp = tempfile::tempdir().unwrap();
        let etc = temp.path().join("etc");
        std::fs::create_dir_all(etc.join("ld.so.conf.d")).unwrap();
        std::fs::write(etc.join("ld.so.conf"), "include /etc/ld.so.conf.d/*.conf\n/last # why\n").unwrap();
        std::fs::write(etc.join("ld.so.conf.d/b.conf"), "/b\n").unwrap();
        std::fs::write(etc.join("ld.so.conf.d/a.conf"), "# none\n/a1 /a2\ninclude /etc/ld.so.conf\n")
            .unwrap();
        let conf = Defaults::default().loader_conf(temp.path(), &DiskView::new());
        let dirs: Vec<_> =
            conf.dirs.iter().map(|dir| dir.strip_prefix(temp.path()).unwrap().to_str().unwrap()).collect();
        assert_eq!(dirs, ["a1", "a2", "b", "last"]);
        assert_eq!(conf.files.len(), 3);
    }

    #[test]
    fn gnu_ld_names_its_directories() {
        let dirs = Defaults::default().built_in(Path::new("/usr/bin/ld"), "elf_x86_64");
        assert!(dirs.iter().any(|dir| dir == "=/usr/lib/x86_64-linux-gnu"), "{dirs:?}");
    }
}
