//! Placeholder for the crate's documentation.

pub mod memo;
pub mod store;
