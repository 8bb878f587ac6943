//! Integration tests: real `ggr` processes in fresh directories.
