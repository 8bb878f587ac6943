//! The processes that ggr starts of itself. Not for users; their arguments may change with any version.

use std::ffi::OsString;
use std::path::Path;

use crate::coordinator::keeper;
use crate::intercept::{enter, supervisor};

/// Exit status of a helper process that failed; its parent has been told why, or is gone.
const FAILED: u8 = 125;

/// Runs the helper process that the arguments name; nothing if they name none.
pub(crate) fn dispatch(args: &[OsString]) -> Option<u8> {
    let (name, rest) = args.split_first()?;
    match name.to_str()? {
        "__enter" => Some(run_enter(rest)),
        "__keeper" => Some(match rest {
            [repo] => status(keeper::run(Path::new(repo)).is_ok()),
            _ => FAILED,
        }),
        "__linger" => {
            let listener = rest.first().and_then(|number| number.to_str()?.parse().ok())?;
            supervisor::linger(listener);
            Some(0)
        }
        _ => None,
    }
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
