//! Where a service is, and how it is spoken to: its directory, its socket, the token.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use ggr_backends::remote::{PATIENCE, RemoteOptions};
use ggr_backends::service::Address;

use crate::commands::Context;
use crate::config::Origin;
use crate::error::Error;

/// Longer tokens are refused by services anyhow; the rest of the file is not read.
const TOKEN_FILE_MAX: u64 = 4096;

/// The directory of a service: `--dir`, else `/var/lib/ggr-worker` for root, else in the user's cache.
pub(crate) fn directory(context: &Context) -> Result<PathBuf, Error> {
    let given = &context.config.dir;
    if let (Some(dir), Origin::Flag(_)) = (&given.value, &given.origin) {
        return Ok(dir.clone());
    }
    if rustix::process::geteuid().is_root() {
        return Ok("/var/lib/ggr-worker".into());
    }
    let cache = context.env.cache_home().ok_or_else(|| Error::Usage {
        message: "there is no directory for the service: HOME is not set".into(),
        hint: "`--dir DIR` names one".into(),
    })?;
    Ok(cache.join("ggr/worker"))
}

/// The socket of the service of this directory.
pub(crate) fn own_socket(context: &Context) -> Result<Address, Error> {
    Ok(Address::Unix(directory(context)?.join("socket")))
}

/// How the service at this address is spoken to.
pub(crate) fn options(context: &Context, address: &Address) -> Result<RemoteOptions, Error> {
    Ok(RemoteOptions {
        address: address.clone(),
        token: token(context)?,
        authority: context.config.worker_ca.value.clone(),
        packed: context.config.worker_packed.value,
        patience: PATIENCE,
    })
}

/// `GGR_WORKER_TOKEN`, else what the token's file holds, else none: over a Unix socket the kernel says who is there.
fn token(context: &Context) -> Result<String, Error> {
    if let Some(token) = context.env.value("GGR_WORKER_TOKEN") {
        return Ok(token.to_string_lossy().trim().to_owned());
    }
    let Some(file) = &context.config.worker_token_file.value else { return Ok(String::new()) };
    let meta = fs::metadata(file).map_err(Error::io("read", file))?;
    if meta.mode() & 0o077 != 0 {
        context.note(&format!("`{}` may be read by others; `chmod 600` it", file.display()));
    }
    if meta.len() > TOKEN_FILE_MAX {
        return Err(Error::Usage {
            message: format!("`{}` is too long to be a token", file.display()),
            hint: "it holds the token and nothing else".into(),
        });
    }
    Ok(fs::read_to_string(file).map_err(Error::io("read", file))?.trim().to_owned())
}
