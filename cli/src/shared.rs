//! The store that a session shares with others: opened before the build, closed after it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::select_all;
use ggr_backends::store::shared::{Access, Left, SharedOptions, SharedStore, TieredCache};
use ggr_backends::store::{FsReductionCache, FsStore};
use ggr_ir::ReductionCache;
use ggr_ir::repo::Repo;
use tokio::signal::unix::{SignalKind, signal};

use crate::commands::Context;
use crate::config::{StoreMode, StorePlace};
use crate::error::Error;
use crate::report::{Event, Reporter};

/// How many seconds lie between two lines about uploads that are still on their way.
const EVERY: u64 = 5;

/// The cache of a session.
pub(crate) struct Caches {
    /// What is asked.
    pub(crate) cache: Arc<dyn ReductionCache>,
    /// The same, if a bucket is behind it.
    pub(crate) tiered: Option<Arc<TieredCache>>,
}

/// Opens the reductions below `root`, and the bucket behind them that the configuration names.
///
/// # Errors
/// If the bucket cannot be used.
pub(crate) fn open(
    context: &Context,
    repo: &Repo,
    root: &Path,
    store: &Arc<FsStore>,
    reporter: &Reporter,
) -> Result<Caches, Error> {
    let cache: Arc<dyn ReductionCache> = Arc::new(FsReductionCache::new(root, store.clone()));
    let config = &context.config;
    let Some(StorePlace::Bucket(address)) = &config.store.value else {
        return Ok(Caches { cache, tiered: None });
    };
    let reporter = reporter.clone();
    let options = SharedOptions {
        address: address.clone(),
        endpoint: config.endpoint_url.value.clone(),
        access: match config.store_mode.value {
            StoreMode::ReadWrite => Access::ReadWrite,
            StoreMode::ReadOnly => Access::ReadOnly,
        },
        rate: config.store_bandwidth.value.0,
        memo: repo.memo_file("shared"),
        local: Arc::clone(store),
        notice: Box::new(move |text| reporter.report(&Event::Note { text })),
    };
    let opened = tokio::task::block_in_place(|| SharedStore::open(options));
    let opened = opened.map_err(|source| Error::SharedStore { address: address.to_string(), source })?;
    let tiered = TieredCache::new(cache, opened);
    let tiered = Arc::new(tiered.map_err(|source| Error::Host { doing: "start threads".into(), source })?);
    Ok(Caches { cache: Arc::clone(&tiered) as Arc<dyn ReductionCache>, tiered: Some(tiered) })
}

/// Waits for what is still on its way to the bucket, no longer than `limit` or the user wants, and reports what the bucket
/// was asked and did.
pub(crate) async fn close(
    context: &Context,
    tiered: &Arc<TieredCache>,
    limit: Duration,
    reporter: &Reporter,
) {
    let stopped = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&stopped);
    let interrupted = tokio::spawn(async move {
        told_to_stop().await;
        stop.store(true, Ordering::Relaxed);
    });
    let left = tokio::task::block_in_place(|| flush(context, tiered, limit, &stopped));
    interrupted.abort();
    let shared = tiered.shared();
    if left.overflowed + left.not_stored > 0 && shared.is_writable() {
        let text = format!(
            "{} results are not in {} yet ({} did not fit into the queue); the next build that uses them uploads them",
            left.overflowed + left.not_stored,
            shared.address(),
            left.overflowed
        );
        reporter.report(&Event::Note { text });
    }
    let counts = shared.counts();
    reporter.report(&Event::Shared {
        store: shared.address().to_string(),
        hits: counts.hits,
        repeated: counts.repeated,
        stored: counts.stored,
        left: left.overflowed + left.not_stored,
        down: counts.down,
        up: counts.up,
        requests: counts.requests,
    });
}

/// Waits for a signal that asks ggr to end.
async fn told_to_stop() {
    let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
    let mut signals: Vec<_> = kinds.into_iter().filter_map(|kind| signal(kind).ok()).collect();
    if signals.is_empty() {
        std::future::pending::<()>().await;
    }
    select_all(signals.iter_mut().map(|signal| Box::pin(signal.recv()))).await;
}

fn flush(context: &Context, tiered: &TieredCache, limit: Duration, stopped: &AtomicBool) -> Left {
    let address = tiered.shared().address();
    let mut seconds = 0;
    tiered.finish(limit, |open| {
        if seconds % EVERY == 0 {
            context.note(&format!(
                "uploading to {address}: {open} results left (Ctrl-C leaves them to the next build)"
            ));
        }
        seconds += 1;
        !stopped.load(Ordering::Relaxed)
    })
}
