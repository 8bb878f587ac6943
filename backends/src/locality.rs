//! What is where, as far as it was sent or made there in this build, and which place a thunk should go to for that.
//!
//! Pure bookkeeping of intentions: a thunk's inputs count as being where it is to run as soon as that is decided, so that those
//! with the same inputs follow it. A place that has lost a blob is found out by the job, and costs a transfer.

use std::time::Duration;

use ggr_ir::BlobId;
use rustc_hash::FxHashMap;

use crate::dice::Dice;
use crate::scheduler::{BackendId, BackendSet, Home};

/// Bytes a second that a link to a place is taken to carry: 100 Mbit/s. It decides only whether an idle place takes over what
/// waits elsewhere; a tenth or ten times of it moves that line, and breaks nothing.
const RATE: u64 = 12_500_000;

/// Which of several places that keep inputs gets a thunk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Placement {
    /// Any, by chance: what the others are compared with.
    Random,
    /// The one that has most of its inputs.
    Sticky,
    /// The same, and the inputs of the next thunk are sent there while others run.
    #[default]
    Push,
}

/// What is where.
#[derive(Debug)]
pub(crate) struct Locality {
    placement: Placement,
    keepers: Vec<BackendId>,
    /// For each blob, where it is or is on its way to. Bound: the blobs of one build, 60 bytes each.
    at: FxHashMap<BlobId, BackendSet>,
    dice: Dice,
}

impl Locality {
    pub(crate) fn new(placement: Placement, keepers: Vec<BackendId>, seed: u64) -> Self {
        Self { placement, keepers, at: FxHashMap::default(), dice: Dice(seed) }
    }

    /// Whether there is a place that keeps inputs.
    pub(crate) fn any(&self) -> bool {
        !self.keepers.is_empty()
    }

    /// Whether inputs are sent ahead.
    pub(crate) fn pushes(&self) -> bool {
        self.placement == Placement::Push
    }

    /// The places that keep inputs.
    pub(crate) fn keepers(&self) -> &[BackendId] {
        &self.keepers
    }

    /// The place for a thunk with these inputs, which count as being there from now on. `load` is what waits at a place, in
    /// jobs for each slot; it decides where bytes do not. Places in `refused` are none.
    pub(crate) fn home(
        &mut self,
        inputs: &[BlobId],
        refused: BackendSet,
        load: impl Fn(BackendId) -> f64,
    ) -> Option<Home> {
        let keepers: Vec<_> = self.keepers.iter().copied().filter(|b| !refused.contains(*b)).collect();
        if self.placement == Placement::Random {
            let backend = match keepers.len() as u64 {
                0 => return None,
                all => keepers[self.dice.below(all) as usize],
            };
            self.came(backend, inputs.iter().copied());
            return Some(Home { backend, lag: Duration::ZERO });
        }
        let mut lacking = vec![0; keepers.len()];
        for id in inputs {
            let there = self.at.get(id).copied().unwrap_or_default();
            for (lacks, keeper) in lacking.iter_mut().zip(&keepers) {
                *lacks += if there.contains(*keeper) { 0 } else { id.size() };
            }
        }
        let best = (0..keepers.len()).min_by(|a, b| {
            let loads = || load(keepers[*a]).total_cmp(&load(keepers[*b]));
            lacking[*a].cmp(&lacking[*b]).then_with(loads)
        })?;
        let others = (0..keepers.len()).filter(|other| *other != best);
        let next = others.map(|other| lacking[other]).min().unwrap_or_default();
        let backend = keepers[best];
        self.came(backend, inputs.iter().copied());
        Some(Home { backend, lag: Duration::from_micros(next.saturating_mul(1_000_000) / RATE) })
    }

    /// These are at a place now, or on their way.
    pub(crate) fn came(&mut self, backend: BackendId, ids: impl Iterator<Item = BlobId>) {
        if self.keepers.contains(&backend) {
            for id in ids {
                let there = self.at.entry(id).or_default();
                *there = there.with(backend);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: BackendId = BackendId(0);
    const B: BackendId = BackendId(1);

    fn blob(n: u8, size: u64) -> BlobId {
        BlobId::new(ggr_ir::Hash::of(&[n]), size)
    }

    fn two(placement: Placement) -> Locality {
        Locality::new(placement, vec![A, B], 1)
    }

    #[test]
    fn thunks_with_the_same_inputs_go_to_the_same_place_and_others_where_least_waits() {
        let mut places = two(Placement::Sticky);
        let home = |places: &mut Locality, ids: &[BlobId], loads: [f64; 2]| {
            places.home(ids, BackendSet::EMPTY, |b| loads[usize::from(b.0)]).unwrap()
        };
        let (one, other) = (blob(1, 12_500_000), blob(2, 1000));
        let first = home(&mut places, &[one], [0.0, 0.0]);
        assert_eq!(first, Home { backend: A, lag: Duration::from_secs(1) });
        assert_eq!(home(&mut places, &[one, blob(3, 1)], [9.0, 0.0]).backend, A, "a second one follows");
        assert_eq!(home(&mut places, &[other], [9.0, 0.0]).backend, B, "nobody has it: least waits at B");
        places.came(B, [one].into_iter());
        let both = home(&mut places, &[one], [9.0, 0.0]);
        assert_eq!(both, Home { backend: B, lag: Duration::ZERO }, "both have it");
        let refused = BackendSet::EMPTY.with(B);
        assert_eq!(places.home(&[other], refused, |_| 0.0).unwrap().backend, A);
        assert_eq!(places.home(&[other], refused.with(A), |_| 0.0), None);
    }

    #[test]
    fn chance_looks_at_no_bytes() {
        let mut places = two(Placement::Random);
        let one = blob(1, 12_500_000);
        let homes: Vec<_> =
            (0..64).map(|_| places.home(&[one], BackendSet::EMPTY, |_| 0.0).unwrap().backend).collect();
        assert!(homes.contains(&A) && homes.contains(&B));
    }
}
