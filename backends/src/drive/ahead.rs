//! What is done ahead of a thunk's turn at a place that keeps inputs: it gets a home, its inputs are sent there while others run,
//! and its program is made ready.

use ggr_ir::{BlobId, Job, Mode, Object};

use super::Driver;
use super::record::{Record, Work};
use crate::scheduler::{BackendSet, Home, NodeId};

/// Thunks at the head of a place's queue whose inputs are sent ahead. With one, a place with two slots that end together
/// would wait for the second.
const AHEAD: usize = 4;

/// What a job reads.
pub(super) fn inputs(job: &Job) -> impl Iterator<Item = BlobId> {
    job.thunk.inputs.values().filter(|entry| entry.mode != Mode::Directory).map(|entry| entry.object)
}

impl Driver {
    /// Where a job should run.
    pub(super) fn home(&mut self, job: &Job, refused: BackendSet) -> Option<Home> {
        if !self.locality.any() {
            return None;
        }
        let inputs: Vec<_> = inputs(job).collect();
        self.home_of(&inputs, refused)
    }

    /// Where a job with these inputs should run; not at a place that was out of reach a moment ago, if there is another.
    fn home_of(&mut self, inputs: &[BlobId], refused: BackendSet) -> Option<Home> {
        let Self { locality, scheduler, .. } = self;
        let away = locality.keepers().iter().filter(|keeper| scheduler.is_away(**keeper));
        let away = away.fold(refused, |set, keeper| set.with(*keeper));
        let load = |backend| scheduler.load(backend);
        locality.home(inputs, away, load).or_else(|| locality.home(inputs, refused, load))
    }

    /// Sends ahead what those need whose turn comes next.
    pub(super) fn prepare_next(&mut self) {
        if !self.locality.pushes() {
            return;
        }
        for i in 0..self.locality.keepers().len() {
            let keeper = self.locality.keepers()[i];
            for node in self.scheduler.next_up(keeper, AHEAD) {
                let Record::Pending(pending) = &mut self.records[node.0 as usize] else { continue };
                let Work::Job(job) = &pending.work else { continue };
                if !std::mem::replace(&mut pending.prepared, true) {
                    let inputs: Vec<_> = inputs(job).collect();
                    self.backends[usize::from(keeper.0)].prepare(&job.thunk.command.program, &inputs);
                }
            }
        }
    }

    /// A thunk is ready soon: the place where it will probably run is told, and gets what is known of its inputs.
    pub(super) fn foresee(&mut self, node: NodeId) {
        let Record::Pending(pending) = &self.records[node.0 as usize] else { return };
        // One that is packed has its turn far off.
        let Work::Thunk(thunk) = &pending.work else { return };
        let thunk = thunk.clone();
        let known = thunk.inputs.values().filter(|entry| entry.mode != Mode::Directory);
        let known = known.filter_map(|entry| match &entry.object {
            Object::Blob(blob) => Some(*blob),
            Object::Output(output) => self.became(output),
        });
        let known: Vec<_> = known.collect();
        let Some(home) = self.home_of(&known, BackendSet::EMPTY) else { return };
        let sent = if self.locality.pushes() { &known[..] } else { &[] };
        self.backends[usize::from(home.backend.0)].prepare(&thunk.command.program, sent);
    }
}
