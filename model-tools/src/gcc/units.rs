//! What one source file brings into a thunk.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::call::{Call, Source};
use super::source::Language;
use super::stop::Stop;
use super::{Gcc, fallback};
use crate::inputs::InputSet;
use crate::model::{FileView, Found, Invocation, Reason};
use crate::scan::{Compiler, Scan, ScanMiss, ScanRequest};
use crate::toolchain::Family;

/// What was found out about one source.
pub(super) struct Unit {
    /// What it includes; none if it is not preprocessed.
    pub(super) scan: Option<Arc<Scan>>,
    /// Only the compiler knows what its depfile says: it is not GCC, or it may list a precompiled header in place of files.
    pub(super) lists_for_itself: bool,
    /// The result depends on the clock.
    pub(super) uses_time: bool,
}

impl Unit {
    /// Whether a precompiled header may be taken.
    pub(super) fn takes_precompiled(&self) -> bool {
        self.scan.as_ref().is_some_and(|scan| scan.precompiled.is_some())
    }
}

/// What the units of one call share.
pub(super) struct Units<'a> {
    pub(super) gcc: &'a Gcc,
    pub(super) call: &'a Call,
    pub(super) invocation: &'a Invocation,
    pub(super) env: &'a BTreeMap<String, String>,
    pub(super) files: &'a dyn FileView,
    /// Changes with the compiler's files.
    pub(super) version: u64,
    pub(super) family: Family,
}

impl Units<'_> {
    /// Adds the source and all that it reads.
    ///
    /// # Errors
    /// [`Stop`] if the call must run here, or something must be made first.
    pub(super) fn add(&self, source: &Source, set: &mut InputSet<'_>) -> Result<Unit, Stop> {
        let dir = &self.invocation.dir;
        let full = dir.join(&source.path);
        match self.files.find(&full) {
            Found::File { .. } => {}
            Found::Placeholder(_) => return Err(Stop::Force(vec![full])),
            Found::Missing => return Err(Reason::MissingInput(source.path.clone()).into()),
            Found::Directory | Found::Other => {
                return Err(Reason::Other(format!("`{}` is no regular file", source.path)).into());
            }
        }
        let facts = self.gcc.texts.of(&full, self.files).map_err(|error| unreadable(&source.path, &error))?;
        let assembler = matches!(source.language, Language::Assembler | Language::AssemblerWithCpp);
        if facts.assembler_reads && (assembler || self.call.flags.iter().any(|flag| flag == "-save-temps")) {
            return Err(Reason::Other(format!("`{}` makes the assembler read files", source.path)).into());
        }
        set.add(dir, Path::new(&source.path))?;
        for marker in &facts.markers {
            if matches!(self.files.find(&dir.join(marker)), Found::File { .. }) {
                set.add(dir, Path::new(marker))?;
            }
        }
        let Some(language) = source.language.scanned_as() else {
            return Ok(Unit { scan: None, lists_for_itself: false, uses_time: false });
        };
        let scan = self.scan(&self.request(source, language))?;
        if scan.has_incbin {
            return Err(Reason::Other(format!("`{}` makes the assembler read files", source.path)).into());
        }
        add_scan(&scan, dir, set)?;
        self.add_precompiled(&scan, set)?;
        let uses_time = scan.uses_time;
        let lists_for_itself = self.family == Family::Clang || scan.precompiled.is_some();
        Ok(Unit { scan: Some(scan), lists_for_itself, uses_time })
    }

    /// Adds the precompiled headers that may stand for some of the files.
    fn add_precompiled(&self, scan: &Scan, set: &mut InputSet<'_>) -> Result<(), Stop> {
        let Some(found) = &scan.precompiled else { return Ok(()) };
        let dir = &self.invocation.dir;
        if scan.fails {
            return Err(
                Reason::Other("there is a precompiled header whose text cannot be used".into()).into()
            );
        }
        if found.probes {
            return Err(Reason::Other("`__has_include` in a precompiled header".into()).into());
        }
        for path in &found.paths {
            set.add(dir, path)?;
            for file in self.gcc.precompiled.at(path, scan, dir, self.files)? {
                set.add(dir, &file)?;
            }
        }
        Ok(())
    }

    fn scan(&self, request: &ScanRequest) -> Result<Arc<Scan>, Stop> {
        if self.family == Family::Clang {
            let named = self.invocation.args.first().map_or("clang", String::as_str);
            return fallback::ask(request, (self.env, named), self.files, (&self.gcc.texts, false))
                .map(Arc::new);
        }
        match self.gcc.scanner.scan(request, self.files) {
            Ok(scan) => Ok(scan),
            Err(ScanMiss::NeedReal(path)) => Err(Stop::Force(vec![path])),
            Err(ScanMiss::NotSure(_)) => {
                let classify = self.call.depfile.as_ref().is_some_and(|depfile| depfile.user_only);
                let named = request.compiler.program.to_str().ok_or(Reason::NotUtf8)?;
                fallback::ask(request, (self.env, named), self.files, (&self.gcc.texts, classify))
                    .map(Arc::new)
            }
        }
    }

    fn request(&self, source: &Source, language: crate::scan::Language) -> ScanRequest {
        let call = self.call;
        let variable = |name: &str| self.env.get(name).cloned();
        ScanRequest {
            compiler: Compiler {
                program: self.invocation.program.clone(),
                version: self.version,
                language,
                flags: in_force(&call.macro_flags),
            },
            source: source.path.clone(),
            dir: self.invocation.dir.clone(),
            macros: call.macros.clone(),
            forced: call.forced.clone(),
            dirs: call.dirs.clone(),
            sysroot: call.sysroot.clone(),
            cpath: variable("CPATH"),
            language_path: variable(match language {
                crate::scan::Language::Cxx => "CPLUS_INCLUDE_PATH",
                _ => "C_INCLUDE_PATH",
            }),
            missing_is_generated: call.missing_is_generated,
            looks_for_precompiled: self.family == Family::Clang || call.uses_precompiled(language),
        }
    }
}

/// The flags without those that later ones make void, so that the compiler is asked once for what comes to the same: a
/// `configure` script puts its own before the user's. The last `-O` counts, and the last of C's `-std`s (`set_std_c99` and its like
/// in GCC's `c-opts.cc` set all that they differ in; C++'s leave some of what a later one set); of a flag that is given twice the
/// last, as it undoes what undid the first.
fn in_force(flags: &[String]) -> Vec<String> {
    let kind = |flag: &str| match flag {
        _ if flag.starts_with("-O") => Some("-O"),
        _ if flag.starts_with("-std=") && !flag.contains("++") => Some("-std="),
        _ => None,
    };
    let mixed = flags.iter().any(|flag| flag.starts_with("-std=") && flag.contains("++"));
    let is_void = |(at, flag): (usize, &String)| {
        let repeatable = ["-O", "-f", "-g", "-m", "-std="].iter().any(|start| flag.starts_with(start));
        flags[at + 1..].iter().any(|later| {
            repeatable && later == flag
                || kind(flag)
                    .is_some_and(|kind_of| kind(later) == Some(kind_of) && !(mixed && kind_of == "-std="))
        })
    };
    let in_force = flags.iter().enumerate().filter(|(at, flag)| !is_void((*at, flag)));
    in_force.map(|(_, flag)| flag.clone()).collect()
}

fn add_scan(scan: &Scan, dir: &Path, set: &mut InputSet<'_>) -> Result<(), Reason> {
    for dep in scan.deps.iter().filter(|dep| !dep.generated) {
        set.add(dir, Path::new(&dep.path))?;
    }
    for path in &scan.probed {
        set.add(dir, path)?;
    }
    scan.dirs.iter().try_for_each(|path| set.add_dir(dir, path))
}

fn unreadable(path: &str, error: &io::Error) -> Reason {
    Reason::Other(format!("`{path}` cannot be read: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_later_flags_make_void_is_left_out() {
        let check = |given: &str, expected: &str| {
            let flags: Vec<String> = given.split_whitespace().map(str::to_owned).collect();
            assert_eq!(in_force(&flags).join(" "), expected, "{given}");
        };
        check("-std=gnu11 -g3 -O3 -std=gnu99 -g3 -O3 -pthread", "-std=gnu99 -g3 -O3 -pthread");
        check("-O3 -Ofast -O0", "-O0");
        check("-g3 -g", "-g3 -g");
        check("-funsigned-char -fno-unsigned-char -funsigned-char", "-fno-unsigned-char -funsigned-char");
        check("-std=c++20 -std=c++17 -std=c++17", "-std=c++20 -std=c++17");
        check("-std=c99 -std=c++17 -std=c89", "-std=c99 -std=c++17 -std=c89");
        check("--sysroot / -isysroot /", "--sysroot / -isysroot /");
    }
}
