//! A worker by itself: `worker ROOT SLOTS [auto|namespaces|plain]`, the coordinator's socket on descriptor 0.

use std::process::ExitCode;

use ggr_shim::worker::{Isolation, WorkerOptions, serve};

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let (Some(root), Some(slots)) = (args.next(), args.next().and_then(|slots| slots.parse().ok())) else {
        eprintln!("usage: worker ROOT SLOTS [auto|namespaces|plain]");
        return ExitCode::from(2);
    };
    let isolation = match args.next().as_deref() {
        Some("namespaces") => Isolation::Namespaces,
        Some("plain") => Isolation::Plain,
        _ => Isolation::Auto,
    };
    match serve(&WorkerOptions { slots, root: root.into(), isolation }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("worker: {error}");
            ExitCode::FAILURE
        }
    }
}
