//! The model of compiler drivers: `gcc`, `g++`, `cc`, `c++`, `cpp`.

mod call;
mod flags;
mod response;
mod source;
mod table;
