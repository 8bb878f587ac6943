//! What the user sees of a build: a status line on a terminal, a summary at the end, and on request events as JSON lines, a
//! Chrome trace and `compile_commands.json`; and the log that `ggr why` reads.
//!
//! The coordinator tells a [`Reporter`] what happens; the reporter passes each [`Event`] with its time to every [`Sink`].
//!
//! **Invariant:** nothing here writes between two bytes of a line of the build's own output, and nothing here can make a
//! build fail: a sink that cannot write says so once, at the end.

mod bar;
mod bridge;
mod chrome;
mod compile_commands;
mod event;
mod lines;
pub(crate) mod log;
mod reporter;
mod screen;
mod summary;
mod tally;
mod terminal;

pub(crate) use bar::Bar;
pub(crate) use bridge::forward;
pub(crate) use chrome::ChromeTrace;
pub(crate) use compile_commands::CompileCommands;
pub(crate) use event::{Call, Event};
pub(crate) use lines::JsonLines;
pub(crate) use log::Log;
pub(crate) use reporter::{Reporter, Sink, SinkError};
pub(crate) use summary::{Summary, seconds};
pub(crate) use terminal::Terminal;
