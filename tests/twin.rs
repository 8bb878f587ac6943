//! One small build, done twice at the same absolute path: plainly and under `ggr`. Everything must be equal.
//!
//! The directory is laid anew for each of the two, its files with times in the past, so that what a step touches is newer.
//! Compared are every step's exit code, standard output and standard error, and in the end every file, symlink and
//! directory: name, mode and bytes. Times are not.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, lchown};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

/// The program under test: `$GGR`, so that a stand-in can prove these tests themselves, or the one just built.
pub(crate) fn ggr() -> PathBuf {
    std::env::var_os("GGR").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_ggr")), PathBuf::from)
}

/// What a placeholder starts with; none may be left when `ggr` has ended.
const PLACEHOLDER: &[u8] = b"#!ggr-placeholder";

/// Whom everything is given to when root runs these tests, as `forbid.py` does.
pub(crate) const NOBODY: u32 = 65534;

/// How the line ends about a file that plain make does not leave.
const EXTRA: &str = ": should not be there";

/// How old the files of a fresh directory are: older than anything that a step writes.
const AGE: Duration = Duration::from_secs(60);

#[derive(PartialEq)]
enum Compared {
    All,
    Failure,
}

enum Step {
    Build(Vec<String>),
    Plain(String),
}

/// What is built, and how.
#[derive(Default)]
pub(crate) struct Twin {
    files: Vec<(String, String)>,
    steps: Vec<Step>,
    environment: Vec<(String, String)>,
}

impl Twin {
    /// An empty directory and nothing to do.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds a file; `#!` makes it executable.
    pub(crate) fn file(mut self, path: &str, text: &str) -> Self {
        self.files.push((path.into(), text.into()));
        self
    }

    /// Adds a variable to the environment of every step.
    pub(crate) fn variable(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Adds a command, split at blanks, that is run behind `ggr` the second time.
    pub(crate) fn build(mut self, command: &str) -> Self {
        self.steps.push(Step::Build(command.split_whitespace().map(Into::into).collect()));
        self
    }

    /// Adds a shell script that is run without `ggr` both times.
    pub(crate) fn plain(mut self, script: &str) -> Self {
        self.steps.push(Step::Plain(script.into()));
        self
    }

    /// Does it twice and compares.
    ///
    /// # Panics
    ///
    /// If anything differs, with the first few differences.
    pub(crate) fn same(&self) -> Outcome {
        self.check(Compared::All)
    }

    /// As [`Twin::same`], for a build that fails. When a compile fails that make was told had passed, make has gone on for a
    /// while, and the build command is run again: there may be more files than plain make leaves, and standard output may
    /// say twice what is done. All else is the same.
    pub(crate) fn same_failure(&self) -> Outcome {
        self.check(Compared::Failure)
    }

    fn check(&self, compared: Compared) -> Outcome {
        let field = Field::new();
        let plain = self.outcome(&field, &[]);
        field.clear();
        let other = self.outcome(&field, &[ggr().as_os_str()]);
        let mut faults = self.faults(&plain, &other);
        let allowed = |fault: &str| fault.contains(": stdout is\n") || fault.ends_with(EXTRA);
        faults.retain(|fault| compared == Compared::All || !allowed(fault));
        assert!(faults.is_empty(), "ggr differs from plain:\n{}", faults.join("\n"));
        other
    }

    fn outcome(&self, field: &Field, prefix: &[&OsStr]) -> Outcome {
        field.lay(&self.files);
        let steps = self.steps.iter().map(|step| self.run(field, step, prefix)).collect();
        Outcome { steps, tree: snapshot(&field.tree()) }
    }

    fn faults(&self, plain: &Outcome, other: &Outcome) -> Vec<String> {
        let mut faults = Vec::new();
        for (number, (one, two)) in plain.steps.iter().zip(&other.steps).enumerate() {
            if one.status != two.status {
                faults.push(format!("step {number}: {} instead of {}", status(two), status(one)));
            }
            let streams = [("stdout", &one.stdout, &two.stdout), ("stderr", &one.stderr, &two.stderr)];
            for (name, one, two) in streams {
                let (one, two) = (self.comparable(number, one), self.comparable(number, two));
                if one != two {
                    faults.push(format!("step {number}: {name} is\n{two}\ninstead of\n{one}"));
                }
            }
        }
        faults.extend(differences(&plain.tree, &other.tree));
        faults
    }

    /// What a step printed, in sorted lines if parallel jobs decide their order.
    fn comparable(&self, number: usize, bytes: &[u8]) -> String {
        let text = without_ggr(bytes);
        match &self.steps[number] {
            Step::Build(words) if words.iter().any(|word| word.starts_with("-j")) => {
                let mut lines: Vec<_> = text.lines().collect();
                lines.sort_unstable();
                lines.join("\n")
            }
            _ => text,
        }
    }

    fn run(&self, field: &Field, step: &Step, prefix: &[&OsStr]) -> Output {
        let mut words: Vec<&OsStr> = Vec::new();
        match step {
            Step::Build(command) => {
                words.extend(prefix);
                words.extend(command.iter().map(OsStr::new));
            }
            Step::Plain(script) => words.extend(["sh", "-c", script].map(OsStr::new)),
        }
        let mut command = field.command(words[0]);
        command.args(&words[1..]).envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.output().expect("the step's program can be run")
    }
}

/// A temporary directory with a tree to build in and a home beside it.
pub(crate) struct Field {
    temp: TempDir,
}

impl Field {
    /// An empty field.
    pub(crate) fn new() -> Self {
        Self::below(&std::env::temp_dir())
    }

    /// An empty field that is not in `/tmp`, where files that no model names are not looked for.
    pub(crate) fn outside_of_tmp() -> Self {
        Self::below(Path::new(env!("CARGO_TARGET_TMPDIR")))
    }

    fn below(dir: &Path) -> Self {
        let temp =
            tempfile::Builder::new().prefix("ggr-test-").tempdir_in(dir).expect("a temporary directory");
        let field = Self { temp };
        field.clear();
        field
    }

    /// Where the build is done.
    pub(crate) fn tree(&self) -> PathBuf {
        self.temp.path().join("tree")
    }

    /// A path beside the tree, for what is no part of it.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    /// Empties the tree and the home.
    pub(crate) fn clear(&self) {
        for name in ["tree", "home"] {
            let path = self.temp.path().join(name);
            let _ = fs::remove_dir_all(&path);
            fs::create_dir(&path).expect("the old one was removed");
        }
    }

    /// Writes files into the tree, with times in the past; those that start with `#!` are executable.
    pub(crate) fn lay(&self, files: &[(String, String)]) {
        let then = SystemTime::now() - AGE;
        for (path, text) in files {
            let path = self.tree().join(path);
            fs::create_dir_all(path.parent().expect("it is below the tree"))
                .expect("directories can be made");
            let mut file = File::create(&path).expect("the file can be made");
            file.write_all(text.as_bytes()).expect("the file can be written");
            let mode = if text.starts_with("#!") { 0o755 } else { 0o644 };
            file.set_permissions(fs::Permissions::from_mode(mode)).expect("its mode can be set");
            file.set_modified(then).expect("its time can be set");
        }
    }

    /// A command in the tree with a cleared environment.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.tree())
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.temp.path().join("home"))
            .env("LC_ALL", "C")
            .stdin(Stdio::null());
        command
    }

    /// A command behind `ggr`.
    pub(crate) fn ggr(&self, words: &str) -> Command {
        let mut command = self.command(ggr());
        command.args(words.split_whitespace());
        command
    }

    /// A command behind `ggr` as an ordinary user: root gives everything away for it, others are that user already.
    pub(crate) fn as_user(&self, words: &str) -> Command {
        if !rustix::process::geteuid().is_root() {
            return self.ggr(words);
        }
        let program = self.give_away(NOBODY, &ggr());
        let mut command = self.command("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program);
        command.args(words.split_whitespace());
        command
    }

    /// Makes another user the owner of everything; a copy of `program` that this user can run.
    pub(crate) fn give_away(&self, user: u32, program: &Path) -> PathBuf {
        let copy = self.temp.path().join("program");
        // What a session before this one left running may still execute it.
        let _ = fs::remove_file(&copy);
        fs::copy(program, &copy).expect("the program can be copied");
        for entry in walkdir::WalkDir::new(self.temp.path()) {
            let path = entry.expect("the field stands still").into_path();
            lchown(path, Some(user), Some(user)).expect("root may do so");
        }
        copy
    }
}

/// What the steps did.
pub(crate) struct Outcome {
    /// Each step's exit status and output.
    pub(crate) steps: Vec<Output>,
    /// What was there in the end.
    pub(crate) tree: Tree,
}

/// Every entry below a directory, by relative path, as kind, mode and bytes.
pub(crate) type Tree = BTreeMap<PathBuf, Entry>;

/// One entry of a tree.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Entry {
    /// A directory and its mode.
    Directory(u32),
    /// A file, its mode and bytes.
    File(u32, Vec<u8>),
    /// A symbolic link and its target.
    Symlink(PathBuf),
}

impl Outcome {
    /// The text that a step wrote to standard output.
    pub(crate) fn stdout(&self, step: usize) -> String {
        String::from_utf8_lossy(&self.steps[step].stdout).into_owned()
    }
}

fn status(output: &Output) -> String {
    match output.status.code() {
        Some(code) => format!("exit code {code}"),
        None => format!("signal {}", output.status.signal().unwrap_or_default()),
    }
}

/// Output without the lines in which `ggr` speaks of itself.
pub(crate) fn without_ggr(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).split_inclusive('\n').filter(|line| !line.starts_with("ggr:")).collect()
}

/// What is in a tree, without `ggr`'s own repository.
pub(crate) fn snapshot(root: &Path) -> Tree {
    let walk = walkdir::WalkDir::new(root).min_depth(1).into_iter();
    let walk = walk.filter_entry(|entry| entry.depth() != 1 || entry.file_name() != ".ggr");
    let entries = walk.map(|entry| entry.expect("the tree stands still")).map(|entry| {
        let status = entry.metadata().expect("the entry is there");
        let mode = status.permissions().mode() & 0o7777;
        let path = entry.path().strip_prefix(root).expect("the walk stays below its root").to_owned();
        let found = match status.file_type() {
            kind if kind.is_dir() => Entry::Directory(mode),
            kind if kind.is_symlink() => {
                Entry::Symlink(fs::read_link(entry.path()).expect("it is a symlink"))
            }
            _ => Entry::File(mode, fs::read(entry.path()).expect("the file can be read")),
        };
        (path, found)
    });
    entries.collect()
}

/// How the second tree differs from the first, a line each.
pub(crate) fn differences(expected: &Tree, got: &Tree) -> Vec<String> {
    let names = expected.keys().chain(got.keys().filter(|name| !expected.contains_key(*name)));
    names.filter_map(|name| difference(name, expected.get(name), got.get(name))).collect()
}

fn difference(name: &Path, expected: Option<&Entry>, got: Option<&Entry>) -> Option<String> {
    let name = name.display();
    match (expected, got) {
        (one, two) if one == two => None,
        (_, None) => Some(format!("{name}: missing")),
        (None, Some(_)) => Some(format!("{name}{EXTRA}")),
        (_, Some(Entry::File(_, bytes))) if bytes.starts_with(PLACEHOLDER) => {
            Some(format!("{name}: is still a placeholder"))
        }
        (Some(Entry::File(one, a)), Some(Entry::File(two, b))) => {
            let at = a.iter().zip(b).position(|(a, b)| a != b).unwrap_or(a.len().min(b.len()));
            let sizes = format!("{} bytes instead of {}, first difference at {at}", b.len(), a.len());
            Some(format!(
                "{name}: mode {two:o} for {one:o}, {}",
                if a == b { "same bytes".into() } else { sizes }
            ))
        }
        _ => Some(format!("{name}: is of another kind")),
    }
}

/// The files of a tree that are still placeholders.
pub(crate) fn placeholders(tree: &Tree) -> Vec<&Path> {
    let left = tree
        .iter()
        .filter(|(_, entry)| matches!(entry, Entry::File(_, bytes) if bytes.starts_with(PLACEHOLDER)));
    left.map(|(name, _)| name.as_path()).collect()
}

/// Says that a test cannot run on this machine; `tests/run` counts these lines.
pub(crate) fn skipped(name: &str, why: &str) {
    // Not `eprintln!`: the test harness would keep that to itself.
    let _ = writeln!(std::io::stderr(), "SKIPPED {name}: {why}");
}
