//! The table of checks.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Resource;

use super::probe::{Probe, try_it};
use super::{Finding, bucket};
use crate::commands::Context;
use crate::config::ByteSize;
use crate::microvm::Parts;

/// What ggr needs of disk space for one build of a large program with debug information.
const FREE_SPACE: u64 = 5 << 30;

/// Descriptors that a thousand workers need, with some for the build itself.
const DESCRIPTORS: u64 = 8192;

/// Looks at one thing.
type Check = fn(&Context) -> Finding;

/// Every check, in the order shown.
pub(super) const CHECKS: &[(&str, Check)] = &[
    ("kernel", |_| kernel()),
    ("user namespaces", |_| user_namespaces()),
    ("mount namespaces", |_| mount_namespaces()),
    ("other namespaces", |_| other_namespaces()),
    ("overlay file system", |_| overlay()),
    ("system call watch", |_| seccomp()),
    ("cgroups", |_| cgroups()),
    ("open files", |_| descriptors()),
    ("pseudoterminals", |_| pseudoterminals()),
    ("microVMs", microvms),
    ("processors", processors),
    ("repository", repository),
    ("free space", free_space),
    ("hard links", hard_links),
    ("shared store", bucket::shared_store),
    ("C compiler", |context| tools(context, &["gcc", "cc", "clang"], true)),
    ("C++ compiler", |context| tools(context, &["g++", "c++", "clang++"], false)),
    ("binutils", |context| tools(context, &["as", "ld", "ar", "ranlib", "strip", "objcopy"], false)),
    ("make", make),
    ("ninja and cmake", |context| tools(context, &["ninja", "cmake"], false)),
];

fn kernel() -> Finding {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy().into_owned();
    match version(&release) {
        Some(found) if found >= (6, 6) => Finding::ok(format!("Linux {release}")),
        Some(found) if found >= (5, 11) => Finding::degraded(
            format!("Linux {release}"),
            "6.6 or newer halves the cost of a watched system call",
        ),
        _ => Finding::missing(
            format!("Linux {release}"),
            "ggr needs 5.11 or newer (overlays in user namespaces); with an older one builds run as with `--isolation plain`",
        ),
    }
}

/// The first two numbers of a release such as `6.1.0-18-amd64`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn user_namespaces() -> Finding {
    match try_it(Probe::User) {
        Ok(()) => Finding::ok("allowed"),
        Err(why) if rustix::process::geteuid().is_root() => Finding::degraded(
            why,
            "root needs none; builds of other users run with `--intercept path --isolation plain`",
        ),
        Err(why) => Finding::degraded(
            why,
            "set `sysctl kernel.unprivileged_userns_clone=1` and, on Ubuntu, \
             `kernel.apparmor_restrict_unprivileged_userns=0`; until then builds run with `--intercept path \
             --isolation plain`: what is not in the cache runs on the real tree",
        ),
    }
}

fn mount_namespaces() -> Finding {
    match try_it(Probe::Mount) {
        Ok(()) => Finding::ok("allowed"),
        Err(why) => Finding::degraded(
            why,
            "in a container, allow CAP_SYS_ADMIN or user namespaces; until then tools are caught as by \
             `--intercept path`: a call by absolute path is not",
        ),
    }
}

fn other_namespaces() -> Finding {
    match try_it(Probe::Others) {
        Ok(()) => Finding::ok("pid, ipc, uts and network namespaces are allowed"),
        Err(why) => Finding::degraded(why, "thunks run without this wall between them and the machine"),
    }
}

fn overlay() -> Finding {
    match try_it(Probe::Overlay) {
        Ok(()) => Finding::ok("can be mounted"),
        Err(why) => Finding::degraded(
            why,
            "load the `overlay` module (`modprobe overlay`), or use Linux 5.11 or newer",
        ),
    }
}

fn seccomp() -> Finding {
    if let Err(why) = try_it(Probe::Seccomp) {
        return Finding::degraded(
            why,
            "calls cannot be answered early: builds run as with `--mode wait`; in a container, allow seccomp(2)",
        );
    }
    match try_it(Probe::SeccompSync) {
        Ok(()) => Finding::ok("seccomp user notification, with wake-up in step"),
        Err(why) => Finding::degraded(why, "Linux 6.6 or newer halves the cost of a watched system call"),
    }
}

fn cgroups() -> Finding {
    match fs::read_to_string("/sys/fs/cgroup/cgroup.controllers") {
        Ok(controllers) if controllers.contains("memory") => {
            Finding::ok(format!("version 2 with {}", controllers.trim().replace(' ', ", ")))
        }
        Ok(_) => Finding::degraded(
            "version 2 without a memory controller",
            "a process's address space is limited instead",
        ),
        Err(_) => Finding::degraded("no version 2 hierarchy", "a process's address space is limited instead"),
    }
}

fn descriptors() -> Finding {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(u64::MAX);
    let found = if most == u64::MAX { "no limit".to_owned() } else { format!("up to {most}") };
    if most >= DESCRIPTORS {
        return Finding::ok(found);
    }
    Finding::degraded(found, format!("`ulimit -Hn {DESCRIPTORS}` for builds with a thousand slots"))
}

fn pseudoterminals() -> Finding {
    use rustix::pty::{OpenptFlags, openpt};
    match openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY) {
        Ok(_) => Finding::ok("available"),
        Err(e) => Finding::degraded(format!("none: {e}"), "builds have no status line; mount /dev/pts"),
    }
}

fn microvms(context: &Context) -> Finding {
    match Parts::find(context) {
        Ok(parts) => Finding::ok(format!(
            "{}, kernel {}; `ggr worker image build` tries them",
            parts.version, parts.kernel.release
        )),
        Err(why) => Finding::degraded(
            why,
            "only `--backend microvm` needs them: `apt-get install qemu-system-x86`, and unpack Debian's \
             `linux-image-cloud-amd64` into `~/.cache/ggr/guest`",
        ),
    }
}

fn processors(context: &Context) -> Finding {
    let found = std::thread::available_parallelism().map_or(1, usize::from);
    Finding::ok(format!("{found}; {} thunks run here side by side", context.config.slots.value))
}

/// The directory that the repository is in, or would be made in.
fn repository_place(context: &Context) -> PathBuf {
    let wanted = context
        .config
        .dir
        .value
        .clone()
        .or_else(|| context.dir.ancestors().map(|dir| dir.join(".ggr")).find(|dir| dir.is_dir()));
    let wanted = wanted.unwrap_or_else(|| context.dir.join(".ggr"));
    wanted.ancestors().find(|dir| dir.is_dir()).unwrap_or(Path::new("/")).to_path_buf()
}

fn repository(context: &Context) -> Finding {
    let place = repository_place(context);
    match tempfile_in(&place) {
        Ok(path) => {
            // What cannot be removed again lies in ggr's own directory under a name that says so.
            let _ = fs::remove_file(path);
            let what = if place.ends_with(".ggr") { "" } else { "none yet; it can be made in " };
            Finding::ok(format!("{what}{}", place.display()))
        }
        Err(e) => Finding::missing(
            format!("`{}` cannot be written: {e}", place.display()),
            "name another place with `--dir` or GGR_DIR",
        ),
    }
}

fn tempfile_in(directory: &Path) -> std::io::Result<PathBuf> {
    let path = directory.join(format!(".ggr-doctor-{}", std::process::id()));
    fs::write(&path, b"ggr doctor wrote this and removes it\n")?;
    Ok(path)
}

fn free_space(context: &Context) -> Finding {
    let place = repository_place(context);
    match rustix::fs::statvfs(&place) {
        Ok(found) => {
            let free = found.f_bavail.saturating_mul(found.f_frsize);
            let text = format!("{} at {}", ByteSize(free), place.display());
            if free >= FREE_SPACE {
                return Finding::ok(text);
            }
            Finding::degraded(text, "`ggr gc` frees space; `--max-cache` sets the store's limit")
        }
        Err(e) => Finding::degraded(format!("unknown: {e}"), "look at the file system"),
    }
}

fn hard_links(context: &Context) -> Finding {
    let place = repository_place(context);
    let advice =
        "thunks' inputs are copied, not linked: slower; a repository on ext4, xfs, btrfs or tmpfs has links";
    let Ok(path) = tempfile_in(&place) else { return Finding::degraded("not tried", advice) };
    let link = path.with_extension("link");
    let linked = fs::hard_link(&path, &link);
    let links = fs::metadata(&path).map_or(0, |found| found.nlink());
    for made in [&path, &link] {
        // The link is absent if it could not be made.
        let _ = fs::remove_file(made);
    }
    match linked {
        Ok(()) if links == 2 => Finding::ok("work in the repository"),
        Ok(()) => Finding::degraded("are copies here", advice),
        Err(e) => Finding::degraded(e.to_string(), advice),
    }
}

/// The first file of this name in `PATH` that may be executed.
fn which(context: &Context, name: &str) -> Option<PathBuf> {
    let path = context.env.value("PATH")?;
    std::env::split_paths(path).map(|dir| dir.join(name)).find(|file| {
        fs::metadata(file).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    })
}

fn tools(context: &Context, names: &[&str], needed: bool) -> Finding {
    let mut found = Vec::new();
    let mut absent = Vec::new();
    for name in names {
        match which(context, name) {
            Some(file) => {
                let real = fs::canonicalize(&file).unwrap_or(file);
                found.push(format!("{name} ({})", real.display()));
            }
            None => absent.push(*name),
        }
    }
    match (found.is_empty(), needed) {
        (true, true) => Finding::missing(
            format!("none of {}", absent.join(", ")),
            "install one, as `apt-get install gcc`",
        ),
        (true, false) => Finding::degraded(
            format!("none of {}", absent.join(", ")),
            "only builds that call them need them",
        ),
        (false, _) => Finding::ok(found.join(", ")),
    }
}

fn make(context: &Context) -> Finding {
    let Some(file) = which(context, "make") else {
        return Finding::degraded("not found", "only builds that use it need it");
    };
    let output =
        Command::new(&file).arg("--version").output().map(|output| output.stdout).unwrap_or_default();
    let text = String::from_utf8_lossy(&output);
    let first = text.lines().next().unwrap_or("unknown version").to_owned();
    Finding::ok(format!("{first} ({})", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_releases_are_read() {
        assert_eq!(version("6.1.0-18-amd64"), Some((6, 1)));
        assert_eq!(version("5.15"), Some((5, 15)));
        assert_eq!(version("custom"), None);
    }
}
