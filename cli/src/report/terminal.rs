//! The build's terminal: a pseudoterminal between the build and the real one, so that the status line and the build's
//! output do not run into each other.
//!
//! Only for a standard error that is a terminal which understands escape sequences; a build whose output goes to a file or
//! pipe keeps that file or pipe itself, and so does its standard input always. The pseudoterminal changes no byte (its
//! output processing is off; the real terminal does its own) and has the real one's size, so the build's programs see a
//! terminal as without ggr: colours, columns, everything.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::pty::OpenptFlags;
use rustix::termios::{OptionalActions, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

use super::bar::Bar;
use super::screen::Screen;

/// How often the status line is drawn again and the terminal's size looked at: a tenth of a second reads as smooth.
const TICK: Duration = Duration::from_millis(100);

/// How long after the build's end its last output is waited for: it is in the kernel's buffer by then, so this bounds only
/// a process that the build left behind and that keeps writing.
const DRAIN: Duration = Duration::from_millis(500);

/// What a build's output passes through while it runs.
pub(crate) struct Terminal {
    build_side: Option<OwnedFd>,
    stdout_too: bool,
    ended: Arc<AtomicBool>,
    copier: Option<JoinHandle<()>>,
}

impl Terminal {
    /// Opens a pseudoterminal and starts to show `bar`; nothing if standard error is no terminal, or if the machine has no
    /// pseudoterminals (then the build simply has no status line).
    pub(crate) fn open(bar: Bar) -> Option<Self> {
        let stderr = io::stderr();
        if !rustix::termios::isatty(&stderr) {
            return None;
        }
        let real = File::from(stderr.as_fd().try_clone_to_owned().ok()?);
        let stdout_too = same_terminal(io::stdout().as_fd(), stderr.as_fd());
        let (ours, build_side) = pseudoterminal(&real).ok()?;
        let ended = Arc::new(AtomicBool::new(false));
        let flag = ended.clone();
        let copier = std::thread::Builder::new()
            .name("terminal".to_owned())
            .spawn(move || copy(&ours, &real, &bar, &flag))
            .ok()?;
        Some(Self { build_side: Some(build_side), stdout_too, ended, copier: Some(copier) })
    }

    /// What the build's command gets as standard output (nothing: our own) and standard error.
    ///
    /// # Errors
    /// If descriptors run out.
    pub(crate) fn build_side(&self) -> io::Result<(Option<OwnedFd>, OwnedFd)> {
        let build_side =
            self.build_side.as_ref().ok_or_else(|| io::Error::other("the terminal is closed"))?;
        let stdout = if self.stdout_too { Some(build_side.try_clone()?) } else { None };
        Ok((stdout, build_side.try_clone()?))
    }

    /// The build has ended: writes what it left in the pseudoterminal and erases the status line.
    pub(crate) fn end(mut self) {
        self.close();
    }

    fn close(&mut self) {
        self.build_side = None;
        self.ended.store(true, Ordering::Release);
        if let Some(copier) = self.copier.take() {
            // A panic of the copier was printed by the panic hook; the build's result does not hang on it.
            let _ = copier.join();
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.close();
    }
}

fn same_terminal(a: BorrowedFd<'_>, b: BorrowedFd<'_>) -> bool {
    let device = |fd| rustix::fs::fstat(fd).ok().map(|stat| stat.st_rdev);
    rustix::termios::isatty(a) && device(a).is_some() && device(a) == device(b)
}

/// A pair: our side, and the build's side.
fn pseudoterminal(real: &File) -> io::Result<(OwnedFd, OwnedFd)> {
    let ours = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    rustix::pty::grantpt(&ours)?;
    rustix::pty::unlockpt(&ours)?;
    let name = rustix::pty::ptsname(&ours, Vec::new())?;
    let build_side = rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?;
    let mut settings = tcgetattr(real)?;
    settings.make_raw();
    tcsetattr(&build_side, OptionalActions::Now, &settings)?;
    tcsetwinsize(&ours, tcgetwinsize(real)?)?;
    Ok((ours, build_side))
}

/// Copies until the build has ended and nothing is left. With the build's end comes that of our own hold on its side, so
/// an error or silence then means that nothing is left.
fn copy(ours: &OwnedFd, real: &File, bar: &Bar, ended: &AtomicBool) {
    let mut screen = Screen::new(real);
    let mut buffer = vec![0u8; 64 * 1024];
    let mut next_tick = Instant::now();
    let mut drain_until = None;
    loop {
        let over = ended.load(Ordering::Acquire);
        if over && Instant::now() > *drain_until.get_or_insert_with(|| Instant::now() + DRAIN) {
            break;
        }
        if readable(ours, if over { Duration::ZERO } else { TICK }) {
            match rustix::io::read(ours, &mut buffer[..]) {
                Ok(n) if n > 0 => screen.write(&buffer[..n]),
                Err(rustix::io::Errno::INTR) => {}
                Ok(_) | Err(_) => break,
            }
        } else if over {
            break;
        }
        if Instant::now() >= next_tick {
            next_tick = Instant::now() + TICK;
            let width = follow_size(ours, real);
            screen.set_status(&bar.text(Instant::now()), width);
        }
    }
    screen.set_status("", 0);
}

/// Whether there is something to read, or an end, within the time.
fn readable(fd: &OwnedFd, within: Duration) -> bool {
    let within = Timespec { tv_sec: 0, tv_nsec: i64::from(within.subsec_nanos()) };
    let mut fds = [PollFd::new(fd, PollFlags::IN)];
    poll(&mut fds, Some(&within)).is_ok_and(|n| n > 0)
}

/// Gives the pseudoterminal the real one's size, and says how many columns that has.
fn follow_size(ours: &OwnedFd, real: &File) -> usize {
    let Ok(size) = tcgetwinsize(real) else { return 80 };
    if tcgetwinsize(ours).is_ok_and(|old| (old.ws_col, old.ws_row) != (size.ws_col, size.ws_row)) {
        // A failure leaves the old size, which is what the build has seen so far.
        let _ = tcsetwinsize(ours, size);
    }
    // A terminal of unknown size says 0.
    if size.ws_col == 0 { 80 } else { usize::from(size.ws_col) }
}
