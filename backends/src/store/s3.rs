//! The edge to S3 and whatever speaks like it: a handful of requests on one bucket. The only place of the stores that knows
//! the SDK.
//!
//! The SDK retries what is transient, with backoff and jitter; a body that breaks off is asked for again here. Bytes and
//! requests are counted, and go no faster than the cap. What a failure means is a [`Trouble`].

mod error;
mod parts;

use std::io::{self, Write};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    ProvideCredentials, Region, RequestChecksumCalculation, ResponseChecksumValidation,
};
use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use aws_types::SdkConfig;
use aws_types::service_config::ServiceConfigKey;

pub use error::{S3Error, Trouble};
pub(crate) use parts::PartsError;

use super::shared::Pace;
use crate::lambda::shared_config;

/// How often a request is tried: over some seconds, which is how long S3 tells a burst to slow down.
const ATTEMPTS: u32 = 5;

/// How long to wait for a connection.
const CONNECT: Duration = Duration::from_secs(5);

/// How long for the first byte of an answer to a question: somebody waits for it.
const ANSWER: Duration = Duration::from_secs(10);

/// The same when something is sent, the sending included: 8 MiB at 1 Mbit/s.
const SENT: Duration = Duration::from_secs(90);

/// How often a body that breaks off is asked for again.
const BODIES: usize = 3;

/// A part of a large object, in bytes; S3 takes no smaller ones than 5 MiB.
pub(super) const PART: usize = 8 << 20;

/// What went over the line.
#[derive(Default, Debug)]
pub(super) struct Traffic {
    pub(super) down: AtomicU64,
    pub(super) up: AtomicU64,
    pub(super) requests: AtomicU64,
}

/// An object of a listing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Listed {
    /// Its key without what was asked for.
    pub(super) name: String,
    pub(super) size: u64,
}

/// A bucket. Each method is one request, or one for each 1,000 names or part.
pub(crate) struct Bucket {
    /// For what is asked.
    reader: Client,
    /// For what is sent.
    writer: Client,
    name: String,
    endpoint: String,
    up: Pace,
    down: Pace,
    pub(super) traffic: Traffic,
}

impl Bucket {
    /// Finds credentials, region and endpoint by the SDK's usual chain; asks nothing of the bucket yet.
    pub(super) async fn open(name: &str, endpoint: Option<&str>, rate: u64) -> Result<Self, S3Error> {
        let mut shared = config(endpoint).await;
        let own = endpoint.map(str::to_owned).or_else(|| other_service(&shared));
        let shown = own.clone().unwrap_or_else(|| "AWS".to_owned());
        let failed = |trouble, detail| S3Error {
            trouble,
            action: "s3:ListBucket",
            bucket: name.to_owned(),
            endpoint: shown.clone(),
            detail,
        };
        if shared.region().is_none() {
            if own.is_none() {
                return Err(failed(Trouble::NoRegion, String::new()));
            }
            // Such services ignore the region; only the signature needs one.
            shared = shared.into_builder().region(Region::new("us-east-1")).build();
        }
        let provider = shared.credentials_provider();
        let provider = provider.ok_or_else(|| failed(Trouble::NoCredentials, String::new()))?;
        if let Err(error) = provider.provide_credentials().await {
            return Err(failed(Trouble::NoCredentials, DisplayErrorContext(&error).to_string()));
        }
        let retries = RetryConfig::standard().with_max_attempts(ATTEMPTS);
        let config = aws_sdk_s3::config::Builder::from(&shared)
            // Services of one's own have no names for buckets.
            .force_path_style(own.is_some())
            .retry_config(retries.with_initial_backoff(Duration::from_millis(200)))
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
        let client = |answer| {
            let limits = TimeoutConfig::builder().connect_timeout(CONNECT).read_timeout(answer).build();
            Client::from_conf(config.clone().timeout_config(limits).build())
        };
        Ok(Self {
            reader: client(ANSWER),
            writer: client(SENT),
            name: name.to_owned(),
            endpoint: shown,
            up: Pace::new(rate),
            down: Pace::new(rate),
            traffic: Traffic::default(),
        })
    }

    /// Where the bucket is, for people.
    pub(super) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The objects whose keys begin so, by name.
    pub(super) async fn list(&self, prefix: &str) -> Result<Vec<Listed>, S3Error> {
        let request = self.reader.list_objects_v2().bucket(&self.name).prefix(prefix);
        let mut pages = request.into_paginator().send();
        let mut listed = Vec::new();
        while let Some(page) = pages.next().await {
            self.asked();
            let page = page.map_err(|e| match self.failed("s3:ListBucket", &e) {
                // A listing knows no objects that could be gone.
                gone if gone.trouble == Trouble::Gone => S3Error { trouble: Trouble::NoBucket, ..gone },
                other => other,
            })?;
            for object in page.contents() {
                if let Some(name) = object.key().and_then(|key| key.strip_prefix(prefix)) {
                    let size = u64::try_from(object.size().unwrap_or(0)).unwrap_or(0);
                    listed.push(Listed { name: name.to_owned(), size });
                }
            }
        }
        listed.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(listed)
    }

    /// Writes an object, or a range of it, into what `open` gives; a body that breaks off is asked for again, into a new
    /// one. What the writer says stands inside.
    pub(super) async fn get<W: Write>(
        &self,
        key: &str,
        range: Option<Range<u64>>,
        mut open: impl FnMut() -> io::Result<W>,
    ) -> Result<io::Result<W>, S3Error> {
        let mut tries = 0;
        loop {
            tries += 1;
            let mut to = match open() {
                Ok(to) => to,
                Err(error) => return Ok(Err(error)),
            };
            match self.get_once(key, range.clone(), &mut to).await {
                Ok(Ok(())) => return Ok(Ok(to)),
                Ok(Err(error)) => return Ok(Err(error)),
                Err(error) if error.trouble == Trouble::Cut && tries < BODIES => {}
                Err(error) => return Err(error),
            }
        }
    }

    async fn get_once(
        &self,
        key: &str,
        range: Option<Range<u64>>,
        to: &mut impl Write,
    ) -> Result<io::Result<()>, S3Error> {
        const ACTION: &str = "s3:GetObject";
        self.asked();
        let wanted = range.as_ref().map(|range| range.end - range.start);
        let range = range.map(|range| format!("bytes={}-{}", range.start, range.end.saturating_sub(1)));
        let request = self.reader.get_object().bucket(&self.name).key(key).set_range(range);
        let mut body = request.send().await.map_err(|e| self.failed(ACTION, &e))?.body;
        let mut came = 0;
        while let Some(chunk) = body.next().await {
            let chunk =
                chunk.map_err(|e| self.error(Trouble::Cut, ACTION, DisplayErrorContext(&e).to_string()))?;
            came += chunk.len() as u64;
            self.traffic.down.fetch_add(chunk.len() as u64, Ordering::Relaxed);
            rest(&self.down, chunk.len()).await;
            if wanted.is_some_and(|wanted| came > wanted) {
                break;
            }
            if let Err(error) = to.write_all(&chunk) {
                return Ok(Err(error));
            }
        }
        match wanted {
            Some(wanted) if came != wanted => {
                Err(self.error(Trouble::Cut, ACTION, format!("{came} bytes in place of {wanted}")))
            }
            _ => Ok(Ok(())),
        }
    }

    /// Stores an object.
    pub(super) async fn put(&self, key: &str, bytes: Vec<u8>) -> Result<(), S3Error> {
        self.sending(bytes.len()).await;
        let request = self.writer.put_object().bucket(&self.name).key(key).body(ByteStream::from(bytes));
        request.send().await.map(drop).map_err(|e| self.failed("s3:PutObject", &e))
    }

    /// Begins an object of several parts.
    pub(super) async fn begin(&self, key: &str) -> Result<String, S3Error> {
        self.asked();
        let request = self.writer.create_multipart_upload().bucket(&self.name).key(key);
        let begun = request.send().await.map_err(|e| self.failed("s3:PutObject", &e))?;
        let none = || self.error(Trouble::Other, "s3:PutObject", "no upload id was given".to_owned());
        begun.upload_id().map(str::to_owned).ok_or_else(none)
    }

    /// Stores one part; parts are numbered from 1.
    pub(super) async fn part(
        &self,
        key: &str,
        upload: &str,
        number: i32,
        bytes: Vec<u8>,
    ) -> Result<CompletedPart, S3Error> {
        self.sending(bytes.len()).await;
        let request = self.writer.upload_part().bucket(&self.name).key(key).upload_id(upload);
        let request = request.part_number(number).body(ByteStream::from(bytes));
        let stored = request.send().await.map_err(|e| self.failed("s3:PutObject", &e))?;
        Ok(CompletedPart::builder().part_number(number).set_e_tag(stored.e_tag().map(str::to_owned)).build())
    }

    /// Makes an object of its parts, in their order.
    pub(super) async fn complete(
        &self,
        key: &str,
        upload: &str,
        parts: Vec<CompletedPart>,
    ) -> Result<(), S3Error> {
        self.asked();
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let request = self.writer.complete_multipart_upload().bucket(&self.name).key(key).upload_id(upload);
        let done = request.multipart_upload(parts).send().await;
        done.map(drop).map_err(|e| self.failed("s3:PutObject", &e))
    }

    /// Gives up an object of several parts.
    pub(super) async fn abort(&self, key: &str, upload: &str) {
        self.asked();
        let request = self.writer.abort_multipart_upload().bucket(&self.name).key(key).upload_id(upload);
        // What is left is the bucket's expiry rule's.
        let _ = request.send().await;
    }

    /// Removes an object; that it is not there is no error.
    pub(super) async fn remove(&self, key: &str) -> Result<(), S3Error> {
        self.asked();
        let removed = self.writer.delete_object().bucket(&self.name).key(key).send().await;
        removed.map(drop).map_err(|e| self.failed("s3:DeleteObject", &e))
    }

    fn asked(&self) {
        self.traffic.requests.fetch_add(1, Ordering::Relaxed);
    }

    async fn sending(&self, bytes: usize) {
        rest(&self.up, bytes).await;
        self.asked();
        self.traffic.up.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn error(&self, trouble: Trouble, action: &'static str, detail: String) -> S3Error {
        S3Error { trouble, action, bucket: self.name.clone(), endpoint: self.endpoint.clone(), detail }
    }

    fn failed<E>(&self, action: &'static str, error: &SdkError<E, HttpResponse>) -> S3Error
    where
        E: std::error::Error + ProvideErrorMetadata + 'static,
    {
        let (trouble, detail) = error::classify(error);
        self.error(trouble, action, detail)
    }
}

#[cfg(not(test))]
async fn config(endpoint: Option<&str>) -> SdkConfig {
    shared_config(endpoint).await
}

/// Tests may not change the environment, where credentials would come from.
#[cfg(test)]
async fn config(endpoint: Option<&str>) -> SdkConfig {
    use aws_sdk_s3::config::{Credentials, SharedCredentialsProvider};
    let somebody = Credentials::new("test", "test", None, None, "tests");
    let found = shared_config(endpoint).await.into_builder();
    found.credentials_provider(SharedCredentialsProvider::new(somebody)).build()
}

/// Waits until so many bytes may go.
async fn rest(pace: &Pace, bytes: usize) {
    let wait = pace.take(bytes, Instant::now());
    if !wait.is_zero() {
        tokio::time::sleep(wait).await;
    }
}

/// The endpoint that the environment or a profile names in place of AWS.
fn other_service(shared: &SdkConfig) -> Option<String> {
    let key = ServiceConfigKey::builder().service_id("S3").env("AWS_ENDPOINT_URL").profile("endpoint_url");
    let of_s3 =
        shared.service_config().zip(key.build().ok()).and_then(|(config, key)| config.load_config(key));
    of_s3.or_else(|| shared.endpoint_url().map(str::to_owned))
}
