//! A fleet on paper: the real [`Scheduler`](crate::scheduler::Scheduler), driven by a made-up cloud on a virtual clock.
//!
//! A [`Graph`] of thunks with the durations that they had in a real build (or a generated one) is run on a [`Cloud`] that has
//! Lambda's manners: environments that are cold at first and come in a ramp, transfers that take a random time, attempts that
//! straggle. Everything that the scheduler decides (order, retries, duplicates) it decides as in a real build, and who shares an
//! invocation or runs behind another thunk is decided by the code of the driver and of the Lambda backend. The result is compared
//! with what no scheduler can beat: [`Graph::bound`].
//!
//! Left out: the user's own uplink, the account's limit on concurrency, prices.

mod cloud;
mod generate;
mod graph;
mod simulate;

#[cfg(test)]
mod tests;

pub use cloud::{Cloud, Spread};
pub use graph::{BadGraph, Graph, Task};
pub use simulate::{Ran, simulate};
