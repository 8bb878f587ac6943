//! Counting: what the summary and the status line say.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use ggr_ir::ThunkId;
use rustc_hash::FxBuildHasher;

use super::event::Event;
use crate::config::ByteSize;

/// What happened so far.
#[derive(Default)]
pub(crate) struct Tally {
    /// Thunks traced.
    pub(crate) traced: usize,
    /// Thunks that wait for a worker.
    pub(crate) ready: usize,
    /// Thunks that were replaced by outputs of an earlier run.
    pub(crate) hits: usize,
    /// Thunks that ran and were replaced.
    pub(crate) ran: usize,
    /// Attempts that came to nothing.
    pub(crate) retried: usize,
    /// Attempts beside one that ran for unusually long.
    pub(crate) duplicated: usize,
    /// Thunks that failed in the sandbox, and were tried here.
    pub(crate) doubted: usize,
    /// Thunks given up.
    pub(crate) failed: usize,
    /// Calls caught.
    pub(crate) calls: usize,
    /// Calls that had been caught when the first thunk was on a worker.
    pub(crate) calls_before: Option<usize>,
    /// When the build's command started, and when it ended.
    pub(crate) began: Duration,
    pub(crate) traced_at: Option<Duration>,
    /// Placeholders made real.
    pub(crate) materialized: usize,
    /// Thunks on a worker now: label, worker's number, since when.
    pub(crate) running: HashMap<ThunkId, (Arc<str>, Duration), FxBuildHasher>,
    /// How often each reason made a call run here.
    pub(crate) here: BTreeMap<String, usize>,
    /// Programs without a model that ran, and were recorded.
    pub(crate) captured: usize,
    /// Programs without a model whose recorded effect was repeated.
    pub(crate) repeated: usize,
    /// Time that programs ran: in workers, and here.
    pub(crate) work: Duration,
    /// What the shared store was asked and did, as a line.
    pub(crate) shared: Option<String>,
    /// Lines for the user.
    pub(crate) notes: Vec<String>,
    /// When the last event came.
    pub(crate) last: Duration,
    graph: Vec<Node>,
    index: HashMap<ThunkId, usize, FxBuildHasher>,
}

/// A thunk in the order of tracing, so that what it waits for stands before it.
struct Node {
    label: Arc<str>,
    waits_for: Vec<usize>,
    took: Duration,
}

impl Tally {
    /// Counts one event.
    pub(crate) fn take(&mut self, at: Duration, event: &Event) {
        self.last = at;
        match event {
            Event::Called(_) => self.calls += 1,
            Event::Traced { thunk, label, waits_for, .. } => self.traced(*thunk, label, waits_for),
            Event::Ready { .. } => self.ready += 1,
            Event::Started { thunk, label, duplicate, .. } => {
                if *duplicate {
                    self.duplicated += 1;
                } else {
                    self.ready = self.ready.saturating_sub(1);
                }
                self.calls_before.get_or_insert(self.calls);
                self.running.insert(*thunk, (label.clone(), at));
            }
            Event::Finished { thunk, timings, .. } => {
                self.running.remove(thunk);
                self.ran += 1;
                self.work += timings.ran;
                if let Some(node) = self.index.get(thunk) {
                    self.graph[*node].took = timings.staged + timings.ran + timings.harvested;
                }
            }
            Event::CacheHit { .. } => self.hits += 1,
            Event::RanHere { reason, took, .. } => {
                *self.here.entry(reason.clone()).or_default() += 1;
                self.work += *took;
            }
            Event::Captured { took, .. } => {
                self.captured += 1;
                self.work += *took;
            }
            Event::Repeated { .. } => self.repeated += 1,
            Event::Retried { thunk, .. } => {
                self.running.remove(thunk);
                self.retried += 1;
                self.ready += 1;
            }
            Event::Doubted { thunk, .. } => {
                self.running.remove(thunk);
                self.doubted += 1;
            }
            Event::Failed { thunk, .. } => {
                self.running.remove(thunk);
                self.failed += 1;
            }
            Event::Materialized { .. } => self.materialized += 1,
            Event::Shared { store, hits, stored, left, down, up, requests, .. } => {
                let (down, up) = (ByteSize(*down), ByteSize(*up));
                let left = if *left > 0 { format!(", {left} not yet") } else { String::new() };
                self.shared = Some(format!(
                    "shared store {store}: {hits} from it, {stored} put into it{left}; {down} down, {up} up, {requests} requests"
                ));
            }
            Event::Note { text } => self.notes.push(text.clone()),
            Event::BuildStarted { .. } => self.began = at,
            Event::CommandEnded => self.traced_at = Some(at),
            Event::BuildEnded { .. } => self.running.clear(),
        }
    }

    fn traced(&mut self, thunk: ThunkId, label: &Arc<str>, waits_for: &[ThunkId]) {
        if self.index.contains_key(&thunk) {
            return;
        }
        self.traced += 1;
        let waits_for = waits_for.iter().filter_map(|id| self.index.get(id).copied()).collect();
        self.index.insert(thunk, self.graph.len());
        self.graph.push(Node { label: label.clone(), waits_for, took: Duration::ZERO });
    }

    /// Thunks that became real.
    pub(crate) fn done(&self) -> usize {
        self.hits + self.ran
    }

    /// Calls that ran here.
    pub(crate) fn ran_here(&self) -> usize {
        self.here.values().sum()
    }

    /// The thunk that has been on a worker for longest, and since when.
    pub(crate) fn longest_running(&self) -> Option<(&str, Duration)> {
        self.running.values().min_by_key(|(_, since)| *since).map(|(label, since)| (&**label, *since))
    }

    /// The chain of thunks, each waiting for the one before it, that took longest: its time and its labels. Thunks from
    /// the cache count as no time.
    pub(crate) fn critical_path(&self) -> (Duration, Vec<Arc<str>>) {
        let mut best: Vec<(Duration, Option<usize>)> = Vec::with_capacity(self.graph.len());
        for node in &self.graph {
            let before = node.waits_for.iter().copied().max_by_key(|i| best[*i].0);
            let waited = before.map_or(Duration::ZERO, |i| best[i].0);
            best.push((waited + node.took, before.filter(|_| waited > Duration::ZERO)));
        }
        let last = (0..best.len()).max_by_key(|i| best[*i].0);
        let total = last.map_or(Duration::ZERO, |i| best[i].0);
        let mut path: Vec<_> =
            std::iter::successors(last, |i| best[*i].1).map(|i| self.graph[i].label.clone()).collect();
        path.reverse();
        (total, path)
    }
}
