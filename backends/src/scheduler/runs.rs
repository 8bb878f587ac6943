//! The attempts in flight.

use std::time::Instant;

use super::event::{AttemptId, BackendId, NodeId};
use super::node::NO_RUN;

/// One attempt in flight.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) node: NodeId,
    pub(super) backend: BackendId,
    pub(super) started: Instant,
    /// It was told to stop.
    pub(super) cancelled: bool,
    /// Another attempt at the same node was in flight when it started.
    pub(super) duplicate: bool,
    /// The older attempt at the same node that is still in flight, or [`NO_RUN`].
    pub(super) older: u32,
    generation: u32,
}

/// A slab of attempts: as many entries as ever ran at once.
#[derive(Debug, Default)]
pub(super) struct Runs {
    slots: Vec<Option<Run>>,
    free: Vec<u32>,
    /// How often each place was used, so that an [`AttemptId`] is never reused.
    generations: Vec<u32>,
}

impl Runs {
    pub(super) fn start(&mut self, node: NodeId, backend: BackendId, older: u32, now: Instant) -> AttemptId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.generations.push(0);
            (self.slots.len() - 1) as u32
        });
        let generation = self.generations[index as usize];
        self.slots[index as usize] = Some(Run {
            node,
            backend,
            started: now,
            cancelled: false,
            duplicate: older != NO_RUN,
            older,
            generation,
        });
        AttemptId { index, generation }
    }

    /// Takes an attempt that has ended; nothing if it ended before.
    pub(super) fn end(&mut self, attempt: AttemptId) -> Option<Run> {
        self.get(attempt)?;
        self.generations[attempt.index as usize] += 1;
        self.free.push(attempt.index);
        self.slots[attempt.index as usize].take()
    }

    pub(super) fn get(&self, attempt: AttemptId) -> Option<&Run> {
        let run = self.slots.get(attempt.index as usize)?.as_ref()?;
        (run.generation == attempt.generation).then_some(run)
    }

    /// The attempt in this place, which a node's or another run's link leads to.
    pub(super) fn at_mut(&mut self, index: u32) -> (AttemptId, &mut Run) {
        let run = self.slots[index as usize].as_mut().expect("links lead to attempts in flight");
        (AttemptId { index, generation: run.generation }, run)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (AttemptId, &Run)> {
        self.slots.iter().enumerate().filter_map(|(index, run)| {
            let run = run.as_ref()?;
            Some((AttemptId { index: index as u32, generation: run.generation }, run))
        })
    }

    /// Takes the attempt in place `index` out of a node's chain that begins at `head`; gives the chain's new head.
    pub(super) fn unlink(&mut self, head: u32, index: u32, older: u32) -> u32 {
        if head == index {
            return older;
        }
        let mut at = head;
        while at != NO_RUN {
            let (_, run) = self.at_mut(at);
            if run.older == index {
                run.older = older;
                break;
            }
            at = run.older;
        }
        head
    }
}
