//! Objects in an S3 bucket that functions and this machine exchange: `PREFIX/v1/NAMESPACE/objects/HASH`, each by itself.
//!
//! A function asks for what its thunk needs by name: it has no time to read an index first, and what this machine stored a
//! moment ago would not be in it. This machine asks once what is there, by one listing (1,000 names a request), and keeps
//! that in memory.
//!
//! **Invariant:** bytes that come out have the hash that they were asked for by. Objects are zstd frames.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_sdk_s3::Client;
use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::ByteStream;
use futures_util::StreamExt;
use futures_util::stream;
use ggr_ir::protocol::lambda::StoreAddress;
use ggr_ir::{BlobId, Hash, ObjectStore, StoreError};
use rustc_hash::FxHashSet;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::OnceCell;

use super::aws::{self, Call, ServiceError};
use super::spending::Requests;
use crate::store::KnownSet;

/// Requests at a time: enough to fill a line at S3's 20 to 100 ms each.
const PARALLEL: usize = 32;

/// The most that an object may unpack to: what a function's `/tmp` can hold.
const LARGEST: u64 = 10 << 30;

/// Fast, and half the size on programs and headers.
const LEVEL: i32 = 3;

/// A bucket as functions use it. Calls wait for the network; they may come from any thread that may wait.
pub struct Objects {
    place: String,
    bucket: String,
    keys: String,
    endpoint: Option<String>,
    /// What was there when it was asked for; in a function it never is.
    listed: OnceCell<FxHashSet<Hash>>,
    /// What was stored since.
    stored: KnownSet,
    client: OnceCell<Client>,
    requests: Arc<Requests>,
    /// Always there; taken by `drop`.
    runtime: Option<Runtime>,
}

impl Objects {
    /// The objects of an address; nothing is asked of the bucket yet.
    ///
    /// # Errors
    /// If the address is no bucket's, or threads cannot be started.
    pub fn open(address: &StoreAddress) -> io::Result<Self> {
        let StoreAddress::S3 { place, namespace, endpoint } = address else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no bucket"));
        };
        let rest = place.strip_prefix("s3://").unwrap_or(place);
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.trim_matches('/');
        let slash = if prefix.is_empty() { "" } else { "/" };
        Ok(Self {
            place: place.clone(),
            bucket: bucket.to_owned(),
            keys: format!("{prefix}{slash}v1/{namespace}/objects/"),
            endpoint: endpoint.clone(),
            listed: OnceCell::new(),
            stored: KnownSet::default(),
            client: OnceCell::new(),
            requests: Arc::default(),
            runtime: Some(
                Builder::new_multi_thread().worker_threads(2).thread_name("ggr-s3").enable_all().build()?,
            ),
        })
    }

    /// What was asked of the bucket so far.
    pub fn requests(&self) -> Arc<Requests> {
        Arc::clone(&self.requests)
    }

    /// Whether the bucket can be used: lists one object.
    ///
    /// # Errors
    /// The service's refusal.
    pub fn check(&self) -> Result<(), ServiceError> {
        self.wait(async {
            Requests::count(&self.requests.puts, 1);
            let request = self.client().await.list_objects_v2().bucket(&self.bucket).prefix(&self.keys);
            match request.max_keys(1).send().await {
                Ok(_) => Ok(()),
                Err(error) => Err(self.explain("s3:ListBucket", &error)),
            }
        })
    }

    async fn client(&self) -> &Client {
        let make = || async {
            let shared = aws::shared_config(self.endpoint.as_deref()).await;
            let config = aws_sdk_s3::config::Builder::from(&shared)
                // Services of one's own have no names for buckets.
                .force_path_style(shared.endpoint_url().is_some())
                .request_checksum_calculation(aws_sdk_s3::config::RequestChecksumCalculation::WhenRequired)
                .response_checksum_validation(aws_sdk_s3::config::ResponseChecksumValidation::WhenRequired);
            Client::from_conf(config.build())
        };
        self.client.get_or_init(make).await
    }

    fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.as_ref().expect("it is taken by drop").block_on(future)
    }

    fn key(&self, id: BlobId) -> String {
        format!("{}{}", self.keys, id.hash())
    }

    fn explain<E>(&self, action: &str, error: &SdkError<E>) -> ServiceError
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let resource = format!("bucket `{}`", self.bucket);
        let place = self.endpoint.as_deref().unwrap_or("its region");
        Call { action, resource: &resource, place }.explain(error)
    }

    /// A refusal, also kept for the account if it will not go away by itself.
    fn refused<E>(&self, action: &str, error: &SdkError<E>) -> StoreError
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let error = self.explain(action, error);
        if !matches!(error, ServiceError::Refused { .. } | ServiceError::NoAnswer { .. }) {
            let _ = self.requests.refused.set(error.clone());
        }
        self.failed(error)
    }

    fn failed(&self, why: impl std::fmt::Display) -> StoreError {
        StoreError::Io { path: PathBuf::from(&self.place), source: io::Error::other(why.to_string()) }
    }

    async fn list(&self) -> Result<FxHashSet<Hash>, StoreError> {
        let client = self.client().await;
        let request = client.list_objects_v2().bucket(&self.bucket).prefix(&self.keys);
        let mut pages = request.into_paginator().send();
        let mut found = FxHashSet::default();
        while let Some(page) = pages.next().await {
            Requests::count(&self.requests.puts, 1);
            let page = page.map_err(|e| self.refused("s3:ListBucket", &e))?;
            let names = page.contents().iter().filter_map(|object| object.key()?.strip_prefix(&self.keys));
            found.extend(
                names.filter_map(|name| Some(format!("T{name}").parse::<ggr_ir::ThunkId>().ok()?.hash())),
            );
        }
        Ok(found)
    }

    async fn fetch(&self, id: BlobId) -> Result<Vec<u8>, StoreError> {
        if id.size() == 0 {
            return Ok(Vec::new());
        }
        let client = self.client().await;
        Requests::count(&self.requests.gets, 1);
        let got = client.get_object().bucket(&self.bucket).key(self.key(id)).send().await;
        let object = got.map_err(|error| match error.as_service_error() {
            Some(service) if service.is_no_such_key() => StoreError::Missing(id),
            _ => self.refused("s3:GetObject", &error),
        })?;
        let packed =
            object.body.collect().await.map_err(|e| self.failed(DisplayErrorContext(&e)))?.into_bytes();
        Requests::count(&self.requests.received, packed.len() as u64);
        let corrupt = || StoreError::Corrupt { id, path: PathBuf::from(self.key(id)) };
        let size = usize::try_from(id.size().min(LARGEST)).map_err(|_| corrupt())?;
        // The capacity is the bound: an object cannot unpack to more than its id says.
        let bytes = zstd::bulk::decompress(&packed, size).map_err(|_| corrupt())?;
        if BlobId::of(&bytes) == id { Ok(bytes) } else { Err(corrupt()) }
    }

    async fn store(&self, id: BlobId, bytes: &[u8]) -> Result<(), StoreError> {
        let packed = zstd::bulk::compress(bytes, LEVEL).map_err(|e| self.failed(e))?;
        Requests::count(&self.requests.puts, 1);
        Requests::count(&self.requests.sent, packed.len() as u64);
        let client = self.client().await;
        let put = client.put_object().bucket(&self.bucket).key(self.key(id)).body(ByteStream::from(packed));
        put.send().await.map_err(|e| self.refused("s3:PutObject", &e))?;
        self.stored.insert(id);
        Ok(())
    }

    async fn store_file(&self, id: BlobId, path: &Path) -> Result<(), StoreError> {
        let bytes = fs::read(path).map_err(|source| StoreError::Io { path: path.to_owned(), source })?;
        if BlobId::of(&bytes) != id {
            return Err(StoreError::Changed { path: path.to_owned() });
        }
        self.store(id, &bytes).await
    }
}

impl Drop for Objects {
    /// Does not wait: what must be finished was waited for.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl ObjectStore for Objects {
    fn missing(&self, ids: &[BlobId]) -> Result<Vec<BlobId>, StoreError> {
        let listed = self.wait(self.listed.get_or_try_init(|| self.list()))?;
        let here = |id: &BlobId| id.size() == 0 || self.stored.contains(*id) || listed.contains(&id.hash());
        Ok(ids.iter().copied().filter(|id| !here(id)).collect())
    }

    fn get(&self, wanted: &[(BlobId, PathBuf)]) -> Vec<Result<(), StoreError>> {
        let one = |(id, path): &(BlobId, PathBuf)| {
            let (id, path) = (*id, path.clone());
            async move {
                let bytes = self.fetch(id).await?;
                fs::write(&path, bytes).map_err(|source| StoreError::Io { path, source })
            }
        };
        self.wait(stream::iter(wanted.iter().map(one)).buffered(PARALLEL).collect())
    }

    fn put(&self, files: &[(BlobId, PathBuf)]) -> Vec<Result<(), StoreError>> {
        let one = |(id, path): &(BlobId, PathBuf)| {
            let (id, path) = (*id, path.clone());
            async move { self.store_file(id, &path).await }
        };
        self.wait(stream::iter(files.iter().map(one)).buffered(PARALLEL).collect())
    }

    fn put_bytes(&self, bytes: &[u8]) -> Result<BlobId, StoreError> {
        let id = BlobId::of(bytes);
        self.wait(self.store(id, bytes)).map(|()| id)
    }

    fn get_bytes(&self, id: BlobId) -> Result<Vec<u8>, StoreError> {
        self.wait(self.fetch(id))
    }

    fn local_path(&self, _: BlobId) -> Option<PathBuf> {
        None
    }

    fn local_root(&self) -> Option<&Path> {
        None
    }
}
