//! Things that can only be found out by trying, and that change the process that tries: each in a process of its own.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use rustix::mount::{MountFlags, MountPropagationFlags};
use rustix::thread::UnshareFlags;

use super::sys;

/// What can be tried.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Probe {
    /// Make a user namespace and be root in it.
    User,
    /// Make a mount namespace and mount something.
    Mount,
    /// Make pid, ipc, uts and network namespaces.
    Others,
    /// Mount an overlay file system.
    Overlay,
    /// Watch system calls.
    Seccomp,
    /// Watch system calls with a wake-up on the same processor.
    SeccompSync,
}

/// Tries it in a child process.
pub(super) fn try_it(probe: Probe) -> Result<(), String> {
    let name = clap::ValueEnum::to_possible_value(&probe).map(|value| value.get_name().to_owned());
    let name = name.expect("no variant is skipped");
    let output = Command::new("/proc/self/exe")
        .args(["doctor", "--probe", &name])
        .output()
        .map_err(|e| format!("ggr cannot start itself: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Tries it in this process; says on standard output what failed.
pub(super) fn run(probe: Probe) -> ExitCode {
    let tried = match probe {
        Probe::User => new_user(),
        Probe::Mount => new_mount().and_then(|()| with_directory(mount_tmpfs)),
        Probe::Others => new_mount().and_then(|()| others()),
        Probe::Overlay => new_mount().and_then(|()| with_directory(overlay)),
        Probe::Seccomp => sys::seccomp_listener().map(drop).map_err(said("watching system calls")),
        Probe::SeccompSync => sys::seccomp_listener()
            .and_then(|listener| sys::wake_up_in_step(&listener))
            .map_err(said("waking up in step")),
    };
    match tried {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            println!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn said(what: &'static str) -> impl Fn(io::Error) -> String {
    move |e| format!("{what}: {e}")
}

fn new_user() -> Result<(), String> {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    sys::unshare(UnshareFlags::NEWUSER).map_err(said("a user namespace"))?;
    let write = |file: &str, text: String| fs::write(file, text).map_err(said("the user namespace's maps"));
    // An ordinary user may map groups only after giving up setgroups (user_namespaces(7)).
    write("/proc/self/setgroups", "deny".to_owned())?;
    write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    write("/proc/self/gid_map", format!("0 {gid} 1"))
}

/// Root needs no user namespace for the others.
fn new_mount() -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        new_user()?;
    }
    sys::unshare(UnshareFlags::NEWNS).map_err(said("a mount namespace"))?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private).map_err(|e| said("making mounts private")(e.into()))
}

fn others() -> Result<(), String> {
    let flags = [
        (UnshareFlags::NEWPID, "a pid namespace"),
        (UnshareFlags::NEWIPC, "an ipc namespace"),
        (UnshareFlags::NEWUTS, "a uts namespace"),
        (UnshareFlags::NEWNET, "a network namespace"),
    ];
    flags.into_iter().try_for_each(|(flag, what)| sys::unshare(flag).map_err(said(what)))
}

/// The mounts vanish with this process; the directory is removed here.
fn with_directory(step: impl FnOnce(&Path) -> Result<(), String>) -> Result<(), String> {
    let directory = PathBuf::from(format!("/tmp/ggr-doctor-{}", std::process::id()));
    fs::create_dir(&directory).map_err(said("a directory in /tmp"))?;
    let done = step(&directory);
    let unmount = rustix::mount::unmount(&directory, rustix::mount::UnmountFlags::DETACH);
    let removed = unmount.map_err(io::Error::from).and_then(|()| fs::remove_dir(&directory));
    done.and_then(|()| removed.map_err(said("removing a directory of /tmp")))
}

fn mount_tmpfs(directory: &Path) -> Result<(), String> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount("tmpfs", directory, "tmpfs", flags, None)
        .map_err(|e| said("mounting a tmpfs")(e.into()))
}

fn overlay(directory: &Path) -> Result<(), String> {
    mount_tmpfs(directory)?;
    for name in ["lower", "upper", "work", "merged"] {
        fs::create_dir(directory.join(name)).map_err(said("a directory in a tmpfs"))?;
    }
    let at = directory.display();
    let options = format!("lowerdir={at}/lower,upperdir={at}/upper,workdir={at}/work,userxattr");
    let options = std::ffi::CString::new(options).expect("the path has no NUL");
    rustix::mount::mount(
        "overlay",
        directory.join("merged"),
        "overlay",
        MountFlags::empty(),
        options.as_c_str(),
    )
    .map_err(|e| said("mounting an overlay")(e.into()))
}
