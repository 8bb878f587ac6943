//! What the network costs at the start of a sandbox: five ways to give it one, and fork alone, side by side.
//!
//! Every way runs in a *stand*: a process that is PID 1 of a pid namespace and has a network namespace that plays the
//! host's. So nothing is seen outside, and when the stand ends, however it ends, the kernel removes all of it.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use ggr_ir::protocol::worker as wire;
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use super::percentile;
use crate::net::{Far, NetSpace, OwnPool, Request, Route, Tenant};
use crate::sandbox::sys::{self, Cloned};

/// A way to give a sandbox its network.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub enum Way {
    /// The floor: a process in the host's own namespace.
    ForkOnly,
    /// A namespace of its own; a veth is made in the host's, and its far end moved (Docker, CNI).
    CreateAndMove,
    /// A namespace of its own; the veth's far end is made in it.
    CreatedInPlace,
    /// As before, but made beforehand.
    FromPool,
    /// The tenant's namespace.
    Tenant,
    /// The tenant's namespace, and an address for each sandbox, added in one send per manager before the first starts.
    TenantAddressed,
}

impl Way {
    /// All of them, in the order of the table.
    pub const ALL: [Way; 6] = [
        Way::ForkOnly,
        Way::CreateAndMove,
        Way::CreatedInPlace,
        Way::FromPool,
        Way::Tenant,
        Way::TenantAddressed,
    ];

    /// What it is called in the table.
    pub fn name(self) -> &'static str {
        match self {
            Way::ForkOnly => "fork only",
            Way::CreateAndMove => "own, create and move",
            Way::CreatedInPlace => "own, created in place",
            Way::FromPool => "own, from the pool",
            Way::Tenant => "tenant, setns only",
            Way::TenantAddressed => "tenant, with addresses",
        }
    }
}

/// What one way took.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub struct Started {
    /// Which way.
    pub way: Way,
    /// How many processes started sandboxes, side by side.
    pub managers: u32,
    /// From the first request to the last sandbox that is ready; all of them are alive at its end.
    pub total: Duration,
    /// The median of one start.
    pub p50: Duration,
    /// The 99th percentile of one start.
    pub p99: Duration,
}

/// Starts `count` sandboxes in each of these ways with each of these numbers of managers.
///
/// Call it before this process starts a thread: it forks.
///
/// # Errors
/// The kernel's: `EPERM` where namespaces are not allowed. `Other` with the stand's reason.
pub fn measure(ways: &[Way], count: usize, managers: &[u32]) -> io::Result<Vec<Started>> {
    if !sys::is_single_threaded() {
        return Err(io::Error::other("this process has threads already"));
    }
    let (ours, theirs) = UnixStream::pair()?;
    let user = if rustix::process::geteuid().is_root() { 0 } else { libc::CLONE_NEWUSER };
    match sys::clone_process(user | libc::CLONE_NEWPID | libc::CLONE_NEWNET)? {
        Cloned::Child => {
            drop(ours);
            live(|| stand(ways, count, managers, &theirs))
        }
        Cloned::Parent(_) => drop(theirs),
    }
    let mut all = Vec::new();
    while let Some(row) = wire::read::<Result<Started, String>>(&ours)? {
        all.push(row.map_err(io::Error::other)?);
    }
    let _ = sys::wait_any(true);
    if all.len() < ways.len() * managers.len() {
        return Err(io::Error::other("the stand was killed"));
    }
    Ok(all)
}

/// A forked process's whole life: it ends with its parent, and never returns into the parent's code.
fn live(life: impl FnOnce() -> io::Result<()> + std::panic::UnwindSafe) -> ! {
    let lived = std::panic::catch_unwind(|| {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        life()
    });
    sys::exit_now(i32::from(!matches!(lived, Ok(Ok(())))))
}

fn stand(ways: &[Way], count: usize, managers: &[u32], report: &UnixStream) -> io::Result<()> {
    for &managers in managers {
        for &way in ways {
            let row = run(way, count, managers).map_err(|error| format!("{}: {error}", way.name()));
            wire::write(report, &row)?;
            settle()?;
        }
    }
    Ok(())
}

/// Waits until the kernel has removed the veths of the way before; it does so by itself, under the lock that all need.
fn settle() -> io::Result<()> {
    let limit = Instant::now() + Duration::from_secs(60);
    while std::fs::read_to_string("/proc/thread-self/net/dev")?.contains(LABEL) {
        if Instant::now() > limit {
            return Err(io::ErrorKind::TimedOut.into());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// What all near ends' names begin with.
const LABEL: &str = "gb";

/// One way, in a pid namespace of its own: its end is the end of all its sandboxes.
fn run(way: Way, count: usize, managers: u32) -> io::Result<Started> {
    let (ours, theirs) = UnixStream::pair()?;
    match sys::clone_process(libc::CLONE_NEWPID)? {
        Cloned::Child => {
            drop(ours);
            live(|| {
                let row = host(way, count, managers).map_err(|error| error.to_string());
                wire::write(&theirs, &row)
            })
        }
        Cloned::Parent(_) => drop(theirs),
    }
    let row = wire::read::<Result<Started, String>>(&ours)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    sys::wait_any(true)?;
    row.map_err(io::Error::other)
}

fn host(way: Way, count: usize, managers: u32) -> io::Result<Started> {
    let mut crews = Vec::new();
    for number in 0..managers {
        let share = share(count, managers, number);
        let (ours, theirs) = UnixStream::pair()?;
        match sys::clone_process(0)? {
            Cloned::Child => {
                drop(ours);
                live(|| manage(way, number, share, &theirs))
            }
            Cloned::Parent(_) => crews.push(ours),
        }
    }
    for crew in &mut crews {
        crew.read_exact(&mut [0])?;
    }
    let begun = Instant::now();
    for crew in &mut crews {
        crew.write_all(&[0])?;
    }
    let mut each = Vec::new();
    for crew in &crews {
        let starts: Result<Vec<Duration>, String> = wire::read(crew)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        each.extend(starts.map_err(io::Error::other)?);
    }
    let total = begun.elapsed();
    each.sort_unstable();
    Ok(Started { way, managers, total, p50: percentile(&each, 50), p99: percentile(&each, 99) })
}

fn share(count: usize, managers: u32, number: u32) -> usize {
    let managers = managers as usize;
    count / managers + usize::from((number as usize) < count % managers)
}

/// Starts a share of the sandboxes, one after the other, and lives until the host ends.
fn manage(way: Way, number: u32, share: usize, host: &UnixStream) -> io::Result<()> {
    let prepared = Bench::prepare(way, number, share);
    (&*host).write_all(&[0])?;
    (&*host).read_exact(&mut [0])?;
    let started = prepared.and_then(|mut bench| bench.start_all(share)).map_err(|error| error.to_string());
    wire::write(host, &started)?;
    // The host ends when it has everybody's figures, and all sandboxes with it.
    let _ = (&*host).read(&mut [0]);
    Ok(())
}

/// What a manager has at hand.
struct Bench {
    way: Way,
    number: u32,
    host: Route,
    tenant: Option<Tenant>,
    pool: Option<OwnPool>,
}

impl Bench {
    fn prepare(way: Way, number: u32, share: usize) -> io::Result<Self> {
        let mut host = Route::open()?;
        let tenant = match way {
            Way::Tenant | Way::TenantAddressed => {
                Some(Tenant::make(&mut host, &format!("{LABEL}{number}t"))?)
            }
            _ => None,
        };
        let mut pool = OwnPool::new(Route::open()?, share, &format!("{LABEL}{number}p"));
        while way == Way::FromPool && pool.refill()? {}
        Ok(Self { way, number, host, tenant, pool: (way == Way::FromPool).then_some(pool) })
    }

    fn start_all(&mut self, share: usize) -> io::Result<Vec<Duration>> {
        if self.way == Way::TenantAddressed
            && let Some(tenant) = &mut self.tenant
        {
            tenant.take(share)?;
        }
        (0..share)
            .map(|at| {
                let begun = Instant::now();
                self.start(at)?;
                Ok(begun.elapsed())
            })
            .collect()
    }

    /// Starts one, and waits until it is in its namespace.
    fn start(&mut self, at: usize) -> io::Result<()> {
        let made = match self.way {
            Way::CreateAndMove => Some(self.create_and_move(at)?),
            Way::CreatedInPlace => Some(self.create_in_place(at)?),
            Way::FromPool => self.pool.as_mut().map(OwnPool::take).transpose()?,
            Way::ForkOnly | Way::Tenant | Way::TenantAddressed => None,
        };
        let space = made.as_ref().or(self.tenant.as_ref().map(Tenant::space));
        let (mut ours, theirs) = UnixStream::pair()?;
        match sys::clone_process(0)? {
            Cloned::Child => live(|| {
                if let Some(space) = space {
                    space.enter()?;
                }
                (&theirs).write_all(&[0])?;
                // Holds its namespace until it is killed with the pid namespace.
                loop {
                    std::thread::park();
                }
            }),
            Cloned::Parent(_) => drop(theirs),
        }
        ours.read_exact(&mut [0])
    }

    fn create_and_move(&mut self, at: usize) -> io::Result<NetSpace> {
        let (space, mut route) = NetSpace::make()?;
        let (near, far) = (format!("{LABEL}{}n{at}", self.number), format!("{LABEL}{}f{at}", self.number));
        let both_here = Far { name: &far, index: None, space: None };
        for request in
            [Request::veth(&near, &both_here), Request::move_link(&far, space.as_fd(), 2), Request::up(&near)]
        {
            self.host.send(&[request])?;
        }
        route.send(&[Request::up("lo"), Request::up(&far), Request::address(2, ADDRESS, 32)])?;
        Ok(space)
    }

    fn create_in_place(&mut self, at: usize) -> io::Result<NetSpace> {
        let (space, mut route) = NetSpace::make()?;
        let near = format!("{LABEL}{}n{at}", self.number);
        let far = Far { name: "eth0", index: Some(2), space: Some(space.as_fd()) };
        self.host.send(&[Request::veth(&near, &far)])?;
        route.send(&[Request::up("lo"), Request::up("eth0"), Request::address(2, ADDRESS, 32)])?;
        Ok(space)
    }
}

const ADDRESS: std::net::Ipv4Addr = std::net::Ipv4Addr::new(100, 64, 0, 1);
