//! The wire: launcher to coordinator, coordinator to worker, coordinator to Lambda function, client to worker service. Each
//! format carries a version and a bound.

pub mod guest;
pub mod lambda;
pub mod launcher;
pub mod service;
pub mod worker;
