//! PID 1 of a guest: mounts, modules, the console, the worker.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::mount::{MountFlags, mount, mount_bind, mount_move};
use rustix::system::{RebootCommand, finit_module, reboot};

use super::{ROOT, WORKER, agent};
use crate::worker::{WorkerOptions, serve};

/// The console's port as devtmpfs names the first port of the first virtio-serial device.
const PORT: &str = "/dev/vport0p1";

/// How long the port may take to appear after its module is loaded; milliseconds under KVM, half a second under TCG.
const PORT_LIMIT: Duration = Duration::from_secs(30);

/// Modules in the order in which they are to be loaded, one a line.
const MODULES: &str = "/modules/order";

/// Runs the guest: as PID 1 everything, as PID 1's child the worker. Never returns.
///
/// `arguments` are those of the process, its own name first.
pub fn run(arguments: &[String]) -> ! {
    if arguments.get(1).is_some_and(|word| word == WORKER) {
        let options =
            WorkerOptions { slots: 1, root: ROOT.into(), isolation: crate::worker::Isolation::Namespaces };
        let code = serve(&options).map_or_else(|e| say(&format!("the worker: {e}")), |()| 0);
        std::process::exit(code);
    }
    let ended = start().err().map_or_else(|| "the host hung up".to_owned(), |e| e.to_string());
    say(&format!("the agent ends: {ended}"));
    // With `-no-reboot` the machine is gone; nothing here is worth a sync.
    let _ = reboot(RebootCommand::Restart);
    std::process::exit(1)
}

/// To the kernel's console, which the host keeps the end of.
fn say(text: &str) -> i32 {
    if let Ok(mut console) = File::options().write(true).open("/dev/console") {
        let _ = writeln!(console, "ggr guest: {text}");
    }
    1
}

/// Puts a mount over the initial file system that shows the same: from the first one, sandboxes could not `pivot_root`.
fn cover_rootfs() -> io::Result<()> {
    mount_bind("/", "/covered").map_err(during("binding", "/"))?;
    rustix::process::chdir("/covered")?;
    mount_move(".", "/").map_err(during("moving a mount to", "/"))?;
    rustix::process::chroot(".")?;
    Ok(rustix::process::chdir("/")?)
}

fn start() -> io::Result<()> {
    cover_rootfs()?;
    for (kind, at) in [("devtmpfs", "/dev"), ("proc", "/proc"), ("sysfs", "/sys")] {
        mount(kind, at, kind, MountFlags::NOSUID, None).map_err(during("mounting", at))?;
    }
    // Everything but a reserve for the programs themselves: blobs and outputs live here.
    mount("tmpfs", ROOT, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, c"mode=700,size=70%")
        .map_err(during("mounting", ROOT))?;
    // A guest without memory ends, and says so on its console: the host then runs the job elsewhere.
    fs::write("/proc/sys/vm/panic_on_oom", "2")?;
    load_modules()?;
    let port = open_port()?;
    let (ours, theirs) = UnixStream::pair()?;
    let mut worker = Command::new("/init");
    worker.arg(WORKER).env_clear().stdin(Stdio::from(OwnedFd::from(theirs)));
    let mut child = worker.spawn().map_err(|e| io::Error::other(format!("starting the worker: {e}")))?;
    drop(worker);
    let done = agent::serve(Patient(port.try_clone()?), port, Path::new(ROOT), ours);
    let _ = child.kill();
    done
}

fn during<E: Into<io::Error>>(what: &'static str, at: &'static str) -> impl Fn(E) -> io::Error {
    move |error| io::Error::other(format!("{what} `{at}`: {}", error.into()))
}

fn load_modules() -> io::Result<()> {
    let order = fs::read_to_string(MODULES)?;
    for name in order.lines().filter(|line| !line.is_empty()) {
        let file = File::open(format!("/modules/{name}"))?;
        finit_module(&file, c"", 0)
            .map_err(|errno| io::Error::other(format!("loading the module `{name}`: {errno}")))?;
    }
    Ok(())
}

fn open_port() -> io::Result<File> {
    let limit = Instant::now() + PORT_LIMIT;
    loop {
        match File::options().read(true).write(true).open(PORT) {
            Err(e) if e.kind() == io::ErrorKind::NotFound && Instant::now() < limit => {
                std::thread::sleep(Duration::from_millis(2));
            }
            other => return other.map_err(during("opening", PORT)),
        }
    }
}

/// The port's reading end. While nobody holds the host's end (between a snapshot and its restore) a port reads as ended.
struct Patient(File);

impl Read for Patient {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.read(buffer)? {
                0 if !buffer.is_empty() => std::thread::sleep(Duration::from_millis(2)),
                count => return Ok(count),
            }
        }
    }
}
