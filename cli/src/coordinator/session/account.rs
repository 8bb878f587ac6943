//! What is reported of calls, and what is kept of their thunks.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ggr_ir::{Thunk, ThunkId};
use ggr_models::{Plan, Stages};

use super::{Ended, Session};
use crate::coordinator::call::{Call, named_outputs};
use crate::coordinator::failing::Doubt;
use crate::intercept::supervisor::FileId;
use crate::report::Event;

/// A call that runs here.
pub(super) struct Here {
    tool: String,
    why: String,
    /// Whether its thunk failed in the sandbox first.
    doubted: bool,
    /// Whether its failure is that of a make target.
    in_recipe: bool,
    since: Instant,
    /// The files that its command line names as its outputs.
    outputs: Vec<PathBuf>,
    /// What is remembered if it fails here as it failed in the sandbox.
    doubt: Option<Doubt>,
}

impl Session {
    /// Reports a call that became thunks.
    pub(crate) fn note_traced(&self, plan: &Plan, ids: &[ThunkId]) {
        let label: Arc<str> = plan.label.as_str().into();
        for ((thunk, _), id) in plan.thunks.iter().zip(ids) {
            let of_thunk = plan.outputs.iter().filter(|output| output.output.thunk == *id);
            self.reporter.report(&Event::Traced {
                thunk: *id,
                label: Arc::clone(&label),
                waits_for: thunk.waits_for().into_iter().map(|output| output.thunk).collect(),
                outputs: of_thunk.map(|output| output.path.clone()).collect(),
                fused: match &plan.stages {
                    Stages::Fused(why) => Some(why.clone()),
                    Stages::None | Stages::Staged(_) => None,
                },
            });
        }
    }

    /// Writes a plan's thunks to the repository. Not asked for those whose result is recorded: whoever recorded it did.
    pub(crate) fn keep_thunks(&self, plan: &Plan) {
        plan.thunks.iter().for_each(|(thunk, _)| self.keep_thunk(thunk));
    }

    /// Writes a thunk to the repository, for `ggr show`, `why`, `graph` and `force`. A build whose thunks cannot be written
    /// is as right as any: those commands will say that the thunk is gone.
    fn keep_thunk(&self, thunk: &Thunk) {
        if self.trace {
            drop(tokio::task::block_in_place(|| self.thunks.put(thunk)));
            return;
        }
        let (thunks, thunk) = (self.thunks.clone(), thunk.clone());
        self.runtime.spawn_blocking(move || drop(thunks.put(&thunk)));
    }

    pub(crate) fn note_hit(&self, plan: &Plan, ids: &[ThunkId]) {
        for id in ids {
            self.reporter.report(&Event::CacheHit { thunk: *id, label: plan.label.as_str().into() });
        }
    }

    /// A call is about to run here.
    pub(crate) fn note_here(&self, pid: u32, tool: &Path, ended: &Ended, call: Option<&Call>) {
        let tool = tool.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let here = Here {
            tool,
            why: ended.why(),
            doubted: matches!(ended, Ended::ToolFailed(_)),
            in_recipe: call.is_some_and(|call| call.may_defer(self)),
            since: Instant::now(),
            outputs: call.map(|call| named_outputs(&call.invocation)).unwrap_or_default(),
            doubt: call.and_then(|call| call.doubt.get().cloned()),
        };
        self.here.lock().expect("no holder panics").insert(pid, here);
    }

    /// The real tool of a call has ended, with this wait status.
    pub(crate) fn note_exit(&self, pid: u32, status: i32) {
        let Some(here) = self.here.lock().expect("no holder panics").remove(&pid) else { return };
        if status != 0 && here.in_recipe {
            // The build is failing: from here on nothing is deferred, so that it need not be run again.
            self.lazy.store(false, Ordering::Release);
        }
        if let Some(doubt) = &here.doubt {
            doubt.settle(self, status);
        }
        // A tool that fails here too was rightly doubted: that is the build's own business.
        let why = match here.doubted {
            true if status == 0 => format!("{} in the sandbox, but not here", here.why),
            true => "it fails".to_owned(),
            false => here.why,
        };
        self.reporter.report(&Event::RanHere {
            label: here.tool.as_str().into(),
            reason: format!("{}: {why}", here.tool),
            took: here.since.elapsed(),
            outputs: here.outputs,
        });
    }

    /// A call is answered with a failure. If that is a make target's, the build is failing: from here on nothing is
    /// deferred, so that it need not be run again.
    pub(crate) fn note_failing(&self, call: &Call) {
        if call.may_defer(self) {
            self.lazy.store(false, Ordering::Release);
        }
    }

    /// A deferred thunk failed in the sandbox and passed here.
    pub(crate) fn note_doubt(&self, label: &str, ended: &Ended, took: Duration) {
        self.reporter.report(&Event::RanHere {
            label: label.into(),
            reason: match ended {
                Ended::Infra(why) => format!("{label}: {why}"),
                _ => format!("{label}: {} in the sandbox, but not here", ended.why()),
            },
            took,
            outputs: Vec::new(),
        });
    }

    /// Counts a tool that is called past the links; what a real tool calls in turn is its own business.
    pub(super) fn count_uncaught(&self, file: FileId, pid: u32) {
        let Some(links) = self.links() else { return };
        if let Some(tool) = links.tool(file)
            && !self.is_run_here(pid)
        {
            *self.uncaught.lock().expect("no holder panics").entry(tool.to_owned()).or_default() += 1;
        }
    }

    /// Says which tools were called past the links.
    pub(crate) fn report_uncaught(&self) {
        for (tool, count) in std::mem::take(&mut *self.uncaught.lock().expect("no holder panics")) {
            let text = format!(
                "`{}` was called past `PATH` and not caught, {count} time{}",
                tool.display(),
                if count == 1 { "" } else { "s" }
            );
            self.report(&Event::Note { text });
        }
    }

    pub(crate) fn report(&self, event: &Event) {
        self.reporter.report(event);
    }
}
