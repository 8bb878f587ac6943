//! Blobs from one service to another, at a client's word.
//!
//! **Invariant:** a service connects to no address that its operator has not named. **Invariant:** a peer is shown the token of
//! the tenant that asks, so that it answers from that tenant's own store: knowing a hash is no right here either.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ggr_ir::protocol::service::{FromService, Hello};
use ggr_ir::{BlobId, ObjectStore};
use tokio::sync::Mutex as AsyncMutex;

use super::Address;
use super::visit::Visit;
use crate::remote::RemoteOptions;
use crate::remote::connection::{Connection, Shelf};

/// A peer that says nothing for so long is given up: the client sends the blobs itself.
const PATIENCE: Duration = Duration::from_secs(5);

/// One client's connections to peers, at most one for each that the operator has named.
pub(super) struct Links {
    /// The client's, which peers are shown.
    hello: Hello,
    open: AsyncMutex<BTreeMap<String, Arc<Connection>>>,
}

impl Links {
    pub(super) fn new(hello: Hello) -> Self {
        Self { hello, open: AsyncMutex::default() }
    }
}

impl Visit {
    /// Takes blobs from a peer; what does not come is missing.
    pub(super) async fn gather(&self, seq: u64, from: &str, ids: &[BlobId]) {
        if let Some(link) = self.link(from).await {
            // What did not come is found below.
            let _ = link.fetch(ids).await;
        }
        let store = &self.tenant.store;
        let missing = store.missing(ids).unwrap_or_else(|_| ids.to_vec());
        self.say(&FromService::Fetched { seq, missing }).await;
    }

    async fn link(&self, from: &str) -> Option<Arc<Connection>> {
        let address: Address = from.parse().ok()?;
        let (peers, authority) = &self.shared.peers;
        if !peers.contains(&address) {
            return None;
        }
        let mut open = self.links.open.lock().await;
        let name = address.to_string();
        if let Some(link) = open.get(&name).filter(|link| link.alive()) {
            return Some(Arc::clone(link));
        }
        let Hello { token, packed, .. } = self.links.hello.clone();
        let authority = authority.clone();
        let options = RemoteOptions { address, token, authority, packed, patience: PATIENCE };
        let shelf = Shelf { store: Arc::clone(&self.tenant.store), owner: self.tenant.user };
        let link = Arc::new(Connection::open(&options, Some(shelf)).await.ok()?);
        open.insert(name, Arc::clone(&link));
        Some(link)
    }
}
