//! The shared network namespace of one tenant's sandboxes.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;

use super::{Far, NetSpace, Request, Route};

/// Addresses of sandboxes: 100.64.0.0/10, which RFC 6598 keeps for networks inside a provider's. Each is a /32, so that an
/// address is one route and no subnet's.
const FIRST: u32 = 0x6440_0001;
const LAST: u32 = 0x647f_fffe;

/// The index of the far end in a fresh namespace; `lo` is 1.
const ETH0: u32 = 2;

/// One tenant's namespace: `lo` and `eth0` are up, and `eth0` has an address for each sandbox.
///
/// Ports are shared: a sandbox that binds a port on all addresses may meet another's (`EADDRINUSE`), and is then to be run
/// again in a namespace of its [own](super::OwnPool).
#[derive(Debug)]
pub struct Tenant {
    space: NetSpace,
    route: Route,
    /// Added and not in use.
    free: Vec<Ipv4Addr>,
    next: u32,
}

impl Tenant {
    /// Makes it. `switchboard` is a socket in the namespace for near ends; this one's is called `near`.
    ///
    /// # Errors
    /// The kernel's; `EEXIST` if `near` is taken.
    pub fn make(switchboard: &mut Route, near: &str) -> io::Result<Self> {
        let (space, mut route) = NetSpace::make()?;
        let far = Far { name: "eth0", index: Some(ETH0), space: Some(space.as_fd()) };
        switchboard.send(&[Request::veth(near, &far)])?;
        route.send(&[Request::up("lo"), Request::up("eth0")])?;
        Ok(Self { space, route, free: Vec::new(), next: FIRST })
    }

    /// Where its sandboxes run.
    pub fn space(&self) -> &NetSpace {
        &self.space
    }

    /// Takes `count` addresses that no other sandbox has; those that are new to the namespace are added in one batch.
    ///
    /// # Errors
    /// `AddrNotAvailable` when all four million are out; the kernel's.
    pub fn take(&mut self, count: usize) -> io::Result<Vec<Ipv4Addr>> {
        let fresh = count.saturating_sub(self.free.len());
        let end = u32::try_from(fresh)
            .ok()
            .and_then(|fresh| self.next.checked_add(fresh))
            .filter(|end| *end <= LAST)
            .ok_or(io::ErrorKind::AddrNotAvailable)?;
        let added: Vec<_> = (self.next..end).map(Ipv4Addr::from_bits).collect();
        // Numbers are spent also if the batch fails in the middle: none is ever given out twice.
        self.next = end;
        self.route
            .send(&added.iter().map(|address| Request::address(ETH0, *address, 32)).collect::<Vec<_>>())?;
        self.free.extend(added);
        Ok(self.free.split_off(self.free.len() - count))
    }

    /// Takes an address back. It stays on the link: the next sandbox gets it without a word to the kernel.
    pub fn give_back(&mut self, address: Ipv4Addr) {
        self.free.push(address);
    }
}
