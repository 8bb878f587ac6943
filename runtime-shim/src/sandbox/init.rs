//! PID 1 of a sandbox: builds it from inside, starts the program, waits for it, reports, ends.
//!
//! When the program has ended, everything that it left running is killed and waited for, and only then is its end
//! reported: from there on nothing changes what it wrote, and the harvest need not wait for the namespaces to be torn
//! down (0.8 ms, most of it the kernel waiting for itself).
//!
//! The program runs with `CAP_DAC_OVERRIDE` alone, over its own overlay: inputs are hard links to blobs of mode 0444, and
//! `strip`, `ar` and `objcopy` open such a file for writing, as its owner could on the user's machine (0644). All other
//! capabilities are gone, also from the bounding set, so that user 0 gets none back by executing a file.
//!
//! `chroot` and not `pivot_root`: 150 to 250 µs less a job. Leaving it needs `CAP_SYS_CHROOT` or a user namespace, which
//! the kernel refuses to a process that is in a `chroot` (`create_user_ns`), and outside lies only the zygote's
//! [view](super::view).
//!
//! `/proc` is read-only: user 0 without capabilities may otherwise write most of `/proc/sys`.

use std::ffi::{CString, NulError};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{
    MountFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount, mount_bind, mount_remount, move_mount,
    open_tree, unmount,
};
use rustix::process::{DumpableBehavior, Resource, Rlimit};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::message::{Report, Start};
use super::zygote::{Marks, send};
use super::{filter, sys};

/// What failed while the sandbox was built.
type Step = (&'static str, io::Error);

fn step<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> Step {
    move |error| (what, error.into())
}

/// Everything of PID 1's life. The caller has just been cloned into a new pid namespace.
pub(super) fn run(start: &Start, reports: BorrowedFd<'_>, marks: Marks) -> ! {
    match build_and_wait(start, reports, marks) {
        Ok((status, ran)) => {
            let (cpu, max_rss) = sys::children_usage();
            send(reports, &Report::Ended { seq: start.seq, status, ran, cpu, max_rss });
        }
        Err((what, error)) => send(reports, &Report::refused(start.seq, format!("{what}: {error}"))),
    }
    sys::exit_now(0)
}

fn build_and_wait(start: &Start, reports: BorrowedFd<'_>, marks: Marks) -> Result<(i32, Duration), Step> {
    // The program has our uid; what is not dumpable it cannot look into, nor into our descriptors.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(step("prctl"))?;
    let exec = Exec::of(start).map_err(|_| ("the command", io::Error::other("it holds a NUL byte")))?;
    sys::unshare(libc::CLONE_NEWNS | libc::CLONE_NEWIPC).map_err(step("new namespaces"))?;
    let streams = Streams::open(&start.scratch).map_err(step("opening the output files"))?;
    mount_all(start, marks)?;
    rustix::process::chroot("/m").map_err(step("chroot"))?;
    rustix::process::chdir("/").map_err(step("chdir"))?;
    rustix::process::chdir(&*start.dir).map_err(step("entering the working directory"))?;
    let started = Instant::now();
    let program = sys::spawn_sharing_memory(&mut || become_program(start, &exec, &streams, reports))
        .map_err(step("starting a process"))?;
    let status = loop {
        match sys::wait_any(true).map_err(step("wait"))? {
            Some((pid, status)) if pid == program => break status,
            _ => {}
        }
    };
    let ran = started.elapsed();
    end_the_rest();
    Ok((status, ran))
}

/// Kills every other process of the sandbox, and waits until none is left.
fn end_the_rest() {
    loop {
        match sys::wait_any(false) {
            // Orphans become PID 1's children: without a child it is alone. Killing goes round all processes of the machine,
            // 0.1 ms with a thousand sandboxes, so that is asked first.
            Err(_) => return,
            Ok(Some(_)) => continue,
            Ok(None) => {}
        }
        // Again after each: a process may have been forked while the kill went round.
        if sys::kill_all_others().is_err() || sys::wait_any(true).is_err() {
            return;
        }
    }
}

fn mount_all(start: &Start, marks: Marks) -> Result<(), Step> {
    let scratch = &start.scratch;
    // `volatile`: see the module above. The others are off so that what lies in the upper layer is plain: whole files, no
    // redirects. In a user namespace they cannot be on.
    let marks = match marks {
        Marks::Trusted => ",redirect_dir=off,metacopy=off,index=off",
        Marks::User => ",userxattr",
    };
    let options = format!(
        "lowerdir=/s/{},upperdir=/s/{scratch}/u,workdir=/s/{scratch}/w,volatile,xino=off{marks}",
        start.lower
    );
    let options = CString::new(options).expect("names of roots and jobs are made from numbers");
    let quiet = MountFlags::NOSUID | MountFlags::NODEV;
    mount("overlay", "/m", "overlay", quiet, &*options).map_err(step("mounting the overlay"))?;
    start.read_only.iter().for_each(|dir| show_lower(start, dir));
    mount("proc", "/m/proc", "proc", quiet | MountFlags::NOEXEC | MountFlags::RDONLY, c"")
        .map_err(step("mounting /proc"))?;
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::AT_RECURSIVE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let devices = open_tree(CWD, "/dev", flags).map_err(step("cloning /dev"))?;
    move_mount(&devices, "", CWD, "/m/dev", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(step("mounting /dev"))
}

/// Mounts a directory of the lower layer, read-only, over the overlay's view of it: a new overlay looks up each component of
/// each header's and library's path anew in both layers, and asks for permission in both, whenever one is walked (GCC asks
/// `readlink` of all). That was two fifths of what a compile of Git cost under ggr above what it costs without. The overlay
/// shows the same files, so what cannot be mounted stays as it is.
fn show_lower(start: &Start, dir: &str) {
    let at = format!("/m{dir}");
    if mount_bind(format!("/s/{}{dir}", start.lower), &*at).is_err() {
        return;
    }
    // The files are hard links to blobs.
    let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
    if mount_remount(&*at, flags, c"").is_err() {
        let _ = unmount(&*at, UnmountFlags::DETACH);
    }
}

/// The program's standard streams.
struct Streams {
    input: OwnedFd,
    output: OwnedFd,
    error: OwnedFd,
}

impl Streams {
    /// Files and not pipes: nobody has to read along, a gigabyte of output takes disk and not memory, and storing it is
    /// a rename. Append mode, as pipes never overwrite.
    fn open(scratch: &str) -> Result<Self, rustix::io::Errno> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::CLOEXEC;
        let file =
            |name: &str| rustix::fs::open(format!("/s/{scratch}/{name}"), flags, Mode::from_raw_mode(0o600));
        Ok(Self {
            input: rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?,
            output: file("out")?,
            error: file("err")?,
        })
    }
}

/// What `execve` takes.
struct Exec {
    program: CString,
    args: Vec<CString>,
    env: Vec<CString>,
}

impl Exec {
    fn of(start: &Start) -> Result<Self, NulError> {
        Ok(Self {
            program: CString::new(&*start.program)?,
            args: start.args.iter().map(|arg| CString::new(&**arg)).collect::<Result<_, _>>()?,
            env: start
                .env
                .iter()
                .map(|(name, value)| CString::new(format!("{name}={value}")))
                .collect::<Result<_, _>>()?,
        })
    }
}

/// Executes the program; for a while again and again if its file is "busy": a crew thread that has just made the blob's
/// executable twin may not have closed it yet.
fn execute(exec: &Exec) -> io::Error {
    for _ in 0..50 {
        let error = sys::execute(&exec.program, &exec.args, &exec.env);
        if error.kind() != io::ErrorKind::ExecutableFileBusy {
            return error;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    io::ErrorKind::ExecutableFileBusy.into()
}

/// The child of PID 1 turns into the program. It shares memory with PID 1, which waits: nothing here may leave a trace in it
/// that matters.
fn become_program(start: &Start, exec: &Exec, streams: &Streams, reports: BorrowedFd<'_>) -> i32 {
    if start.program.is_empty() {
        return 0;
    }
    let (what, error) = match prepare(start, streams) {
        Ok(()) => {
            let error = execute(exec);
            let hint = match error.kind() {
                io::ErrorKind::NotFound => " (is it, and its interpreter, among the inputs?)",
                _ => "",
            };
            (format!("executing `{}`{hint}", start.program), error)
        }
        Err((what, error)) => (what.to_owned(), error),
    };
    send(reports, &Report::refused(start.seq, format!("{what}: {error}")));
    127
}

fn prepare(start: &Start, streams: &Streams) -> Result<(), Step> {
    use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
    // The session is the zygote's: one for all, without a terminal. A process group of its own is what `kill 0` reaches.
    rustix::process::setpgid(None, None).map_err(step("setpgid"))?;
    dup2_stdin(&streams.input).map_err(step("standard input"))?;
    dup2_stdout(&streams.output).map_err(step("standard output"))?;
    dup2_stderr(&streams.error).map_err(step("standard error"))?;
    for (resource, bound) in [
        (Resource::Core, Some(0)),
        (Resource::As, (start.memory > 0).then_some(start.memory)),
        (Resource::Fsize, (start.file_size > 0).then_some(start.file_size)),
    ] {
        if bound.is_some() {
            let limit = Rlimit { current: bound, maximum: bound };
            rustix::process::setrlimit(resource, limit).map_err(step("setrlimit"))?;
        }
    }
    // What they do is the zygote's: the default.
    sys::unblock_signals();
    drop_privileges().map_err(step("dropping capabilities"))?;
    match sys::install_filter(&filter::program()) {
        // A kernel without seccomp: what the capabilities allow is all that stands then.
        Err(e) if matches!(e.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS)) => Ok(()),
        done => done.map_err(step("seccomp")),
    }
}

/// What a program may do beyond its files' permissions; see the module.
const KEPT: CapabilitySet = CapabilitySet::DAC_OVERRIDE;

/// Removes all but [`KEPT`] from the bounding set of this process and of those that it forks. The zygote does it once for all
/// sandboxes: it executes nothing itself, and what it may do stays as it is.
pub(super) fn bound_capabilities() -> Result<(), rustix::io::Errno> {
    for number in 0..64 {
        let one = CapabilitySet::from_bits_retain(1 << number);
        if one == KEPT {
            continue;
        }
        match rustix::thread::remove_capability_from_bounding_set(one) {
            // Beyond the last capability that this kernel knows.
            Err(rustix::io::Errno::INVAL) => break,
            other => other?,
        }
    }
    Ok(())
}

fn drop_privileges() -> Result<(), rustix::io::Errno> {
    use rustix::thread::{configure_capability_in_ambient_set, set_capabilities, set_no_new_privs};
    let kept = KEPT;
    set_no_new_privs(true)?;
    set_capabilities(None, CapabilitySets { effective: kept, permitted: kept, inheritable: kept })?;
    // Ambient: kept over `execve` by an ordinary user too.
    configure_capability_in_ambient_set(kept, true)
}
