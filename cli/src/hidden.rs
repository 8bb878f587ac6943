//! The processes that ggr starts of itself. Not for users; their arguments may change with any version.

use std::ffi::OsString;
use std::path::Path;

use ggr_shim::worker::{Isolation, WorkerOptions};

use crate::capture;
use crate::commands::bench::launcher;
use crate::coordinator::keeper;
use crate::intercept::{door, enter, supervisor};

/// Exit status of a helper process that failed; its parent has been told why, or is gone.
const FAILED: u8 = 125;

/// What a worker's command line begins with.
const WORKER_OPTIONS: [&str; 3] = ["--isolation", "--slots", "--store"];

/// Runs the helper process that the arguments name; nothing if they name none.
pub(crate) fn dispatch(args: &[OsString]) -> Option<u8> {
    let (name, rest) = args.split_first()?;
    match name.to_str()? {
        "__enter" => Some(run_enter(rest)),
        "__door" => Some(status(door::run(rest).is_ok())),
        "__capture" => Some(status(run_capture(rest).is_some())),
        "__keeper" => Some(match rest {
            [repo] => status(keeper::run(Path::new(repo)).is_ok()),
            _ => FAILED,
        }),
        launcher::CALLS => Some(status(launcher::make_calls(rest).is_some())),
        "__linger" => {
            let listener = rest.first().and_then(|number| number.to_str()?.parse().ok())?;
            supervisor::linger(listener);
            Some(0)
        }
        // With a word after it, it is a command for users.
        "worker" if rest.first().is_some_and(|word| WORKER_OPTIONS.iter().any(|option| word == option)) => {
            Some(run_worker(rest))
        }
        _ => None,
    }
}

/// `ggr worker --slots N --store DIR [--isolation HOW]`, with the coordinator's socket as descriptor 0.
fn run_worker(args: &[OsString]) -> u8 {
    let Some(options) = worker_options(args) else {
        eprintln!(
            "ggr: worker: its arguments are `--slots N --store DIR`; a build starts its worker by itself"
        );
        return FAILED;
    };
    match ggr_shim::worker::serve(&options) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("ggr: worker: {error}");
            FAILED
        }
    }
}

fn worker_options(args: &[OsString]) -> Option<WorkerOptions> {
    let (mut slots, mut root, mut isolation) = (1, None, Isolation::Auto);
    for pair in args.chunks(2) {
        let [name, value] = pair else { return None };
        match name.to_str()? {
            "--slots" => slots = value.to_str()?.parse().ok()?,
            "--store" => root = Some(value.into()),
            "--isolation" => {
                isolation = match value.to_str()? {
                    "auto" => Isolation::Auto,
                    "namespaces" | "sandbox" => Isolation::Namespaces,
                    "plain" => Isolation::Plain,
                    _ => return None,
                }
            }
            _ => return None,
        }
    }
    Some(WorkerOptions { slots, root: root?, isolation })
}

/// `ggr __capture CONTROL LAUNCHER DESCRIPTORS`.
fn run_capture(args: &[OsString]) -> Option<()> {
    let [control, caller, inherited] = args else { return None };
    let number = |text: &OsString| text.to_str()?.parse().ok();
    let inherited =
        inherited.to_str()?.split(',').filter_map(|number| number.parse().ok()).collect::<Vec<u32>>();
    capture::enter::run(number(control)?, number(caller)?, &inherited).ok()
}

fn status(fine: bool) -> u8 {
    if fine { 0 } else { FAILED }
}

fn run_enter(args: &[OsString]) -> u8 {
    let plan = args.first().and_then(|json| serde_json::from_str(json.to_str()?).ok());
    match plan {
        Some(plan) if args.len() > 1 => {
            // It returns only when it failed, and has told the coordinator so.
            let _ = enter::run(&plan, &args[1..]);
            FAILED
        }
        _ => FAILED,
    }
}
