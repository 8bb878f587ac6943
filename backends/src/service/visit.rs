//! One client of a service, from its hello to its end.
//!
//! **Invariant:** what a client has asked for ends with its connection: its jobs are cancelled.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ggr_ir::protocol::service::{
    self as wire, FromService, Hello, MAX_FRAME, MAX_HELLO, Piece, ToService, VERSION,
};
use ggr_ir::protocol::worker;
use ggr_ir::{Attempt, BlobId, InfraFailure, Job, ObjectStore, Outcome, Reduction, Timings};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{Mutex as AsyncMutex, mpsc};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

use super::Shared;
use super::address::Stream;
use super::peers::Links;
use super::place::Place;
use super::tenants::Tenant;
use super::tokens::Identity;
use super::wire::{Intake, Pieces, QUEUE, read_frame, reading, write_frames};

/// A client says hello within this.
const HELLO: Duration = Duration::from_secs(10);

/// A client that has been silent for so long is gone: it pings every few seconds.
const SILENCE: Duration = Duration::from_secs(60);

/// Jobs, fetches and other requests that one client may have open, beside a service's slots: a client that knows the slots
/// does not come near it.
const OPEN: usize = 1024;

/// Outputs up to this size are sent before their job's answer; larger ones are fetched by those who want them.
const SMALL: u64 = 1 << 20;

/// Ids of blobs that are remembered to be at the client; 16 MB. Then it starts anew.
const REMEMBERED: usize = 400_000;

/// Serves a client; `peer` is the user at the other end of a Unix socket.
pub(super) async fn serve(shared: Arc<Shared>, stream: Box<dyn Stream>, peer: Option<u32>) {
    let (mut from, mut to) = tokio::io::split(stream);
    let greeted = match timeout(HELLO, greet(&shared, &mut from, peer)).await {
        Ok(greeted) => greeted,
        Err(_) => Err("no hello came".to_owned()),
    };
    let (who, tenant, hello) = match greeted {
        Ok(greeted) => greeted,
        Err(why) => return refuse(from, to, why).await,
    };
    answer(&mut to, &welcome(&shared, &tenant)).await;
    let Ok(from) = reading(from, hello.packed) else { return };
    let (out, frames) = mpsc::channel(QUEUE);
    shared.write(write_frames(to, frames, hello.packed));
    let visit = Arc::new(Visit {
        shared,
        tenant,
        operator: who.operator,
        out,
        has: Mutex::default(),
        sending: AsyncMutex::default(),
        open: Mutex::default(),
        links: Links::new(hello),
    });
    if visit.shared.drain.begun() {
        visit.say(&FromService::Draining).await;
    }
    visit.attend(from).await;
}

/// Answers a hello, before the stream is what the hello asked for. One who does not read it is noticed by the reader.
async fn answer(to: &mut WriteHalf<Box<dyn Stream>>, message: &FromService) {
    let frame = worker::to_frame(message);
    let _ = timeout(HELLO, async {
        to.write_all(&frame).await?;
        to.flush().await
    })
    .await;
}

/// Says why, and takes what was on its way: a socket that is closed with bytes that nobody has read takes the answer with it.
async fn refuse(from: ReadHalf<Box<dyn Stream>>, mut to: WriteHalf<Box<dyn Stream>>, why: String) {
    answer(&mut to, &FromService::Refused(why)).await;
    let _ = to.shutdown().await;
    let mut rest = from.take(u64::from(MAX_HELLO));
    let _ = timeout(HELLO, tokio::io::copy(&mut rest, &mut tokio::io::sink())).await;
}

fn welcome(shared: &Shared, tenant: &Tenant) -> FromService {
    FromService::Welcome {
        version: VERSION,
        instance: shared.instance,
        tenant: tenant.name.to_string(),
        slots: u32::try_from(shared.slots).unwrap_or(u32::MAX),
        isolation: shared.pools.isolation().to_owned(),
    }
}

/// Finds out who is there.
async fn greet(
    shared: &Shared,
    from: &mut ReadHalf<Box<dyn Stream>>,
    peer: Option<u32>,
) -> Result<(Identity, Arc<Tenant>, Hello), String> {
    let told = |e: io::Error| e.to_string();
    let frame = read_frame(from, MAX_HELLO).await.map_err(told)?.ok_or("no hello came")?;
    let hello = wire::hello(&frame).map_err(told)?;
    if hello.version != VERSION {
        return Err(format!(
            "the client speaks version {} of the protocol, and this service {VERSION}: use one version of ggr",
            hello.version
        ));
    }
    let who = shared.identify(&hello.token, peer).ok_or("the token is not one of this service's")?;
    let tenant = shared.tenants.tenant(&who.tenant);
    let tenant = tenant.map_err(|e| format!("the store of `{}`: {e}", who.tenant))?;
    Ok((who, tenant, hello))
}

pub(super) struct Visit {
    pub(super) shared: Arc<Shared>,
    pub(super) tenant: Arc<Tenant>,
    operator: bool,
    out: mpsc::Sender<Vec<u8>>,
    /// Blobs that the client has sent or was sent.
    has: Mutex<HashSet<BlobId>>,
    /// Held while a blob is sent: they go one at a time.
    sending: AsyncMutex<()>,
    /// Requests that are being worked on.
    open: Mutex<HashMap<u64, AbortHandle>>,
    /// To peers.
    pub(super) links: Links,
}

impl Visit {
    pub(super) async fn say(&self, message: &FromService) {
        // A client that is gone is noticed by the reader.
        let _ = self.out.send(worker::to_frame(message)).await;
    }

    /// Reads requests until the client or the service ends.
    async fn attend(self: Arc<Self>, mut from: impl AsyncRead + Unpin) {
        let mut intake = Intake::default();
        // Ends all of them when it is dropped.
        let mut requests = JoinSet::new();
        loop {
            let frame = match timeout(SILENCE, read_frame(&mut from, MAX_FRAME)).await {
                Ok(Ok(Some(frame))) => frame,
                Ok(Ok(None)) | Err(_) => return,
                Ok(Err(e)) => return self.say(&FromService::Refused(e.to_string())).await,
            };
            while requests.try_join_next().is_some() {}
            let handled = match wire::to_service(&frame) {
                Ok(request) => self.handle(request, &mut intake, &mut requests).await,
                Err(e) => Err(e),
            };
            if let Err(e) = handled {
                return self.say(&FromService::Refused(e.to_string())).await;
            }
        }
    }

    async fn handle(
        self: &Arc<Self>,
        request: ToService,
        intake: &mut Intake,
        requests: &mut JoinSet<()>,
    ) -> io::Result<()> {
        match request {
            ToService::Ping => self.say(&FromService::Pong).await,
            ToService::Missing { seq, ids } => {
                let ids = self.tenant.store.missing(&ids).map_err(io::Error::other)?;
                self.say(&FromService::Missing { seq, ids }).await;
            }
            ToService::Blob(piece) => self.take(intake, &piece)?,
            ToService::Cancel { seq } => self.cancel(seq),
            ToService::Expect { program, within_ms, .. } => {
                let within = Duration::from_millis(u64::from(within_ms));
                self.shared.pools.announce(&self.tenant, &program, within);
            }
            ToService::Run { seq, job } => {
                let visit = Arc::clone(self);
                self.begin(requests, seq, async move { visit.run(seq, job).await }).await;
            }
            ToService::Fetch { seq, ids } => {
                let visit = Arc::clone(self);
                self.begin(requests, seq, async move { visit.fetch(seq, &ids).await }).await;
            }
            ToService::Gather { seq, from, ids } => {
                let visit = Arc::clone(self);
                self.begin(requests, seq, async move { visit.gather(seq, &from, &ids).await }).await;
            }
            ToService::Warm { seq, program } => {
                let visit = Arc::clone(self);
                self.begin(requests, seq, async move { visit.warm(seq, &program).await }).await;
            }
            ToService::Drain { seq } => {
                let visit = Arc::clone(self);
                self.begin(requests, seq, async move { visit.drain(seq).await }).await;
            }
            ToService::Status { seq } => {
                let of = (!self.operator).then_some(&*self.tenant.name);
                let status = Box::new(self.shared.status(of));
                self.say(&FromService::Status { seq, status }).await;
            }
        }
        Ok(())
    }

    /// Works on a request beside the others.
    async fn begin(
        self: &Arc<Self>,
        requests: &mut JoinSet<()>,
        seq: u64,
        work: impl Future<Output = ()> + Send + 'static,
    ) {
        if requests.len() >= OPEN + self.shared.slots {
            let failure = InfraFailure::Throttled { after: Duration::from_millis(100) };
            return self.done(seq, attempt(Outcome::Infra(failure))).await;
        }
        let visit = Arc::clone(self);
        // Under the lock, so that it is there before the work can be done.
        let mut open = self.open();
        let handle = requests.spawn(async move {
            work.await;
            visit.open().remove(&seq);
        });
        open.insert(seq, handle);
    }

    fn open(&self) -> std::sync::MutexGuard<'_, HashMap<u64, AbortHandle>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cancel(&self, seq: u64) {
        if let Some(work) = self.open().remove(&seq) {
            work.abort();
        }
    }

    fn take(&self, intake: &mut Intake, piece: &Piece) -> io::Result<()> {
        if let Some(id) = intake.take(&self.tenant.store, piece, self.tenant.user)? {
            self.remember(id);
        }
        Ok(())
    }

    fn remember(&self, id: BlobId) {
        let mut has = self.has.lock().unwrap_or_else(PoisonError::into_inner);
        if has.len() >= REMEMBERED {
            has.clear();
        }
        has.insert(id);
    }

    fn remembers(&self, id: BlobId) -> bool {
        self.has.lock().unwrap_or_else(PoisonError::into_inner).contains(&id)
    }

    async fn run(&self, seq: u64, job: Job) {
        let Some(_busy) = self.shared.drain.enter() else {
            let failure = InfraFailure::Unreachable("the service takes no more jobs".to_owned());
            return self.done(seq, attempt(Outcome::Infra(failure))).await;
        };
        let attempt = self.shared.attempt(&self.tenant, job).await;
        if let Outcome::Reduced(reduction) = &attempt.outcome {
            for id in outputs(reduction) {
                if id.size() <= SMALL && !self.remembers(id) {
                    // One that cannot be read is fetched, and found missing.
                    let _ = self.send(id).await;
                }
            }
        }
        self.done(seq, attempt).await;
    }

    async fn done(&self, seq: u64, attempt: Attempt) {
        self.say(&FromService::Done { seq, attempt }).await;
    }

    async fn fetch(&self, seq: u64, ids: &[BlobId]) {
        // Outputs of jobs that have ended are still to be had while the service drains.
        let _busy = self.shared.drain.stay();
        let mut missing = Vec::new();
        for &id in ids {
            if !self.send(id).await {
                missing.push(id);
            }
        }
        self.say(&FromService::Fetched { seq, missing }).await;
    }

    /// Sends a blob of the tenant's store; says whether it could.
    async fn send(&self, id: BlobId) -> bool {
        let _turn = self.sending.lock().await;
        let Ok(file) = self.tenant.store.open(id) else { return false };
        let mut pieces = Pieces::of(id, file);
        loop {
            match pieces.next() {
                Ok(Some(piece)) => self.say(&FromService::Blob(piece)).await,
                Ok(None) => break,
                Err(_) => return false,
            }
        }
        self.remember(id);
        true
    }

    async fn warm(&self, seq: u64, program: &str) {
        let place = self.shared.pools.expect(&self.tenant, program, super::WARMED);
        let outcome = match place {
            Some(place) => {
                let warmed = place.warm().await;
                Place::close(place);
                warmed
            }
            None => Err("there is no room for it: see `--memory`".to_owned()),
        };
        self.say(&FromService::Carried { seq, outcome }).await;
    }

    async fn drain(&self, seq: u64) {
        let _asked = self.shared.drain.ask();
        let outcome = match self.operator {
            true => {
                self.shared.drain.begin();
                self.shared.drain.done().await;
                Ok(())
            }
            false => Err("this token is not an operator's".to_owned()),
        };
        self.say(&FromService::Carried { seq, outcome }).await;
    }
}

/// The blobs that a reduction names.
pub(super) fn outputs(reduction: &Reduction) -> impl Iterator<Item = BlobId> {
    reduction.outputs.values().map(|entry| entry.blob).chain([reduction.stdout, reduction.stderr])
}

/// An attempt that was none.
pub(super) fn attempt(outcome: Outcome) -> Attempt {
    Attempt { outcome, timings: Timings::default(), cost_microdollars: 0, worker: 0 }
}
