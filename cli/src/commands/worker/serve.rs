//! `ggr worker serve`: sandboxes for the thunks of others, kept ready.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use futures_util::future::{Either, select};
use ggr_backends::service::{Address, Isolation, Memory, Service, ServiceOptions, Sharing, Tokens};
use tokio::signal::unix::{SignalKind, signal};

use super::{Context, no_guests};
use crate::config::{self, ByteSize};
use crate::error::Error;
use crate::microvm;
use crate::run::runtime;
use crate::service;

/// What an idle pool of sandboxes takes: the worker, its zygote, and prepared roots (`ggr bench density`).
const SANDBOX: u64 = 16 << 20;

/// What an idle guest has in memory of its own, as a part of all of it: what it does not change is its template's.
const GUEST_PART: u64 = 4;

/// Idle places may take this part of the machine's memory, unless told otherwise.
const MEMORY_PART: u64 = 4;

/// Run thunks of others in sandboxes that are kept ready
///
/// `--slots` says how many run side by side, `--isolation sandbox` or `microvm` in what, `--dir` where the tenants' stores
/// are, `--max-cache` what each may take. On SIGTERM what runs is finished first; SIGINT, or a second SIGTERM, ends at once.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Where to listen: `unix:PATH`, or HOST:PORT, which needs a token file [default: a socket in the directory]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<Address>,
    /// Who may come: a file with a token, or with a line `TENANT TOKEN [operator]` for each tenant
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The service's certificate, and those above it (PEM): HOST:PORT then speaks TLS
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The private key of the certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// A service that this one may fetch inputs from when a client asks it to, as the client names it; may be given again
    #[arg(long = "peer", value_name = "ADDRESS")]
    peers: Vec<Address>,
    /// What idle places may take together, as 2G [default: a quarter of the machine's memory]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    memory: Option<ByteSize>,
    /// One store for all tenants: each may read what another has sent or made, if it knows the hash
    #[arg(long)]
    shared_store: bool,
}

fn size(text: &str) -> Result<ByteSize, String> {
    ByteSize::parse(text).ok_or_else(|| "not a size such as `2G`".to_owned())
}

/// Serves until told to end.
pub(super) fn run(context: &Context, args: &Args) -> Result<ExitCode, Error> {
    runtime()?.block_on(serve(context, args))
}

async fn serve(context: &Context, args: &Args) -> Result<ExitCode, Error> {
    let dir = service::directory(context)?;
    std::fs::create_dir_all(&dir).map_err(Error::io("create", &dir))?;
    let tokens = args.token_file.as_deref().map(Tokens::read).transpose();
    let tokens = tokens.map_err(|e| failed("read the tokens", io::Error::other(e)))?;
    let (isolation, slots, memory) = places(context, args, &dir).await?;
    let listen = match &args.listen {
        Some(address) => address.clone(),
        None => service::own_socket(context)?,
    };
    let opened = Service::open(ServiceOptions {
        listen,
        certificate: args.tls_cert.clone().zip(args.tls_key.clone()),
        tokens,
        dir,
        sharing: if args.shared_store { Sharing::Shared } else { Sharing::Apart },
        slots,
        isolation,
        memory,
        peers: args.peers.clone(),
        authority: context.config.worker_ca.value.clone(),
        store_limit: context.config.max_cache.value.0,
    });
    let service = opened.await.map_err(|e| failed("serve", e))?;
    if let Some(why) = service.one_user() {
        context.note(&format!("tenants' sandboxes run as one user: {why}"));
    }
    if let Address::Tcp(host) = service.address()
        && !loopback(host)
    {
        context.note(
            "tokens and files cross the network in the clear; `--tls-cert` and `--tls-key` encrypt them",
        );
    }
    context.print(&format!("listening at {}\n", service.address()))?;
    until_told(service).await.map_err(|e| failed("wait for signals", e))
}

fn failed(doing: &str, source: io::Error) -> Error {
    Error::Host { doing: doing.into(), source }
}

fn loopback(host: &str) -> bool {
    host.parse::<std::net::SocketAddr>().is_ok_and(|at| at.ip().is_loopback())
}

/// What jobs run in, how many of them, and what idle places take.
async fn places(context: &Context, args: &Args, dir: &Path) -> Result<(Isolation, usize, Memory), Error> {
    let slots = context.config.slots.value.get();
    let bound = args.memory.map_or_else(|| machine_memory() / MEMORY_PART, |size| size.0);
    match context.config.isolation.value {
        config::Isolation::Microvm => {
            // Guests that run are no idle places, but they take the same memory.
            let fit = usize::try_from(bound / (microvm::MEMORY / GUEST_PART)).unwrap_or(usize::MAX).max(1);
            let slots = slots.min(fit);
            let guests = microvm::guests(context, slots, dir).await.map_err(|why| no_guests(&why))?;
            let each = microvm::MEMORY / GUEST_PART * slots as u64;
            Ok((Isolation::Microvm(guests), slots, Memory { each, bound: bound.max(each) }))
        }
        config::Isolation::Plain => Err(Error::Usage {
            message: "a service keeps its thunks apart".into(),
            hint: "`--isolation sandbox` or `--isolation microvm`".into(),
        }),
        _ => {
            let command = ["/proc/self/exe", "worker", "--isolation", "namespaces"];
            let command = command.map(Into::into).to_vec();
            Ok((Isolation::Sandbox(command), slots, Memory { each: SANDBOX, bound }))
        }
    }
}

fn machine_memory() -> u64 {
    let info = rustix::system::sysinfo();
    info.totalram.saturating_mul(u64::from(info.mem_unit))
}

async fn until_told(service: Service) -> io::Result<ExitCode> {
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    let stopper = service.stopper();
    let asked = async move {
        let gentle = {
            let (term, int) = (std::pin::pin!(term.recv()), std::pin::pin!(int.recv()));
            matches!(select(term, int).await, Either::Left(_))
        };
        if gentle {
            stopper.drain();
            select(std::pin::pin!(term.recv()), std::pin::pin!(int.recv())).await;
        }
    };
    let running = std::pin::pin!(service.run());
    Ok(match select(running, std::pin::pin!(asked)).await {
        Either::Left(_) => ExitCode::SUCCESS,
        // Workers end with this process.
        Either::Right(_) => ExitCode::from(130),
    })
}
