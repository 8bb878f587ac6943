//! `ggr gc`.

use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use ggr_backends::store::gc::{self, Collected};
use ggr_ir::repo::Repo;
use serde_json::json;

use super::Context;
use crate::config::ByteSize;
use crate::error::Error;

/// Remove what was not used for longest until the repository is within its limit
///
/// The limit is --max-cache. What a placeholder or a running ggr needs is kept.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {}

/// How often builds collect by themselves. A listing costs a `stat` per file, so not with each of a day's hundred builds.
const EVERY: Duration = Duration::from_secs(3600);

/// Collects after a build, if the last collection is long ago. A failure costs room on the disk, not a result.
pub(super) fn collect_now_and_then(context: &Context, repo: &Repo) {
    let marker = repo.memo_file("collected");
    let now = SystemTime::now();
    let last = std::fs::metadata(&marker).and_then(|found| found.modified());
    if last.is_ok_and(|last| now.duration_since(last).is_ok_and(|since| since < EVERY)) {
        return;
    }
    let marked = std::fs::write(&marker, b"").map_err(|e| e.to_string());
    let limit = context.config.max_cache.value.0;
    let collected = marked.and_then(|()| gc::collect(repo, limit, now, |_| {}).map_err(|e| e.to_string()));
    match collected {
        Ok(collected) if collected.removed.files > 0 => {
            let room = ByteSize(collected.removed.room);
            context.note(&format!(
                "removed {room} from the cache, what was not used for longest (`--max-cache`)"
            ));
        }
        Ok(_) => {}
        Err(e) => context.note(&format!("the cache could not be collected: {e}")),
    }
}

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
