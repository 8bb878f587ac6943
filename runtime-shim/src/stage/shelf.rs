//! Which root a job gets.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::plan::Plan;
use super::root::{Root, StageError};
use crate::blobs::Blobs;

/// All roots of a worker.
pub(crate) struct Shelf {
    dir: PathBuf,
    /// How many roots to keep before one that is unlike the job is changed rather than a new one made.
    keep: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    made: u64,
    /// The least recently released first.
    roots: Vec<Slot>,
}

struct Slot {
    root: Root,
    users: usize,
}

/// The right to use a root until it is handed back.
#[derive(Debug)]
pub(crate) struct Lease {
    /// The root's number.
    pub(crate) number: u64,
    /// Where it is.
    pub(crate) path: PathBuf,
}

impl Shelf {
    /// An empty one; roots are made below `dir`.
    pub(crate) fn new(dir: &Path, keep: usize) -> Self {
        Self { dir: dir.to_owned(), keep, state: Mutex::default() }
    }

    /// A root that holds what the plan needs.
    pub(crate) fn lease(&self, plan: &Plan, blobs: &Blobs) -> Result<Lease, StageError> {
        let mut root = match self.find(plan) {
            Found::Ready(lease) => return Ok(lease),
            Found::Change(root) => root,
            Found::New(number) => Root::new(&self.dir, number)?,
        };
        if let Err(error) = root.become_for(plan.clone(), blobs) {
            let _ = std::fs::remove_dir_all(root.path());
            return Err(error);
        }
        let lease = Lease { number: root.number, path: root.path().to_owned() };
        self.state().roots.push(Slot { root, users: 1 });
        Ok(lease)
    }

    /// Hands a root back. Nothing may use it any more as a lower layer.
    pub(crate) fn release(&self, lease: &Lease) {
        let mut state = self.state();
        let Some(index) = state.roots.iter().position(|slot| slot.root.number == lease.number) else {
            return;
        };
        let mut slot = state.roots.remove(index);
        slot.users -= 1;
        state.roots.push(slot);
    }

    fn find(&self, plan: &Plan) -> Found {
        let mut state = self.state();
        let holds = |slot: &Slot, like: fn(&Plan, &Plan) -> bool| {
            slot.root.holds().is_some_and(|held| like(held, plan))
        };
        if let Some(slot) = state.roots.iter_mut().rev().find(|slot| holds(slot, |a, b| a.same_root(b))) {
            slot.users += 1;
            return Found::Ready(Lease { number: slot.root.number, path: slot.root.path().to_owned() });
        }
        let free = |slot: &&Slot| slot.users == 0;
        let alike =
            state.roots.iter().rev().find(|slot| free(slot) && holds(slot, |a, b| a.alike == b.alike));
        let oldest = state.roots.iter().find(|slot| free(slot) && state.roots.len() >= self.keep);
        if let Some(number) = alike.or(oldest).map(|slot| slot.root.number) {
            let index =
                state.roots.iter().position(|slot| slot.root.number == number).expect("it was just seen");
            return Found::Change(state.roots.remove(index).root);
        }
        state.made += 1;
        Found::New(state.made)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Found {
    Ready(Lease),
    Change(Root),
    New(u64),
}
