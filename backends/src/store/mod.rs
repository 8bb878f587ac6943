//! Places where blobs and reductions live: the local store of a repository, its reduction cache, and wrappers that add
//! behaviour to any store.
//!
//! Each kind of store passes the same contract test (`contract.rs`).

#[cfg(test)]
mod contract;
mod fs;
mod ingest;
mod known;
mod layout;
mod memory;
mod reductions;
mod wrappers;

pub use fs::FsStore;
pub use ingest::Ingested;
pub use known::KnownSet;
pub use memory::MemoryStore;
pub use reductions::FsReductionCache;
pub use wrappers::{Known, Remove, Verified};
