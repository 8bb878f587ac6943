//! Models: what a tool's command line reads and writes.

pub mod model;
pub mod scan;

pub use model::{Directory, FileView, Found, Invocation, Model, Modelled, Plan, PlannedOutput, Reason};
