//! What runs a guest: a virtual machine monitor.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// What carries out the guest's instructions.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// The processor, by `/dev/kvm`.
    Kvm,
    /// QEMU's translator: any machine, 5 to 15 times slower.
    Tcg,
}

/// A machine: what is in it is the same for every guest of an image.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The kernel.
    pub kernel: PathBuf,
    /// The initial file system.
    pub initramfs: PathBuf,
    /// Bytes of memory.
    pub memory: u64,
    /// What carries it out.
    pub accelerator: Accelerator,
}

/// A guest that was stopped and written down: its memory in one file, its devices in another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The memory, as long as the machine's. Guests map it privately, so that they share every page that none has
    /// written. Nobody may write to this file.
    pub memory: PathBuf,
    /// Everything else.
    pub devices: PathBuf,
}

impl Snapshot {
    /// The files of a snapshot in this directory.
    pub fn at(dir: &Path) -> Self {
        Self { memory: dir.join("memory"), devices: dir.join("devices") }
    }
}

/// Why there is no guest.
#[derive(Debug, thiserror::Error)]
pub enum VmmError {
    /// The monitor could not be started.
    #[error("`{program}` could not be started")]
    Start {
        /// The monitor.
        program: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It was told to do something, and failed.
    #[error("{doing}: {why}{console}")]
    Failed {
        /// What it was to do.
        doing: &'static str,
        /// Why it did not.
        why: String,
        /// The end of the guest's console, if there is any.
        console: String,
    },
}

/// Starts guests.
///
/// **Blocking.** Calls may take as long as a start takes, and are bounded by limits of their own. The caller's *thread*
/// must live as long as the guest: the kernel kills the guest when it ends.
///
/// **Failure** leaves nothing behind: no process, no file but those of a half-written snapshot.
pub trait Vmm: Send + Sync {
    /// Starts a machine with its memory in `memory` (a new file), to be written down later.
    ///
    /// # Errors
    /// If the monitor does not start.
    fn boot(&self, machine: &Machine, memory: &Path) -> Result<Box<dyn Guest>, VmmError>;

    /// As [`restore`](Self::restore), with the snapshot's memory for its own: what the guest writes is in the file, so that
    /// it can be written down again.
    ///
    /// # Errors
    /// As there.
    fn reopen(&self, machine: &Machine, snapshot: &Snapshot) -> Result<Box<dyn Guest>, VmmError>;

    /// Starts a guest from a snapshot of such a machine. It runs when this returns.
    ///
    /// # Errors
    /// If the monitor does not start, or does not take the snapshot.
    fn restore(&self, machine: &Machine, snapshot: &Snapshot) -> Result<Box<dyn Guest>, VmmError>;
}

/// A guest that runs. Dropping it kills it.
pub trait Guest: Send {
    /// Our end of its console: the agent is at the other end. Ends when the guest does.
    ///
    /// # Errors
    /// If the descriptor cannot be duplicated.
    fn console(&self) -> io::Result<UnixStream>;

    /// Stops the guest and writes its devices down; its memory is already in the file that it was booted with. The guest
    /// is gone afterwards.
    ///
    /// # Errors
    /// If the monitor cannot.
    fn save(self: Box<Self>, devices: &Path) -> Result<(), VmmError>;

    /// What the kernel in the guest said last: why it panicked, if it did.
    fn last_words(&self) -> String;
}
