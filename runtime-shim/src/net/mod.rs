//! Network namespaces of sandboxes, by class.
//!
//! | class | what a sandbox gets | cost at its start |
//! | --- | --- | --- |
//! | `none` | the one empty namespace that all such sandboxes share, made beforehand | one `setns` |
//! | `tenant` | its tenant's [shared namespace](Tenant), with an address of its own on the tenant's veth | one `setns`; addresses are added in batches |
//! | `own` | a namespace of its own from a [pool](OwnPool), for programs that bind fixed ports | one `setns`; the pool is filled between starts |
//!
//! What is slow about a network namespace is the move of a link into it (`dev_change_net_namespace`, under the global RTNL
//! lock; Particle, SoCC '20). So nothing here is ever moved: a veth's far end is made where it belongs (`IFLA_NET_NS_FD` in the
//! peer's part of one `RTM_NEWLINK`). `ggr bench net` has the ways side by side.
//!
//! **Invariant:** nothing made here has a name outside the process. A namespace lives as long as a descriptor of it or a
//! process in it, and a veth as long as both its ends' namespaces: after a SIGKILL the kernel removes all of it.
//!
//! The near ends of all veths are in a namespace of the worker's, the *switchboard*, and not in the host's: nothing is routed
//! there, so egress is closed.

mod own;
mod route;
mod space;
mod tenant;

pub use own::OwnPool;
pub use route::{Far, Request, Route};
pub use space::NetSpace;
pub use tenant::Tenant;
