//! One guest, as the host deals with it: wakes it, gives it blobs and jobs, takes outputs and answers.
//!
//! **Invariant:** an output is believed only if this guest was given its blob or has sent its bytes, and their hash was
//! computed here: naming a hash is no way to another's bytes.

use std::collections::HashSet;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant, SystemTime};

use ggr_ir::protocol::guest::{FromGuest, PIECE, ToGuest, VERSION};
use ggr_ir::protocol::worker::Response;
use ggr_ir::repo::TempFile;
use ggr_ir::{Attempt, BlobId, Hash, InfraFailure, Job, Outcome};

use super::frames::Frames;
use super::keeper::Keeper;
use super::warm;
use crate::store::FsStore;

/// A silent guest is asked whether it is there so many times before it counts as hung.
const PINGS: u32 = 4;

/// A start's or a restore's first answer comes within this, also under TCG on a loaded machine.
const ANSWER: Duration = Duration::from_secs(30);

/// Boot to first frame: 3 s under TCG on an idle machine.
const BOOT: Duration = Duration::from_secs(90);

/// A job's own limit is kept inside the guest; this much later the host ends the guest.
const GRACE: Duration = Duration::from_secs(10);

/// A guest that is up.
#[derive(Debug)]
pub(super) struct Session {
    keeper: Keeper,
    frames: Frames,
    /// What the guest has, or the host has from it.
    pub(super) has: HashSet<BlobId>,
    /// Jobs that it ran.
    pub(super) jobs: u32,
    /// Bytes that went to it and came from it: all of them are in its memory.
    pub(super) bytes: u64,
}

/// A blob on its way in.
struct Incoming {
    id: BlobId,
    file: TempFile,
    hasher: blake3::Hasher,
    size: u64,
}

impl Session {
    /// A guest that was booted: waits for its agent.
    ///
    /// # Errors
    /// Why it did not come up, and the last words of its kernel.
    pub(super) async fn booted(
        keeper: Keeper,
        console: UnixStream,
        limit: Duration,
    ) -> Result<Self, (io::Error, String)> {
        let mut session = Self::of(keeper, console, HashSet::new())?;
        match session.greet(limit.min(BOOT)).await {
            Ok(()) => Ok(session),
            Err(error) => Err((error, session.last_words().await)),
        }
    }

    async fn greet(&mut self, limit: Duration) -> io::Result<()> {
        match self.frames.next_within(limit).await? {
            Some(FromGuest::Hello { version: VERSION, isolation }) if !isolation.starts_with("plain") => {
                self.wake().await
            }
            Some(other) => Err(io::Error::other(format!("the agent begins with {}", named(&other)))),
            None => Err(io::Error::new(io::ErrorKind::TimedOut, "the guest does not come up")),
        }
    }

    /// A guest that was restored from a snapshot that had these blobs. As [`booted`](Self::booted).
    pub(super) async fn restored(
        keeper: Keeper,
        console: UnixStream,
        has: HashSet<BlobId>,
    ) -> Result<Self, (io::Error, String)> {
        let mut session = Self::of(keeper, console, has)?;
        match session.wake().await {
            Ok(()) => Ok(session),
            Err(error) => Err((error, session.last_words().await)),
        }
    }

    fn of(keeper: Keeper, console: UnixStream, has: HashSet<BlobId>) -> Result<Self, (io::Error, String)> {
        let frames = Frames::new(console).map_err(|e| (e, String::new()))?;
        Ok(Self { keeper, frames, has, jobs: 0, bytes: 0 })
    }

    /// Returns when the guest has dealt with all that it was sent.
    pub(super) async fn settle(&mut self) -> io::Result<()> {
        self.frames.send(&ToGuest::Ping).await?;
        self.pong().await
    }

    async fn pong(&mut self) -> io::Result<()> {
        match self.frames.next_within(ANSWER).await? {
            Some(FromGuest::Pong) => Ok(()),
            Some(other) => Err(io::Error::other(format!("the agent wakes with {}", named(&other)))),
            None => Err(io::Error::new(io::ErrorKind::TimedOut, "the guest hangs")),
        }
    }

    async fn last_words(&self) -> String {
        let words = self.keeper.last_words().await;
        if words.is_empty() { words } else { format!("; its console says: {words}") }
    }

    async fn wake(&mut self) -> io::Result<()> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let mut seed = [0; 32];
        std::fs::File::open("/dev/urandom")?.read_exact(&mut seed)?;
        let now_us = u64::try_from(now.as_micros()).unwrap_or(u64::MAX);
        self.frames.send(&ToGuest::Wake { now_us, seed }).await?;
        self.pong().await
    }

    /// Gives up the guest for its keeper.
    pub(super) fn into_parts(self) -> (Keeper, HashSet<BlobId>) {
        (self.keeper, self.has)
    }

    /// Sends those of the blobs that the guest lacks.
    ///
    /// # Errors
    /// What the job that needs them ends with.
    pub(super) async fn push(&mut self, store: &FsStore, ids: &[BlobId]) -> Result<(), InfraFailure> {
        let mut missing = Vec::new();
        for &id in ids {
            if self.has.contains(&id) {
                continue;
            }
            match store.open(id) {
                Ok(file) => {
                    let sent = self.push_one(id, file).await;
                    if let Err(error) = sent {
                        return Err(self.died(&error).await);
                    }
                    self.has.insert(id);
                    self.bytes += id.size();
                }
                Err(_) => missing.push(id),
            }
        }
        if missing.is_empty() { Ok(()) } else { Err(InfraFailure::InputsMissing(missing)) }
    }

    async fn push_one(&mut self, id: BlobId, mut file: impl Read) -> io::Result<()> {
        let mut left = id.size();
        loop {
            let mut bytes = vec![0; usize::try_from(left).unwrap_or(PIECE).min(PIECE)];
            file.read_exact(&mut bytes)?;
            left -= bytes.len() as u64;
            self.frames.send(&ToGuest::Blob { id, bytes, last: left == 0 }).await?;
            if left == 0 {
                return Ok(());
            }
        }
    }

    /// Runs the [job that does nothing](warm), [so often](warm::TIMES). As [`run`](Self::run).
    ///
    /// # Errors
    /// Why one did not end as it has to.
    pub(super) async fn warm_up(&mut self, store: &FsStore, patience: Duration) -> Result<(), InfraFailure> {
        let (job, program) = warm::job();
        let id = BlobId::of(&program);
        if let Err(error) = self.push_one(id, &program[..]).await {
            return Err(self.died(&error).await);
        }
        self.has.insert(id);
        for _ in 0..warm::TIMES {
            match self.run(store, &job, patience).await?.outcome {
                Outcome::Reduced(_) => {}
                Outcome::Infra(failure) => return Err(failure),
                other => {
                    let why = format!("a program that does nothing ended with {other:?}");
                    return Err(InfraFailure::Sandbox(why));
                }
            }
        }
        Ok(())
    }

    /// Runs a job whose inputs the guest has; a guest that answers nothing for `patience` hangs. After a failure of this function the guest is good for nothing.
    ///
    /// # Errors
    /// Why there is no attempt.
    pub(super) async fn run(
        &mut self,
        store: &FsStore,
        job: &Job,
        patience: Duration,
    ) -> Result<Attempt, InfraFailure> {
        self.jobs += 1;
        let seq = u64::from(self.jobs);
        if let Err(error) = self.frames.send(&ToGuest::Run { seq, job: job.clone() }).await {
            return Err(self.died(&error).await);
        }
        let end = Instant::now() + job.limits.wall + GRACE;
        let bound = if job.limits.output == 0 { u64::MAX } else { 2 * job.limits.output };
        let (mut heard, mut incoming, mut taken) = (Instant::now(), None, 0u64);
        loop {
            let frame = match self.frames.next_within(patience / PINGS).await {
                Ok(frame) => frame,
                Err(error) => return Err(self.died(&error).await),
            };
            match frame {
                Some(FromGuest::Done(response)) => return self.believe(store, job, seq, response),
                Some(FromGuest::Blob { id, bytes, last }) => {
                    taken += bytes.len() as u64;
                    if taken > bound {
                        return Err(InfraFailure::TooBig(format!("the guest sent more than {bound} bytes")));
                    }
                    self.take(store, &mut incoming, id, &bytes, last)
                        .map_err(|e| InfraFailure::OutputsNotStored(e.to_string()))?;
                }
                Some(FromGuest::Pong) => {}
                Some(other) => return Err(InfraFailure::WorkerDied(named(&other))),
                None if Instant::now() > end => return Err(InfraFailure::DeadlinePassed),
                None if heard.elapsed() > patience => {
                    return Err(InfraFailure::WorkerDied("the guest hangs".to_owned()));
                }
                None => {
                    if let Err(error) = self.frames.send(&ToGuest::Ping).await {
                        return Err(self.died(&error).await);
                    }
                    continue;
                }
            }
            heard = Instant::now();
        }
    }

    fn take(
        &mut self,
        store: &FsStore,
        incoming: &mut Option<Incoming>,
        id: BlobId,
        bytes: &[u8],
        last: bool,
    ) -> io::Result<()> {
        let mut blob = match incoming.take() {
            Some(blob) => blob,
            None => Incoming {
                id,
                file: store.temporary().map_err(io::Error::other)?,
                hasher: blake3::Hasher::new(),
                size: 0,
            },
        };
        blob.size += bytes.len() as u64;
        if blob.id != id || blob.size > id.size() {
            return Err(io::Error::other(format!("the guest mixes up the pieces of {id}")));
        }
        blob.hasher.update(bytes);
        blob.file.file().write_all(bytes)?;
        if !last {
            *incoming = Some(blob);
            return Ok(());
        }
        if BlobId::new(Hash::from_bytes(*blob.hasher.finalize().as_bytes()), blob.size) != id {
            return Err(io::Error::other(format!("what the guest sent as {id} is something else")));
        }
        store.adopt(blob.file.path(), id).map_err(io::Error::other)?;
        self.has.insert(id);
        self.bytes += blob.size;
        Ok(())
    }

    /// The answer, if it says nothing that the guest could not know.
    fn believe(
        &self,
        store: &FsStore,
        job: &Job,
        seq: u64,
        response: Response,
    ) -> Result<Attempt, InfraFailure> {
        let lie = |what: String| Err(InfraFailure::WorkerDied(format!("the guest's answer {what}")));
        if response.seq != seq {
            return lie("is to another job".to_owned());
        }
        let mut attempt = response.attempt;
        attempt.cost_microdollars = 0;
        if let Outcome::Reduced(reduction) = &attempt.outcome {
            let outputs = reduction.outputs.values().map(|entry| entry.blob);
            for id in outputs.chain([reduction.stdout, reduction.stderr]) {
                if !self.has.contains(&id) || !store.contains(id).unwrap_or(false) {
                    return lie(format!("names {id}, which it has not sent"));
                }
            }
            for (name, path) in &job.thunk.outputs {
                if reduction.outputs.get(name).is_none_or(|entry| entry.path != *path) {
                    return lie(format!("lacks the output `{path}`"));
                }
            }
        }
        Ok(attempt)
    }

    /// Why the guest has ended, as far as its kernel said.
    async fn died(&self, error: &io::Error) -> InfraFailure {
        let words = self.last_words().await;
        // The guest's kernel is told to panic when it has no memory left (`vm.panic_on_oom`).
        if words.contains("Kernel panic") && words.contains("ut of memory") {
            return InfraFailure::TooBig("the guest's memory".to_owned());
        }
        InfraFailure::WorkerDied(format!("{error}{words}"))
    }
}

fn named(frame: &FromGuest) -> String {
    match frame {
        FromGuest::Hello { version, isolation } => format!("version {version} of the agent, `{isolation}`"),
        FromGuest::Broken(why) => format!("the agent broke: {why}"),
        FromGuest::Pong => "a pong".to_owned(),
        FromGuest::Blob { .. } => "a blob".to_owned(),
        FromGuest::Done(_) => "an answer".to_owned(),
    }
}
