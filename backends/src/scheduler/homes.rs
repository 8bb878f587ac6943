//! Where a node's inputs are, and what follows from it: its home is the place that has most of them.
//!
//! A node goes home, and waits for a slot there, unless it is sooner elsewhere: a place with nothing of its own to do takes
//! from the longest queue, if what waits before the last of that takes longer than to move the inputs. So no place stands idle
//! for the sake of bytes when that is slower.

use std::time::{Duration, Instant};

use super::event::{Action, BackendId, NodeId};
use super::node::{Node, State, Ticks};
use super::timers::Timer;
use super::{Place, Scheduler, all_refused};

/// A node is announced when it waits for no more than so many others, and all of them run.
const SOON: u32 = 8;

/// A place that could not be reached gets nothing for so long, where there is another.
const AWAY: Duration = Duration::from_secs(5);

/// The home of a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Home {
    /// Where most of its inputs are, in bytes.
    pub backend: BackendId,
    /// How long it takes to move them to another place that keeps inputs.
    pub lag: Duration,
}

/// What a node remembers of its [`Home`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct HomeNote {
    /// The backend's number, or [`NOWHERE`].
    pub(super) at: u8,
    pub(super) lag: Ticks,
}

/// No home: any place is as good as another.
pub(super) const NOWHERE: u8 = u8::MAX;

impl HomeNote {
    pub(super) const NONE: Self = Self { at: NOWHERE, lag: Ticks(0) };

    pub(super) fn of(home: Option<Home>) -> Self {
        home.map_or(Self::NONE, |home| Self { at: home.backend.0, lag: Ticks::of(home.lag) })
    }

    fn backend(self) -> Option<BackendId> {
        (self.at != NOWHERE).then_some(BackendId(self.at))
    }
}

/// Whether a node may be taken from its home.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reach {
    /// Only if somebody waits for it.
    Own,
    /// If it is sooner elsewhere.
    Others,
}

/// The place that takes a node, the first of those that wait in its lane; nothing if it had better wait. `waiting` is the
/// length of the lane, `kept` how many slots of a place are not for what nobody waits for.
pub(super) fn place_for(
    places: &[Place],
    node: &Node,
    waiting: usize,
    reach: Reach,
    kept: &impl Fn(&Place) -> u32,
) -> Option<BackendId> {
    let last = all_refused(places, node.refused);
    let takes = |b: BackendId, place: &Place| !node.refused.contains(b) && (!place.standby || last);
    let up = places.iter().enumerate().any(|(i, place)| takes(BackendId(i as u8), place) && !place.away);
    let free = |b: BackendId| {
        let place = &places[usize::from(b.0)];
        let kept = if node.awaited { 0 } else { kept(place) };
        takes(b, place) && !(place.away && up) && place.used + kept < place.spec.slots
    };
    let mut all = (0..places.len()).map(|i| BackendId(i as u8)).filter(|b| free(*b));
    let Some(home) = node.home.backend().filter(|home| takes(*home, &places[usize::from(home.0)])) else {
        return all.next();
    };
    let at = &places[usize::from(home.0)];
    let sooner = || {
        let wait = u64::from(node.estimate.0) * waiting as u64 / u64::from(at.spec.slots.max(1));
        let waits = at.spec.slots == 0 || wait >= u64::from(node.home.lag.0);
        (node.awaited || reach == Reach::Others) && waits
    };
    let leaves = (at.away && up) || sooner();
    all.find_map(|b| match places[usize::from(b.0)].spec.keeps {
        false => Some(b),
        true if free(home) => Some(home),
        true => leaves.then_some(b),
    })
}

impl Scheduler {
    /// What is waiting at a place and running there, by slot: the place with the least gets what could go anywhere.
    pub fn load(&self, backend: BackendId) -> f64 {
        let place = &self.places[usize::from(backend.0)];
        f64::from(place.used + place.homed) / f64::from(place.spec.slots.max(1))
    }

    /// Whether a place was out of reach a moment ago.
    pub fn is_away(&self, backend: BackendId) -> bool {
        self.places[usize::from(backend.0)].away
    }

    /// The first `count` nodes that wait for a slot at this place, which is their home; none while it has free slots.
    pub fn next_up(&mut self, backend: BackendId, count: usize) -> Vec<NodeId> {
        let place = &self.places[usize::from(backend.0)];
        if place.homed == 0 || place.used < place.spec.slots {
            return Vec::new();
        }
        self.ready.first_at(&self.nodes, backend, count)
    }

    /// Counts a node that waits at its home, or does no longer.
    pub(super) fn count_homed(&mut self, home: HomeNote, old: State, new: State) {
        let Some(backend) = home.backend() else { return };
        let place = &mut self.places[usize::from(backend.0)];
        place.homed += u32::from(new == State::Ready);
        place.homed -= u32::from(old == State::Ready);
    }

    /// A place could not be reached: others go first for a while.
    pub(super) fn went_away(&mut self, backend: BackendId, now: Instant) {
        let place = &mut self.places[usize::from(backend.0)];
        if place.spec.keeps && !std::mem::replace(&mut place.away, true) {
            self.timers.set(now + AWAY, Timer::Back(backend));
        }
    }

    /// A place is given another chance.
    pub(super) fn comes_back(&mut self, backend: BackendId) {
        self.places[usize::from(backend.0)].away = false;
    }

    /// Announces what waits for nothing but this node, which has just been started, and others that run.
    pub(super) fn announce_dependants(&mut self, id: NodeId, actions: &mut Vec<Action>) {
        if !self.keeps {
            return;
        }
        for i in 0..self.nodes[id.0 as usize].dependants.len() {
            let dependant = self.nodes[id.0 as usize].dependants.at(i);
            self.announce(dependant, actions);
        }
    }

    /// Announces a node if all that it waits for runs. Each is looked at when one of the last that it waits for starts or ends.
    pub(super) fn announce(&mut self, id: NodeId, actions: &mut Vec<Action>) {
        let node = &self.nodes[id.0 as usize];
        let near = self.keeps
            && !node.announced
            && node.state == State::Waiting
            && (1..=SOON).contains(&node.waiting_on);
        let runs = |dep: NodeId| matches!(self.nodes[dep.0 as usize].state, State::Running | State::Done);
        if near && node.deps.iter().all(runs) {
            self.node(id).announced = true;
            actions.push(Action::Soon(id));
        }
    }
}
