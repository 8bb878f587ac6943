//! `ggr`: runs an unmodified build as content-addressed thunks.

use std::process::ExitCode;

mod args;
mod commands;
mod config;
mod env;
mod error;
mod exit;
mod report;

fn main() -> ExitCode {
    error::report_panics();
    let run = || commands::run(std::env::args_os().collect());
    // The panic hook has said what happened; here it only gets its exit code.
    std::panic::catch_unwind(run).unwrap_or_else(|_| exit::Kind::Bug.into())
}
