//! `ggr`: runs an unmodified build as content-addressed thunks.

use std::process::ExitCode;

mod args;
mod capture;
mod commands;
mod config;
mod coordinator;
mod env;
mod error;
mod exit;
mod hidden;
mod intercept;
mod microvm;
mod places;
mod report;
mod run;
mod service;
mod shared;

/// A build's thunks are made by one thread and let go by another, which glibc's allocator is slow at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    error::report_panics();
    let args: Vec<_> = std::env::args_os().collect();
    if let Some(arguments) = microvm::guest(&args) {
        ggr_shim::guest::run(&arguments);
    }
    if let Some(code) = hidden::dispatch(args.get(1..).unwrap_or_default()) {
        return code.into();
    }
    // The panic hook has said what happened; here it only gets its exit code.
    std::panic::catch_unwind(|| commands::run(args)).unwrap_or_else(|_| exit::Kind::Bug.into())
}
