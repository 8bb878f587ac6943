//! The environment of a compiler in a sandbox: a list of variables, each with what it brings along.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use std::sync::{Arc, Mutex};

use ggr_ir::{Entry, Object, RootPath};
use rustc_hash::FxHashMap;

use crate::inputs::InputSet;
use crate::model::{Directory, FileView, Found, Invocation, Reason};

/// What a variable means to GCC 12 or Clang 14, its assembler and its linker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Rule {
    /// Passed on as it is.
    Pass,
    /// Passed on to a call that links.
    PassToLink,
    /// The command runs here if it is set, as it changes which files are written or which programs are run.
    Local,
}

/// In byte order of the names. What is not listed is not passed on. `PATH`, `PWD` and `TZ` have rules of their own.
const RULES: [(&str, Rule); 36] = [
    ("CCC_OVERRIDE_OPTIONS", Rule::Local),
    ("CC_LOG_DIAGNOSTICS", Rule::Local),
    ("CC_PRINT_HEADERS", Rule::Local),
    ("CC_PRINT_OPTIONS", Rule::Local),
    ("COLLECT_GCC_OPTIONS", Rule::Local),
    ("COLLECT_NO_DEMANGLE", Rule::PassToLink),
    ("COLUMNS", Rule::Pass),
    ("COMPILER_PATH", Rule::Local),
    ("CPATH", Rule::Pass),
    ("CPLUS_INCLUDE_PATH", Rule::Pass),
    ("C_INCLUDE_PATH", Rule::Pass),
    ("DEPENDENCIES_OUTPUT", Rule::Local),
    ("GCC_COLORS", Rule::Pass),
    ("GCC_COMPARE_DEBUG", Rule::Local),
    ("GCC_EXEC_PREFIX", Rule::Local),
    ("GCC_EXTRA_DIAGNOSTIC_OUTPUT", Rule::Pass),
    ("GCC_ROOT", Rule::Local),
    ("GCC_URLS", Rule::Pass),
    ("GNUTARGET", Rule::PassToLink),
    ("LANG", Rule::Pass),
    ("LANGUAGE", Rule::Pass),
    ("LC_ALL", Rule::Pass),
    ("LC_COLLATE", Rule::Pass),
    ("LC_CTYPE", Rule::Pass),
    ("LC_MESSAGES", Rule::Pass),
    ("LDEMULATION", Rule::PassToLink),
    ("LD_LIBRARY_PATH", Rule::PassToLink),
    ("LD_RUN_PATH", Rule::PassToLink),
    ("LIBRARY_PATH", Rule::PassToLink),
    ("LPATH", Rule::Local),
    ("OBJC_INCLUDE_PATH", Rule::Pass),
    ("POSIXLY_CORRECT", Rule::Pass),
    ("QA_OVERRIDE_GCC3_OPTIONS", Rule::Local),
    ("SOURCE_DATE_EPOCH", Rule::Pass),
    ("SUNPRO_DEPENDENCIES", Rule::Local),
    ("TERM_URLS", Rule::Pass),
];

/// The programs that a driver looks for in `PATH`.
const PROGRAMS: [&str; 3] = ["as", "objcopy", "ld"];

/// What a call brings along besides its files.
pub(super) struct Environment {
    pub(super) env: BTreeMap<String, String>,
    /// The assembler that the driver finds in `PATH`.
    pub(super) assembler: Option<PathBuf>,
    /// The `objcopy` that it finds there, which splits debug information off.
    pub(super) objcopy: Option<PathBuf>,
    /// The driver, by the name that it is called by.
    pub(super) driver: PathBuf,
}

/// Gathers the environment, and the directories that it names.
///
/// # Errors
/// [`Reason::Other`] if a variable makes the call one to run here.
pub(super) fn gather(
    invocation: &Invocation,
    links: bool,
    (set, searches): (&mut InputSet<'_>, &Searches),
    files: &dyn FileView,
) -> Result<Environment, Reason> {
    let mut env = BTreeMap::new();
    for (name, rule) in RULES {
        let Some(value) = invocation.env.get(name) else { continue };
        match rule {
            Rule::Pass => {}
            Rule::PassToLink if links => {}
            Rule::PassToLink => continue,
            Rule::Local => return Err(Reason::Other(format!("the variable `{name}` is set"))),
        }
        env.insert(name.to_owned(), value.clone());
    }
    if let Some(named) = working_directory(invocation, set)? {
        env.insert("PWD".to_owned(), named);
    }
    let path = invocation.env.get("PATH").map_or("", String::as_str);
    let found = searches.of(invocation, path, files);
    env.insert("PATH".to_owned(), found.path.clone());
    Ok(Environment {
        env,
        assembler: found.assembler.clone(),
        objcopy: found.objcopy.clone(),
        driver: found.driver.clone(),
    })
}

/// What `PWD` says, if it names the working directory by another path than the kernel's: debug information then holds
/// that one (`getpwd` in libiberty).
fn working_directory(invocation: &Invocation, set: &mut InputSet<'_>) -> Result<Option<String>, Reason> {
    let Some(named) = invocation.env.get("PWD").map(Path::new) else { return Ok(None) };
    if !named.is_absolute() || named == invocation.dir {
        return Ok(None);
    }
    let mut same = named.components();
    if same.any(|part| matches!(part, std::path::Component::ParentDir)) {
        return Ok(None);
    }
    let Ok(real) = set.follow(Path::new("/"), named) else { return Ok(None) };
    Ok((real.as_path() == invocation.dir).then(|| named.display().to_string()))
}

/// What searches of `PATH` found, each valid while no entry of its directories was added, removed or renamed.
#[derive(Default)]
pub(super) struct Searches {
    known: Mutex<FxHashMap<(String, String, PathBuf), Known>>,
}

type Known = (Vec<Option<Directory>>, Arc<Search>);

impl Searches {
    /// Costs one look at each directory when the same was searched before.
    fn of(&self, invocation: &Invocation, path: &str, files: &dyn FileView) -> Arc<Search> {
        let dirs: Vec<_> = path.split(':').map(|part| files.directory(&invocation.dir.join(part))).collect();
        let settled = dirs.iter().flatten().all(|dir| dir.stamp.is_some());
        // The working directory matters only where `PATH` or the driver's name is relative.
        let relative = !path.split(':').all(|part| part.starts_with('/')) || named(invocation).contains('/');
        let dir = if relative { invocation.dir.clone() } else { PathBuf::new() };
        let key = (path.to_owned(), named(invocation).to_owned(), dir);
        if settled
            && let Some((old, found)) = self.known.lock().expect("no holder panics").get(&key)
            && *old == dirs
        {
            return found.clone();
        }
        let found = Arc::new(search(invocation, path, files));
        self.known.lock().expect("no holder panics").insert(key, (dirs, found.clone()));
        found
    }
}

fn named(invocation: &Invocation) -> &str {
    invocation.args.first().map_or("", String::as_str)
}

/// Makes sure that `LD_LIBRARY_PATH` does not replace a library of the compiler: a sandbox has those of the system.
///
/// # Errors
/// [`Reason::Other`] if it does.
pub(super) fn check_libraries(
    invocation: &Invocation,
    tools: &[(RootPath, Entry<Object>)],
    files: &dyn FileView,
) -> Result<(), Reason> {
    let Some(dirs) = invocation.env.get("LD_LIBRARY_PATH").filter(|dirs| !dirs.is_empty()) else {
        return Ok(());
    };
    for dir in dirs.split([':', ';']).map(|dir| invocation.dir.join(dir)) {
        let mut libraries =
            tools.iter().map(|(path, _)| path.file_name()).filter(|name| name.contains(".so"));
        if let Some(name) = libraries.find(|name| files.find(&dir.join(name)) != Found::Missing) {
            return Err(Reason::Other(format!("`LD_LIBRARY_PATH` gives the compiler another `{name}`")));
        }
    }
    Ok(())
}

struct Search {
    path: String,
    assembler: Option<PathBuf>,
    objcopy: Option<PathBuf>,
    driver: PathBuf,
}

/// Keeps of `PATH` the directories that hold the driver or a program that it starts: their order decides which is run,
/// and the rest would only make equal calls look different.
fn search(invocation: &Invocation, path: &str, files: &dyn FileView) -> Search {
    let named = named(invocation);
    let bare = !named.is_empty() && !named.contains('/');
    let holds = |dir: &Path, name: &str| {
        let candidate = dir.join(name);
        let found = matches!(files.find(&candidate), Found::File { executable: true, .. });
        found.then_some(candidate)
    };
    let (mut kept, mut assembler, mut objcopy, mut driver) = (Vec::new(), None, None, None);
    for part in path.split(':') {
        let dir = invocation.dir.join(part);
        let has_driver = if bare { holds(&dir, named) } else { None };
        let [has_as, has_objcopy, has_ld] = PROGRAMS.map(|name| holds(&dir, name));
        if [&has_driver, &has_as, &has_objcopy, &has_ld].into_iter().any(Option::is_some) {
            kept.push(part);
        }
        driver = driver.or(has_driver);
        assembler = assembler.or(has_as);
        objcopy = objcopy.or(has_objcopy);
    }
    let driver = match (driver, bare) {
        (Some(driver), _) => driver,
        (None, false) if !named.is_empty() => invocation.dir.join(named),
        _ => invocation.program.clone(),
    };
    Search { path: kept.join(":"), assembler, objcopy, driver }
}

/// Adds the files that the locale of the environment leads to, messages included.
pub(super) fn add_locale(env: &BTreeMap<String, String>, set: &mut InputSet<'_>, files: &dyn FileView) {
    for file in locale_files(env, files) {
        // What cannot be read is as good as absent: the programs fall back to the C locale then, here and there.
        let _ = set.add(Path::new("/"), &file);
    }
}

fn locale_files(env: &BTreeMap<String, String>, files: &dyn FileView) -> Vec<PathBuf> {
    const CATALOGUES: [&str; 8] = ["gcc-12", "cpplib-12", "gcc", "cpplib", "gas", "bfd", "ld", "libc"];
    let names = ["LC_ALL", "LC_CTYPE", "LC_MESSAGES", "LANG", "LANGUAGE"];
    let values = names.iter().filter_map(|name| env.get(*name)).flat_map(|value| value.split(':'));
    let mut paths = Vec::new();
    for name in values.filter(|name| !matches!(*name, "" | "C" | "POSIX")).flat_map(spellings) {
        let locale = Path::new("/usr/lib/locale").join(&name);
        paths.extend([locale.join("LC_CTYPE"), locale.join("LC_MESSAGES/SYS_LC_MESSAGES")]);
        let messages = Path::new("/usr/share/locale").join(&name).join("LC_MESSAGES");
        paths.extend(CATALOGUES.iter().map(|catalogue| messages.join(format!("{catalogue}.mo"))));
    }
    if paths.is_empty() {
        return paths;
    }
    for common in [
        "/usr/lib/locale/locale-archive",
        "/usr/share/locale/locale.alias",
        "/usr/lib/x86_64-linux-gnu/gconv/gconv-modules.cache",
        "/usr/lib/gconv/gconv-modules.cache",
    ] {
        paths.push(common.into());
    }
    paths.retain(|path| matches!(files.find(path), Found::File { .. }));
    paths.sort();
    paths.dedup();
    paths
}

/// The directories that the C library tries for a locale's name (`locale(7)`): with the charset as given and normalized,
/// without it, and the language alone.
fn spellings(name: &str) -> Vec<String> {
    let (base, charset) = name.split_once('.').unwrap_or((name, ""));
    let language = base.split('_').next().unwrap_or(base);
    let normal: String =
        charset.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase();
    let mut out = vec![name.to_owned(), base.to_owned(), language.to_owned()];
    for base in [base, language] {
        out.extend([format!("{base}.{charset}"), format!("{base}.{normal}")]);
    }
    out.retain(|name| !name.ends_with('.') && !name.contains('/'));
    out
}

/// The environment's key for [`add_locale`].
pub(super) fn locale_key(env: &BTreeMap<String, String>) -> Vec<String> {
    ["LC_ALL", "LC_CTYPE", "LC_MESSAGES", "LANG", "LANGUAGE"]
        .iter()
        .map(|name| env.get(*name).cloned().unwrap_or_default())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inputs::Trails;
    use crate::testing::DiskView;

    fn gathered(env: &[(&str, &str)]) -> Result<Environment, Reason> {
        let env = env.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let (program, dir) = (PathBuf::from("/usr/bin/gcc"), PathBuf::from("/usr/lib"));
        let invocation =
            Invocation { program, args: vec!["gcc".into()], env, dir, stderr_is_terminal: false };
        let (view, trails) = (DiskView::new(), Trails::new());
        gather(&invocation, false, (&mut InputSet::new(&view, &trails), &Searches::default()), &view)
    }

    #[test]
    fn the_rules_are_in_order() {
        assert!(RULES.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }

    #[test]
    fn only_what_is_listed_is_passed_on() {
        let path = "/nowhere:/usr/bin:/usr/lib";
        let found =
            gathered(&[("PATH", path), ("HOME", "/root"), ("LANG", "C"), ("LD_RUN_PATH", "/x")]).unwrap();
        let expected = [("LANG", "C"), ("PATH", "/usr/bin")];
        assert_eq!(found.env, expected.map(|(name, value)| (name.into(), value.into())).into());
        assert_eq!(found.driver, Path::new("/usr/bin/gcc"));
        assert_eq!(found.assembler.as_deref(), Some(Path::new("/usr/bin/as")));
    }

    #[test]
    fn a_path_to_the_directory_by_another_name_is_kept() {
        let kept = |pwd: &str| gathered(&[("PWD", pwd)]).unwrap().env.get("PWD").cloned();
        assert_eq!(kept("/lib"), Some("/lib".into()));
        assert_eq!(kept("/usr/lib"), None);
        assert_eq!(kept("/usr"), None);
        assert_eq!(kept("lib"), None);
    }

    #[test]
    fn a_library_of_the_compiler_may_not_be_replaced() {
        let temp = tempfile::tempdir().unwrap();
        let object = Object::Blob(ggr_ir::BlobId::of(b""));
        let library =
            (RootPath::new("/lib/libz.so.1").unwrap(), Entry { object, mode: ggr_ir::Mode::Regular });
        let env = [("LD_LIBRARY_PATH".to_owned(), format!("/nowhere:{}", temp.path().display()))].into();
        let (program, dir) = (PathBuf::from("/usr/bin/gcc"), PathBuf::from("/"));
        let invocation = Invocation { program, args: Vec::new(), env, dir, stderr_is_terminal: false };
        let check = || check_libraries(&invocation, std::slice::from_ref(&library), &DiskView::new());
        assert_eq!(check(), Ok(()));
        std::fs::write(temp.path().join("libz.so.1"), "").unwrap();
        assert!(check().is_err());
    }

    #[test]
    fn a_variable_that_writes_files_makes_it_run_here() {
        assert!(gathered(&[("DEPENDENCIES_OUTPUT", "x.d")]).is_err());
    }
}
