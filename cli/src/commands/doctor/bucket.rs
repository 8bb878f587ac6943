//! The bucket that `--store` names: whether it can be reached, and what it does not allow.

use ggr_backends::store::S3Error;
use ggr_backends::store::shared::{Access, Address, Examined, OpenError, examine};

use super::Finding;
use crate::commands::Context;
use crate::config::{StoreMode, StorePlace};

/// Asks it for each thing that a build would.
pub(super) fn shared_store(context: &Context) -> Finding {
    let config = &context.config;
    let Some(StorePlace::Bucket(address)) = &config.store.value else {
        return Finding::ok("none; `--store s3://BUCKET/PREFIX` shares results with a team");
    };
    let access = match config.store_mode.value {
        StoreMode::ReadWrite => Access::ReadWrite,
        StoreMode::ReadOnly => Access::ReadOnly,
    };
    match examine(address, config.endpoint_url.value.as_deref(), access) {
        Ok(examined) => judge(address, access, &examined),
        Err(OpenError::Bucket(error)) => Finding::missing(error.to_string(), error.hint()),
        Err(error @ OpenError::Threads(_)) => Finding::missing(error.to_string(), "allow more threads"),
    }
}

fn judge(address: &Address, access: Access, examined: &Examined) -> Finding {
    let Examined { endpoint, segments, refused } = examined;
    let mode = if access == Access::ReadWrite { "read-write" } else { "read-only" };
    if refused.is_empty() {
        return Finding::ok(format!("{address} at {endpoint}, {mode}, {segments} objects in its index"));
    }
    let actions: Vec<String> = refused.iter().map(|error| format!("`{}`", error.action)).collect();
    let found = format!("{address} at {endpoint}: these credentials do not allow {}", actions.join(", "));
    let needed = |error: &&S3Error| error.action != "s3:DeleteObject";
    match refused.iter().find(needed) {
        None => {
            Finding::degraded(found, "builds work; allow it, so that the index can be kept in few objects")
        }
        Some(error) if error.action == "s3:PutObject" => {
            Finding::missing(found, format!("{}; or build with `--store-mode read-only`", error.hint()))
        }
        Some(error) => Finding::missing(found, error.hint()),
    }
}
