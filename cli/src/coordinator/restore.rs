//! Inputs that are gone from the store, or damaged in it: read again from the user's files.
//!
//! A thunk holds its inputs at the paths that they have here, so it says itself where their bytes are.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::FutureExt;
use ggr_backends::drive::Heal;
use ggr_backends::store::FsStore;
use ggr_backends::store::shared::SharedStore;
use ggr_ir::{BlobId, Entry, Job, Mode, ObjectStore};

/// Brings missing inputs back, from the bucket behind the store if the user's files are no help, and counts them in
/// `restored`.
pub(crate) fn healer(
    store: Arc<FsStore>,
    bucket: Option<Arc<SharedStore>>,
    restored: Arc<AtomicUsize>,
) -> Heal {
    Arc::new(move |job, missing| {
        let (store, bucket, restored) = (Arc::clone(&store), bucket.clone(), Arc::clone(&restored));
        let read = move || {
            missing.into_iter().try_for_each(|id| {
                let fetched = |why| match &bucket {
                    Some(bucket) if bucket.bring_all(&[id]).iter().all(Result::is_ok) => Ok(()),
                    _ => Err(why),
                };
                restore(&store, &job, id).or_else(fetched)?;
                restored.fetch_add(1, Ordering::Relaxed);
                Ok(())
            })
        };
        tokio::task::spawn_blocking(read).map(|done| done.unwrap_or_else(|e| Err(e.to_string()))).boxed()
    })
}

fn restore(store: &FsStore, job: &Job, id: BlobId) -> Result<(), String> {
    store.forget(id);
    // It is gone elsewhere, and whole here: the place where it is missing gets it again.
    if store.open(id).is_ok_and(|blob| BlobId::of_reader(blob).is_ok_and(|found| found == id)) {
        return Ok(());
    }
    let mut why = format!("no input of `{}` is {id}", job.label);
    for (path, entry) in job.thunk.inputs.iter().filter(|(_, entry)| entry.object == id) {
        match read(store, path.as_path(), entry) {
            Ok(found) if found == id => return Ok(()),
            Ok(_) => why = format!("`{path}` has changed"),
            Err(error) => why = format!("`{path}`: {error}"),
        }
    }
    Err(why)
}

fn read(store: &FsStore, path: &Path, entry: &Entry<BlobId>) -> io::Result<BlobId> {
    let stored = match entry.mode {
        Mode::Symlink => store.put_bytes(fs::read_link(path)?.as_os_str().as_bytes()),
        Mode::Directory => store.put_bytes(b""),
        Mode::Regular | Mode::Executable => store.ingest(path).map(|taken| taken.id),
    };
    stored.map_err(io::Error::other)
}
