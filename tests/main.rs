//! Integration tests: real `ggr` processes in fresh directories. The oracle over all: `ggr` and the plain tool give the same
//! bytes, exit code, standard output and standard error.

mod benches;
mod builds;
mod capture;
mod cloud;
mod examples;
mod faults;
mod hazards;
mod hosts;
mod locality;
mod microvm;
mod never_worse;
mod precompiled;
mod s3;
mod shared_cache;
mod twin;
mod usage;
mod worker;
