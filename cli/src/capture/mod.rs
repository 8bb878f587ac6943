//! Capture: a program without a model runs here, and what it read, looked for in vain and wrote is recorded, so that an
//! unchanged second run need not run. Its children belong to it.
//!
//! The launcher stands in for the selected programs as for modelled ones. A command that is known is looked up: if every
//! question that a remembered run asked of the file system has the same answer now, in its order, what it left and printed is
//! there at once. Otherwise the program runs for real, on the real tree with its caller's own descriptors, below a
//! helper process that lives outside of the build's filter and has one of its own, which tells every call by which a program
//! learns of files, changes them, prints, or reaches beyond. **Invariant:** a run that did anything that this record
//! cannot hold (a socket, random bytes, a terminal that is read, processes left behind, a file that changed meanwhile, …) is
//! not remembered; the caller gets its result as ever.
//!
//! Not seen, and so not compared: the clock, the process's ids, what is asked of open descriptors about times (`fstat`), owners,
//! link counts and free space.
//!
//! With a shared store runs go into the bucket and come from there (`sharing.rs`).

mod answers;
mod beyond;
mod caller;
mod calls;
mod diversion;
mod effects;
pub(crate) mod enter;
mod places;
mod programs;
mod recorder;
mod run;
mod serve;
mod sharing;
mod sys;
mod watch;

pub(crate) use diversion::Diversion;
pub(crate) use programs::Selection;
pub(crate) use serve::{Capture, serve};
