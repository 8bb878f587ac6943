//! Models: what a tool's command line reads and writes.

pub mod inputs;
pub mod link;
pub mod model;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod staging;
pub mod toolchain;

pub use inputs::{InputSet, Trails};
pub use model::{FileView, Found, Invocation, Model, Modelled, Plan, PlannedOutput, Reason};
