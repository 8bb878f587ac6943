//! Models: what a tool's command line reads and writes.

pub mod model;

pub use model::{FileView, Found, Invocation, Model, Modelled, Plan, PlannedOutput, Reason};
pub mod models; pub use models::Models;
