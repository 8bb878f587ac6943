//! What the zygote sees: a root of its own that holds the worker's directory and what each sandbox copies.
//!
//! ```text
//! /s     the worker's directory: prepared roots, scratch directories of jobs
//! /m     where each PID 1, in its own mount namespace, mounts its overlay
//! /dev   the devices that are cloned into each sandbox
//! /proc  the host's; without a full view of it no user namespace may mount a new one
//! ```
//!
//! The rest of the host's mounts is gone from here, so that copying the mount namespace for a job copies a handful of
//! mounts, and a program that broke out of its `chroot` would find nothing of the host.

use std::path::Path;

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind_recursive, mount_change, unmount,
};

use super::dev::mount_devices;

/// Enters the view: afterwards `/` is it.
pub(super) fn enter(worker_dir: &Path) -> Result<(), (&'static str, Errno)> {
    let step = |what: &'static str| move |errno: Errno| (what, errno);
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(step("making mounts private"))?;
    let root = worker_dir.join("view");
    mount("tmpfs", &root, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, c"mode=755,size=64k")
        .map_err(step("mounting a tmpfs"))?;
    for name in ["s", "m", "dev", "proc"] {
        rustix::fs::mkdir(root.join(name), Mode::from_raw_mode(0o755)).map_err(step("making the view"))?;
    }
    mount_bind_recursive(worker_dir, root.join("s")).map_err(step("binding the worker's directory"))?;
    mount_devices(&root.join("dev")).map_err(step("making /dev"))?;
    mount_bind_recursive("/proc", root.join("proc")).map_err(step("binding /proc"))?;
    rustix::process::chdir(&root).map_err(step("entering the view"))?;
    // The same directory twice: the old root is mounted over the new one, and unmounted at once (pivot_root(2), NOTES).
    rustix::process::pivot_root(".", ".").map_err(step("pivot_root"))?;
    unmount(".", UnmountFlags::DETACH).map_err(step("leaving the old root"))?;
    rustix::process::chdir("/").map_err(step("entering the view"))
}
