//! Running a program while every watched call of it and its children is taken down.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command};
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

use ggr_backends::store::captures::{Answer, Ask, Known, Run};
use ggr_ir::protocol::launcher::{Reply, Request};

use super::caller::{Caller, Sink};
use super::recorder::Recorder;
use super::serve::{Call, agrees, paths};
use super::{answers, effects, watch};
use crate::coordinator::{descendants, open_for_writing, receive};
use crate::intercept::enter::READY;
use crate::intercept::{inherit, kill};
use crate::report::Event;

/// Ends a run whose caller has ended.
#[derive(Default)]
pub(super) struct Stop(Mutex<Stage>);

#[derive(Default)]
enum Stage {
    #[default]
    Before,
    Running(u32),
    Stopped,
}

impl Stop {
    /// Kills the run, or keeps it from starting. With `kept` (where the build's own output goes), removes all other files that
    /// it has open for writing: make, which is killed too, cannot, and will be run again.
    pub(super) fn stop(&self, kept: Option<[Option<Sink>; 2]>) {
        let mut stage = self.0.lock().expect("no holder panics");
        if let Stage::Running(helper) = *stage {
            let mut half_written = Vec::new();
            if let Some(kept) = kept {
                let below = descendants(helper);
                below.iter().for_each(|&pid| kill(pid as i32, libc::SIGSTOP));
                half_written = below.into_iter().flat_map(|pid| open_for_writing(pid, &kept)).collect();
            }
            // What forks while we look is caught by the next look.
            for _ in 0..100 {
                let below: Vec<u32> = descendants(helper).into_iter().skip(1).collect();
                if below.is_empty() {
                    break;
                }
                below.iter().for_each(|&pid| kill(pid as i32, libc::SIGKILL));
                std::thread::sleep(Duration::from_millis(1));
            }
            kill(helper as i32, libc::SIGKILL);
            half_written.iter().for_each(|path| drop(std::fs::remove_file(path)));
        }
        *stage = Stage::Stopped;
    }

    fn started(&self, helper: u32) {
        let mut stage = self.0.lock().expect("no holder panics");
        match *stage {
            Stage::Stopped => kill(helper as i32, libc::SIGKILL),
            _ => *stage = Stage::Running(helper),
        }
    }

    /// The helper is about to be waited for: its number may then be another's.
    fn ended(&self) {
        *self.0.lock().expect("no holder panics") = Stage::Stopped;
    }
}

/// A run that has ended.
pub(super) struct Ended {
    status: i32,
    recorder: Recorder,
    began: SystemTime,
    took: Duration,
    /// Where its outputs stood at the start, if they are regular files.
    positions: [Option<u64>; 2],
}

/// Runs the program of a call to its end.
///
/// # Errors
/// If it could not be started under watch: it has not run then.
pub(super) fn run(call: &Call, caller: &Caller, stop: &Stop) -> io::Result<Ended> {
    let capture = call.session.capture();
    let (began, since) = (SystemTime::now(), Instant::now());
    let positions = caller.output_positions();
    let (mut control, theirs) = UnixStream::pair()?;
    let mut child = start(caller, &theirs.into(), call.pid)?;
    let helper = child.id();
    capture.enter(helper);
    stop.started(helper);
    let program = Request { program: call.session.real_path(call.program()), ..call.request.clone() };
    let mut recorder = Recorder::new(call.session.clone(), caller, capture.socket(), call.request.umask);
    let watched = (|| {
        control.write_all(&program.to_frame())?;
        let (first, listener, why) = receive(&control)?;
        let listener = listener.filter(|_| first == READY).ok_or_else(|| io::Error::other(why))?;
        control.write_all(&[1])?;
        io::Result::Ok(listener)
    })();
    let listener = match watched {
        Ok(listener) => listener,
        Err(error) => {
            stop.ended();
            capture.leave(helper);
            let _ = child.kill();
            let _ = child.wait();
            return Err(error);
        }
    };
    let end = watch::until_spoken(&listener, &control, capture.ending(), &mut recorder);
    let took = since.elapsed();
    if end == watch::End::Session {
        recorder.refuse("it goes on in the background");
        leave_behind(call, listener, child);
        capture.leave(helper);
        return Ok(Ended { status: 0, recorder, began, took, positions });
    }
    let mut ended: super::enter::Ended = [0; 5];
    // A helper that was killed says nothing: the run was stopped, and nobody wants its result.
    let spoken = control.read_exact(&mut ended).is_ok();
    let status =
        if spoken { i32::from_le_bytes([ended[0], ended[1], ended[2], ended[3]]) } else { libc::SIGKILL };
    if spoken && ended[4] != 0 {
        recorder.refuse("it leaves processes behind");
        leave_behind(call, listener, child);
    } else {
        stop.ended();
        child.wait()?;
    }
    if let Some(why) = capture.leave(helper) {
        recorder.refuse(why);
    }
    Ok(Ended { status, recorder, began, took, positions })
}

fn start(caller: &Caller, control: &OwnedFd, launcher: u32) -> io::Result<Child> {
    let [stdin, stdout, stderr] = &caller.fds;
    let mut command = Command::new("/proc/self/exe");
    command
        .arg("__capture")
        .arg(control.as_raw_fd().to_string())
        .arg(launcher.to_string())
        .arg(caller.watched_descriptors())
        .stdin(stdin.try_clone()?)
        .stdout(stdout.try_clone()?)
        .stderr(stderr.try_clone()?);
    inherit(&mut command, control.as_fd());
    command.spawn()
}

/// Sees to processes that go on after the program has ended: their calls are let go as those of a build are.
fn leave_behind(call: &Call, listener: OwnedFd, mut child: Child) {
    if let Ok(supervisor) = crate::intercept::supervisor::Supervisor::start(listener, call.session.clone()) {
        call.session.capture().linger(supervisor);
    }
    std::thread::spawn(move || child.wait());
}

impl Ended {
    /// Remembers the run if that can be done, and answers the caller. The program has printed by itself.
    pub(super) fn finish(mut self, call: &Call, caller: &Caller) -> Reply {
        let signal = self.status & 0x7f;
        if signal != 0 {
            call.note_here("it was ended by a signal", self.took, Vec::new());
            return Reply::Signal(signal as u8);
        }
        let code = (self.status >> 8) as u8;
        let reply = Reply::Exit { code, stdout: Vec::new(), stderr: Vec::new() };
        self.recorder.settle_names();
        let key = caller.key(&call.request, self.recorder.uses_input);
        let captures = &call.session.capture().captures;
        let mut known = captures.get(key);
        let lasting = self.recorder.refused.clone();
        let run = match &lasting {
            Some(why) => Err(why.clone()),
            None if code != 0 => Err("it fails".to_owned()),
            None => self.record(call, caller),
        };
        let touched = || self.recorder.touched.keys().cloned().collect();
        call.session.capture().diversion().note(call.program(), run.is_ok(), self.took);
        match run {
            Ok(run) => {
                let event = Event::Captured {
                    label: call.label.as_str().into(),
                    took: self.took,
                    outputs: paths(&run, caller),
                };
                let sharing = call.session.capture().sharing();
                remember(&mut known, run, &sharing.map(|sharing| sharing.known(key)).unwrap_or_default());
                if let (Some(sharing), Some(run)) = (sharing, known.runs.first()) {
                    sharing.offer(key, run);
                }
                call.session.report(&event);
            }
            Err(why) => call.note_here(&why, self.took, touched()),
        }
        known.refused = lasting.map(|why| (why, known.refused.map_or(0, |(_, times)| times) + 1));
        // What cannot be written is not remembered, as on a full disk.
        let _ = captures.put(key, known);
        reply
    }

    /// The record of the run.
    ///
    /// # Errors
    /// Says what of it cannot be held, this time.
    fn record(&mut self, call: &Call, caller: &Caller) -> Result<Run, String> {
        let recorder = &mut self.recorder;
        let files: Vec<_> = recorder.pending.keys().copied().collect();
        files.into_iter().for_each(|file| recorder.settle(file));
        if let Some(why) = &recorder.refused {
            return Err(why.clone());
        }
        self.check_unchanged(call)?;
        self.check_positions(caller)?;
        let effects = effects::of_run(&call.session, &self.recorder, self.began)?;
        let leaves = || !effects.is_empty() || self.prints_into_a_file(call, caller);
        if call.session.capture().diversion().must_leave_something(call.program()) && !leaves() {
            return Err("it leaves nothing".into());
        }
        let put =
            |bytes: &[u8]| call.session.put_bytes(bytes).map_err(|e| format!("it cannot be stored: {e}"));
        Ok(Run {
            effects,
            stdout: put(&self.recorder.printed[0])?,
            stderr: put(&self.recorder.printed[1])?,
            stdin_end: caller.input_position().filter(|_| self.recorder.uses_input),
            took_us: self.took.as_micros() as u64,
            foreign: false,
            facts: std::mem::take(&mut self.recorder.facts),
        })
    }

    /// Whether what it printed went into a file that has a name and is not where the whole build prints.
    fn prints_into_a_file(&self, call: &Call, caller: &Caller) -> bool {
        let kept = |output: usize| {
            caller.named_file(output).is_some() && !call.session.is_sink(caller.sinks[output])
        };
        (0..2).any(|output| !self.recorder.printed[output].is_empty() && kept(output))
    }

    /// What others changed while the program ran may have been seen before or after.
    fn check_unchanged(&self, call: &Call) -> Result<(), String> {
        let recorder = &self.recorder;
        for (question, answer) in &recorder.facts {
            let path = std::path::Path::new(&question.path);
            let settled = matches!(question.ask, Ask::Content | Ask::Place) || answers::is_of_kernel(path);
            let own = || {
                recorder.is_own(path)
                    || question.ask == Ask::Names
                        && recorder.touched.keys().any(|own| own.parent() == Some(path))
            };
            if settled && !matches!(answer, Answer::Nothing(_)) || own() {
                continue;
            }
            if answers::answer(&call.session, question) != *answer {
                return Err(format!("`{}` changed while it ran", question.path));
            }
        }
        Ok(())
    }

    /// An output that is a regular file must stand where what was printed ends: otherwise the program moved about in it.
    fn check_positions(&self, caller: &Caller) -> Result<(), String> {
        let now = caller.output_positions();
        let together = now[0].is_some() && self.recorder.outputs.are_one();
        for output in 0..2 {
            let printed = self.recorder.printed[if together { 0 } else { output }].len() as u64;
            let (Some(then), Some(now)) = (self.positions[output], now[output]) else { continue };
            // A file that is appended to stands at its end, wherever that was before.
            if now != then + printed && !(printed == 0 && now == then) && !caller.appends(output) {
                return Err("it moves about in its output".into());
            }
        }
        Ok(())
    }
}

/// Puts a run in front. If it is one that is known here or elsewhere but for the times of files that it looked at, those times
/// have been seen not to matter: they stand in nothing that it left.
fn remember(known: &mut Known, mut run: Run, elsewhere: &[Run]) {
    let leaves_something = !run.effects.is_empty() || run.stdout.size() > 0;
    let is_twin = |other: &Run| leaves_something && is_twin(other, &run);
    let twin = known.runs.iter().position(is_twin).map(|at| known.runs.remove(at));
    if let Some(other) = twin.or_else(|| elsewhere.iter().find(|other| is_twin(other)).cloned()) {
        for ((_, answer), (_, before)) in run.facts.iter_mut().zip(&other.facts) {
            if let (Answer::File { mtime, .. }, Answer::File { mtime: then, .. }) = (answer, before)
                && mtime != then
            {
                *mtime = None;
            }
        }
    }
    known.runs.insert(0, run);
}

fn is_twin(one: &Run, two: &Run) -> bool {
    let result = |run: &Run| (run.effects.clone(), run.stdout, run.stderr, run.stdin_end);
    let timeless = |answer: &Answer| match answer {
        Answer::File { mode, size, .. } => Answer::File { mode: *mode, size: *size, mtime: None },
        other => other.clone(),
    };
    one.facts.len() == two.facts.len()
        && one
            .facts
            .iter()
            .zip(&two.facts)
            .all(|((q, a), (r, b))| q == r && agrees(&timeless(a), &timeless(b)))
        && result(one) == result(two)
}
