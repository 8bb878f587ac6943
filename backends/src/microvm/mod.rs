//! Thunks in virtual machines: a guest kernel of its own around every sandbox.
mod initramfs;
mod qemu;
mod qmp;
mod vmm;

pub use initramfs::{Contents, build as build_initramfs};
pub use qemu::Qemu;
pub use vmm::{Accelerator, Guest, Machine, Snapshot, Vmm, VmmError};
