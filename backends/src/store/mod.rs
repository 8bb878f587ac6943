//! Places where blobs and reductions live: the local store of a repository, its reduction cache, and wrappers that add
//! behaviour to any store.
//!
//! Each kind of store passes the same contract test (`contract.rs`).

mod fs;
mod ingest;
mod known;
mod layout;
mod reductions;

pub use fs::FsStore;
pub use ingest::Ingested;
pub use known::KnownSet;
pub use reductions::FsReductionCache;
