//! The worker as a Lambda function: no user 0, no namespaces, no mounts, a read-only root and `/tmp`.
//!
//! [`serve`] asks the runtime API for invocations and answers them. A thunk's root is staged below `/tmp` from objects that
//! stay there between invocations ([`cache`]), and its program runs behind the relocation layer (`relocate/main.rs`), which
//! leads every path into that root.
//!
//! The inputs of all thunks of an invocation are fetched together, and what one has left is sent to the store while the next one
//! runs ([`outbox`]).
//!
//! **Frozen and thawed.** Nothing runs between two invocations: when one is answered, every process of its thunks has been
//! killed and waited for, and all that they left has arrived. **Twice.** An invocation that is delivered again does the same again. **Clock.** Only the monotonic
//! clock is read, and limits come with the jobs: a wrong clock changes nothing here.

mod cache;
mod environment;
mod outbox;
mod process;
mod runtime;
mod survey;
mod sys;

pub use environment::{Environment, OpenStore, StartError};
pub use runtime::{RuntimeError, serve};
