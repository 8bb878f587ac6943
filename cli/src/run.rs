//! One run of ggr: opens what a session needs, runs a build or a single call in it, and puts everything away.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ggr_backends::backend::Backend;
use ggr_backends::drive::{Driver, DriverHandle, Failures, Options as DriverOptions};
use ggr_backends::durations::Durations;
use ggr_backends::local::LocalBackend;
use ggr_backends::memo::StatMemo;
use ggr_backends::store::{FsReductionCache, FsStore};
use ggr_ir::repo::{Journal, Repo};
use ggr_ir::{Limits, ReductionCache};
use ggr_models::Models;

use crate::coordinator::keeper::Keeper;
use crate::coordinator::{Parts, Session, heal};

/// What the user chose, from flags, environment and files.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// The repository, if it is named.
    pub(crate) repo: Option<PathBuf>,
    /// How many thunks run here side by side.
    pub(crate) slots: usize,
    /// Whether calls may be answered before they ran.
    pub(crate) lazy: bool,
}

/// An opened session with what has to be put away after it.
pub(crate) struct Workshop {
    pub(crate) repo: Repo,
    pub(crate) session: Arc<Session>,
    pub(crate) keeper: Keeper,
    driver: DriverHandle,
    memo: Arc<StatMemo>,
    durations: Arc<Mutex<Durations>>,
}
