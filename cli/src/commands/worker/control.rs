//! `ggr worker status`, `warm` and `drain`: what an operator asks of a service.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ggr_backends::remote::{Control, ControlError};
use ggr_backends::service::Address;
use ggr_ir::protocol::service::{PoolStatus, Status};
use serde_json::json;

use super::Context;
use crate::config::ByteSize;
use crate::error::Error;
use crate::run::runtime;
use crate::service;

/// Show a service's pools: what is warm, why, and how often that was right
#[derive(clap::Args, Debug)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    at: At,
}

/// Have a service make places for programs ready now
#[derive(clap::Args, Debug)]
pub(super) struct WarmArgs {
    #[command(flatten)]
    at: At,
    /// Show for each program how long it is kept ready, and why
    #[arg(long)]
    explain: bool,
    /// Programs, as `gcc` or `/usr/bin/ar`
    #[arg(value_name = "PROGRAM", required_unless_present = "explain")]
    programs: Vec<PathBuf>,
}

/// Have a service take no more thunks, finish those that run, and end
#[derive(clap::Args, Debug)]
pub(super) struct DrainArgs {
    #[command(flatten)]
    at: At,
}

/// Which service.
#[derive(clap::Args, Debug)]
struct At {
    /// The service's address [default: the first of the setting `worker`, else the socket in the directory]
    #[arg(long, value_name = "ADDRESS")]
    at: Option<Address>,
}

impl At {
    async fn open(&self, context: &Context) -> Result<Control, Error> {
        let address = match self.at.as_ref().or(context.config.worker.value.0.first()) {
            Some(address) => address.clone(),
            None => service::own_socket(context)?,
        };
        Control::open(&service::options(context, &address)?).await.map_err(failed)
    }
}

fn failed(error: ControlError) -> Error {
    Error::Host { doing: "ask the service".into(), source: io::Error::other(error) }
}

/// Prints what a service says of itself.
pub(super) fn status(context: &Context, args: &StatusArgs) -> Result<ExitCode, Error> {
    let status = runtime()?.block_on(async {
        let control = args.at.open(context).await?;
        control.status().await.map_err(failed)
    })?;
    if context.json.is_some() {
        context.print_json(&json!(status))?;
    } else {
        context.print(&told(&status))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Has places made ready.
pub(super) fn warm(context: &Context, args: &WarmArgs) -> Result<ExitCode, Error> {
    let status = runtime()?.block_on(async {
        let control = args.at.open(context).await?;
        for program in &args.programs {
            let file = found(context, program)?;
            control.warm(&file.to_string_lossy()).await.map_err(failed)?;
        }
        control.status().await.map_err(failed)
    })?;
    if args.explain && context.json.is_some() {
        context.print_json(&json!(status.pools))?;
    } else if args.explain {
        context.print(&pools(&status.pools))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Has a service end.
pub(super) fn drain(context: &Context, args: &DrainArgs) -> Result<ExitCode, Error> {
    runtime()?.block_on(async {
        let control = args.at.open(context).await?;
        control.drain().await.map_err(failed)
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The program's real file, which is what thunks name.
fn found(context: &Context, program: &Path) -> Result<PathBuf, Error> {
    let path = context.env.value("PATH").unwrap_or_default();
    let file = if program.components().count() > 1 {
        Some(context.dir.join(program))
    } else {
        std::env::split_paths(path).map(|dir| dir.join(program)).find(|file| file.is_file())
    };
    file.and_then(|file| file.canonicalize().ok())
        .ok_or_else(|| Error::CommandNotFound(program.display().to_string()))
}

fn told(status: &Status) -> String {
    let mut text = format!(
        "{} slots of {}, {} running, {} waiting, {} answered, up {:.0} s{}\n",
        status.slots,
        status.isolation,
        status.running,
        status.waiting,
        status.answered,
        status.up_s,
        if status.draining { ", draining" } else { "" }
    );
    let _ = writeln!(
        text,
        "idle places take {} of {}, {:.0} s idle in all, {} given up for others",
        ByteSize(status.idle_bytes),
        ByteSize(status.memory),
        status.idle_seconds,
        status.evicted
    );
    text + &pools(&status.pools)
}

fn pools(pools: &[PoolStatus]) -> String {
    let mut text = String::new();
    for pool in pools {
        let wanted = pool.hits + pool.misses;
        let rate = (pool.hits * 100).checked_div(wanted);
        let rate = rate.map_or_else(|| "-".to_owned(), |percent| format!("{percent} %"));
        let _ = writeln!(
            text,
            "{} {}: {}{}, {} running, ready {} of {wanted} times ({rate}), {} of them because a build announced it; {}: {}kept for \
             {:.0} s",
            pool.tenant,
            pool.program,
            if pool.warm { "warm" } else { "cold" },
            if pool.expected { " (announced by a build)" } else { "" },
            pool.running,
            pool.hits,
            pool.foreseen,
            pool.mode,
            if pool.head_s > 0.0 {
                format!("given up, ready again after {:.0} s, ", pool.head_s)
            } else {
                String::new()
            },
            pool.tail_s
        );
    }
    text
}
