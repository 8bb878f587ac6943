//! Network namespaces for one sandbox each, made before they are wanted.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;

use super::{Far, NetSpace, Request, Route};

/// The address of every sandbox in its own namespace: nobody else is there.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 1);

/// A stock of namespaces with `lo` and `eth0` up.
///
/// A namespace that was used is not given out again: what a program leaves in it (sockets in TIME_WAIT, addresses, rules) is
/// removed with it, by the kernel, after the last process in it.
#[derive(Debug)]
pub struct OwnPool {
    switchboard: Route,
    ready: Vec<NetSpace>,
    target: usize,
    made: u64,
    label: String,
}

impl OwnPool {
    /// An empty pool that [`refill`](Self::refill) brings to `target`. Near ends are made in the switchboard's namespace, with
    /// names that begin with `label` (at most 6 bytes: link names have 15).
    pub fn new(switchboard: Route, target: usize, label: &str) -> Self {
        Self { switchboard, ready: Vec::new(), target, made: 0, label: label.to_owned() }
    }

    /// How many are ready.
    pub fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Makes one more, if the stock is below its target; says whether it did. For idle moments: some hundred microseconds.
    ///
    /// # Errors
    /// The kernel's.
    pub fn refill(&mut self) -> io::Result<bool> {
        if self.ready.len() >= self.target {
            return Ok(false);
        }
        let space = self.make()?;
        self.ready.push(space);
        Ok(true)
    }

    /// One from the stock, or a new one if that is empty.
    ///
    /// # Errors
    /// The kernel's.
    pub fn take(&mut self) -> io::Result<NetSpace> {
        match self.ready.pop() {
            Some(space) => Ok(space),
            None => self.make(),
        }
    }

    fn make(&mut self) -> io::Result<NetSpace> {
        let (space, mut route) = NetSpace::make()?;
        self.made += 1;
        let near = format!("{}{}", self.label, self.made);
        let far = Far { name: "eth0", index: Some(2), space: Some(space.as_fd()) };
        self.switchboard.send(&[Request::veth(&near, &far)])?;
        route.send(&[Request::up("lo"), Request::up("eth0"), Request::address(2, ADDRESS, 32)])?;
        Ok(space)
    }
}
