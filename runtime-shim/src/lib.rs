//! What runs inside a worker: staging of a thunk's root, the sandbox, the harvest of what the program left behind, and
//! the loop that serves a coordinator over a socket.
//!
//! Entry point: [`worker::serve`]. Nothing here prints or reads the environment.

pub mod bench;
mod blobs;
pub mod guest;
mod harvest;
pub mod net;
mod sandbox;
mod stage;
pub mod worker;
