//! Where a shared store is, and what its objects are called.

use std::fmt;

use ggr_ir::{BlobId, Hash};

use super::pack::PackName;

/// What all keys of this format begin with, below the user's prefix: another format is another namespace. Beside it stands
/// what Lambda functions exchange (`v1/lambda/`).
const FORMAT: &str = "v1/cache/";

/// A bucket and a prefix in it, written `s3://BUCKET/PREFIX`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Address {
    bucket: String,
    prefix: String,
}

impl Address {
    /// Reads `s3://BUCKET` or `s3://BUCKET/PREFIX`; nothing if it is neither.
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("s3://")?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.trim_matches('/');
        // S3's own rules are stricter by length and place; other services have theirs.
        let fit = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        let sound = !bucket.is_empty() && bucket.chars().all(fit) && !prefix.chars().any(char::is_control);
        sound.then(|| Self { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
    }

    /// The bucket's name.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// What stands before the names of index segments.
    pub(super) fn index(&self) -> String {
        self.key("index/")
    }

    /// The key of a pack.
    pub(super) fn pack(&self, name: PackName) -> String {
        self.key(&format!("packs/{name}"))
    }

    /// The key of a blob that is an object by itself.
    pub(super) fn blob(&self, id: BlobId) -> String {
        self.key(&format!("blobs/{}", id.hash()))
    }

    /// The key of what is written to see whether it can be.
    pub(super) fn doctor(&self) -> String {
        self.key("doctor")
    }

    /// A name for this place among others in a directory.
    pub(super) fn digest(&self, endpoint: &str) -> Hash {
        Hash::of(format!("{endpoint}\n{self}").as_bytes())
    }

    fn key(&self, rest: &str) -> String {
        let slash = if self.prefix.is_empty() { "" } else { "/" };
        format!("{}{slash}{FORMAT}{rest}", self.prefix)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}", self.bucket)?;
        if self.prefix.is_empty() { Ok(()) } else { write!(f, "/{}", self.prefix) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_bucket_and_a_prefix() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(Address::parse(text).map(|address| address.index()).as_deref(), expected, "{text}");
        };
        check("s3://team", Some("v1/cache/index/"));
        check("s3://team/", Some("v1/cache/index/"));
        check("s3://team/some/prefix/", Some("some/prefix/v1/cache/index/"));
        check("s3://", None);
        check("s3:///prefix", None);
        check("s3://a b/c", None);
        check("/a/directory", None);
        assert_eq!(Address::parse("s3://team/p/").unwrap().to_string(), "s3://team/p");
    }
}
