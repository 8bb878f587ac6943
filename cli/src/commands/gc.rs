//! `ggr gc`.

use std::process::ExitCode;
use std::time::SystemTime;

use ggr_backends::store::gc::{self, Collected};
use serde_json::json;

use super::Context;
use crate::config::ByteSize;
use crate::error::Error;

/// Remove what was not used for longest until the repository is within its limit
///
/// The limit is --max-cache. What a placeholder or a running ggr needs is kept.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {}

/// Collects.
pub(crate) fn run(context: &Context, _args: &Args) -> Result<ExitCode, Error> {
    let repo = context.repository()?;
    let limit = context.config.max_cache.value;
    let collected = gc::collect(&repo, limit.0, SystemTime::now(), |_| {})?;
    if context.json.is_some() {
        context.print_json(&json!({
            "limit": limit.0,
            "before": { "files": collected.before.files, "room": collected.before.room },
            "removed": { "files": collected.removed.files, "room": collected.removed.room },
            "in_use": { "files": collected.in_use.files, "room": collected.in_use.room },
            "abandoned": collected.abandoned,
        }))?;
    } else {
        context.print(&describe(&collected, limit))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn describe(collected: &Collected, limit: ByteSize) -> String {
    let left = collected.before.room.saturating_sub(collected.removed.room);
    let mut text = format!(
        "removed {} files, {}; {} left (limit {limit})\n",
        collected.removed.files,
        ByteSize(collected.removed.room),
        ByteSize(left)
    );
    if collected.in_use.files > 0 {
        let (files, room) = (collected.in_use.files, ByteSize(collected.in_use.room));
        text.push_str(&format!("kept {files} files, {room}, that are in use\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use ggr_backends::store::inventory::Usage;

    use super::*;

    #[test]
    fn what_was_removed_and_what_is_left_is_told() {
        let collected = Collected {
            before: Usage { files: 9, room: 3 << 20 },
            removed: Usage { files: 4, room: 1 << 20 },
            in_use: Usage { files: 1, room: 4096 },
            abandoned: 0,
        };
        assert_eq!(
            describe(&collected, ByteSize(1 << 20)),
            "removed 4 files, 1 MiB; 2 MiB left (limit 1 MiB)\nkept 1 files, 4 KiB, that are in use\n"
        );
    }
}
