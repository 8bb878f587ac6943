//! Inside a microVM: PID 1 of the guest, and the agent between the host's console and a [worker](crate::worker).
//!
//! The guest's whole file system is the initramfs that `ggr_backends::microvm` makes: this program, the shared libraries
//! that it needs, and a few kernel modules. No shell, no other program. Jobs run in the same sandboxes as on the host.

mod agent;
mod boot;

pub use agent::serve;
pub use boot::run;

/// What a program that is PID 1's own worker is started with: `ggr worker …` on the host, this in the guest.
pub const WORKER: &str = "__guest_worker";

/// Where the agent keeps blobs and sandboxes.
pub const ROOT: &str = "/work";
