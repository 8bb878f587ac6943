//! Interception: how the coordinator comes to hear of every tool call and of every read of a placeholder.
//!
//! The build runs in a private mount namespace in which the launcher is bind-mounted over every tool's real file, so
//! that no way of naming a tool gets past it; and under a seccomp user-notification filter on the calls that open or
//! execute a file, so that whoever reads a placeholder waits until it is real, static programs too.
//! The coordinator itself stays outside and sees the real tools.

pub(crate) mod divert;
pub(crate) mod door;
pub(crate) mod enter;
pub(crate) mod filter;
pub(crate) mod supervisor;
pub(crate) mod sys;

pub(crate) use sys::{inherit, kill, with_umask};
