//! Models: what a tool's command line reads and writes.

pub mod binutils;
#[cfg(test)]
mod directives;
pub mod gcc;
mod getopt;
mod glob;
pub mod inputs;
pub mod link;
pub mod model;
pub mod models;
pub mod scan;
#[cfg(test)]
mod staging;
#[cfg(test)]
mod testing;
pub mod toolchain;
pub mod user;

pub use inputs::{InputSet, Trails};
pub use model::{
    Directory, FileView, Found, Invocation, Model, Modelled, Plan, PlannedOutput, Reason, Stages, UNMASKED,
};
pub use models::Models;
pub use toolchain::{Driver, Records, ToolFiles, Tools};
pub use user::{UserError, UserTool};
