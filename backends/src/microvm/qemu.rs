//! QEMU, with the least machine that boots: a kernel, an initial file system, one virtio console, a serial port for last words.
//!
//! **Snapshots.** The machine's memory is a file. It is booted with the file shared, so that what the guest writes is in
//! the file when it is stopped, and the migration stream (`x-ignore-shared`) holds only the devices. A restored guest
//! maps the file privately: nothing is read, and guests share what they do not change.
//!
//! **What QEMU may do.** It gets three descriptors and no path to write to; its own seccomp filter (`-sandbox`) keeps it
//! from starting processes and from raising its privileges; it has no network and no disk.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::fs::MemfdFlags;
use serde_json::json;

use super::qmp::Qmp;
use super::vmm::{Accelerator, Guest, Machine, Snapshot, Vmm, VmmError};
use crate::sys::die_with_parent;

/// How much of the console's end is kept, in bytes.
const LAST_WORDS: u64 = 16 << 10;

/// How much of that is told, in characters, if the kernel did not panic.
const TOLD: usize = 500;

/// The machine by accelerator, with the bus of its virtio console. `microvm` describes its devices by ACPI to a kernel
/// without `VIRTIO_MMIO_CMDLINE_DEVICES` (Debian's), which then takes the machine for one without a PC's timers; under KVM
/// the paravirtual clock stands in for them, under TCG nothing does, and the kernel hangs. So there it is a bare `q35`.
///
/// A translated processor is without `erms` and `fsrm`: the translator carries out a `rep stosb` byte by byte, so the kernel,
/// which clears and copies pages by it where it is "fast", took 4,096 turns for each page: half of the time from a request to
/// the program, a tenth of a compile.
const fn hardware(accelerator: Accelerator) -> [&'static str; 4] {
    match accelerator {
        Accelerator::Kvm => {
            ["microvm,acpi=on,isa-serial=on,memory-backend=memory", "kvm", "host", "virtio-serial-device"]
        }
        Accelerator::Tcg => [
            "q35,smm=off,sata=off,usb=off,vmport=off,i8042=off,hpet=on,memory-backend=memory",
            "tcg,thread=single",
            "max,erms=off,fsrm=off",
            "virtio-serial-pci,disable-legacy=on",
        ],
    }
}

/// `panic=-1`: restart at once on a panic, which with `-no-reboot` ends QEMU, and its console with it.
/// `no_timer_check`: on a machine with ten times the load that it can bear a translated guest missed the timer ticks that the
/// check waits for, and panicked.
const KERNEL_LINE: &str =
    "console=ttyS0 loglevel=1 panic=-1 oops=panic reboot=t random.trust_cpu=on no_timer_check";

/// More words for a kernel that is translated. No huge pages: a program's first touch of its heap cleared 2 MiB, 0.7 ms, and a
/// guest keeps what was touched; a compile takes the same either way. No mitigations: they keep a processor from running ahead
/// past a check, and translated code does not run as the guest's kernel wrote it; its detours took a tenth of a request's time.
const TRANSLATED: &str = " transparent_hugepage=never mitigations=off";

/// What the kernel is told.
fn kernel_line(accelerator: Accelerator) -> String {
    let more = match accelerator {
        Accelerator::Kvm => "",
        Accelerator::Tcg => TRANSLATED,
    };
    format!("{KERNEL_LINE}{more}")
}

/// A QEMU.
#[derive(Clone, Debug)]
pub struct Qemu {
    program: PathBuf,
}

/// How a machine gets its memory.
enum Memory<'a> {
    Shared(&'a Path),
    Reopened(&'a Path),
    Private(&'a Path),
}

impl Qemu {
    /// With this program, as `qemu-system-x86_64`.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into() }
    }

    /// What `--version` says first.
    ///
    /// # Errors
    /// If it does not start.
    pub fn version(&self) -> io::Result<String> {
        let output = Command::new(&self.program).arg("--version").stdin(Stdio::null()).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned())
    }

    fn arguments(machine: &Machine, memory: &Memory<'_>) -> Vec<OsString> {
        let [machine_type, accelerator, processor, serial] = hardware(machine.accelerator);
        let (path, share) = match memory {
            Memory::Shared(path) | Memory::Reopened(path) => (path, "on"),
            Memory::Private(path) => (path, "off"),
        };
        let size = machine.memory;
        let mut backend =
            OsString::from(format!("memory-backend-file,id=memory,size={size},share={share},mem-path="));
        backend.push(path);
        let words = [
            "-nodefaults",
            "-no-user-config",
            "-no-reboot",
            "-display",
            "none",
            "-smp",
            "1",
            "-sandbox",
            "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
            "-M",
            machine_type,
            "-accel",
            accelerator,
            "-cpu",
            processor,
            "-device",
            serial,
            "-chardev",
            "socket,id=agent,fd=0",
            "-device",
            "virtserialport,chardev=agent,name=ggr",
            "-chardev",
            "socket,id=control,fd=1",
            "-mon",
            "chardev=control,mode=control",
            "-serial",
            "file:/dev/fd/2",
        ];
        let mut all: Vec<OsString> = words.map(OsString::from).to_vec();
        all.extend(["-m".into(), format!("{}M", size >> 20).into()]);
        all.extend(["-object".into(), backend]);
        all.extend(["-append".into(), kernel_line(machine.accelerator).into()]);
        all.extend(["-kernel".into(), machine.kernel.clone().into()]);
        all.extend(["-initrd".into(), machine.initramfs.clone().into()]);
        if !matches!(memory, Memory::Shared(_)) {
            all.extend(["-incoming".into(), "defer".into()]);
        }
        all
    }

    fn load(
        &self,
        machine: &Machine,
        memory: &Memory<'_>,
        devices: &Path,
    ) -> Result<Box<dyn Guest>, VmmError> {
        let mut guest = self.start(machine, memory)?;
        guest.load(devices).map_err(|e| guest.failed("restoring a guest", &e))?;
        Ok(Box::new(guest))
    }

    fn start(&self, machine: &Machine, memory: &Memory<'_>) -> Result<QemuGuest, VmmError> {
        let failed = |source| VmmError::Start { program: self.program.display().to_string(), source };
        let start = || -> io::Result<QemuGuest> {
            let (console, agent) = UnixStream::pair()?;
            let (control, qmp) = UnixStream::pair()?;
            let serial = File::from(rustix::fs::memfd_create("ggr-guest", MemfdFlags::CLOEXEC)?);
            rustix::fs::fcntl_setfl(&serial, rustix::fs::OFlags::APPEND)?;
            let mut command = Command::new(&self.program);
            command
                .args(Self::arguments(machine, memory))
                .env_clear()
                .current_dir("/")
                .stdin(OwnedFd::from(agent))
                .stdout(OwnedFd::from(qmp))
                .stderr(serial.try_clone()?);
            die_with_parent(&mut command);
            let child = command.spawn()?;
            Ok(QemuGuest { child, console, control, qmp: None, serial })
        };
        start().map_err(failed)
    }
}

impl Vmm for Qemu {
    fn boot(&self, machine: &Machine, memory: &Path) -> Result<Box<dyn Guest>, VmmError> {
        Ok(Box::new(self.start(machine, &Memory::Shared(memory))?))
    }

    fn reopen(&self, machine: &Machine, snapshot: &Snapshot) -> Result<Box<dyn Guest>, VmmError> {
        self.load(machine, &Memory::Reopened(&snapshot.memory), &snapshot.devices)
    }

    fn restore(&self, machine: &Machine, snapshot: &Snapshot) -> Result<Box<dyn Guest>, VmmError> {
        self.load(machine, &Memory::Private(&snapshot.memory), &snapshot.devices)
    }
}

struct QemuGuest {
    child: Child,
    console: UnixStream,
    control: UnixStream,
    qmp: Option<Qmp>,
    serial: File,
}

impl QemuGuest {
    /// Greets QEMU the first time, as it wants to be greeted once.
    fn control(&mut self) -> io::Result<&mut Qmp> {
        if self.qmp.is_none() {
            self.qmp = Some(Qmp::open(self.control.try_clone()?)?);
        }
        Ok(self.qmp.as_mut().expect("it was just opened"))
    }

    fn load(&mut self, devices: &Path) -> io::Result<()> {
        let qmp = self.control()?;
        qmp.leave_memory_out()?;
        qmp.give("devices", &File::open(devices)?)?;
        qmp.ask("migrate-incoming", json!({ "uri": "fd:devices" }))?;
        qmp.migrated()?;
        qmp.ask("cont", json!({}))?;
        Ok(())
    }

    fn write_down(&mut self, devices: &Path) -> io::Result<()> {
        let qmp = self.control()?;
        qmp.ask("stop", json!({}))?;
        qmp.leave_memory_out()?;
        qmp.give("devices", &File::create(devices)?)?;
        qmp.ask("migrate", json!({ "uri": "fd:devices" }))?;
        qmp.migrated()
    }

    fn failed(&self, doing: &'static str, error: &io::Error) -> VmmError {
        let words = self.last_words();
        let console = if words.is_empty() { words } else { format!("; the console says: {words}") };
        VmmError::Failed { doing, why: error.to_string(), console }
    }
}

impl Guest for QemuGuest {
    fn console(&self) -> io::Result<UnixStream> {
        self.console.try_clone()
    }

    fn save(mut self: Box<Self>, devices: &Path) -> Result<(), VmmError> {
        self.write_down(devices).map_err(|e| self.failed("writing a guest down", &e))
    }

    fn last_words(&self) -> String {
        let read = || -> io::Result<Vec<u8>> {
            let mut file = &self.serial;
            let size = file.metadata()?.len();
            // QEMU and we share one offset, but it appends.
            file.seek(SeekFrom::Start(size.saturating_sub(LAST_WORDS)))?;
            let mut bytes = Vec::new();
            file.take(LAST_WORDS).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        told(&String::from_utf8_lossy(&read().unwrap_or_default()))
    }
}

/// What is worth telling of a console: why the kernel panicked, else the end. Whatever a guest wrote there reaches a
/// terminal, so no control character stays.
fn told(console: &str) -> String {
    let panic = console.lines().rev().find_map(|line| line.split_once("Kernel panic").map(|(_, why)| why));
    let text = match panic {
        Some(why) => format!("Kernel panic{why}"),
        None => {
            let from = console.chars().count().saturating_sub(TOLD);
            console.chars().skip(from).collect()
        }
    };
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().map(plain).collect::<String>().trim().to_owned()
}

impl Drop for QemuGuest {
    fn drop(&mut self) {
        // The monitor may be stopped or hung: nothing but a kill is certain. The console's other clones end here too.
        let _ = self.console.shutdown(Shutdown::Both);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_console_the_panic_is_told_or_the_end_and_no_escape_sequence() {
        let panic = "[  1.0] x\n[  2.0] Kernel panic - not syncing: Out of memory: panic_on_oom\n[  2.1] Call Trace:\n";
        assert_eq!(told(panic), "Kernel panic - not syncing: Out of memory: panic_on_oom");
        assert_eq!(told("a\u{1b}[31mb\r\n"), "a [31mb");
        assert_eq!(told(&"x".repeat(20_000)).len(), TOLD);
    }

    #[test]
    fn a_restored_guest_maps_its_memory_privately_and_waits_for_its_devices() {
        let machine = Machine {
            kernel: "/k".into(),
            initramfs: "/i".into(),
            memory: 256 << 20,
            accelerator: Accelerator::Tcg,
        };
        let line = |memory: Memory<'_>| {
            let words = Qemu::arguments(&machine, &memory);
            words.join(" ".as_ref()).into_string().unwrap()
        };
        let restored = line(Memory::Private(Path::new("/m")));
        assert!(restored.contains("share=off,mem-path=/m") && restored.contains("-incoming defer"));
        let booted = line(Memory::Shared(Path::new("/m")));
        assert!(booted.contains("share=on,mem-path=/m") && !booted.contains("-incoming"));
        assert!(booted.contains("spawn=deny") && !booted.contains("-net"));
    }

    #[test]
    fn only_a_translated_kernel_goes_without_mitigations() {
        assert!(kernel_line(Accelerator::Tcg).contains("mitigations=off"));
        assert!(!kernel_line(Accelerator::Kvm).contains("mitigations"));
    }
}
