//! Places where blobs and reductions live: the local store of a repository, its reduction cache, its collector
//! and checker, and wrappers that add behaviour to any store.
//!
//! Each kind of store passes the same contract test (`contract.rs`).

pub mod captures;
#[cfg(test)]
mod contract;
#[cfg(test)]
mod cost;
#[cfg(test)]
mod faults;
mod fs;
pub mod gc;
mod ingest;
pub mod inventory;
mod known;
mod layout;
mod memory;
mod reductions;
mod s3;
mod seal;
pub mod shared;
pub mod verify;
mod wrappers;

pub use fs::FsStore;
pub use ingest::Ingested;
pub use known::KnownSet;
pub use memory::MemoryStore;
pub use reductions::FsReductionCache;
pub use s3::{S3Error, Trouble};
pub use wrappers::{Known, Remove, Verified};
