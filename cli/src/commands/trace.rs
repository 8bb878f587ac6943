//! `ggr trace COMMAND…`; what it does differently from a build is in `run.rs` and the coordinator.

use std::ffi::OsString;

/// Run a build without running its tools: leave placeholders where their outputs will be
///
/// `ggr force` makes them real. What the build itself reads, as a generated header, is made at once.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The build's command
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}
