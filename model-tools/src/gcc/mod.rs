//! The model of compiler drivers: `gcc`, `g++`, `cc`, `c++`, `cpp`.

mod call;
mod flags;
pub(crate) mod response;
mod source;
mod table;
