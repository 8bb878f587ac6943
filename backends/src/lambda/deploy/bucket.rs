//! The bucket, and the rule by which its objects expire.

use aws_sdk_s3::types::{
    AbortIncompleteMultipartUpload, BucketLifecycleConfiguration, BucketLocationConstraint,
    CreateBucketConfiguration, ExpirationStatus, LifecycleExpiration, LifecycleRule, LifecycleRuleFilter,
    Tag, Tagging,
};

use super::super::aws::{Call, ServiceError};
use super::{Bucket, Cloud, Plan, Say, TAG, TAG_VALUE};

/// Where a bucket is made without being told.
const DEFAULT_REGION: &str = "us-east-1";

impl Cloud {
    pub(super) async fn make_bucket(
        &self,
        plan: &Plan,
        bucket: &Bucket,
        say: Say<'_>,
        there: &mut Vec<String>,
    ) -> Result<(), ServiceError> {
        let what = format!("bucket `{}`", bucket.name);
        if self.has_bucket(bucket).await? {
            say(&format!("{what}: was there"));
            there.push(what.clone());
        } else {
            self.create_bucket(bucket).await?;
            say(&format!("{what}: made in {}", self.region));
            there.push(what.clone());
            self.tag_bucket(bucket).await?;
        }
        let days = plan.expire_days;
        let did = if self.expire(bucket, days).await? { "set" } else { "was set" };
        say(&format!("{what}: rule {did}: what is below `{}` is removed after {days} days", bucket.keys()));
        Ok(())
    }

    /// Whether it is there. One in another region or account is an error.
    pub(super) async fn has_bucket(&self, bucket: &Bucket) -> Result<bool, ServiceError> {
        let sent = self.s3.head_bucket().bucket(&bucket.name).send().await;
        match sent.map_err(|error| self.explain_s3("s3:ListBucket", bucket, &error)) {
            Ok(_) => Ok(true),
            Err(ServiceError::Missing { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn create_bucket(&self, bucket: &Bucket) -> Result<(), ServiceError> {
        let place = (self.region != DEFAULT_REGION).then(|| {
            let region = BucketLocationConstraint::from(self.region.as_str());
            CreateBucketConfiguration::builder().location_constraint(region).build()
        });
        let request = self.s3.create_bucket().bucket(&bucket.name).set_create_bucket_configuration(place);
        match request.send().await {
            Ok(_) => Ok(()),
            Err(error) => Err(self.explain_s3("s3:CreateBucket", bucket, &error)),
        }
    }

    async fn tag_bucket(&self, bucket: &Bucket) -> Result<(), ServiceError> {
        let tag = Tag::builder().key(TAG).value(TAG_VALUE).build().expect("key and value are given");
        let tags = Tagging::builder().tag_set(tag).build().expect("a set is given");
        let sent = self.s3.put_bucket_tagging().bucket(&bucket.name).tagging(tags).send().await;
        sent.map(drop).map_err(|error| self.explain_s3("s3:PutBucketTagging", bucket, &error))
    }

    /// Whether ggr has made it.
    pub(super) async fn made_bucket(&self, bucket: &Bucket) -> Result<bool, ServiceError> {
        let sent = self.s3.get_bucket_tagging().bucket(&bucket.name).send().await;
        match sent {
            Ok(tags) => Ok(tags.tag_set().iter().any(|tag| tag.key() == TAG)),
            // A bucket without tags answers with an error.
            Err(error) if code_of(&error) == Some("NoSuchTagSet") => Ok(false),
            Err(error) => Err(self.explain_s3("s3:GetBucketTagging", bucket, &error)),
        }
    }

    /// Sets the rule among the others; whether it was not there.
    async fn expire(&self, bucket: &Bucket, days: u32) -> Result<bool, ServiceError> {
        let wanted = rule(bucket, days);
        let mut rules = self.rules(bucket).await?;
        if rules.iter().any(|rule| same(rule, &wanted)) {
            return Ok(false);
        }
        rules.retain(|rule| rule.id() != wanted.id());
        rules.push(wanted);
        self.put_rules(bucket, rules).await.map(|()| true)
    }

    pub(super) async fn rules(&self, bucket: &Bucket) -> Result<Vec<LifecycleRule>, ServiceError> {
        match self.s3.get_bucket_lifecycle_configuration().bucket(&bucket.name).send().await {
            Ok(found) => Ok(found.rules.unwrap_or_default()),
            Err(error) if code_of(&error) == Some("NoSuchLifecycleConfiguration") => Ok(Vec::new()),
            Err(error) => Err(self.explain_s3("s3:GetLifecycleConfiguration", bucket, &error)),
        }
    }

    /// Sets all rules; an empty list removes them.
    pub(super) async fn put_rules(
        &self,
        bucket: &Bucket,
        rules: Vec<LifecycleRule>,
    ) -> Result<(), ServiceError> {
        let action = "s3:PutLifecycleConfiguration";
        if rules.is_empty() {
            let sent = self.s3.delete_bucket_lifecycle().bucket(&bucket.name).send().await;
            return sent.map(drop).map_err(|error| self.explain_s3(action, bucket, &error));
        }
        let all = BucketLifecycleConfiguration::builder().set_rules(Some(rules)).build();
        let all = all.expect("rules are given");
        let request = self.s3.put_bucket_lifecycle_configuration().bucket(&bucket.name);
        let sent = request.lifecycle_configuration(all).send().await;
        sent.map(drop).map_err(|error| self.explain_s3(action, bucket, &error))
    }

    pub(super) fn explain_s3<E>(
        &self,
        action: &str,
        bucket: &Bucket,
        error: &aws_sdk_s3::error::SdkError<E>,
    ) -> ServiceError
    where
        E: aws_sdk_s3::error::ProvideErrorMetadata + std::error::Error + 'static,
    {
        let resource = format!("bucket `{}`", bucket.name);
        Call { action, resource: &resource, place: &self.place }.explain(error)
    }
}

/// The name of ggr's rule.
pub(super) fn rule_id(bucket: &Bucket) -> String {
    format!("ggr {}", bucket.keys())
}

/// Objects go after so many days, and parts of uploads that were broken off after one.
fn rule(bucket: &Bucket, days: u32) -> LifecycleRule {
    let days = i32::try_from(days).unwrap_or(i32::MAX);
    LifecycleRule::builder()
        .id(rule_id(bucket))
        .status(ExpirationStatus::Enabled)
        .filter(LifecycleRuleFilter::builder().prefix(bucket.keys()).build())
        .expiration(LifecycleExpiration::builder().days(days).build())
        .abort_incomplete_multipart_upload(
            AbortIncompleteMultipartUpload::builder().days_after_initiation(1).build(),
        )
        .build()
        .expect("a status is given")
}

/// Whether a rule does what ours does; services fill in fields of their own.
fn same(found: &LifecycleRule, wanted: &LifecycleRule) -> bool {
    let days = |rule: &LifecycleRule| rule.expiration().and_then(LifecycleExpiration::days);
    found.id() == wanted.id() && found.status() == wanted.status() && days(found) == days(wanted)
}

fn code_of<E: aws_sdk_s3::error::ProvideErrorMetadata>(
    error: &aws_sdk_s3::error::SdkError<E>,
) -> Option<&str> {
    error.as_service_error().and_then(aws_sdk_s3::error::ProvideErrorMetadata::code)
}
