//! `ggr worker serve` and its client, over real sandboxes: the service runs in this process, its workers do not.

mod faults;
mod harness;
mod hostile;
mod peers;
mod place;
mod tenants;
