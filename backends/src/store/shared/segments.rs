//! Segments on their way from the bucket into memory: what this machine has read before is read from its own disk.

use std::fs;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use futures_util::StreamExt;
use futures_util::stream;
use ggr_ir::Hash;
use ggr_ir::repo::write_atomic;

use super::address::Address;
use super::index::{Index, MAX_SEGMENT, Segment, merge};
use crate::store::s3::{Bucket, Listed, S3Error, Trouble};

/// What is read of all segments together, newest first: some million blobs. Older ones are as good as gone.
const MAX_INDEX: u64 = 128 << 20;

/// Requests at a time.
const PARALLEL: usize = 16;

/// How often the bucket is listed again because a segment was merged away between listing and reading.
const LISTINGS: usize = 3;

/// From so many segments on, a writer puts them together.
const MERGE_AT: usize = 64;

/// A segment of this size is left alone when others are merged.
const MERGED: u64 = 4 << 20;

/// The segments of one bucket, and their copies in a directory.
pub(super) struct Segments {
    directory: PathBuf,
    prefix: String,
    listed: Vec<Listed>,
}

impl Segments {
    pub(super) fn new(memo: &std::path::Path, address: &Address, endpoint: &str) -> Self {
        let directory = memo.join(&address.digest(endpoint).to_string()[..32]);
        Self { directory, prefix: address.index(), listed: Vec::new() }
    }

    /// Reads what is new, and puts all of it together.
    pub(super) async fn load(&mut self, bucket: &Bucket) -> Result<Index, S3Error> {
        for listing in 1.. {
            self.listed = newest(bucket.list(&self.prefix).await?);
            match self.read_all(bucket).await {
                Err(error) if error.trouble == Trouble::Gone && listing < LISTINGS => {}
                Err(error) if error.trouble == Trouble::Gone => break,
                other => {
                    self.prune();
                    return other.map(|segments| together(segments.into_iter().flatten()));
                }
            }
        }
        // They go faster than they can be read: what is left is a cache that knows nothing.
        Ok(Index::default())
    }

    /// Every listed segment, oldest first; nothing in the place of one that is damaged.
    async fn read_all(&self, bucket: &Bucket) -> Result<Vec<Option<Segment>>, S3Error> {
        let one = |listed: &Listed| {
            let name = listed.name.clone();
            async move { self.read(bucket, &name).await }
        };
        let reads: Vec<_> = self.listed.iter().map(one).collect();
        stream::iter(reads).buffered(PARALLEL).collect::<Vec<_>>().await.into_iter().collect()
    }

    async fn read(&self, bucket: &Bucket, name: &str) -> Result<Option<Segment>, S3Error> {
        let copy = fs::read(self.directory.join(name)).ok();
        if let Some(segment) = copy.as_deref().and_then(Segment::from_bytes) {
            return Ok(Some(segment));
        }
        let read = bucket.get(&format!("{}{name}", self.prefix), None, || Ok(Vec::new())).await?;
        let bytes = read.expect("memory takes every byte");
        let segment = Segment::from_bytes(&bytes);
        if segment.is_some() {
            self.keep(name, &bytes);
        }
        Ok(segment)
    }

    /// Writes a segment into the bucket, under a name that sorts after all others.
    pub(super) async fn write(&self, bucket: &Bucket, segment: &Segment) -> Result<(), S3Error> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        self.write_as(bucket, segment, &format!("{now:016x}")).await
    }

    async fn write_as(&self, bucket: &Bucket, segment: &Segment, time: &str) -> Result<(), S3Error> {
        let bytes = segment.to_bytes();
        let name = format!("{time}-{}", &Hash::of(&bytes).to_string()[..16]);
        bucket.put(&format!("{}{name}", self.prefix), bytes.clone()).await?;
        self.keep(&name, &bytes);
        Ok(())
    }

    /// Puts small segments together once there are many. What it began and could not end does no harm: a segment that is
    /// there twice says the same twice.
    pub(super) async fn tidy(&self, bucket: &Bucket) -> Result<(), S3Error> {
        let small: Vec<&Listed> = self.listed.iter().filter(|listed| listed.size < MERGED).collect();
        let Some(last) = small.last().filter(|_| small.len() >= MERGE_AT) else { return Ok(()) };
        // Who may not remove would only add one more each time.
        bucket.remove(&format!("{}none", self.prefix)).await?;
        let mut segments = Vec::new();
        for listed in &small {
            match self.read(bucket, &listed.name).await {
                Ok(segment) => segments.extend(segment),
                // Somebody else is at it.
                Err(error) if error.trouble == Trouble::Gone => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        // As old as its newest part.
        let time = last.name.split('-').next().unwrap_or(&last.name);
        self.write_as(bucket, &merge(segments), time).await?;
        for listed in small {
            bucket.remove(&format!("{}{}", self.prefix, listed.name)).await?;
        }
        Ok(())
    }

    /// Keeps a copy. One that cannot be kept is read again the next time.
    fn keep(&self, name: &str, bytes: &[u8]) {
        let _ = fs::create_dir_all(&self.directory)
            .and_then(|()| write_atomic(&self.directory, &self.directory.join(name), bytes, 0o644));
    }

    /// Removes copies of what is no longer in the bucket.
    fn prune(&self) {
        for entry in fs::read_dir(&self.directory).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if !self.listed.iter().any(|listed| name == *listed.name) {
                // What stays is removed the next time.
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

/// Those that a reader takes, by name.
fn newest(mut listed: Vec<Listed>) -> Vec<Listed> {
    // A name becomes a file's here.
    let sound = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    listed.retain(|listed| sound(&listed.name) && listed.size <= MAX_SEGMENT);
    let mut left = MAX_INDEX;
    let taken = listed.iter().rev().take_while(|listed| {
        let fits = listed.size <= left;
        left = left.saturating_sub(listed.size);
        fits
    });
    let first = listed.len() - taken.count();
    listed.split_off(first)
}

fn together(segments: impl Iterator<Item = Segment>) -> Index {
    let mut index = Index::default();
    segments.for_each(|segment| index.add(segment));
    index
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_segments_are_taken_and_names_that_are_no_names_are_not() {
        let listed = |name: &str, size| Listed { name: name.to_owned(), size };
        let half = MAX_INDEX / 2;
        let names = |listed: Vec<Listed>| newest(listed).into_iter().map(|l| l.name).collect::<Vec<_>>();
        assert_eq!(names(vec![listed("1-a", 5), listed("../x", 5), listed("2-b", 5)]), ["1-a", "2-b"]);
        assert_eq!(names(vec![listed("1", MAX_SEGMENT + 1), listed("2", 1)]), ["2"]);
        let many = (10..20).map(|n| listed(&n.to_string(), MAX_SEGMENT)).collect();
        assert_eq!(names(many), ["16", "17", "18", "19"], "128 MiB are four of 32");
        assert!(half > 0);
    }
}
