//! Staging: prepared root directories that sandboxes use as their read-only lower layer.
//!
//! A [`Root`](root::Root) remembers which thunk it was made for; the next one applies only the difference. Consecutive compiles
//! of one project share the toolchain and most headers. The [`Shelf`](shelf::Shelf) picks the root; one that holds exactly
//! what a job needs is shared by any number of jobs at once.

pub(crate) mod plan;
pub(crate) mod root;
pub(crate) mod shelf;
