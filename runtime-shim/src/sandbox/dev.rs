//! The `/dev` of all sandboxes: a read-only tmpfs with the devices that a build tool may use.
//!
//! Made once by the zygote and cloned into each sandbox as one tree. Read-only, because it is shared: a file made in it
//! would be seen by the next job. (Devices on a read-only mount may still be written to.)

use std::path::Path;

use rustix::fs::{CWD, FileType, Mode};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount, mount_bind, mount_remount};

/// Name, major and minor number (Documentation/admin-guide/devices.txt).
const DEVICES: [(&str, u32, u32); 5] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9)];

/// Name and target, as udev makes them.
const LINKS: [(&str, &str); 4] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];

/// Mounts it at `at`, an empty directory. The host's devices must still be at `/dev`.
pub(super) fn mount_devices(at: &Path) -> Result<(), Errno> {
    mount("tmpfs", at, "tmpfs", MountFlags::NOSUID | MountFlags::NOEXEC, c"mode=755,size=64k")?;
    for (name, major, minor) in DEVICES {
        let node = at.join(name);
        let mode = Mode::from_raw_mode(0o666);
        let made = rustix::fs::mknodat(
            CWD,
            &node,
            FileType::CharacterDevice,
            mode,
            rustix::fs::makedev(major, minor),
        );
        match made {
            Ok(()) => {}
            // In a user namespace devices cannot be made: bind the host's.
            Err(Errno::PERM) => {
                rustix::fs::mknodat(CWD, &node, FileType::RegularFile, mode, 0)?;
                mount_bind(Path::new("/dev").join(name), &node)?;
            }
            Err(other) => return Err(other),
        }
    }
    for (name, target) in LINKS {
        rustix::fs::symlink(target, at.join(name))?;
    }
    let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NOEXEC;
    mount_remount(at, flags, c"")
}
