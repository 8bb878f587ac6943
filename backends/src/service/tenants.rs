//! Tenants: each has a store of its own, and, where the service may choose, a user id of its own.
//!
//! Knowing a blob's hash is no right to read it: a tenant's requests are answered from its own store, and its sandboxes see
//! no other. With [`Sharing::Shared`] there is one store for all, by the operator's choice.

use std::collections::HashMap;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use ggr_ir::repo::Repo;

use crate::store::{FsStore, gc};

/// Whether tenants share a store.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Sharing {
    /// Each has its own.
    #[default]
    Apart,
    /// One for all: what one has computed or sent, all may read.
    Shared,
}

/// The first user id of tenants: far above those that systems and containers give out.
const FIRST_ID: u32 = 0x7000_0000;

/// User ids of tenants: two names meet with a chance of one in 16 million, and then share no more than the id.
const IDS: u32 = 0x00ff_ffff;

/// One tenant.
#[derive(Debug)]
pub struct Tenant {
    /// Its name.
    pub name: Arc<str>,
    /// The directory of its store.
    pub root: PathBuf,
    /// Its store.
    pub store: Arc<FsStore>,
    /// The user and group that its sandboxes run as; the service's own if none.
    pub user: Option<u32>,
}

/// All tenants that were seen since the start.
#[derive(Debug)]
pub(super) struct Tenants {
    dir: PathBuf,
    sharing: Sharing,
    /// Whether each gets a user id of its own.
    ids: bool,
    known: Mutex<HashMap<String, Arc<Tenant>>>,
}

impl Tenants {
    /// Tenants whose stores are below `dir`. They get user ids of their own if this process may change its own, and if
    /// others may pass through all directories above.
    pub(super) fn new(dir: &Path, sharing: Sharing) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let dir = dir.canonicalize()?;
        let tenants = dir.join("tenants");
        for place in [&dir, &tenants] {
            fs::create_dir_all(place)?;
        }
        let root = rustix::process::geteuid().is_root();
        if root {
            // One may pass, but not look around.
            [&dir, &tenants]
                .iter()
                .try_for_each(|at| fs::set_permissions(at, Permissions::from_mode(0o711)))?;
        } else {
            fs::set_permissions(&dir, Permissions::from_mode(0o700))?;
        }
        let passable = |at: &Path| at.metadata().is_ok_and(|meta| meta.mode() & 0o001 != 0);
        let ids = root && sharing == Sharing::Apart && tenants.ancestors().all(passable);
        Ok(Self { dir: tenants, sharing, ids, known: Mutex::default() })
    }

    /// Why tenants have no user ids of their own; nothing if they have.
    pub(super) fn one_user(&self) -> Option<&'static str> {
        if self.ids {
            None
        } else if self.sharing == Sharing::Shared {
            Some("they share a store")
        } else if rustix::process::geteuid().is_root() {
            Some("the service's directory lies below one that others may not pass through")
        } else {
            Some("the service does not run as root")
        }
    }

    /// The tenant of this name, whose store is made if it is new.
    pub(super) fn tenant(&self, name: &str) -> io::Result<Arc<Tenant>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tenant) = known.get(name) {
            return Ok(Arc::clone(tenant));
        }
        let tenant = Arc::new(self.open(name)?);
        known.insert(name.to_owned(), Arc::clone(&tenant));
        Ok(tenant)
    }

    /// Brings each store back to `limit`. What was used in the last minutes stays; what a client believes to be here and is
    /// not, it sends again.
    pub(super) fn collect(&self, limit: u64) {
        let Ok(entries) = fs::read_dir(&self.dir) else { return };
        for root in entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()) {
            if let Ok(repo) = Repo::find_or_create(Some(&root), &root) {
                let _ = gc::collect(&repo, limit, SystemTime::now(), |_| {});
            }
        }
    }

    fn open(&self, name: &str) -> io::Result<Tenant> {
        let (root, user) = match self.sharing {
            Sharing::Shared => (self.dir.join("shared.all"), None),
            Sharing::Apart => (self.dir.join(name), self.ids.then(|| user_id(name))),
        };
        fs::create_dir_all(&root)?;
        fs::set_permissions(&root, Permissions::from_mode(0o700))?;
        if user.is_some() {
            lay_out(&root, user)?;
        }
        Ok(Tenant { name: name.into(), store: Arc::new(FsStore::new(&root)), root, user })
    }
}

/// The service writes blobs into the tenant's store, and the tenant's worker writes beside them: so all directories are
/// made beforehand, as the tenant's.
fn lay_out(root: &Path, user: Option<u32>) -> io::Result<()> {
    let blobs = root.join("blobs");
    let shards = (0..=255).map(|byte| blobs.join(format!("{byte:02x}")));
    let tops = ["tmp", "sandboxes"].map(|name| root.join(name));
    for dir in [root.to_owned(), blobs.clone()].into_iter().chain(tops).chain(shards) {
        fs::create_dir_all(&dir)?;
        chown(&dir, user, user)?;
    }
    Ok(())
}

fn user_id(name: &str) -> u32 {
    let hash = ggr_ir::Hash::of(name.as_bytes());
    let [a, b, c, d, ..] = *hash.as_bytes();
    FIRST_ID + (u32::from_le_bytes([a, b, c, d]) & IDS)
}

#[cfg(test)]
mod tests {
    use ggr_ir::{BlobId, ObjectStore};

    use super::*;

    #[test]
    fn tenants_have_stores_of_their_own_unless_they_share_by_choice() {
        let dir = tempfile::tempdir().unwrap();
        for (sharing, seen) in [(Sharing::Apart, false), (Sharing::Shared, true)] {
            let tenants = Tenants::new(dir.path(), sharing).unwrap();
            let (ann, bob) = (tenants.tenant("ann").unwrap(), tenants.tenant("bob").unwrap());
            let id = ann.store.put_bytes(b"secret").unwrap();
            assert_eq!(bob.store.contains(id).unwrap(), seen);
            assert_eq!(id, BlobId::of(b"secret"));
            assert_eq!(ann.root.metadata().unwrap().mode() & 0o777, 0o700);
            assert!(Arc::ptr_eq(&ann, &tenants.tenant("ann").unwrap()));
        }
    }

    #[test]
    fn a_store_is_brought_back_to_its_limit_and_what_was_just_used_stays() {
        let dir = tempfile::tempdir().unwrap();
        let tenants = Tenants::new(dir.path(), Sharing::Apart).unwrap();
        let ann = tenants.tenant("ann").unwrap();
        let id = ann.store.put_bytes(&[7; 100_000]).unwrap();
        tenants.collect(1);
        ann.store.forget(id);
        assert!(ann.store.contains(id).unwrap(), "it may be an input of what runs");
        let repo = Repo::find_or_create(Some(&ann.root), &ann.root).unwrap();
        gc::collect(&repo, 1, SystemTime::now() + 2 * gc::MARGIN, |_| {}).unwrap();
        ann.store.forget(id);
        assert!(!ann.store.contains(id).unwrap());
    }

    #[test]
    fn a_tenant_has_the_same_user_after_each_start() {
        assert_eq!(user_id("ann"), user_id("ann"));
        assert_ne!(user_id("ann"), user_id("bob"));
        assert!(user_id("ann") >= FIRST_ID);
    }
}
