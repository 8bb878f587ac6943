//! Placeholders that are not real yet: who asks for them, when the last one is, what is left of them.

use std::io;
use std::path::Path;
use std::sync::Arc;

use ggr_ir::OutputRef;
use ggr_ir::repo::{Journal, JournalError, Repo};

use super::{Course, Ended, Session};
use crate::coordinator::call::Call;
use crate::coordinator::placeholders::Placeholder;
use crate::intercept::divert::Divert;
use crate::intercept::supervisor::{FileId, Held, Watcher};

impl Session {
    /// Leaves the placeholders that nobody has asked for to the user.
    ///
    /// # Errors
    /// If the journal that keeps what they need from the collector cannot be written.
    pub(crate) fn leave_placeholders(&self, repo: &Repo) -> Result<usize, JournalError> {
        let left = Journal::start(repo)?;
        let mut count = 0;
        for placeholder in self.placeholders.all() {
            if let Some(path) = placeholder.current_path() {
                left.add(&path, &placeholder.output)?;
                count += 1;
            }
            self.journal_done(&placeholder.path);
            self.placeholders.forget(&placeholder);
        }
        left.leave()?;
        Ok(count)
    }

    /// As [`Session::force`], for a thread that may block.
    pub(crate) fn make_real(&self, path: &Path) {
        if self.placeholders.len() > 0 {
            self.runtime.block_on(self.force(path));
        }
    }

    /// Waits until every placeholder is real, or the course changes.
    pub(crate) async fn settle(&self) {
        let mut course = self.course();
        loop {
            let all = self.placeholders.all();
            let wanted = |placeholder: &Arc<Placeholder>| !self.held_back.holds(placeholder.output.thunk);
            let Some(next) = all.into_iter().find(wanted) else { return };
            tokio::select! {
                () = next.settled() => {}
                changed = course.wait_for(|course| *course != Course::Going) => {
                    drop(changed);
                    return;
                }
            }
        }
    }

    /// Gives up on all that is not real yet: stops the work and removes the placeholders.
    pub(crate) async fn abandon(&self) {
        self.driver.cancel_all().await;
        let tasks = std::mem::take(&mut *self.tasks.lock().expect("no holder panics"));
        { tasks }.shutdown().await;
        for placeholder in self.placeholders.close() {
            self.placeholders.remove(&placeholder);
            self.journal_done(&placeholder.path);
        }
    }

    /// Whether a call that runs here is expected to fail, while deferred calls are still open: those are waited for first,
    /// so that a failure of theirs, which has the build run again, does not print this one's message twice.
    pub(crate) async fn settle_before_failure(&self, call: &Call, ended: &Ended) {
        if ended.foretells_failure() {
            self.settle_before(call).await;
        }
    }

    /// As [`settle_before_failure`](Self::settle_before_failure), of a call that is sure to fail.
    pub(crate) async fn settle_before(&self, call: &Call) {
        if self.placeholders.len() > 0 && call.may_defer(self) {
            self.settle().await;
            if *self.course.borrow() != Course::Going {
                // The build is about to be stopped; this launcher with it.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Notes that a placeholder is about to stand at the path, so that the next session knows if this one is killed.
    pub(crate) fn journal(&self, path: &Path, output: &OutputRef) -> io::Result<()> {
        self.journal.add(path, output).map_err(io::Error::other)
    }

    /// Notes that no placeholder stands at the path any more. A record too many does no harm: the file is looked at.
    pub(crate) fn journal_done(&self, path: &Path) {
        let _ = self.journal.done(path);
    }
}

impl Watcher for Session {
    fn any(&self) -> bool {
        self.placeholders.len() > 0
    }

    fn counts_programs(&self) -> bool {
        self.links().is_some() || self.capture.diversion().is_on()
    }

    fn diverts(&self, pid: u32, program: &Path) -> Option<Arc<dyn Divert>> {
        let diversion = self.capture.diversion();
        // A launcher becomes the program that it stands for through this process's root.
        let becomes = program.starts_with(format!("/proc/{}/root", self.door()));
        let wanted = !becomes && diversion.wants(program) && !self.is_root(pid) && !self.is_run_here(pid);
        wanted.then(|| Arc::clone(diversion) as Arc<dyn Divert>)
    }

    fn executed(&self, file: FileId, args: u64, held: Held) -> Option<Held> {
        self.count_uncaught(file, held.pid);
        self.hold_for_sizes(file, args, held)
    }

    fn written(&self, file: FileId) {
        self.view.distrust(file);
    }

    fn opened(&self, file: FileId, held: Held) {
        if let Some(placeholder) = self.placeholders.find(file) {
            let thunk = placeholder.output.thunk;
            self.placeholders.hold(&placeholder, held);
            if let Some(session) = self.me.upgrade() {
                self.runtime.spawn(async move { session.demand(thunk).await });
            }
        }
    }
}
