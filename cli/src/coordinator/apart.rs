//! A call that goes through many sources one by one, run as several calls side by side: `gcc -MM *.c`.
//!
//! A makefile that asks for all dependencies at its start keeps one core busy and the others waiting.
//!
//! **Invariant:** what comes of it is what the one call would have said, in its order, or it is not used. The driver's own
//! messages would come once for each part: a call in which it has any to say is run as one.

use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Output};
use std::sync::Arc;

use futures_util::{FutureExt, StreamExt};
use ggr_models::Plan;

use super::call::Call;
use super::failing::real_tool;
use super::session::Session;

/// Fewer sources are not worth a driver's start, some 2 ms.
const SOURCES_EACH: usize = 4;

/// Parts for each that runs at a time: sources differ in what they include.
const PARTS_EACH: usize = 4;

/// Runs the call in parts, and says how many. Nothing if it cannot be taken apart, if no second slot is free, or if a part came to an end that
/// tells of more than its sources.
pub(super) async fn run(
    session: &Arc<Session>,
    call: &Call,
    plan: &Plan,
    together: bool,
) -> Option<(Output, usize)> {
    let most = plan.separable.len() / SOURCES_EACH;
    if most < 2 {
        return None;
    }
    let spare = session.spare_slots(most - 1);
    if spare.is_empty() {
        return None;
    }
    let at_once = spare.len() + 1;
    let parts = parts(&call.invocation.args, &plan.separable, most.min(at_once * PARTS_EACH));
    let runs: Vec<_> = parts.iter().map(|args| real_tool(call, args, together).boxed()).collect();
    let ended: Vec<_> = futures_util::stream::iter(runs).buffered(at_once).collect().await;
    let ended = ended.into_iter().collect::<Result<Vec<_>, _>>().ok()?;
    let count = ended.len();
    Some((joined(ended, call.invocation.args.first()?)?, count))
}

/// The arguments of `count` calls, each for as many of the sources as the others, or one more.
fn parts(args: &[String], sources: &[usize], count: usize) -> Vec<Vec<String>> {
    let share = |part: usize| &sources[part * sources.len() / count..(part + 1) * sources.len() / count];
    let of = |kept: &[usize]| {
        let stays = |at: &usize| !sources.contains(at) || kept.contains(at);
        (0..args.len()).filter(stays).map(|at| args[at].clone()).collect()
    };
    (0..count).map(|part| of(share(part))).collect()
}

/// What the one call would have come to. A driver ends with 1 if any of its sources has a mistake.
fn joined(parts: Vec<Output>, argv0: &str) -> Option<Output> {
    let driver = format!("{}: ", argv0.rsplit('/').next().unwrap_or(argv0));
    let speaks =
        |text: &[u8]| text.split(|byte| *byte == b'\n').any(|line| line.starts_with(driver.as_bytes()));
    let mut whole = Output { status: ExitStatus::default(), stdout: Vec::new(), stderr: Vec::new() };
    for part in parts {
        match part.status.code()? {
            0 => {}
            1 => whole.status = ExitStatus::from_raw(1 << 8),
            _ => return None,
        }
        if speaks(&part.stderr) {
            return None;
        }
        whole.stdout.extend(part.stdout);
        whole.stderr.extend(part.stderr);
    }
    Some(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(code: i32, stdout: &str, stderr: &str) -> Output {
        Output { status: ExitStatus::from_raw(code << 8), stdout: stdout.into(), stderr: stderr.into() }
    }

    #[test]
    fn each_source_is_in_one_part_and_the_flags_are_in_each() {
        let args: Vec<String> = "gcc -MM a b -I. c d e".split(' ').map(str::to_owned).collect();
        let parts = parts(&args, &[2, 3, 5, 6, 7], 2);
        let lines: Vec<String> = parts.iter().map(|part| part.join(" ")).collect();
        assert_eq!(lines, ["gcc -MM a b -I.", "gcc -MM -I. c d e"]);
    }

    #[test]
    fn parts_are_joined_in_order_and_one_mistake_is_the_whole_ones() {
        let whole =
            joined(vec![output(0, "a", ""), output(1, "", "x: error: y\n"), output(0, "b", "")], "gcc");
        let whole = whole.unwrap();
        assert_eq!(
            (whole.status.code(), whole.stdout, whole.stderr),
            (Some(1), b"ab".into(), b"x: error: y\n".into())
        );
    }

    #[test]
    fn what_the_driver_says_or_a_crash_is_not_joined() {
        let warning = output(0, "", "gcc: warning: x\n");
        assert!(joined(vec![output(0, "", ""), warning], "/usr/bin/gcc").is_none());
        assert!(joined(vec![output(4, "", "")], "gcc").is_none());
        let killed = Output { status: ExitStatus::from_raw(9), ..output(0, "", "") };
        assert!(joined(vec![killed], "gcc").is_none());
    }
}
