//! Which programs are captured.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use ggr_models::models::real_file;

/// Programs that make sources and documents out of files, and the interpreters that scripts of that kind are written for.
/// They run for longer than it takes to watch them. What every configure script calls a thousand times (sed, awk, grep) and
/// what runs whole builds (make, ninja, cmake) is not here.
const PROGRAMS: &[&str] = &[
    "asn1c",
    "bison",
    "byacc",
    "cython",
    "dot",
    "doxygen",
    "flex",
    "gdk-pixbuf-csource",
    "glib-compile-resources",
    "glib-compile-schemas",
    "gperf",
    "grpc_cpp_plugin",
    "guile",
    "lemon",
    "lua",
    "luajit",
    "m4",
    "moc",
    "msgfmt",
    "msgmerge",
    "nasm",
    "pandoc",
    "perl",
    "protoc",
    "python",
    "ragel",
    "rcc",
    "re2c",
    "rpcgen",
    "ruby",
    "swig",
    "tclsh",
    "uic",
    "wayland-scanner",
    "xgettext",
    "xmllint",
    "xsltproc",
    "yasm",
];

/// Where tools stand that a build may name by absolute path.
const USUAL_DIRS: [&str; 3] = ["/usr/local/bin", "/usr/bin", "/bin"];

/// The programs that a session captures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Selection {
    /// Whether those of the table are, and what the project itself has built.
    pub(crate) usual: bool,
    /// Whether all others are too.
    pub(crate) all: bool,
    /// Further names.
    pub(crate) more: Vec<String>,
}

impl Selection {
    /// Reads the setting: `auto`, `all`, `off`, or names, `auto` among them for the table and what the project has built.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let words: Vec<&str> =
            text.split([',', ' ']).map(str::trim).filter(|word| !word.is_empty()).collect();
        if words.is_empty() || words.iter().any(|word| word.contains('/')) {
            return None;
        }
        if words.contains(&"off") {
            return (words.len() == 1).then_some(Self { usual: false, all: false, more: Vec::new() });
        }
        let named = words.iter().filter(|word| !["auto", "all"].contains(*word));
        let all = words.contains(&"all");
        let more = named.map(|word| (*word).to_owned()).collect();
        Some(Self { usual: all || words.contains(&"auto"), all, more })
    }

    /// As [`Selection::parse`] reads it.
    pub(crate) fn text(&self) -> String {
        let mut words: Vec<&str> = Vec::new();
        if self.usual {
            words.push(if self.all { "all" } else { "auto" });
        }
        words.extend(self.more.iter().map(String::as_str));
        if words.is_empty() { "off".into() } else { words.join(",") }
    }

    fn names(&self, name: &str) -> bool {
        self.more.iter().any(|more| more == name)
            || self.usual && (PROGRAMS.contains(&name) || PROGRAMS.contains(&without_version(name)))
    }

    /// The real files of the selected programs in these directories and the usual ones. Scripts are left out: they reach
    /// us through their interpreter.
    pub(crate) fn files(&self, dirs: &[PathBuf]) -> BTreeSet<PathBuf> {
        let usual = USUAL_DIRS.iter().map(PathBuf::from);
        let dirs: BTreeSet<PathBuf> =
            dirs.iter().cloned().chain(usual).filter_map(|dir| fs::canonicalize(dir).ok()).collect();
        let entries = dirs.iter().filter_map(|dir| fs::read_dir(dir).ok()).flatten().flatten();
        let selected =
            entries.filter(|entry| entry.file_name().to_str().is_some_and(|name| self.names(name)));
        selected.filter_map(|entry| real_file(&entry)).filter(|file| is_program(file)).collect()
    }
}

impl Default for Selection {
    fn default() -> Self {
        Self { usual: true, all: false, more: Vec::new() }
    }
}

/// `python3.11` is `python`, `perl5.36.0` is `perl`.
fn without_version(name: &str) -> &str {
    name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '-')
}

fn is_program(file: &Path) -> bool {
    let Ok(meta) = fs::metadata(file) else { return false };
    // A program that runs as another user cannot be watched.
    let usable = meta.is_file() && meta.permissions().mode() & 0o111 != 0;
    let set_id = meta.permissions().mode() & 0o6000 != 0;
    let mut start = [0; 4];
    let read = File::open(file).and_then(|mut file| file.read_exact(&mut start));
    usable && !set_id && read.is_ok() && start == *b"\x7fELF"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_versions_are_looked_past() {
        assert!(PROGRAMS.is_sorted());
        let usual = Selection::default();
        for name in ["bison", "python3.11", "python3", "perl5.36.0", "perl"] {
            assert!(usual.names(name), "{name}");
        }
        for name in ["make", "sh", "sed", "perldoc", "python3-config"] {
            assert!(!usual.names(name), "{name}");
        }
    }

    #[test]
    fn the_setting_reads_back_what_it_shows() {
        for text in ["auto", "off", "all", "auto,xxd", "all,xxd", "xxd"] {
            assert_eq!(Selection::parse(text).unwrap().text(), text);
        }
        for text in ["", "off,xxd", "./gen"] {
            assert_eq!(Selection::parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_interpreters_of_this_machine_are_found_and_scripts_are_not() {
        let found = Selection::default().files(&["/usr/bin".into()]);
        assert!(found.contains(&fs::canonicalize("/usr/bin/perl").unwrap()));
        assert!(found.iter().all(|file| is_program(file)));
        assert!(Selection::parse("off").unwrap().files(&[]).is_empty());
    }
}
