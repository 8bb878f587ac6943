//! `ggr`: runs an unmodified build as content-addressed thunks.

fn main() {}
