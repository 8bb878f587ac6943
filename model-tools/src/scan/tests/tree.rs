//! A tree of sources that gcc and the scanner look at.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use crate::scan::*;
use crate::testing::DiskView;

pub(super) const GCC: &str = "/usr/bin/gcc";
pub(super) const GXX: &str = "/usr/bin/g++";

/// A directory of sources, and a scanner.
pub(super) struct Tree {
    pub(super) dir: tempfile::TempDir,
    pub(super) scanner: Scanner,
    pub(super) files: DiskView,
}

pub(super) fn scanner() -> Scanner {
    Scanner::new(Box::new(AskCompiler::default()))
}

/// Says so, and how the caller goes on, where there is no compiler to compare with.
pub(super) fn has_compiler() -> bool {
    let found = Path::new(GCC).exists() && Path::new(GXX).exists();
    if !found {
        eprintln!("SKIPPED: no gcc and g++ here");
    }
    found
}

impl Tree {
    pub(super) fn new(files: &[(&str, &str)]) -> Tree {
        let tree = Tree {
            dir: tempfile::tempdir().expect("a directory"),
            scanner: scanner(),
            files: DiskView::new(),
        };
        files.iter().for_each(|(name, text)| tree.write(name, text));
        tree
    }

    pub(super) fn path(&self) -> std::path::PathBuf {
        self.dir.path().canonicalize().expect("it exists")
    }

    pub(super) fn write(&self, name: &str, text: &str) {
        let path = self.dir.path().join(name);
        fs::create_dir_all(path.parent().expect("a file has a parent")).expect("directories can be made");
        fs::write(path, text).expect("a file can be written");
    }

    pub(super) fn request(&self, program: &str, source: &str, flags: &[&str]) -> ScanRequest {
        let language = match source.rsplit('.').next() {
            Some("cc") => Language::Cxx,
            Some("S") => Language::Assembler,
            _ => Language::C,
        };
        let mut request = ScanRequest {
            compiler: Compiler { program: program.into(), version: 1, language, flags: Vec::new() },
            source: source.into(),
            dir: self.path(),
            macros: Vec::new(),
            forced: Vec::new(),
            dirs: Vec::new(),
            sysroot: None,
            cpath: None,
            language_path: None,
            missing_is_generated: false,
            looks_for_precompiled: true,
        };
        for flag in flags {
            let (name, value) = flag.split_once(' ').unwrap_or((flag, ""));
            let value = value.to_owned();
            match name {
                "-I" => request.dirs.push(DirFlag::Add(DirClass::Bracket, value)),
                "-iquote" => request.dirs.push(DirFlag::Add(DirClass::Quote, value)),
                "-isystem" => request.dirs.push(DirFlag::Add(DirClass::System, value)),
                "-idirafter" => request.dirs.push(DirFlag::Add(DirClass::After, value)),
                "-I-" => request.dirs.push(DirFlag::Split),
                "-D" => request.macros.push(MacroFlag::Define(value)),
                "-U" => request.macros.push(MacroFlag::Undefine(value)),
                "-include" => request.forced.push(Forced::Include(value)),
                "-imacros" => request.forced.push(Forced::Macros(value)),
                _ => request.compiler.flags.push((*flag).to_owned()),
            }
        }
        request
    }

    /// What `gcc -M` prints, with more flags.
    pub(super) fn real(&self, request: &ScanRequest, flags: &[&str], more: &[&str]) -> Vec<u8> {
        let mut command = Command::new(&request.compiler.program);
        for flag in flags {
            command.args(flag.splitn(2, ' '));
        }
        command.args(["-M"]).args(more).arg(&request.source).current_dir(self.path()).env("LC_ALL", "C");
        let output = command.output().expect("the compiler runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    /// The scanner's answer equals the compiler's, both when it is worked out and when it is remembered.
    pub(super) fn check(&self, source: &str, flags: &[&str]) {
        let program = if source.ends_with(".cc") { GXX } else { GCC };
        let request = self.request(program, source, flags);
        let real = String::from_utf8(self.real(&request, flags, &[])).expect("paths are UTF-8 here");
        for _ in 0..2 {
            let scan = self.scanner.scan(&request, &self.files).expect("the scanner is sure");
            let ours = depfile(&scan, &[default_target(source)], &DepfileOptions::default());
            assert_eq!(String::from_utf8(ours).expect("paths are UTF-8 here"), real, "{source} {flags:?}");
        }
    }

    pub(super) fn scan(&self, source: &str) -> Result<Arc<Scan>, ScanMiss> {
        self.scanner.scan(&self.request(GCC, source, &[]), &self.files)
    }
}
