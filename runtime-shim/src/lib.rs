//! What runs inside a worker: staging of a thunk's root, the sandbox, the harvest of what the program left behind, and
//! the loop that serves a coordinator over a socket.
//!
//! Entry point: [`worker::serve`]. Nothing here prints or reads the environment.

pub mod bench;
mod blobs;
pub mod guest;
mod harvest;
pub mod lambda;
pub mod net;
mod sandbox;
mod stage;
pub mod worker;

/// The relocation layer's arithmetic of paths, for its tests.
#[cfg(test)]
#[path = "../relocate/paths.rs"]
#[allow(dead_code, missing_docs, unreachable_pub, clippy::new_without_default)]
mod relocated_paths;
