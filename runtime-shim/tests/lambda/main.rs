//! The bootstrap in a jail with Lambda's limits (`tests/jail`): real programs, asked for through the runtime API.

mod chains;
mod harness;
mod limits;
mod paths;
mod tools;
