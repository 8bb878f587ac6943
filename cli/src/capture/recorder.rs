//! The record of a run while it grows: what the program asked and was answered, what it is about to change, what it prints.
//!
//! Each watched call is taken down *before* the kernel carries it out, so an answer is what the program will see, and the
//! state of a file is taken before the program changes it. **Invariant:** what cannot be taken down exactly makes the run
//! one that is not remembered; nothing is ever guessed.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ggr_backends::memo::Stamp;
use ggr_backends::store::captures::{Answer, Ask, Question};
use ggr_ir::BlobId;

use super::answers;
use super::beyond::RandomNames;
use super::caller::{Caller, Input, Outputs, Sink};
use super::calls::{self, Access, At};
use super::places::{self, Place};
use crate::coordinator::Session;
use crate::intercept::filter;
use crate::intercept::supervisor::FileId;
use crate::intercept::sys::Notification;

/// How many facts a run may have: a program that looks at more files is no generator.
const MAX_FACTS: usize = 50_000;

/// How many bytes a run may print, and be remembered.
pub(super) const MAX_PRINTED: usize = 64 << 20;

/// Programs that run builds: what they call should be caught call by call.
const DRIVERS: [&str; 10] =
    ["cargo", "cmake", "ctest", "gmake", "go", "make", "meson", "ninja", "samu", "scons"];

/// A path that the program has changed, or is about to.
#[derive(Debug, Default)]
pub(super) struct Touched {
    /// What was there before the first change.
    pub(super) before: Option<rustix::fs::Stat>,
    /// The permission bits that a new file here was asked for with.
    pub(super) created: Option<u32>,
    /// Whether the program set the permission bits.
    pub(super) set_mode: bool,
    /// Whether the program set the times.
    pub(super) set_times: bool,
    /// Whether another file took its place.
    pub(super) replaced: bool,
}

/// A write that a thread made to an output of the run, to tell whether the next is the rest of it: one to a pipe or terminal
/// that a signal interrupted is made again, or its rest is.
pub(super) struct LastWrite {
    pub(super) end: u64,
    pub(super) bytes: Vec<u8>,
}

/// See the module's documentation.
pub(super) struct Recorder {
    session: Arc<Session>,
    pub(super) outputs: Outputs,
    pub(super) input: Input,
    pub(super) stdin: Sink,
    /// Whether the run would be another one with another standard input.
    pub(super) uses_input: bool,
    pub(super) socket: PathBuf,
    umask: u32,
    pub(super) facts: Vec<(Question, Answer)>,
    asked: HashSet<Question>,
    /// Facts whose bytes are hashed later: by file, its stamp when it was asked for and the facts' places.
    pub(super) pending: HashMap<FileId, (Stamp, Vec<usize>)>,
    pub(super) touched: BTreeMap<PathBuf, Touched>,
    pub(super) printed: [Vec<u8>; 2],
    pub(super) last_writes: HashMap<u32, LastWrite>,
    /// How often each process has opened the device of random bytes since it was executed.
    pub(super) seeds: HashMap<u32, u32>,
    /// Random bytes that became the names of temporary files.
    pub(super) names: RandomNames,
    /// Why the run cannot be remembered: the first reason.
    pub(super) refused: Option<String>,
}

impl Recorder {
    pub(super) fn new(session: Arc<Session>, caller: &Caller, socket: PathBuf, umask: u32) -> Self {
        Self {
            session,
            outputs: caller.outputs(),
            input: caller.input,
            stdin: caller.stdin,
            uses_input: false,
            socket,
            umask,
            facts: Vec::new(),
            asked: HashSet::new(),
            pending: HashMap::new(),
            touched: BTreeMap::new(),
            printed: [Vec::new(), Vec::new()],
            last_writes: HashMap::new(),
            seeds: HashMap::new(),
            names: RandomNames::default(),
            refused: None,
        }
    }

    /// The run cannot be remembered.
    pub(super) fn refuse(&mut self, why: impl Into<String>) {
        if self.refused.is_none() {
            self.refused = Some(why.into());
        }
    }

    /// Takes a call down. The kernel carries it out when this has returned.
    pub(super) fn take(&mut self, call: &Notification) {
        let pid = call.pid;
        if call.data.arch == filter::ARCH_32 {
            // Few of them are told: enough to make real what is opened.
            self.refuse("it makes 32-bit calls");
        }
        let access = calls::decode(&call.data);
        self.random_name(pid, &access);
        match access {
            Access::Open(at, flags, mode) => self.open(pid, at, flags, mode),
            Access::Stat(at, follows) => {
                self.ask_at(pid, at, if follows { Ask::Look } else { Ask::LookAtLink })
            }
            Access::Reach(at) => self.ask_at(pid, at, Ask::Access),
            Access::ReadLink(at) => self.ask_at(pid, at, Ask::LookAtLink),
            Access::List(fd) => self.list(pid, fd),
            Access::Execute(at) => self.execute(pid, at),
            Access::Remove(at) | Access::Make(at) => self.change(pid, at, |touched| touched.replaced = true),
            Access::Rename(from, to, flags) => self.rename(pid, from, to, flags),
            Access::HardLink(from, to) => {
                self.ask_at(pid, from, Ask::Content);
                self.change(pid, to, |touched| touched.replaced = true);
            }
            Access::Mode(at) => self.change(pid, at, |touched| touched.set_mode = true),
            Access::ModeOf(fd) => self.change_behind(pid, fd, |touched| touched.set_mode = true),
            Access::Times(at, given) if at.path == 0 => {
                self.change_behind(pid, at.dir, |touched| touched.set_times |= given);
            }
            Access::Times(at, given) => self.change(pid, at, |touched| touched.set_times |= given),
            Access::Truncate(at) => self.open(pid, at, Some(libc::O_WRONLY), 0),
            Access::Write(fd, address, len) => self.write(pid, fd, &[(address, len)]),
            Access::WritePieces(fd, address, count) => self.write_pieces(pid, fd, address, count),
            Access::Move(from, to) => self.moved(pid, from, to),
            Access::Read(fd) => self.read(pid, fd),
            Access::Look(fd) => self.look(pid, fd),
            Access::Machine(ask) => self.ask(answers::MACHINE.to_owned(), ask),
            Access::Nothing => {}
            Access::Socket(family) => {
                if family != libc::AF_UNIX {
                    self.refuse("it opens a socket");
                }
            }
            Access::Connect(address, len) => self.connect(pid, address, len),
            Access::Random(len, flags) => self.random_bytes(pid, len, flags),
            Access::Refused(why) => self.refuse(why),
        }
    }

    // --- questions ---

    pub(super) fn place(&self, thread: u32, at: At) -> Place {
        places::place(thread, at, self.session.door())
    }

    /// The path that a call names, if there is something to record about it.
    fn path(&mut self, pid: u32, at: At) -> Option<String> {
        match self.place(pid, at) {
            Place::Path(path) => return Some(path),
            Place::Descriptor => self.look(pid, at.dir),
            Place::Nothing | Place::OwnDescriptor(_) => {}
            Place::Device(_) | Place::Random => {}
            Place::Unnamed => self.refuse("a path that it uses is not UTF-8"),
        }
        None
    }

    fn ask_at(&mut self, pid: u32, at: At, ask: Ask) {
        if let Some(path) = self.path(pid, at) {
            self.ask(path, ask);
        }
    }

    /// Notes what will be answered, unless the program has asked before or has itself made what it asks about.
    pub(super) fn ask(&mut self, path: String, ask: Ask) {
        // In any case: what is asked must be real.
        self.session.make_real(Path::new(&path));
        let question = Question { path, ask };
        if self.refused.is_some() || self.asked.contains(&question) || self.is_own(Path::new(&question.path))
        {
            return;
        }
        if self.facts.len() >= MAX_FACTS {
            return self.refuse("it looks at too many files");
        }
        let answer = match ask {
            Ask::Content => self.content(&question),
            _ => answers::answer(&self.session, &question),
        };
        if let (Ask::Content, Answer::Mode(mode)) = (ask, &answer)
            && mode & libc::S_IFMT != libc::S_IFDIR
        {
            self.refuse("it opens a pipe or device");
        }
        self.asked.insert(question.clone());
        self.facts.push((question, answer));
    }

    /// As [`answers::answer`], but a file's bytes are hashed when the program has ended, or is about to change them.
    fn content(&mut self, question: &Question) -> Answer {
        let path = Path::new(&question.path);
        let found = std::fs::metadata(path).ok().filter(|_| !answers::is_of_kernel(path));
        match found {
            Some(meta) if meta.is_file() => {
                use std::os::unix::fs::MetadataExt;
                let stamp = Stamp::of(&meta);
                let pending =
                    self.pending.entry((stamp.dev, stamp.ino)).or_insert_with(|| (stamp, Vec::new()));
                if pending.0 != stamp {
                    self.refused = Some(format!("`{}` changed while it ran", question.path));
                } else {
                    pending.1.push(self.facts.len());
                }
                Answer::Bytes { mode: meta.mode() & 0o7777, blob: BlobId::of(b"") }
            }
            _ => answers::answer(&self.session, question),
        }
    }

    /// Hashes what was read from a file, which is about to be changed, or at the end.
    pub(super) fn settle(&mut self, file: FileId) {
        let Some((stamp, places)) = self.pending.remove(&file) else { return };
        let Some(first) = places.first() else { return };
        let path = self.facts[*first].0.path.clone();
        match self.session.digest(Path::new(&path)) {
            Ok((found, blob)) if found == stamp => {
                for place in places {
                    if let Answer::Bytes { blob: answered, .. } = &mut self.facts[place].1 {
                        *answered = blob;
                    }
                }
            }
            _ => self.refuse(format!("`{path}` changed while it ran")),
        }
    }

    /// Whether the program has made or changed what is at the path: then the answer is its own.
    pub(super) fn is_own(&self, path: &Path) -> bool {
        if self.touched.is_empty() {
            return false;
        }
        let named = places::canonical(path);
        let real = std::fs::canonicalize(path).ok();
        [named, real].into_iter().flatten().any(|path| self.is_touched(&path))
            // Below a directory that does not exist there is nothing: nor was there, if the program removed it.
            || places::canonical(path).is_none() && self.touched.keys().any(|own| path.starts_with(own))
    }

    fn is_touched(&self, path: &Path) -> bool {
        path.ancestors().enumerate().any(|(depth, path)| {
            // A directory that the program made holds only what it put there.
            self.touched.get(path).is_some_and(|touched| depth == 0 || touched.before.is_none())
        })
    }

    fn list(&mut self, pid: u32, fd: i32) {
        let Some(path) = places::behind(pid, fd) else { return self.refuse("it lists an unnamed directory") };
        if path.starts_with("/proc/") {
            let own = Path::new(&path)
                .components()
                .nth(2)
                .is_some_and(|part| part.as_os_str() == &*pid.to_string());
            if !own {
                self.refuse("it looks at other processes");
            }
            return;
        }
        let place = PathBuf::from(&path);
        if self.touched.keys().any(|own| own.parent() == Some(&place)) && !self.is_own(&place) {
            let asked = Question { path: path.clone(), ask: Ask::Names };
            if !self.asked.contains(&asked) {
                return self.refuse("it lists a directory in which it has changed files");
            }
        }
        self.ask(path, Ask::Names);
    }

    fn execute(&mut self, pid: u32, at: At) {
        self.seeds.remove(&pid);
        let Some(path) = self.path(pid, at) else {
            // The launcher's way of becoming the tool again, or a descriptor: its opening was taken down.
            return;
        };
        let name = Path::new(&path).file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        if DRIVERS.contains(&name.as_str()) && Path::new(&path).exists() {
            self.refuse(format!("it runs {name}"));
        }
        self.ask(path.clone(), Ask::Content);
        let mut start = [0; 256];
        let read = std::fs::File::open(&path).and_then(|mut file| file.read(&mut start)).unwrap_or(0);
        match &start[..read] {
            // ELFCLASS32 (`elf(5)`): its calls are not watched.
            [0x7f, b'E', b'L', b'F', 1, ..] => self.refuse("it runs a 32-bit program"),
            // Made for this machine perhaps, or to find out what it is.
            [0x7f, b'E', b'L', b'F', ..] if !is_of_system(Path::new(&path)) => {
                self.ask(answers::MACHINE.to_owned(), Ask::Processor);
            }
            [b'#', b'!', line @ ..] => {
                let line = line.split(|&b| b == b'\n').next().unwrap_or_default();
                let text = String::from_utf8_lossy(line);
                if let Some(interpreter) = text.split_whitespace().next().filter(|path| path.starts_with('/'))
                {
                    self.ask(interpreter.to_owned(), Ask::Content);
                }
            }
            _ => {}
        }
    }

    // --- changes ---

    fn open(&mut self, pid: u32, at: At, flags: Option<i32>, mode: u32) {
        let path = match self.place(pid, at) {
            Place::Path(path) => path,
            Place::Descriptor | Place::Nothing => return,
            Place::Device(why) => return self.refuse(why),
            Place::Random => return self.random(pid),
            Place::OwnDescriptor(number) => return self.reopen(pid, number),
            Place::Unnamed => return self.refuse("a path that it uses is not UTF-8"),
        };
        let Some(flags) = flags else { return self.refuse("it opens files by `openat2`") };
        if flags & libc::O_PATH != 0 {
            return self.ask(path, Ask::Access);
        }
        let writes =
            flags & libc::O_ACCMODE != libc::O_RDONLY || flags & (libc::O_TRUNC | libc::O_CREAT) != 0;
        if flags & libc::O_TMPFILE == libc::O_TMPFILE || !writes {
            return self.ask(path, Ask::Content);
        }
        let exclusive = libc::O_CREAT | libc::O_EXCL;
        let anew = libc::O_CREAT | libc::O_TRUNC;
        let ask = match flags {
            _ if flags & exclusive == exclusive => Ask::Kind,
            _ if flags & anew == anew => Ask::Room,
            _ => Ask::Content,
        };
        let Some(target) = self.target(path) else { return };
        self.ask(target.clone(), ask);
        let created = mode & 0o7777 & !self.umask;
        self.touch(Path::new(&target), |touched| {
            touched.created.get_or_insert(created);
        });
    }

    /// What changes when the path is opened for writing: a symlink at its end is followed.
    fn target(&mut self, path: String) -> Option<String> {
        let link = answers::lstat(Path::new(&path)).is_ok_and(|found| answers::is_symlink(&found));
        if !link {
            return Some(path);
        }
        let real = std::fs::canonicalize(&path).ok().and_then(|real| real.to_str().map(str::to_owned));
        if real.is_none() {
            self.refuse("it makes a file through a symlink");
        }
        self.ask(path, Ask::LookAtLink);
        real
    }

    fn change(&mut self, pid: u32, at: At, note: impl FnOnce(&mut Touched)) {
        if let Some(path) = self.path(pid, at) {
            self.ask(path.clone(), Ask::Kind);
            self.touch(Path::new(&path), note);
        }
    }

    fn change_behind(&mut self, pid: u32, fd: i32, note: impl FnOnce(&mut Touched)) {
        match places::behind(pid, fd) {
            Some(path) => self.touch(Path::new(&path), note),
            None => self.refuse("it changes an unnamed file"),
        }
    }

    fn rename(&mut self, pid: u32, from: At, to: At, flags: u32) {
        let (Some(from), Some(to)) = (self.path(pid, from), self.path(pid, to)) else { return };
        if flags & libc::RENAME_EXCHANGE != 0 {
            self.refuse("it exchanges two files");
        }
        self.ask(from.clone(), Ask::Content);
        self.ask(to.clone(), if flags == 0 { Ask::Room } else { Ask::Kind });
        let canonical = places::canonical(Path::new(&from));
        if Path::new(&from).is_dir() && !canonical.is_some_and(|path| self.is_touched(&path)) {
            self.refuse("it renames a directory");
        }
        let (mut set_mode, mut set_times) = (false, false);
        self.touch(Path::new(&from), |touched| {
            (set_mode, set_times) = (touched.set_mode, touched.set_times);
            touched.replaced = true;
        });
        self.touch(Path::new(&to), |touched| {
            touched.set_mode |= set_mode;
            touched.set_times |= set_times;
            touched.replaced = true;
        });
    }

    /// Notes that what is at the path will change; before the first change, its state.
    fn touch(&mut self, path: &Path, note: impl FnOnce(&mut Touched)) {
        // Without its directory nothing can be there, and the call will fail.
        let Some(named) = path.to_str().map(str::to_owned) else { return self.refuse("a path is not UTF-8") };
        let Some(path) = places::canonical(path) else { return };
        if path != Path::new(&named) {
            self.ask(named, Ask::Place);
        }
        let now = answers::lstat(&path).ok();
        if let Some(found) = &now {
            let file = (found.st_dev, found.st_ino);
            self.settle(file);
            self.session.distrust(file);
        }
        let touched =
            self.touched.entry(path).or_insert_with(|| Touched { before: now, ..Touched::default() });
        note(touched);
    }
}

/// Whether a program came with the system: it runs on every machine that has the same.
fn is_of_system(path: &Path) -> bool {
    ["/usr", "/bin", "/sbin", "/lib", "/lib64"].iter().any(|dir| path.starts_with(dir))
}
