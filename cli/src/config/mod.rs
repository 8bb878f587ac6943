//! Configuration in layers: flag, then `GGR_*` variable, then the project's `ggr.toml`, then the user's `config.toml`, then
//! the default. The first that says something wins, and every value knows where it came from.
//!
//! **Invariant:** a project's `ggr.toml` that does not belong to the user (or that anybody may write) cannot set a key that
//! decides where bytes go or what is run; such keys are ignored and the user is told.
//!
//! One table, in `keys`, holds every key; a file's unknown key is an error that names the nearest valid one.

mod error;
mod file;
mod keys;
mod layers;
mod value;

pub(crate) use error::ConfigError;
pub(crate) use keys::KEYS;
pub(crate) use layers::Config;
pub(crate) use value::{
    ByteSize, Intercept, Isolation, Mode, Origin, Staging, StoreMode, StorePlace, When, WorkerPlacement,
};
