//! The plugins that `ar` and `ranlib` load by themselves, and whether they have indexed by default without dates.
//!
//! BFD loads every file of `BINDIR/../lib/bfd-plugins` and of the like directory below `lib/TRIPLET`, to read objects that
//! are not ELF: without GCC's, LTO objects are missing from an archive's index, silently. LLVM's brings 200 MB of
//! libraries and 40 ms a call, and matters to bitcode only: it is added when there may be some.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use rustc_hash::FxHashMap;

use crate::model::FileView;

/// Remembers both; directories for the life of a session.
#[derive(Default)]
pub(super) struct Plugins {
    found: Mutex<FxHashMap<PathBuf, Arc<[PathBuf]>>>,
    deterministic: Mutex<FxHashMap<(PathBuf, u64), bool>>,
    bitcode: AtomicBool,
}

impl Plugins {
    /// The plugins of a tool in this directory, under the names that BFD opens.
    pub(super) fn of(&self, bin: &Path) -> Arc<[PathBuf]> {
        let mut found = self.found.lock().expect("no holder panics");
        found.entry(bin.to_owned()).or_insert_with(|| plugins(bin).into()).clone()
    }

    /// Notes that placeholders may stand for bitcode: a clang with `-flto` was called.
    pub(super) fn expect_bitcode(&self) {
        self.bitcode.store(true, Ordering::Relaxed);
    }

    /// Whether placeholders may stand for bitcode.
    pub(super) fn bitcode_expected(&self) -> bool {
        self.bitcode.load(Ordering::Relaxed)
    }

    /// Whether this `ar` or `ranlib` writes no dates and owners unless told to: its help says so. One run of it.
    pub(super) fn deterministic(&self, tool: &Path, files: &dyn FileView) -> bool {
        let Some(stamp) = files.stamp(tool) else { return false };
        let mut known = self.deterministic.lock().expect("no holder panics");
        *known.entry((tool.to_owned(), stamp)).or_insert_with(|| says_so(tool))
    }
}

/// Whether a plugin is LLVM's.
pub(super) fn is_llvm(plugin: &Path) -> bool {
    plugin.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.contains("LLVM"))
}

fn plugins(bin: &Path) -> Vec<PathBuf> {
    let lib = bin.join("../lib");
    let mut dirs = vec![lib.join("bfd-plugins")];
    dirs.extend(listed(&lib).into_iter().map(|dir| dir.join("bfd-plugins")));
    dirs.iter().filter(|dir| dir.is_dir()).flat_map(|dir| listed(dir)).filter(|file| file.is_file()).collect()
}

fn listed(dir: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    entries.sort();
    entries
}

fn says_so(tool: &Path) -> bool {
    let help = Command::new(tool)
        .arg("--help")
        .env_clear()
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    let help = help.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    help.lines().any(|line| {
        let line = line.trim_start();
        (line.starts_with("[D]") || line.starts_with("-D")) && line.contains("(default)")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::DiskView;

    #[test]
    fn debian_s_archiver_writes_no_dates() {
        let plugins = Plugins::default();
        for tool in ["/usr/bin/ar", "/usr/bin/ranlib"] {
            assert!(plugins.deterministic(Path::new(tool), &DiskView::new()), "{tool}");
        }
        assert!(!plugins.deterministic(Path::new("/bin/true"), &DiskView::new()));
    }

    #[test]
    fn gcc_s_plugin_is_among_those_that_are_loaded() {
        let found = Plugins::default().of(Path::new("/usr/bin"));
        assert!(found.iter().any(|plugin| plugin.ends_with("liblto_plugin.so")), "{found:?}");
    }
}
