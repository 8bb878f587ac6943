//! The models of a session, and the files of this machine that they stand for.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::binutils::ar::Archiver;
use crate::binutils::assembler::Assembler;
use crate::binutils::ld::Ld;
use crate::binutils::objcopy::Objcopy;
use crate::binutils::strip::Strip;
use crate::binutils::{Binutils, Watched};
use crate::gcc::{Gcc, Texts};
use crate::link::Linkers;
use crate::model::Model;
use crate::scan::{AskCompiler, Scanner};
use crate::toolchain::{Records, Tools};
use crate::user::UserTool;

/// The version of the memo, its first byte.
const VERSION: u8 = 1;

/// The longest memo that is read, in bytes.
const MAX_MEMO: u64 = 64 << 20;

/// Where tools stand whatever `PATH` says: builds call them by absolute path, or with an empty environment.
const USUAL_DIRS: &[&str] = &["/usr/local/bin", "/usr/bin", "/bin"];

/// The names that are looked for behind a triplet.
const BEHIND_TRIPLET: &[&str] = &[
    "ar",
    "as",
    "c++",
    "cc",
    "clang",
    "clang++",
    "cpp",
    "g++",
    "gcc",
    "gcc-ar",
    "gcc-nm",
    "gcc-ranlib",
    "gold",
    "ld",
    "ld.bfd",
    "ld.gold",
    "ld.lld",
    "nm",
    "objcopy",
    "objdump",
    "ranlib",
    "readelf",
    "size",
    "strip",
];

/// All models of a session, with what they remember.
pub struct Models {
    tools: Arc<Tools>,
    linkers: Arc<Linkers>,
    scanner: Arc<Scanner>,
    texts: Arc<Texts>,
    models: Vec<Box<dyn Model>>,
    /// The names of the user's tools, which may be scripts.
    users: BTreeSet<String>,
}

impl Models {
    /// The models that ggr brings along, starting from what [`Models::save`] left in this file. A memo that is missing,
    /// damaged or of another version means that tools are asked anew.
    pub fn standard(memo: &Path) -> Self {
        Self::with_compilers(memo, |gcc| gcc)
    }

    /// As [`Models::standard`], with compiler calls cut into stages where the result is known to be the same.
    pub fn staged(memo: &Path) -> Self {
        Self::with_compilers(memo, Gcc::with_stages)
    }

    fn with_compilers(memo: &Path, adjust: impl FnOnce(Gcc) -> Gcc) -> Self {
        let scanner = Arc::new(Scanner::load(Box::new(AskCompiler::default()), &scans(memo)));
        let memo = read_memo(memo).unwrap_or_default();
        let part = |name: &str| memo.get(name).map_or(&[][..], Vec::as_slice);
        let tools = Arc::new(Tools::new(Records::from_bytes(part("tools")).unwrap_or_default()));
        let linkers = Arc::new(Linkers::new(part("links"), part("linked")));
        let texts = Arc::new(Texts::new(part("texts")));
        let binutils = Arc::new(Binutils::new(tools.clone(), linkers.clone()));
        let models: Vec<Box<dyn Model>> = vec![
            Box::new(Watched::new(
                adjust(Gcc::new(tools.clone(), linkers.clone(), scanner.clone()).with_texts(texts.clone())),
                binutils.clone(),
            )),
            Box::new(Archiver::new(binutils.clone())),
            Box::new(Ld::new(binutils.clone())),
            Box::new(Assembler::new(binutils.clone())),
            Box::new(Strip::new(binutils.clone())),
            Box::new(Objcopy::new(binutils)),
        ];
        Self { tools, linkers, scanner, texts, models, users: BTreeSet::new() }
    }

    /// Adds the user's tools, which come before ggr's own; of two with the same name the first counts.
    pub fn with_tools(mut self, tools: impl IntoIterator<Item = UserTool>) -> Self {
        let mut models: Vec<Box<dyn Model>> = Vec::new();
        for tool in tools {
            self.users.insert(tool.name().to_owned());
            models.push(Box::new(tool.model(self.tools.clone())));
        }
        models.append(&mut self.models);
        self.models = models;
        self
    }

    /// Writes what the next session should start from, the include scanner's share in a file of its own with the suffix
    /// `.scans`: a file beside it, then a rename.
    ///
    /// # Errors
    /// As the file system says.
    pub fn save(&self, memo: &Path) -> io::Result<()> {
        let parts = BTreeMap::from([
            ("linked", self.linkers.knowledge().records()),
            ("links", self.linkers.records()),
            ("texts", self.texts.records()),
            ("tools", self.tools.records().to_bytes()),
        ]);
        let bytes = postcard::to_extend(&parts, vec![VERSION]).map_err(io::Error::other)?;
        self.scanner.save(&scans(memo))?;
        let beside = memo.with_extension(format!("{}.new", std::process::id()));
        fs::write(&beside, bytes).and_then(|()| fs::rename(&beside, memo)).inspect_err(|_| {
            let _ = fs::remove_file(&beside);
        })
    }

    /// The model for the tool in this file (symlinks resolved), called by this name; none if it runs here.
    pub fn model_for(&self, program: &Path, argv0: &str) -> Option<&dyn Model> {
        let (own, called) = (tool_name(program), tool_name(Path::new(argv0)));
        let by = |name: &str| self.models.iter().find(|model| model.handles(name)).map(|model| &**model);
        let file_name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
        // A user's tool may be called by another name than its file's, and may have a version in its name.
        let names = [file_name(program), file_name(Path::new(argv0))];
        let users = names.iter().flatten().map(String::as_str).chain([&*own, &*called]);
        users.filter(|name| self.users.contains(*name)).find_map(by).or_else(|| by(&own))
    }

    /// The real files of the tools in these directories and in the usual ones: each once, symlinks resolved.
    ///
    /// A symlink whose target is no tool (`/usr/lib/ccache/gcc`) and a script count only among the user's tools.
    pub fn tool_files(&self, dirs: &[PathBuf]) -> Vec<PathBuf> {
        let usual = USUAL_DIRS.iter().map(PathBuf::from);
        let dirs: BTreeSet<PathBuf> =
            dirs.iter().cloned().chain(usual).filter_map(|dir| fs::canonicalize(dir).ok()).collect();
        let entries = dirs.iter().filter_map(|dir| fs::read_dir(dir).ok()).flatten().flatten();
        let mut files = BTreeSet::new();
        for entry in entries {
            let name = entry.file_name();
            if let Some(name) = name.to_str().filter(|name| self.is_tool(name))
                && let Some(real) = real_file(&entry)
                && self.stands(&real, name)
            {
                files.insert(real);
            }
        }
        files.into_iter().collect()
    }

    fn is_tool(&self, name: &str) -> bool {
        self.is_users(name) || self.models.iter().any(|model| model.handles(normal(name)))
    }

    fn is_users(&self, name: &str) -> bool {
        self.users.contains(name) || self.users.contains(normal(name))
    }

    /// Whether a file can be stood in for: a program, and one that is a tool by its own name.
    fn stands(&self, real: &Path, called: &str) -> bool {
        let Ok(meta) = fs::metadata(real) else { return false };
        let executable = meta.is_file() && meta.permissions().mode() & 0o111 != 0;
        let own = real.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        executable && (self.is_users(called) || (self.is_tool(own) && !is_script(real)))
    }
}

/// The file that an entry of a directory leads to, whose own path has no symlink. (Most are files themselves, and the entry
/// says so: `canonicalize` looks at each part of each path, 600 system calls on a usual `PATH`.)
pub fn real_file(entry: &fs::DirEntry) -> Option<PathBuf> {
    let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
    if is_file { Some(entry.path()) } else { fs::canonicalize(entry.path()).ok() }
}

fn is_script(file: &Path) -> bool {
    let mut start = [0; 2];
    let read = fs::File::open(file).and_then(|mut file| file.read_exact(&mut start));
    read.is_err() || start == *b"#!"
}

/// Where the include scanner keeps what it knows.
fn scans(memo: &Path) -> PathBuf {
    memo.with_extension("scans")
}

fn read_memo(memo: &Path) -> Option<BTreeMap<String, Vec<u8>>> {
    let mut bytes = Vec::new();
    fs::File::open(memo).ok()?.take(MAX_MEMO).read_to_end(&mut bytes).ok()?;
    match bytes.split_first()? {
        (&VERSION, rest) => postcard::from_bytes(rest).ok(),
        _ => None,
    }
}

/// What a tool's file is called when triplet and version are taken off: `gcc` for `/usr/bin/x86_64-linux-gnu-gcc-12`.
pub fn tool_name(program: &Path) -> Cow<'_, str> {
    match program.file_name().map(|name| name.to_string_lossy()).unwrap_or_default() {
        Cow::Borrowed(name) => Cow::Borrowed(normal(name)),
        Cow::Owned(name) => Cow::Owned(normal(&name).to_owned()),
    }
}

fn normal(name: &str) -> &str {
    let name = without_version(name);
    let behind = BEHIND_TRIPLET.iter().filter(|tool| name.len() > tool.len() && name.ends_with(**tool));
    let Some(tool) = behind.max_by_key(|tool| tool.len()) else { return name };
    let (triplet, tool) = name.split_at(name.len() - tool.len());
    // The processor, perhaps the vendor, the system, perhaps the ABI; and the dash.
    let parts = triplet.strip_suffix('-').map_or(0, |triplet| triplet.split('-').count());
    if (2..=4).contains(&parts) { tool } else { name }
}

/// Takes off what follows the last dash if it is a version: `gcc-12`, `g++-13.2.0`.
fn without_version(name: &str) -> &str {
    let version = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_digit()) && text.chars().all(|c| c.is_ascii_digit() || c == '.')
    };
    match name.rsplit_once('-') {
        Some((start, end)) if !start.is_empty() && version(end) => start,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn standard() -> Models {
        Models::standard(Path::new("/nowhere/memo"))
    }

    #[test]
    fn triplets_and_versions_are_taken_off() {
        let check = |name: &str, expected: &str| {
            assert_eq!(tool_name(Path::new(&format!("/usr/bin/{name}"))), expected, "{name}");
        };
        check("gcc", "gcc");
        check("gcc-12", "gcc");
        check("x86_64-linux-gnu-gcc-12", "gcc");
        check("x86_64-pc-linux-gnu-gcc-ar-13.2.0", "gcc-ar");
        check("x86_64-linux-gnu-ld.bfd", "ld.bfd");
        check("arm-none-eabi-objcopy", "objcopy");
        check("x86_64-linux-gnu-g++-12", "g++");
        check("clang++-14", "clang++");
        check("gcc-ranlib", "gcc-ranlib");
        check("my-gcc", "my-gcc");
        check("llvm-ar-14", "llvm-ar");
        check("protoc", "protoc");
        check("-12", "-12");
    }

    #[test]
    fn each_tool_has_its_model() {
        let models = standard();
        let check = |program: &str, expected: Option<&str>| {
            let found = models.model_for(Path::new(program), "x").map(Model::name);
            assert_eq!(found, expected, "{program}");
        };
        check("/usr/bin/x86_64-linux-gnu-gcc-12", Some("gcc"));
        check("/usr/bin/x86_64-linux-gnu-g++-12", Some("gcc"));
        check("/usr/bin/x86_64-linux-gnu-cpp-12", Some("gcc"));
        check("/usr/bin/x86_64-linux-gnu-ar", Some("ar"));
        check("/usr/bin/x86_64-linux-gnu-gcc-ar-12", Some("ar"));
        check("/usr/bin/x86_64-linux-gnu-ranlib", Some("ar"));
        check("/usr/bin/x86_64-linux-gnu-ld.bfd", Some("ld"));
        check("/usr/bin/x86_64-linux-gnu-as", Some("as"));
        check("/usr/bin/x86_64-linux-gnu-strip", Some("strip"));
        check("/usr/bin/x86_64-linux-gnu-objcopy", Some("objcopy"));
        check("/usr/bin/x86_64-linux-gnu-nm", None);
        check("/bin/true", None);
    }

    #[test]
    fn the_files_of_tools_are_found_once_and_resolved() {
        let found = standard().tool_files(&["/bin".into(), "/usr/bin".into()]);
        for tool in [
            "gcc", "g++", "cc", "c++", "cpp", "ar", "as", "ld", "ld.gold", "ranlib", "strip", "objcopy",
            "gcc-ar",
        ] {
            let real = fs::canonicalize(Path::new("/usr/bin").join(tool)).unwrap();
            assert_eq!(found.iter().filter(|file| **file == real).count(), 1, "{tool}");
        }
        assert!(!found.iter().any(|file| file.ends_with("c99-gcc") || file.ends_with("x86_64-linux-gnu-nm")));
    }

    #[test]
    fn wrappers_and_scripts_are_left_alone() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().canonicalize().unwrap();
        let program = |name: &str, text: &[u8]| {
            fs::write(dir.join(name), text).unwrap();
            fs::set_permissions(dir.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        };
        program("ccache", b"\x7fELF");
        symlink("ccache", dir.join("gcc")).unwrap();
        program("strip", b"#!/bin/sh\n");
        program("ar", b"\x7fELF");
        program("gen", b"#!/bin/sh\n");
        let tools = UserTool::read_all(&dir.join("ggr.toml"), "[[tool]]\nname = \"gen\"\n").unwrap();
        let found = standard().with_tools(tools).tool_files(std::slice::from_ref(&dir));
        let own: Vec<_> = found.iter().filter_map(|file| file.strip_prefix(&dir).ok()).collect();
        assert_eq!(own, [Path::new("ar"), Path::new("gen")]);
    }

    #[test]
    fn a_memo_is_read_back_and_a_damaged_one_ignored() {
        let temp = tempfile::tempdir().unwrap();
        let memo = temp.path().join("models");
        let models = standard();
        models.save(&memo).unwrap();
        assert!(read_memo(&memo).is_some_and(|parts| parts.contains_key("tools")));
        fs::write(&memo, [VERSION + 1, 0]).unwrap();
        assert!(read_memo(&memo).is_none());
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 2);
    }
}
