//! A store that a team shares: blobs, reductions and captured runs in an S3 bucket, behind the store of each machine.
//!
//! ```text
//! PREFIX/v1/cache/index/TIME-HASH   what a writer added: packs and their slots, results, packs found gone, captured runs
//! PREFIX/v1/cache/packs/NAME        small blobs, each a zstd frame, one after the other
//! PREFIX/v1/cache/blobs/HASH        a large blob, one zstd frame, written in parts
//! ```
//!
//! A build lists `index/` once and reads the segments that it has not read before; from then on presence is a question to
//! memory. Blobs are fetched when a result needs them, neighbours of a pack along with them, and go into the local store,
//! checked by hash. What is made is uploaded by a thread of its own while the build goes on.
//!
//! **Invariant:** a result is in the index only after its outputs are in the bucket.
//! **Invariant:** what comes out has the hash that it was asked for by.
//! **Invariant:** with [`Access::ReadOnly`] no request writes.
//!
//! **Healing.** An object that has gone, or is damaged twice in a row, is forgotten: its results are misses, the thunks run,
//! and what they make is uploaded again. Each loss is tried at most once a build, so nothing goes round in circles. That a
//! pack has gone is said in the next segment.
//!
//! **Failing.** What fails while a build runs stops reading or writing for the rest of it, with one notice; the build goes on
//! with the local store.
//!
//! **Namespaces.** The format has its version in the keys. A toolchain needs none: a thunk's id covers the compiler and each
//! library of it by hash, and its paths, so another toolchain has other ids.
//!
//! **Captured runs** ([`Run`](crate::store::captures::Run)) are blobs like others; the index says which commands have some. One
//! is fetched when its command is called, and what it left when all its questions have the same answers here.
//!
//! **Trust.** Whoever may write to the bucket decides what comes out of it, as with any compiler cache. Untrusted builds get
//! credentials that only read, and `read-only`. A captured run names paths: whoever repeats it confines them.

mod address;
mod cache;
mod captured;
mod examine;
mod fetch;
mod index;
mod levels;
mod pace;
mod pack;
mod segments;
mod shipment;
mod store;
#[cfg(test)]
mod tests;
mod trip;
mod unpacking;
mod uploader;

pub use address::Address;
pub use cache::TieredCache;
pub use examine::{Examined, examine};
pub(super) use pace::Pace;
pub use store::{Access, Notice, OpenError, SharedCounts, SharedOptions, SharedStore};
pub use uploader::Left;
