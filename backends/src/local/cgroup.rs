//! Control groups around a worker and all that it runs: bounds on processes and memory, by version 1 or 2 of the kernel's
//! interface, whichever has the controller (cgroups(7)). Where neither can be written, there are no such bounds.
//!
//! **Invariant:** a group is removed with its worker. One of a process that was killed is removed when the next is made.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ggr_ir::repo::unique_name;

/// What the names of groups begin with; the pid of their maker follows.
pub const PREFIX: &str = "ggr-worker-";

/// A group whose last process has just been killed is busy for some milliseconds.
const TRIES: u32 = 100;

/// Bounds on a worker with all of its sandboxes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Processes and threads.
    pub processes: u64,
    /// Bytes of memory, files in memory included.
    pub memory: u64,
}

/// The groups of one worker: one for each controller with version 1, one for both with version 2.
#[derive(Debug)]
pub(super) struct Cgroup(Vec<PathBuf>);

impl Cgroup {
    /// Makes what can be made here. `user` is who the worker runs as: its sandboxes get groups of their own in it.
    pub(super) fn make(bounds: Bounds, user: Option<u32>) -> Self {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let name = format!("{PREFIX}{}", unique_name());
        let files = [
            ("pids", "pids.max", "pids.max", bounds.processes),
            ("memory", "memory.limit_in_bytes", "memory.max", bounds.memory),
        ];
        let mut made = Self(Vec::new());
        for (controller, old, new, bound) in files {
            let places = [(one(&mounts, &own, controller), old), (two(&mounts, &own), new)];
            let places = places.into_iter().filter_map(|(parent, file)| Some((parent?, file)));
            for (parent, file) in places {
                sweep(&parent);
                let group = parent.join(&name);
                let there = made.0.contains(&group) || fs::create_dir(&group).is_ok();
                if there && !made.0.contains(&group) {
                    made.0.push(group.clone());
                }
                if there && fs::write(group.join(file), bound.to_string()).is_ok() {
                    // The directory alone: the bounds in it stay ours. Without it thunks with bounds of their own are refused.
                    let _ = std::os::unix::fs::chown(&group, user, user);
                    break;
                }
            }
        }
        made
    }

    /// Puts a process in, before it has children.
    pub(super) fn add(&self, pid: u32) {
        for group in &self.0 {
            // Then it has no bounds; the time limit still holds.
            let _ = fs::write(group.join("cgroup.procs"), pid.to_string());
        }
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for group in &self.0 {
            for _ in 0..TRIES {
                if remove(group) || !group.exists() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

/// Removes groups whose makers are gone.
pub fn sweep(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let maker =
            name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('-').next()?.parse::<u32>().ok());
        if maker.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            remove(&entry.path());
        }
    }
}

/// Removes a group with those of single sandboxes in it; whether it is gone.
fn remove(group: &Path) -> bool {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let _ = fs::remove_dir(entry.path());
        }
    }
    fs::remove_dir(group).is_ok()
}

/// The group that this process may make others in which bound processes: its own, with version 1, or with version 2 where that
/// hands its controller on (a group with processes in it may not, but for the topmost).
pub fn processes_group() -> Option<PathBuf> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let handed_on = |group: &PathBuf| {
        let list = fs::read_to_string(group.join("cgroup.subtree_control")).unwrap_or_default();
        list.split_whitespace().any(|one| one == "pids")
    };
    one(&mounts, &own, "pids").or_else(|| two(&mounts, &own).filter(handed_on))
}

/// Our own group in the hierarchy of a controller of version 1.
fn one(mounts: &str, own: &str, controller: &str) -> Option<PathBuf> {
    let has = |list: &str| list.split(',').any(|one| one == controller);
    let at = mounts.lines().find_map(|line| {
        let (mount, rest) = line.split_once(" - ")?;
        let rest: Vec<_> = rest.split(' ').collect();
        (rest.first() == Some(&"cgroup") && rest.get(2).is_some_and(|options| has(options)))
            .then(|| mount.split(' ').nth(4))?
    })?;
    let path = own.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        parts.next().filter(|list| has(list)).and(parts.next())
    })?;
    inside(at, path)
}

/// Our own group in the hierarchy of version 2.
fn two(mounts: &str, own: &str) -> Option<PathBuf> {
    let at = mounts.lines().find_map(|line| {
        let (mount, rest) = line.split_once(" - ")?;
        (rest.split(' ').next() == Some("cgroup2")).then(|| mount.split(' ').nth(4))?
    })?;
    inside(at, own.lines().find_map(|line| line.strip_prefix("0::"))?)
}

/// In a container the path may be that of the host, which is not mounted: then the mount is our group.
fn inside(mount: &str, path: &str) -> Option<PathBuf> {
    let mount = Path::new(mount);
    let own = mount.join(path.trim_start_matches('/'));
    if own.is_dir() { Some(own) } else { mount.is_dir().then(|| mount.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_group_is_found_in_either_version() {
        let mounts = "30 1 0:26 / /tmp rw - cgroup cgroup rw,memory\n\
                      31 1 0:27 / /usr rw - cgroup cgroup rw,cpu,pids\n\
                      32 1 0:28 / /var rw - cgroup2 cgroup2 rw\n";
        let own = "4:memory:/gone\n8:cpu,pids:/bin\n0::/lib\n";
        assert_eq!(one(mounts, own, "memory"), Some("/tmp".into()));
        assert_eq!(one(mounts, own, "pids"), Some("/usr/bin".into()));
        assert_eq!(one(mounts, own, "cpuset"), None);
        assert_eq!(two(mounts, own), Some("/var/lib".into()));
    }
}
