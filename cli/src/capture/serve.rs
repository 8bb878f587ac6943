//! One call of a captured program: looked up, repeated, or run.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io::{self, PipeReader, PipeWriter};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use ggr_backends::store::captures::{Answer, Captures, Known, Question, Run};
use ggr_backends::store::shared::TieredCache;
use ggr_ir::Hash;
use ggr_ir::protocol::launcher::{Reply, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::watch;

use super::caller::Caller;
use super::diversion::Diversion;
use super::run::{self, Stop};
use super::sharing::{self, Sharing};
use super::{answers, effects};
use crate::coordinator::Session;
use crate::intercept::supervisor::Supervisor;
use crate::report::Event;

/// How often in a row a command's run must have been refused before it is no longer watched.
const PATIENCE: u32 = 2;

/// What capturing needs in a session.
pub(crate) struct Capture {
    pub(super) captures: Captures,
    programs: OnceLock<BTreeSet<PathBuf>>,
    diversion: Arc<Diversion>,
    sharing: Option<Sharing>,
    socket: OnceLock<PathBuf>,
    /// The helpers of runs that are under way, with what was found out about each by others than its watcher.
    running: Mutex<HashMap<u32, Option<String>>>,
    /// How many calls are being served.
    open: watch::Sender<usize>,
    /// Those that watch what runs left behind.
    lingering: Mutex<Vec<Supervisor>>,
    /// Hangs up when the session ends.
    ending: PipeReader,
    /// Held until then.
    going: Mutex<Option<PipeWriter>>,
}

impl Capture {
    /// Captures the programs that are diverted, and no other yet. With `team` runs are shared through its bucket; those of a
    /// project that the directory `home` is in leave no files for others.
    ///
    /// # Errors
    /// If no pipe can be made.
    pub(crate) fn new(
        captures: Captures,
        diversion: Diversion,
        team: Option<Arc<TieredCache>>,
        home: Option<&Path>,
    ) -> io::Result<Self> {
        let (ending, going) = io::pipe()?;
        let sharing = team.map(|cache| Sharing::new(cache, diversion.trees(), home));
        Ok(Self {
            captures,
            programs: OnceLock::new(),
            diversion: Arc::new(diversion),
            sharing,
            socket: OnceLock::new(),
            running: Mutex::default(),
            open: watch::Sender::new(0),
            lingering: Mutex::default(),
            ending,
            going: Mutex::new(Some(going)),
        })
    }

    /// Names the session's socket, to which launchers below a captured program connect.
    pub(crate) fn set_socket(&self, socket: &Path) {
        // A second pass over the build has the same one.
        let _ = self.socket.set(socket.to_owned());
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.socket.get().cloned().unwrap_or_default()
    }

    /// Names the programs to capture (real files), before the build starts.
    pub(crate) fn set_programs(&self, programs: BTreeSet<PathBuf>) {
        // A second pass over the build has the same ones.
        let _ = self.programs.set(programs);
    }

    /// Whether this real file is a program that is captured.
    pub(crate) fn captures(&self, program: &Path) -> bool {
        self.programs.get().is_some_and(|programs| programs.contains(program))
    }

    /// The programs that are diverted.
    pub(crate) fn diversion(&self) -> &Arc<Diversion> {
        &self.diversion
    }

    /// How runs are shared with others, if they are.
    pub(super) fn sharing(&self) -> Option<&Sharing> {
        self.sharing.as_ref()
    }

    /// Names the launcher for programs that are diverted, and the files that have one of their own. Nothing: none is diverted.
    pub(crate) fn divert_to(&self, launcher: Option<&Path>, tools: &[PathBuf]) {
        let Some(launcher) = launcher else { return self.diversion.stop() };
        let programs = self.programs.get().into_iter().flatten();
        let standing = tools.iter().chain(programs).cloned().collect();
        self.diversion.start(launcher, standing);
    }

    /// A modelled tool was called by process `pid`: if that is part of a captured run, the run is not remembered, and its
    /// program not captured the next time, so that the tool's calls are thunks of their own.
    pub(crate) fn note_model(&self, pid: u32, tool: &Path) {
        let mut running = self.running.lock().expect("no holder panics");
        if let Some(helper) = above(pid, &running)
            && let Some(found) = running.get_mut(&helper)
        {
            let name = tool.file_name().unwrap_or_default().to_string_lossy();
            found.get_or_insert_with(|| format!("it runs {name}"));
        }
    }

    /// Whether a process is part of a captured run.
    fn is_inside(&self, pid: u32) -> bool {
        above(pid, &self.running.lock().expect("no holder panics")).is_some()
    }

    pub(super) fn enter(&self, helper: u32) {
        self.running.lock().expect("no holder panics").insert(helper, None);
    }

    /// The run has ended; what others found out about it.
    pub(super) fn leave(&self, helper: u32) -> Option<String> {
        self.running.lock().expect("no holder panics").remove(&helper).flatten()
    }

    pub(super) fn linger(&self, supervisor: Supervisor) {
        self.lingering.lock().expect("no holder panics").push(supervisor);
    }

    /// Waits until no call is being served.
    pub(crate) async fn settled(&self) {
        // The sender lives as long as `self`.
        let _ = self.open.subscribe().wait_for(|open| *open == 0).await;
    }

    /// What hangs up when the session ends.
    pub(super) fn ending(&self) -> &PipeReader {
        &self.ending
    }

    /// The build has ended: programs that go on in its background, and what captured runs left running, are left in good
    /// hands.
    pub(crate) async fn end(&self) -> io::Result<()> {
        drop(self.going.lock().expect("no holder panics").take());
        self.settled().await;
        let left = std::mem::take(&mut *self.lingering.lock().expect("no holder panics"));
        left.iter().try_for_each(Supervisor::hand_over)
    }
}

/// The helper of the captured run that a process is part of.
fn above(pid: u32, running: &HashMap<u32, Option<String>>) -> Option<u32> {
    if running.is_empty() {
        return None;
    }
    let helpers: HashSet<u32> = running.keys().copied().collect();
    crate::coordinator::ancestor(pid, &helpers)
}

/// Serves one launcher of a captured program to its end.
pub(crate) async fn serve(
    session: Arc<Session>,
    mut stream: UnixStream,
    pid: u32,
    request: Request,
) -> io::Result<()> {
    let open = Arc::clone(&session);
    open.capture().open.send_modify(|open| *open += 1);
    let served = async {
        let stop = Arc::new(Stop::default());
        let stopped = Arc::clone(&stop);
        let mut task = tokio::task::spawn_blocking(move || Call::new(session, pid, request).answer(&stopped));
        let mut more = [0u8; 1];
        tokio::select! {
            reply = &mut task => {
                stream.write_all(&reply.map_err(io::Error::other)?.to_frame()).await
            }
            // A launcher says nothing more until it is answered: this is its end (a signal), and the program's.
            _ = stream.read(&mut more) => {
                let kept = open.sinks_if_stopped();
                tokio::task::block_in_place(|| stop.stop(kept));
                task.await.map(drop).map_err(io::Error::other)
            }
        }
    };
    let served = served.await;
    open.capture().open.send_modify(|open| *open -= 1);
    served
}

/// A call, understood.
pub(super) struct Call {
    pub(super) session: Arc<Session>,
    pub(super) pid: u32,
    pub(super) request: Request,
    /// As `python3 gen.py`.
    pub(super) label: String,
    /// The program's name alone.
    pub(super) name: String,
}

impl Call {
    fn new(session: Arc<Session>, pid: u32, request: Request) -> Self {
        let name = |bytes: &[u8]| {
            let path = Path::new(std::ffi::OsStr::from_bytes(bytes));
            path.file_name().unwrap_or_default().to_string_lossy().into_owned()
        };
        let program = name(request.args.first().unwrap_or(&request.program));
        let operand = request.args.iter().skip(1).find(|arg| !arg.starts_with(b"-") && !arg.contains(&b'\n'));
        let label = operand.map_or_else(|| program.clone(), |operand| format!("{program} {}", name(operand)));
        Self { session, pid, request, label, name: program }
    }

    /// The program's real file.
    pub(super) fn program(&self) -> &Path {
        Path::new(std::ffi::OsStr::from_bytes(&self.request.program))
    }

    /// The caller becomes the program itself: nothing is recorded.
    fn plain(&self) -> Reply {
        Reply::Become(self.session.real_path(self.program()))
    }

    fn plain_because(&self, why: &str) -> Reply {
        self.note_here(why, Duration::ZERO, Vec::new());
        self.plain()
    }

    fn answer(&self, stop: &Stop) -> Reply {
        let capture = self.session.capture();
        if self.session.is_root(self.pid) || self.session.is_run_here(self.pid) || capture.is_inside(self.pid)
        {
            return self.plain();
        }
        let caller = match Caller::of(self.pid) {
            Ok(caller) => caller,
            Err(why) => return self.plain_because(why),
        };
        for with_input in [false, true] {
            let key = caller.key(&self.request, with_input);
            let mut known = capture.captures.get(key);
            if let Some((why, times)) = &known.refused
                && *times >= PATIENCE
            {
                return self.plain_because(why);
            }
            let found = self.look_up(&caller, key, &mut known);
            if let Some(reply) = found.or_else(|| self.look_elsewhere(&caller, key, &mut known)) {
                return reply;
            }
        }
        match run::run(self, &caller, stop) {
            Ok(ended) => ended.finish(self, &caller),
            Err(error) => self.plain_because(&format!("it cannot be watched: {error}")),
        }
    }

    /// Repeats a remembered run, if one fits.
    fn look_up(&self, caller: &Caller, key: Hash, known: &mut Known) -> Option<Reply> {
        let capture = self.session.capture();
        let at = find(&self.session, &known.runs, |run| capture.captures.is_whole(run))?;
        let reply = self.repeat(caller, &known.runs[at]).ok()?;
        if let Some(sharing) = capture.sharing() {
            sharing.offer(key, &known.runs[at]);
        }
        if at > 0 {
            known.runs[..=at].rotate_right(1);
            // Only the order of the runs has changed.
            let _ = capture.captures.put(key, std::mem::take(known));
        }
        Some(reply)
    }

    /// Repeats a run that others have shared, if one fits. From then on it is known here.
    fn look_elsewhere(&self, caller: &Caller, key: Hash, known: &mut Known) -> Option<Reply> {
        let capture = self.session.capture();
        let sharing = capture.sharing()?;
        let mut runs = sharing.known(key);
        let at = find(&self.session, &runs, |run| sharing.bring(run))?;
        let run = runs.swap_remove(at);
        let reply = self.repeat(caller, &run).ok()?;
        sharing.note_repeated();
        // One that is known here with the same answers has lost what it left.
        known.runs.retain(|other| other.facts != run.facts);
        known.runs.insert(0, run);
        // What cannot be written is fetched again.
        let _ = capture.captures.put(key, std::mem::take(known));
        Some(reply)
    }

    fn repeat(&self, caller: &Caller, run: &Run) -> io::Result<Reply> {
        let stdout = self.session.checked_bytes(run.stdout)?;
        let stderr = self.session.checked_bytes(run.stderr)?;
        effects::repeat(&self.session, run)?;
        if let Some(end) = run.stdin_end {
            caller.move_input(end)?;
        }
        self.session.report(&Event::Repeated {
            label: self.label.as_str().into(),
            saved: Duration::from_micros(run.took_us),
            outputs: paths(run, caller),
        });
        Ok(Reply::Exit { code: 0, stdout, stderr })
    }

    /// Reports a run that was not remembered.
    pub(super) fn note_here(&self, why: &str, took: Duration, outputs: Vec<PathBuf>) {
        self.session.report(&Event::RanHere {
            label: self.label.as_str().into(),
            reason: format!("{}: {why}", self.name),
            took,
            outputs,
        });
    }
}

/// The files that a run leaves, those that it prints into included.
pub(super) fn paths(run: &Run, caller: &Caller) -> Vec<PathBuf> {
    let printed = [run.stdout, run.stderr].into_iter().zip(0..).filter(|(bytes, _)| bytes.size() > 0);
    let printed = printed.filter_map(|(_, output)| caller.named_file(output));
    run.effects.iter().map(|effect| PathBuf::from(&effect.path)).chain(printed).collect()
}

/// The run whose every question has the same answer now, and all of which is there, as `whole` says. A question that several
/// runs asked is asked once.
fn find(session: &Session, runs: &[Run], whole: impl Fn(&Run) -> bool) -> Option<usize> {
    let mut answered: HashMap<&Question, Answer> = HashMap::new();
    runs.iter().position(|run| {
        let same = run.facts.iter().all(|(question, then)| {
            if run.foreign && !sharing::may_ask(question) {
                return false;
            }
            let now = answered.entry(question).or_insert_with(|| answers::answer(session, question));
            agrees(then, now)
        });
        same && whole(run)
    })
}

/// Whether what was seen then is what would be seen now.
pub(super) fn agrees(then: &Answer, now: &Answer) -> bool {
    match (then, now) {
        (Answer::File { mode, size, mtime: None }, Answer::File { mode: m, size: s, .. }) => {
            (mode, size) == (m, s)
        }
        _ => then == now,
    }
}
