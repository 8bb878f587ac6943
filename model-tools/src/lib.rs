//! Models: what a tool's command line reads and writes.

pub mod model;
pub mod scan;

pub use model::{FileView, Found, Invocation, Model, Modelled, Plan, PlannedOutput, Reason};
