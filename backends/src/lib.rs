//! Places where thunks run, the scheduler that feeds them, and the stores that they read and write.
//!
//! [`scheduler`] decides and does nothing; [`drive`] does what it decided, and holds the crate's only `select!`. A
//! [`Backend`] tries one job once. This crate neither prints nor reads the environment.

pub mod backend;
pub mod bench;
pub mod contract;
mod dice;
pub mod drive;
pub mod durations;
pub mod fleet;
pub mod jobserver;
pub mod keepalive;
pub mod lambda;
pub mod local;
pub mod locality;
pub mod memo;
pub mod microvm;
pub mod null;
pub mod remote;
pub mod scheduler;
pub mod service;
pub mod standby;
pub mod store;
mod sys;
pub mod twice;

pub use backend::{Backend, Refusal};
