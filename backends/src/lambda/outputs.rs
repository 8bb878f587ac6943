//! Outputs on their way home: from the answer, or from the store.

use std::collections::BTreeMap;
use std::sync::Arc;

use ggr_ir::protocol::lambda::Inline;
use ggr_ir::repo::unique_name;
use ggr_ir::{BlobId, InfraFailure, ObjectStore, Reduction, StoreError};

use super::Remote;
use super::uploads::chain;
use crate::store::FsStore;

/// Stores each output of a reduction on this machine; those that are in the functions' store too.
pub(super) async fn take(
    local: &Arc<FsStore>,
    remote: Option<&Remote>,
    reduction: &Reduction,
    inline: Vec<Inline>,
) -> Result<Vec<BlobId>, InfraFailure> {
    let wanted: Vec<BlobId> = reduction
        .outputs
        .values()
        .map(|entry| entry.blob)
        .chain([reduction.stdout, reduction.stderr])
        .collect();
    let (local, remote) = (Arc::clone(local), remote.cloned());
    tokio::task::spawn_blocking(move || store(&local, remote.as_ref(), &wanted, inline))
        .await
        .map_err(|e| InfraFailure::OutputsNotStored(e.to_string()))?
}

fn store(
    local: &FsStore,
    remote: Option<&Remote>,
    wanted: &[BlobId],
    inline: Vec<Inline>,
) -> Result<Vec<BlobId>, InfraFailure> {
    let failed = |error: &StoreError| InfraFailure::OutputsNotStored(chain(error));
    let mut inline: BTreeMap<BlobId, Vec<u8>> = inline.into_iter().map(|i| (i.id, i.bytes)).collect();
    let mut fetched = Vec::new();
    for &id in wanted {
        let here = match inline.remove(&id) {
            // Named by what they are, whatever the answer says.
            Some(bytes) => local.put_bytes(&bytes).map_err(|e| failed(&e))? == id,
            None => local.contains(id).map_err(|e| failed(&e))?,
        };
        // Everybody has the empty one.
        let here = here || (id.size() == 0 && local.put_bytes(b"").is_ok_and(|empty| empty == id));
        if !here {
            fetched.push(id);
        }
    }
    let Some(remote) = remote else {
        return match fetched.first() {
            Some(id) => Err(InfraFailure::OutputsNotStored(format!("{id} is not in the answer"))),
            None => Ok(Vec::new()),
        };
    };
    fetch(local, remote, &fetched)?;
    Ok(wanted.iter().copied().filter(|id| id.size() > 0).collect())
}

fn fetch(local: &FsStore, remote: &Remote, ids: &[BlobId]) -> Result<(), InfraFailure> {
    if ids.is_empty() {
        return Ok(());
    }
    let root = local.local_root().expect("this store is on this machine").join("tmp");
    let files: Vec<_> = ids.iter().map(|id| (*id, root.join(format!("{}.{id}", unique_name())))).collect();
    let results = remote.store.get(&files);
    let mut result = Ok(());
    for ((id, file), got) in files.iter().zip(results) {
        let stored = got.and_then(|()| match std::fs::File::open(file).and_then(BlobId::of_reader) {
            Ok(found) if found == *id => local.adopt(file, *id),
            Ok(_) => Err(StoreError::Corrupt { id: *id, path: file.clone() }),
            Err(source) => Err(StoreError::Io { path: file.clone(), source }),
        });
        if let Err(error) = stored {
            let _ = std::fs::remove_file(file);
            result = Err(InfraFailure::OutputsNotStored(chain(&error)));
        }
    }
    result
}
