//! A slot kept for a command that works by turns with the thunks it waits for, as a `configure` script does.
//!
//! Make gives such a command one of its job slots from its first line to its last. If what was deferred before got all slots here,
//! each of its calls would wait for a compiler to end, and the script itself would share its processor; then, with the deferred
//! work done, it would go on alone with all the others idle.

use std::time::{Duration, Instant};

use super::{Place, Scheduler, Timer};

/// A command that makes its next call within this time is still the same one. `configure` takes some 30 ms between two.
const PAUSE: Duration = Duration::from_millis(250);

/// From this call on, each within the pause of the one before it, a slot is kept.
const CALLS: u32 = 3;

/// What is known of the callers that wait.
#[derive(Debug, Default)]
pub(super) struct Callers {
    /// Nodes that are called for.
    open: usize,
    /// Calls that were waited for, each soon after the one before.
    calls: u32,
    /// When the last of them was settled.
    last: Option<Instant>,
}

impl Callers {
    /// Somebody waits for a node, as of now.
    pub(super) fn ask(&mut self, now: Instant) {
        let goes_on = self.open > 0 || self.within_pause(now);
        self.calls = if goes_on { self.calls.saturating_add(1) } else { 1 };
    }

    /// A node is called for.
    pub(super) fn opened(&mut self) {
        self.open += 1;
    }

    /// A node that was called for is so no more.
    pub(super) fn closed(&mut self) {
        self.open -= 1;
    }

    fn within_pause(&self, now: Instant) -> bool {
        self.last.is_some_and(|last| now < last + PAUSE)
    }

    fn keeps(&self, now: Instant) -> bool {
        self.calls >= CALLS && (self.open > 0 || self.within_pause(now))
    }
}

impl Scheduler {
    /// Notes the time if nobody waits any more, and sets the alarm for when a kept slot is free for others.
    pub(super) fn note_callers(&mut self, open_before: usize, now: Instant) {
        let callers = &mut self.callers;
        if open_before > 0 && callers.open == 0 {
            callers.last = Some(now);
            if callers.calls >= CALLS {
                self.timers.set(now + PAUSE, Timer::Pause);
            }
        }
    }

    /// How many nodes are called for.
    pub(super) fn open_calls(&self) -> usize {
        self.callers.open
    }

    /// How many slots of each place nobody gets for what is not awaited. Only of one whose slots share a machine, this one with the
    /// command: of two or more, one.
    pub(super) fn kept(&self, now: Instant) -> impl Fn(&Place) -> u32 + use<> {
        let keeps = self.callers.keeps(now);
        move |place| u32::from(keeps && !place.spec.duplicates && place.spec.slots > 1)
    }
}
