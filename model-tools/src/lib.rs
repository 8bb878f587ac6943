//! Models: what a tool's command line reads and writes.

pub mod gcc;
pub mod inputs;
pub mod link;
pub mod model;
pub mod scan;
#[cfg(test)]
mod staging;
#[cfg(test)]
mod testing;
pub mod toolchain;

pub mod models;
pub use models::Models;
pub use inputs::{InputSet, Trails};
pub use model::{Directory, FileView, Found, Invocation, Model, Modelled, Plan, PlannedOutput, Reason};
pub use toolchain::{Driver, Records, ToolFiles, Tools};
