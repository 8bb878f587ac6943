//! `ggr worker serve`: thunks of others, run here. A service takes jobs and blobs from clients
//! ([`RemoteBackend`](crate::remote::RemoteBackend)), and gives each job a place that is ready.
//!
//! ```text
//! client ═ frames ═► visit ─► pools (keep-alive) ─► place: a local pool or guests ─► worker ─► sandbox ─► program
//!                      │                              │
//!                      └── blobs ─► the tenant's store ◄── outputs, at once: the next thunk of the tenant finds them here
//! ```
//!
//! **Invariant:** nobody gets past [`Hello`](ggr_ir::protocol::service::Hello) without a token, or, over a Unix socket, without
//! being the user who runs the service (or root). **Invariant:** a tenant's requests see the tenant's store and no other
//! ([`tenants`]).

pub(crate) mod address;
mod drain;
mod packing;
mod peers;
mod place;
mod pools;
mod tenants;
mod tokens;
mod turns;
mod visit;
pub(crate) mod wire;

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use ggr_ir::protocol::service::Status;
use ggr_ir::{Attempt, InfraFailure, Job, Outcome};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

pub use address::{Address, BadAddress};
use address::{Stream, acceptor};
use drain::Drain;
pub use place::{Guests, Isolation};
pub use pools::Memory;
use pools::Pools;
use tenants::Tenants;
pub use tenants::{Sharing, Tenant};
use tokens::Identity;
pub use tokens::{Tokens, TokensError};
use turns::Turns;
use visit::attempt;

/// The tenant of the user who runs the service, over a Unix socket.
const OWN: &str = "local";

/// Connections at one time.
const CONNECTIONS: usize = 1024;

/// How long what was warmed by hand is kept at least.
const WARMED: Duration = Duration::from_secs(3600);

/// No job runs longer, whatever its client says.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// What is written when a service ends has this long to go out.
const FLUSH: Duration = Duration::from_secs(5);

/// Stores are collected so often.
const COLLECT: Duration = Duration::from_secs(3600);

/// After an error of `accept` (no descriptors left) it is tried again then.
const PAUSE: Duration = Duration::from_millis(50);

/// How a service is started.
#[derive(Debug)]
pub struct ServiceOptions {
    /// Where it listens.
    pub listen: Address,
    /// The certificates and the private key for TLS (PEM).
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// Who may come; needed unless it listens at a Unix socket.
    pub tokens: Option<Tokens>,
    /// Where stores of tenants are.
    pub dir: PathBuf,
    /// Whether tenants share a store.
    pub sharing: Sharing,
    /// How many jobs run side by side; at least 1.
    pub slots: usize,
    /// How they are kept apart.
    pub isolation: Isolation,
    /// What idle places take.
    pub memory: Memory,
    /// Services that this one may fetch from when a client asks it to.
    pub peers: Vec<Address>,
    /// The certificates that peers are trusted by (PEM), for TLS.
    pub authority: Option<PathBuf>,
    /// Bytes that each tenant's store may take; what was used longest ago goes first.
    pub store_limit: u64,
}

/// What all connections share.
struct Shared {
    tokens: Tokens,
    tenants: Tenants,
    pools: Arc<Pools>,
    slots: usize,
    turns: Arc<Turns>,
    drain: Drain,
    instance: u64,
    began: Instant,
    running: AtomicU32,
    waiting: AtomicU32,
    answered: AtomicU64,
    writers: Mutex<JoinSet<()>>,
    /// Whom this service may fetch from, and the certificates that they are trusted by.
    peers: (Vec<Address>, Option<PathBuf>),
    store_limit: u64,
}

/// A service that listens.
#[derive(Debug)]
pub struct Service {
    listener: Listener,
    shared: Arc<Shared>,
    address: Address,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("pools", &self.pools).finish_non_exhaustive()
    }
}

enum Listener {
    Unix(UnixListener, PathBuf),
    Tcp(TcpListener, Option<TlsAcceptor>),
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Unix(..) => "Unix",
            Self::Tcp(..) => "Tcp",
        })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Self::Unix(_, path) = self {
            let _ = fs::remove_file(path);
        }
    }
}

impl Service {
    /// Opens the stores and listens. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// In words for the user.
    pub async fn open(options: ServiceOptions) -> io::Result<Self> {
        let ServiceOptions {
            listen,
            certificate,
            tokens,
            dir,
            sharing,
            slots,
            isolation,
            memory,
            peers,
            authority,
            store_limit,
        } = options;
        if tokens.is_none() && !matches!(listen, Address::Unix(_)) {
            return Err(io::Error::other("a service that listens on the network needs a file of tokens"));
        }
        let slots = slots.max(1);
        let tenants = Tenants::new(&dir, sharing)
            .map_err(|e| io::Error::new(e.kind(), format!("`{}`: {e}", dir.display())))?;
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let shared = Arc::new(Shared {
            tokens: tokens.unwrap_or_default(),
            tenants,
            pools: Arc::new(Pools::new(isolation, slots, memory)),
            slots,
            turns: Turns::new(slots),
            drain: Drain::new(),
            instance: u64::try_from(since.as_nanos()).unwrap_or(u64::MAX),
            began: Instant::now(),
            running: AtomicU32::new(0),
            waiting: AtomicU32::new(0),
            answered: AtomicU64::new(0),
            writers: Mutex::default(),
            peers: (peers, authority),
            store_limit,
        });
        let (listener, address) = bind(listen, certificate).await?;
        Ok(Self { listener, shared, address })
    }

    /// Where it listens: with the port that the kernel chose, if it was to choose one.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Why tenants have no user ids of their own; nothing if they have.
    pub fn one_user(&self) -> Option<&'static str> {
        self.shared.tenants.one_user()
    }

    /// A way to have it [drained](Stopper::drain) from elsewhere.
    pub fn stopper(&self) -> Stopper {
        Stopper(Arc::clone(&self.shared))
    }

    /// Serves until it is drained, then ends all places. Dropping the future ends at once: jobs are lost.
    pub async fn run(self) {
        let Self { listener, shared, .. } = self;
        // They end when this is dropped.
        let mut tasks = JoinSet::new();
        tasks.spawn(Arc::clone(&shared.pools).keep());
        tasks.spawn(accept(listener, Arc::clone(&shared)));
        tasks.spawn(collect(Arc::clone(&shared)));
        shared.drain.wait_begun().await;
        shared.drain.done().await;
        let _ = tokio::time::timeout(FLUSH, shared.drain.told()).await;
        // Its connections go with it; what they have still to say is in the writers' queues.
        tasks.shutdown().await;
        let mut writers = std::mem::take(&mut *shared.writers.lock().unwrap_or_else(PoisonError::into_inner));
        let _ = tokio::time::timeout(FLUSH, async { while writers.join_next().await.is_some() {} }).await;
        let _ = tokio::task::spawn_blocking(move || shared.pools.clear()).await;
    }
}

/// Drains a service.
#[derive(Debug, Clone)]
pub struct Stopper(Arc<Shared>);

impl Stopper {
    /// No more jobs are taken; the service ends when those that run have ended.
    pub fn drain(&self) {
        self.0.drain.begin();
    }
}

async fn bind(address: Address, certificate: Option<(PathBuf, PathBuf)>) -> io::Result<(Listener, Address)> {
    let told = |address: &Address| {
        let address = address.to_string();
        move |e: io::Error| io::Error::new(e.kind(), format!("`{address}`: {e}"))
    };
    match &address {
        Address::Unix(path) => {
            remove_stale(path).await?;
            let listener = UnixListener::bind(path).map_err(told(&address))?;
            fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
            Ok((Listener::Unix(listener, path.clone()), address))
        }
        Address::Tcp(host) | Address::Tls(host) => {
            let tls = match (&address, certificate) {
                (_, Some((certificate, key))) => Some(acceptor(&certificate, &key)?),
                (Address::Tls(_), None) => {
                    return Err(io::Error::other("https needs a certificate and its key"));
                }
                _ => None,
            };
            let listener = TcpListener::bind(host).await.map_err(told(&address))?;
            let bound = listener.local_addr()?.to_string();
            let address = if tls.is_some() { Address::Tls(bound) } else { Address::Tcp(bound) };
            Ok((Listener::Tcp(listener, tls), address))
        }
    }
}

/// Removes the socket of a service that was killed; one that is alive answers.
async fn remove_stale(path: &Path) -> io::Result<()> {
    let socket = fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket());
    if !socket {
        return Ok(());
    }
    match tokio::net::UnixStream::connect(path).await {
        Ok(_) => Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            format!("a service listens at `{}` already", path.display()),
        )),
        Err(_) => fs::remove_file(path),
    }
}

/// Takes connections for ever; all of them end with it.
async fn accept(listener: Listener, shared: Arc<Shared>) {
    let mut visits = JoinSet::new();
    loop {
        while visits.try_join_next().is_some() {}
        if visits.len() >= CONNECTIONS {
            visits.join_next().await;
        }
        let shared = Arc::clone(&shared);
        let taken = match &listener {
            Listener::Unix(listener, _) => listener.accept().await.map(|(stream, _)| {
                let peer = stream.peer_cred().ok().map(|peer| peer.uid());
                visits.spawn(visit::serve(shared, Box::new(stream), peer));
            }),
            Listener::Tcp(listener, tls) => listener.accept().await.map(|(stream, _)| {
                let _ = stream.set_nodelay(true);
                let tls = tls.clone();
                visits.spawn(async move {
                    let stream: Box<dyn Stream> = match tls {
                        None => Box::new(stream),
                        Some(tls) => match tokio::time::timeout(FLUSH, tls.accept(stream)).await {
                            Ok(Ok(stream)) => Box::new(stream),
                            _ => return,
                        },
                    };
                    visit::serve(shared, stream, None).await;
                });
            }),
        };
        if taken.is_err() {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Keeps tenants' stores within their limit, now and every [`COLLECT`], for ever.
async fn collect(shared: Arc<Shared>) {
    loop {
        let shared = Arc::clone(&shared);
        // What fails now is tried again the next time; a full disk is told by the jobs.
        let _ = tokio::task::spawn_blocking(move || shared.tenants.collect(shared.store_limit)).await;
        tokio::time::sleep(COLLECT).await;
    }
}

impl Shared {
    /// Who shows this token, or is at the other end of a Unix socket.
    fn identify(&self, token: &str, peer: Option<u32>) -> Option<Identity> {
        let own = rustix::process::geteuid().as_raw();
        match peer {
            Some(user) if token.is_empty() && (user == own || user == 0) => {
                Some(Identity { tenant: OWN.to_owned(), operator: true })
            }
            _ => self.tokens.identify(token),
        }
    }

    /// Writes to a connection beside it, until all is written.
    fn write(&self, writing: impl Future<Output = ()> + Send + 'static) {
        let mut writers = self.writers.lock().unwrap_or_else(PoisonError::into_inner);
        while writers.try_join_next().is_some() {}
        writers.spawn(writing);
    }

    async fn attempt(&self, tenant: &Arc<Tenant>, mut job: Job) -> Attempt {
        let received = Instant::now();
        job.limits.wall = job.limits.wall.min(LONGEST);
        let turn = {
            let _waiting = Count::up(&self.waiting);
            self.turns.take(&tenant.name).await
        };
        let queued = received.elapsed();
        let _running = Count::up(&self.running);
        let lent = match self.pools.lend(tenant, &job) {
            Ok(lent) => lent,
            Err(why) => return attempt(Outcome::Infra(InfraFailure::Sandbox(why))),
        };
        let mut attempt = lent.run(&job).await;
        if let Outcome::Infra(InfraFailure::InputsMissing(lost)) = &attempt.outcome {
            // They were seen, and have been collected since: the client is to be told so when it asks.
            lost.iter().for_each(|id| tenant.store.forget(*id));
        }
        attempt.timings.queued += queued;
        drop((lent, turn));
        self.answered.fetch_add(1, Ordering::Relaxed);
        attempt
    }

    fn status(&self, of: Option<&str>) -> Status {
        let (usage, idle_bytes, memory) = self.pools.usage();
        Status {
            isolation: self.pools.isolation().to_owned(),
            slots: u32::try_from(self.slots).unwrap_or(u32::MAX),
            running: self.running.load(Ordering::Relaxed),
            waiting: self.waiting.load(Ordering::Relaxed),
            answered: self.answered.load(Ordering::Relaxed),
            draining: self.drain.begun(),
            up_s: self.began.elapsed().as_secs_f64(),
            idle_bytes,
            memory,
            idle_seconds: usage.idle_seconds,
            evicted: usage.evicted,
            pools: self.pools.status(of),
        }
    }
}

/// Counts one more until it is dropped.
struct Count<'a>(&'a AtomicU32);

impl<'a> Count<'a> {
    fn up(of: &'a AtomicU32) -> Self {
        of.fetch_add(1, Ordering::Relaxed);
        Self(of)
    }
}

impl Drop for Count<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
