//! Taking thunks in.

use std::path::Path;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use ggr_ir::{Kind, Mode, Object, OutputRef, RootPath};

use super::handle::Submission;
use super::record::{Pending, Record, Work};
use super::report::BuildEvent;
use super::{Driver, PACK_OVER, UNKNOWN};
use crate::durations::{Durations, SizeClass};
use crate::scheduler::{Event, NewNode, NodeId, Urgency};

impl Driver {
    pub(super) fn submit(&mut self, new: Submission) {
        if let Some(node) = self.nodes.get(&new.id)
            && !matches!(self.records[node.0 as usize], Record::Failed(_))
        {
            if new.urgency == Urgency::Awaited {
                self.tell(Event::Demand(*node));
            }
            return;
        }
        let node = NodeId(self.records.len() as u32);
        let deps = outputs_read(&new.thunk).filter_map(|o| self.nodes.get(&o.thunk).copied()).collect();
        let size = size_read(&new.thunk);
        let work = match self.is_crowded() {
            true => Work::Packed(self.packer.pack(&new.thunk)),
            false => Work::Thunk(new.thunk),
        };
        if *self.limits != new.limits {
            self.limits = Arc::new(new.limits);
        }
        let limits = self.limits.clone();
        let estimate = new.estimate.unwrap_or_else(|| self.estimate(&new.label, new.kind, size));
        self.counts.traced += 1;
        self.emit(|| BuildEvent::Traced { id: new.id, label: new.label.clone(), kind: new.kind });
        self.nodes.insert(new.id, node);
        self.records.push(Record::Pending(Box::new(Pending {
            id: new.id,
            label: new.label,
            kind: new.kind,
            size,
            limits,
            cacheable: new.cacheable,
            work,
            prepared: false,
            failure: None,
        })));
        self.tell(Event::Add(NewNode { node, deps, kind: new.kind, estimate, urgency: new.urgency }));
    }

    /// Whether thunks should take little memory: many are open, so that this one's turn is far off.
    pub(super) fn is_crowded(&self) -> bool {
        self.scheduler.open() > PACK_OVER
    }

    fn estimate(&self, label: &str, kind: Kind, size: SizeClass) -> Duration {
        let remembered = self.durations().and_then(|durations| durations.estimate(label, kind, size));
        remembered.unwrap_or(UNKNOWN)
    }

    /// What is remembered of how long thunks take, if anything is.
    pub(super) fn durations(&self) -> Option<MutexGuard<'_, Durations>> {
        let durations = self.options.durations.as_ref()?;
        Some(durations.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The outputs of other thunks that it reads, in no particular order, perhaps more than once.
fn outputs_read(thunk: &ggr_ir::Thunk) -> impl Iterator<Item = &OutputRef> {
    thunk.inputs.values().filter_map(|entry| match &entry.object {
        Object::Output(output) => Some(output),
        Object::Blob(_) => None,
    })
}

/// How much it works on of what is known when it is submitted: the files that its command names and no program, or if it names
/// none, all that it reads. Headers and the toolchain are alike for many and would hide the differences.
fn size_read(thunk: &ggr_ir::Thunk) -> SizeClass {
    let size = |entry: &ggr_ir::Entry<Object>| match (&entry.object, entry.mode) {
        (Object::Blob(blob), Mode::Regular) => blob.size(),
        _ => 0,
    };
    let dir = thunk.command.dir.as_path();
    let paths = thunk.command.args.iter().filter_map(|arg| RootPath::lexical(dir, Path::new(arg)).ok());
    let named: u64 = paths.filter_map(|path| thunk.inputs.get(&path)).map(size).sum();
    match named {
        0 => SizeClass::of(thunk.inputs.values().map(size).sum()),
        named => SizeClass::of(named),
    }
}
