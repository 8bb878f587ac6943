//! What a thunk is: content-addressed types, their one canonical encoding, the wire protocols, and the traits of
//! stores. No async runtime, no network, no printing.

pub mod chain;
pub mod dag;
pub mod decode;
pub mod encode;
pub mod hash;
pub mod job;
pub mod json;
pub mod path;
pub mod placeholder;
pub mod protocol;
pub mod reduction;
pub mod repo;
pub mod store;
pub mod thunk;
pub mod units;

#[cfg(test)]
mod testing;

pub use chain::{Followed, Follower};
pub use hash::{BlobId, Hash, ParseIdError, ThunkId};
pub use job::{Attempt, InfraFailure, Job, Kind, Limits, Network, Outcome, Timings, ToolFailure, ToolLimits};
pub use path::{PathError, RootPath};
pub use reduction::{OutputEntry, Reduction};
pub use store::{Lookup, ObjectStore, ReductionCache, StoreError};
pub use thunk::{Command, Entry, Harvest, Mode, Object, OutputName, OutputRef, ReadyThunk, Thunk};
