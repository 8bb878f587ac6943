//! One run of ggr: opens what a session needs, runs a build or a single call in it, and puts everything away.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use ggr_backends::backend::Backend;
use ggr_backends::drive::{Driver, DriverHandle, Failures, Options as DriverOptions};
use ggr_backends::durations::Durations;
use ggr_backends::memo::StatMemo;
use ggr_backends::store::{FsReductionCache, FsStore};
use ggr_ir::repo::{Journal, Repo};
use ggr_ir::{Limits, ReductionCache};
use ggr_models::Models;

use crate::coordinator::keeper::Keeper;
use crate::coordinator::{Parts, Session, heal};

/// An opened session with what has to be put away after it.
pub(crate) struct Workshop {
    pub(crate) repo: Repo,
    pub(crate) session: Arc<Session>,
    pub(crate) keeper: Keeper,
    driver: DriverHandle,
    memo: Arc<StatMemo>,
}

impl Workshop {
    /// temp
    pub(crate) async fn open() -> Result<Self, Box<dyn std::error::Error>> {
        let repo = Repo::find_or_create(None, &std::env::current_dir()?)?;
        let journal = Journal::start(&repo)?;
        heal::sweep(&journal)?;
        let store = Arc::new(FsStore::new(repo.root()));
        let cache: Arc<dyn ReductionCache> = Arc::new(FsReductionCache::new(repo.root(), store.clone()));
        let memo = Arc::new(StatMemo::new(repo.memo_file("blobs")));
        let (doubts, mut inbox) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move { while inbox.recv().await.is_some() {} });
        let options = DriverOptions {
            cache: Some(cache.clone()),
            failures: Failures::Ask(doubts),
            ..Default::default()
        };
        let backends: Vec<Arc<dyn Backend>> = vec![];
        let driver = Driver::spawn(backends, options);
        let session = Session::new(Parts {
            store,
            cache,
            memo: memo.clone(),
            models: Models::standard(),
            driver: driver.clone(),
            slots: 2,
            limits: Limits::default(),
            lazy: true,
            journal,
        });
        let keeper = Keeper::start(repo.root())?;
        Ok(Self { repo, session, keeper, driver, memo })
    }
}
