//! The program that is built: modules of sources with a large header of their own, as generators make them, an archive for each
//! module, and programs of three modules each.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ggr_ir::Hash;

/// Archives in one program.
const LINKED: usize = 3;

/// Size of the header that all modules share, in KiB.
const COMMON: u32 = 64;

/// A generated program, and where its tree is.
pub(super) struct Project {
    pub(super) tree: PathBuf,
    files: BTreeMap<String, String>,
}

/// What a build leaves: each file's hash.
pub(super) type Left = BTreeMap<PathBuf, Hash>;

impl Project {
    pub(super) fn new(tree: PathBuf, units: u32, module: u32, header: u32) -> io::Result<Self> {
        let mut files = BTreeMap::new();
        files.insert("common.h".to_owned(), declarations("common", COMMON));
        let modules: Vec<_> = (0..units.div_ceil(module)).collect();
        for m in &modules {
            files.insert(format!("m{m}/api.h"), declarations(&format!("m{m}"), header));
        }
        for unit in 0..units {
            let m = unit / module;
            files.insert(format!("m{m}/u{unit}.c"), source(m, unit));
        }
        files.insert("main.c".to_owned(), "int main(void) { return 0; }\n".to_owned());
        files.insert("Makefile".to_owned(), makefile(&modules, units, module));
        let project = Self { tree, files };
        project.lay()?;
        Ok(project)
    }

    /// A fresh tree.
    pub(super) fn lay(&self) -> io::Result<()> {
        let _ = fs::remove_dir_all(&self.tree);
        for (name, text) in &self.files {
            let path = self.tree.join(name);
            fs::create_dir_all(path.parent().expect("it is below the tree"))?;
            fs::write(path, text)?;
        }
        Ok(())
    }

    /// What plain make leaves.
    pub(super) fn plain(&self) -> io::Result<Left> {
        let made = Command::new("make").arg("-j2").current_dir(&self.tree).stdout(Stdio::null()).status()?;
        if made.success() { left(&self.tree) } else { Err(io::Error::other("plain make fails")) }
    }

    /// Whether a build left the same.
    pub(super) fn check(&self, plain: &Left) -> io::Result<()> {
        let got = left(&self.tree)?;
        let differs = |path: &&PathBuf| got.get(*path) != plain.get(*path);
        match plain.keys().chain(got.keys()).find(differs) {
            Some(path) => {
                Err(io::Error::other(format!("`{}` is not what plain make leaves", path.display())))
            }
            None => Ok(()),
        }
    }
}

fn left(tree: &Path) -> io::Result<Left> {
    let mut all = Left::new();
    let mut dirs = vec![tree.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                let hash = Hash::of(&fs::read(&path)?);
                all.insert(path, hash);
            }
        }
    }
    Ok(all)
}

fn declarations(prefix: &str, kib: u32) -> String {
    let mut text = String::new();
    let mut n = 0;
    while text.len() < kib as usize * 1024 {
        let _ = writeln!(
            text,
            "struct {prefix}_s{n} {{ int kind; long fields[{}]; struct {prefix}_s{n} *next; }};\n\
             extern int {prefix}_f{n}(struct {prefix}_s{n} *it, int depth);",
            n % 17 + 1
        );
        n += 1;
    }
    text
}

fn source(module: u32, unit: u32) -> String {
    let mut text = "#include \"../common.h\"\n#include \"api.h\"\n".to_owned();
    for f in 0..12 {
        let _ = writeln!(
            text,
            "int u{unit}_{f}(struct m{module}_s{f} *it, int depth) {{ int sum = {unit}; \
             for (int i = 0; i < depth; i++) {{ sum += it->kind * {f}; if (it->next) it = it->next; }} return sum; }}"
        );
    }
    text
}

fn makefile(modules: &[u32], units: u32, module: u32) -> String {
    let programs: Vec<_> = (0..modules.len().div_ceil(LINKED)).map(|p| format!("prog{p}")).collect();
    let mut text = format!("CFLAGS = -O1 -g\nall: {}\n", programs.join(" "));
    // For what every service needs once: compiler, archiver and linker.
    text += "warm: main.o\n\t$(AR) rcs warm.a main.o\n\t$(CC) -o warm main.o\n";
    for (p, linked) in modules.chunks(LINKED).enumerate() {
        let archives: Vec<_> = linked.iter().map(|m| format!("m{m}/lib.a")).collect();
        let archives = archives.join(" ");
        let _ = writeln!(
            text,
            "prog{p}: main.o {archives}\n\t$(CC) -o $@ main.o -Wl,--whole-archive {archives} -Wl,--no-whole-archive"
        );
    }
    for m in modules {
        let own = (m * module)..((m + 1) * module).min(units);
        let objects: Vec<_> = own.map(|unit| format!("m{m}/u{unit}.o")).collect();
        let objects = objects.join(" ");
        let _ =
            writeln!(text, "m{m}/lib.a: {objects}\n\t$(AR) rcs $@ {objects}\n{objects}: m{m}/api.h common.h");
    }
    text
}
