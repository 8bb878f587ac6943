//! How long a place that has run a thunk is kept warm, and when one is made warm beforehand.
//!
//! "Serverless in the Wild" (Shahrad et al., ATC '20) for builds: per key (a toolchain, a tenant) a [`Hybrid`] policy looks at
//! the idle times between uses and names a [`Window`]: unload now and load again shortly before the next use is likely, or
//! keep for some time. A [`Pool`] carries windows out under a hard bound on idle memory. What a running build's graph says is
//! about to be ready is no guess and goes first ([`Pool::expect`]).
//!
//! All of it is pure: time is an argument, a [`Duration`](std::time::Duration) since some start. [`replay`] runs the same code
//! over a [`Trace`] on a virtual clock.
//!
//! **Invariant:** the memory of idle places is never above the bound, whatever the policy or a build asks for.

mod histogram;
mod hybrid;
mod pool;
mod replay;
mod trace;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

pub use histogram::{BINS, Histogram};
pub use hybrid::{Fixed, Hybrid, Mode, Settings};
pub use pool::{Action, Pool, Start, Usage, Window, Windows};
pub use replay::{Comparison, Half, Replayed, compare, replay};
pub use trace::{BadTrace, Call, Trace};
