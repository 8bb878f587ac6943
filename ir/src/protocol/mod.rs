//! The wire: launcher to coordinator, coordinator to worker. Each format carries a version and a bound.

pub mod guest;
pub mod launcher;
pub mod worker;
