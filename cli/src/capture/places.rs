//! Which file a system call names: paths out of another process's memory, made absolute, and sorted by what they are.

use std::path::{Component, Path, PathBuf};

use super::calls::At;
use crate::intercept::sys::read_path;

/// A path that a program named, by what becomes of a call on it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// An ordinary path, absolute.
    Path(String),
    /// The descriptor itself (an empty path): what is behind it has been seen already.
    Descriptor,
    /// Of the process itself (`/proc/self/…`), or a device that always says the same: nothing to record.
    Nothing,
    /// The terminal, or a device that says something else each time; says what.
    Device(&'static str),
    /// Random bytes.
    Random,
    /// Descriptor of the process, by its number (`/dev/stdin`, `/proc/self/fd/3`).
    OwnDescriptor(u32),
    /// Not a name that can be written down.
    Unnamed,
}

/// Devices by name. What is not listed says something else each time.
const DEVICES: [(&str, Device); 10] = [
    ("/dev/null", Device::Constant),
    ("/dev/zero", Device::Constant),
    ("/dev/full", Device::Constant),
    ("/dev/random", Device::Random),
    ("/dev/urandom", Device::Random),
    ("/dev/stdin", Device::Descriptor(0)),
    ("/dev/stdout", Device::Descriptor(1)),
    ("/dev/stderr", Device::Descriptor(2)),
    ("/dev/tty", Device::Terminal),
    ("/dev/console", Device::Terminal),
];

#[derive(Clone, Copy)]
enum Device {
    Constant,
    Random,
    Descriptor(u32),
    Terminal,
}

/// The place that `at` names for thread `pid`; `door` is the process through whose root launchers find the real tools.
pub(super) fn place(pid: u32, at: At, door: u32) -> Place {
    if at.path == 0 {
        return Place::Descriptor;
    }
    let Ok(bytes) = read_path(pid, at.path) else { return Place::Unnamed };
    let Ok(text) = String::from_utf8(bytes) else { return Place::Unnamed };
    if text.is_empty() {
        return Place::Descriptor;
    }
    if text.starts_with('/') {
        return sort(pid, clean(&text), door);
    }
    let base = match at.dir {
        libc::AT_FDCWD => format!("/proc/{pid}/cwd"),
        fd => format!("/proc/{pid}/fd/{fd}"),
    };
    match std::fs::read_link(base).ok().and_then(|base| base.to_str().map(str::to_owned)) {
        Some(base) if base.starts_with('/') => sort(pid, clean(&format!("{base}/{text}")), door),
        _ => Place::Unnamed,
    }
}

/// The path behind a descriptor of thread `pid`.
pub(super) fn behind(pid: u32, fd: i32) -> Option<String> {
    let path = std::fs::read_link(format!("/proc/{pid}/fd/{fd}")).ok()?;
    path.to_str().filter(|path| path.starts_with('/')).map(str::to_owned)
}

/// Without `.` and doubled slashes. `..` stays: what it leads to is the file system's to say.
fn clean(path: &str) -> String {
    let parts = path.split('/').filter(|part| !part.is_empty() && *part != ".");
    let mut clean = String::with_capacity(path.len());
    for part in parts {
        clean.push('/');
        clean.push_str(part);
    }
    // A slash at the end demands a directory.
    if clean.is_empty() || path.ends_with('/') {
        clean.push('/');
    }
    clean
}

fn sort(pid: u32, path: String, door: u32) -> Place {
    if let Some(rest) = path.strip_prefix("/proc/") {
        return of_proc(pid, rest, door).unwrap_or(Place::Path(path));
    }
    if !path.starts_with("/dev/") || path.starts_with("/dev/shm/") {
        return Place::Path(path);
    }
    if let Some(number) = path.strip_prefix("/dev/fd/").and_then(|number| number.parse().ok()) {
        return Place::OwnDescriptor(number);
    }
    match DEVICES.iter().find(|(name, _)| *name == path).map(|(_, device)| *device) {
        Some(Device::Constant) => Place::Nothing,
        Some(Device::Random) => Place::Random,
        Some(Device::Descriptor(number)) => Place::OwnDescriptor(number),
        Some(Device::Terminal) => Place::Device("it uses the terminal"),
        None => Place::Device("it uses a device"),
    }
}

/// A path below `/proc`: the process's own part, seen through the real tools' root, or nothing special.
fn of_proc(pid: u32, rest: &str, door: u32) -> Option<Place> {
    let (first, below) = rest.split_once('/').unwrap_or((rest, ""));
    if first == door.to_string() {
        // The way by which a launcher names the real tool.
        return below.strip_prefix("root").map(|tool| Place::Path(tool.to_owned()));
    }
    let own = first == "self" || first == "thread-self" || first == pid.to_string();
    if own {
        let number = below.strip_prefix("fd/").and_then(|number| number.parse().ok());
        return Some(number.map_or(Place::Nothing, Place::OwnDescriptor));
    }
    let foreign = first.parse::<u32>().is_ok();
    foreign.then_some(Place::Device("it looks at other processes"))
}

/// The path with no symlink in it but perhaps the last part: under which a file that is made, replaced or removed there is
/// known.
pub(super) fn canonical(path: &Path) -> Option<PathBuf> {
    match path.components().next_back()? {
        Component::Normal(name) => Some(std::fs::canonicalize(path.parent()?).ok()?.join(name)),
        _ => std::fs::canonicalize(path).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_made_plain_and_devices_told_apart() {
        assert_eq!(clean("//a/./b//../c"), "/a/b/../c");
        assert_eq!(clean("/a/b/"), "/a/b/");
        assert_eq!(clean("/"), "/");
        let check = |path: &str, expected: Place| assert_eq!(sort(7, path.into(), 9), expected, "{path}");
        check("/usr/bin/m4", Place::Path("/usr/bin/m4".into()));
        check("/dev/null", Place::Nothing);
        check("/dev/urandom", Place::Random);
        check("/dev/fd/3", Place::OwnDescriptor(3));
        check("/dev/stdin", Place::OwnDescriptor(0));
        check("/dev/shm/x", Place::Path("/dev/shm/x".into()));
        check("/dev/sda", Place::Device("it uses a device"));
        check("/proc/self/maps", Place::Nothing);
        check("/proc/7/fd/1", Place::OwnDescriptor(1));
        check("/proc/1/environ", Place::Device("it looks at other processes"));
        check("/proc/cpuinfo", Place::Path("/proc/cpuinfo".into()));
        check("/proc/9/root/usr/bin/m4", Place::Path("/usr/bin/m4".into()));
    }
}
