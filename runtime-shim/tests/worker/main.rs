//! Real programs in real sandboxes, through the worker's socket.

mod harness;
mod hostile;
mod limits;
mod network;
mod outputs;
mod pool;
mod tools;
