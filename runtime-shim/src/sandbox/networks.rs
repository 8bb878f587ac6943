//! The networks of a zygote's sandboxes, by class: made when the first program of the class comes.
//!
//! The zygote stands in an empty network namespace, which is the one of class `none` and the switchboard of the others: the
//! near ends of their links are there, and nothing is routed, so nothing leads out.

use std::io;
use std::net::Ipv4Addr;

use ggr_ir::Network;

use crate::net::{NetSpace, OwnPool, Route, Tenant};

/// Namespaces of class `own` that are kept ready, once one was wanted.
const STOCK: usize = 4;

/// See the module.
#[derive(Default)]
pub(super) struct Networks {
    tenant: Option<(Tenant, Route)>,
    own: Option<OwnPool>,
}

/// The network of one sandbox.
pub(super) enum Joined {
    /// That of the zygote.
    None,
    /// The shared one; the address is the sandbox's.
    Tenant(Ipv4Addr),
    /// One of its own, which ends with its last process.
    Own(NetSpace),
}

impl Networks {
    /// A network of this class.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn join(&mut self, class: Network) -> io::Result<Joined> {
        match class {
            Network::None => Ok(Joined::None),
            Network::Tenant => {
                if self.tenant.is_none() {
                    let mut switchboard = Route::open()?;
                    let tenant = Tenant::make(&mut switchboard, "tenant")?;
                    self.tenant = Some((tenant, switchboard));
                }
                let taken = self.tenant.as_mut().map(|(tenant, _)| tenant.take(1)).transpose()?;
                let address = taken.and_then(|addresses| addresses.first().copied());
                address.map(Joined::Tenant).ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
            }
            Network::Own => {
                if self.own.is_none() {
                    self.own = Some(OwnPool::new(Route::open()?, STOCK, "own"));
                }
                let taken = self.own.as_mut().map(OwnPool::take).transpose()?;
                taken.map(Joined::Own).ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
            }
        }
    }

    /// Moves this process, the sandbox's first, into its network.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn enter(&self, joined: &Joined) -> io::Result<()> {
        match (joined, &self.tenant) {
            (Joined::None, _) => Ok(()),
            (Joined::Own(space), _) => space.enter(),
            (Joined::Tenant(_), Some((tenant, _))) => tenant.space().enter(),
            (Joined::Tenant(_), None) => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Takes a network back, when its sandbox is gone.
    pub(super) fn leave(&mut self, joined: &Joined) {
        if let (Joined::Tenant(address), Some((tenant, _))) = (joined, &mut self.tenant) {
            tenant.give_back(*address);
        }
    }

    /// Has one more namespace ready, if some are wanted. Between starts.
    pub(super) fn refill(&mut self) {
        if let Some(own) = &mut self.own {
            // One that cannot be made now is made, or found out, by the program that wants it.
            let _ = own.refill();
        }
    }
}
