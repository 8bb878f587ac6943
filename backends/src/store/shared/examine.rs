//! Whether a bucket allows what builds ask of it.

use tokio::runtime::Builder;

use super::address::Address;
use super::store::{Access, OpenError};
use crate::store::s3::{Bucket, S3Error, Trouble};

/// What [`examine`] found.
#[derive(Debug)]
pub struct Examined {
    /// Where the bucket is, for people.
    pub endpoint: String,
    /// How many objects the index has.
    pub segments: usize,
    /// What is refused. Without `s3:DeleteObject` a build only leaves small segments as they are.
    pub refused: Vec<S3Error>,
}

/// Asks a bucket for each thing that builds ask of it, in four requests and those for a listing of more than 1,000 names: the
/// listing, a small object `PREFIX/v1/cache/doctor` that is written (and stays) and read, and the removal of an object of the
/// index that is not there. With [`Access::ReadOnly`] nothing is written or removed.
///
/// # Errors
/// What keeps from asking at all, such as credentials, an endpoint or a bucket that is not there.
pub fn examine(address: &Address, endpoint: Option<&str>, access: Access) -> Result<Examined, OpenError> {
    let runtime = Builder::new_current_thread().enable_all().build().map_err(OpenError::Threads)?;
    let examined = runtime.block_on(async {
        let bucket = Bucket::open(address.bucket(), endpoint, 0).await?;
        ask(&bucket, address, access).await
    });
    examined.map_err(|error| OpenError::Bucket(Box::new(error)))
}

async fn ask(bucket: &Bucket, address: &Address, access: Access) -> Result<Examined, S3Error> {
    let mut refused = Vec::new();
    let mut note = |result: Result<(), S3Error>| match result {
        Ok(()) => Ok(true),
        // Nobody has written it.
        Err(error) if error.trouble == Trouble::Gone => Ok(true),
        Err(error) if error.trouble == Trouble::Denied => {
            refused.push(error);
            Ok(false)
        }
        Err(error) => Err(error),
    };
    let mut segments = 0;
    let listing = bucket.list(&address.index()).await.map(|listed| segments = listed.len());
    let lists = note(listing)?;
    let key = address.doctor();
    let writes = access == Access::ReadWrite && note(bucket.put(&key, b"ggr doctor\n".to_vec()).await)?;
    // Who may not list is refused an object that is not there, whether or not it may be read.
    if lists || writes {
        note(bucket.get(&key, None, || Ok(std::io::sink())).await.map(drop))?;
    }
    if writes {
        note(bucket.remove(&format!("{}none", address.index())).await)?;
    }
    Ok(Examined { endpoint: bucket.endpoint().to_owned(), segments, refused })
}
