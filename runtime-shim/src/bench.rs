//! Measurements that tests and benchmarks share.
