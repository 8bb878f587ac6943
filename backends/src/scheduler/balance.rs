//! What goes before the awaited: a long node that would run alone at the build's end.
//!
//! Nobody waits for a program that make links last, while all else hangs on one that is awaited. If the awaited always went first,
//! such a program's longest compile would begin when all the others are done, and run beside idle slots.

use super::node::{Node, State, Ticks};
use super::{Place, Scheduler};

/// Of what the awaited nodes would put it off by, at most so many times as much is its path: one that is put off a little
/// for a short call goes after it.
const WORTH: u64 = 4;

/// What is left to do, in ticks: the estimates of the nodes that something will still happen to.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Left {
    all: u64,
    /// Of the awaited ones.
    awaited: u64,
}

impl Left {
    /// A node is to be done from now on.
    pub(super) fn add(&mut self, node: &Node) {
        self.all += u64::from(node.estimate.0);
        if node.awaited {
            self.await_it(node);
        }
    }

    /// A node that is to be done is awaited from now on.
    pub(super) fn await_it(&mut self, node: &Node) {
        self.awaited += u64::from(node.estimate.0);
    }

    /// A node is done, or nobody knows whether it ever will be.
    pub(super) fn remove(&mut self, node: &Node) {
        self.all -= u64::from(node.estimate.0);
        if node.awaited {
            self.awaited -= u64::from(node.estimate.0);
        }
    }
}

/// Whether a node is to be done: one in doubt may stay so to the end.
pub(super) fn is_left(state: State) -> bool {
    !matches!(state, State::Doubted | State::Done | State::Failed)
}

/// Which paths are urgent at one moment: those between the two.
#[derive(Clone, Copy, Debug)]
pub(super) struct Urgent {
    over: u64,
    up_to: u64,
}

impl Urgent {
    /// Whether a ready node that nobody waits for goes with the awaited ones.
    pub(super) fn is(self, path: Ticks) -> bool {
        let path = u64::from(path.0);
        path > self.over && path <= self.up_to
    }
}

impl Scheduler {
    /// What is urgent now: a path that is longer than all that is left takes on all slots, and that would be put off for long.
    pub(super) fn urgent(&self) -> Urgent {
        let places = self.places.iter().filter(|place: &&Place| !place.standby);
        let slots = places.map(|place| u64::from(place.spec.slots)).sum::<u64>().max(1);
        Urgent { over: self.left.all / slots, up_to: WORTH * self.left.awaited / slots }
    }
}
