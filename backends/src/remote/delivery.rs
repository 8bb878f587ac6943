//! Bringing blobs to a service: from a peer that has them, else from the store here.

use std::collections::{BTreeMap, BTreeSet};

use ggr_ir::protocol::service::{FromService, ToService};
use ggr_ir::{BlobId, InfraFailure, RootPath};

use super::connection::Connection;
use super::{Inner, confused};
use crate::service::Address;

/// Blobs are claimed in portions of so many bytes, so that a job waits for what it needs and not for a whole toolchain.
const PORTION: u64 = 2 << 20;

/// From so many bytes on, a peer that has a blob is asked for it: below, the two further messages take longer than the blob.
const FROM_PEER: u64 = 64 << 10;

/// How long a program is to be kept ready once a build has announced a thunk of it.
const EXPECTED: u32 = 30_000;

/// What is to be done ahead.
#[derive(Debug)]
pub(super) struct Ahead {
    pub(super) program: RootPath,
    pub(super) inputs: BTreeSet<BlobId>,
}

impl Inner {
    /// Has all of these at the service: sends what it lacks, and waits for what others are sending.
    pub(super) async fn deliver(
        &self,
        connection: &Connection,
        ids: &BTreeSet<BlobId>,
    ) -> Result<(), InfraFailure> {
        loop {
            for portion in portions(ids) {
                let claim = self.has.claim(&portion);
                if !claim.ids.is_empty() {
                    self.send(connection, &claim.ids).await?;
                }
            }
            // What another job has given up is sent by this one.
            if self.has.settle(ids).await {
                return Ok(());
            }
            if !connection.alive() {
                return Err(connection.died());
            }
        }
    }

    async fn send(&self, connection: &Connection, ids: &[BlobId]) -> Result<(), InfraFailure> {
        let mut missing = connection.missing(ids).await?;
        self.has.add(ids.iter().filter(|id| !missing.contains(id)));
        for (peer, ids) in self.at_peers(&missing) {
            let left = self.gather(connection, &peer, &ids).await?;
            let came: Vec<_> = ids.into_iter().filter(|id| !left.contains(id)).collect();
            self.has.add(&came);
            missing.retain(|id| !came.contains(id));
        }
        let mut gone = Vec::new();
        for id in &missing {
            if !connection.push_one(&self.store, *id).await? {
                gone.push(*id);
            }
        }
        // What was sent over one connection is there when the next request over the same one is looked at; others must ask.
        if connection.is_aside() && !missing.is_empty() {
            let left = connection.missing(&missing).await?;
            missing.retain(|id| !left.contains(id));
        }
        self.has.add(missing.iter().filter(|id| !gone.contains(id)));
        if gone.is_empty() { Ok(()) } else { Err(InfraFailure::InputsMissing(gone)) }
    }

    /// Which of these a peer has.
    fn at_peers(&self, ids: &[BlobId]) -> BTreeMap<String, Vec<BlobId>> {
        let mut found = BTreeMap::<String, Vec<BlobId>>::new();
        for id in ids.iter().filter(|id| id.size() >= FROM_PEER) {
            let other = |address: &Address| *address != self.options.address && !self.is_deaf(address);
            if let Some(peer) = self.peers.holder(*id, other) {
                found.entry(peer.to_string()).or_default().push(*id);
            }
        }
        found
    }

    /// Has the service fetch from its peer; gives what did not come.
    async fn gather(
        &self,
        connection: &Connection,
        peer: &str,
        ids: &[BlobId],
    ) -> Result<Vec<BlobId>, InfraFailure> {
        let request = |seq| ToService::Gather { seq, from: peer.to_owned(), ids: ids.to_vec() };
        match connection.ask(request).await? {
            FromService::Fetched { missing, .. } => {
                if missing.len() == ids.len() {
                    // It may not, or cannot reach it: it is not asked again.
                    self.now_deaf(peer);
                }
                Ok(missing)
            }
            other => Err(InfraFailure::WorkerDied(confused(&other).to_string())),
        }
    }

    /// Does what can be done before a job comes.
    pub(super) async fn do_ahead(&self, connection: &Connection, ahead: &Ahead) -> Result<(), InfraFailure> {
        connection.expect(ahead.program.as_str(), EXPECTED).await?;
        self.deliver(connection, &ahead.inputs).await
    }
}

/// The same ids in portions.
fn portions(ids: &BTreeSet<BlobId>) -> Vec<Vec<BlobId>> {
    let mut portions = vec![Vec::new()];
    let mut bytes = 0;
    for id in ids {
        if bytes >= PORTION {
            portions.push(Vec::new());
            bytes = 0;
        }
        bytes += id.size();
        portions.last_mut().expect("there is one from the start").push(*id);
    }
    portions
}
