//! The wire: launcher to coordinator, coordinator to worker, coordinator to Lambda function. Each format carries a version and a bound.

pub mod guest;
pub mod lambda;
pub mod launcher;
pub mod worker;
