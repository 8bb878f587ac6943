//! Removing what `deploy` made.

use aws_sdk_s3::types::{Delete, ObjectIdentifier};

use super::super::aws::ServiceError;
use super::bucket::rule_id;
use super::{Bucket, Cloud, DeployError, POLICY, Plan, Say, TAG};

/// What becomes of a bucket that holds something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contents {
    /// It stays, with all of it.
    Kept,
    /// It is emptied and removed.
    Removed,
}

impl Cloud {
    /// Removes functions, role and bucket as far as ggr made them. What is gone already is no error.
    ///
    /// # Errors
    /// Names what was not removed.
    pub async fn destroy(&self, plan: &Plan, contents: Contents, say: Say<'_>) -> Result<(), DeployError> {
        let mut left = Vec::new();
        self.remove(plan, contents, say, &mut left)
            .await
            .map_err(|why| DeployError::Service { there: left, why })
    }

    async fn remove(
        &self,
        plan: &Plan,
        contents: Contents,
        say: Say<'_>,
        left: &mut Vec<String>,
    ) -> Result<(), ServiceError> {
        let names = self.names(plan).await?;
        left.extend(names.iter().map(|name| format!("function `{name}`")));
        left.extend(plan.role.is_none().then(|| format!("role `{}`", plan.role_name())));
        left.extend(plan.bucket.iter().map(|bucket| format!("bucket `{}`", bucket.name)));
        for name in &names {
            self.remove_function(name, say).await?;
            left.remove(0);
        }
        if plan.role.is_none() {
            self.remove_role(&plan.role_name(), say).await?;
            left.remove(0);
        }
        if let Some(bucket) = &plan.bucket {
            self.remove_bucket(bucket, contents, say).await?;
            left.remove(0);
        }
        Ok(())
    }

    async fn remove_function(&self, name: &str, say: Say<'_>) -> Result<(), ServiceError> {
        let what = format!("function `{name}`");
        let Some(found) = self.function(name).await? else { return Ok(()) };
        if !found.tags().is_some_and(|tags| tags.contains_key(TAG)) {
            say(&format!("{what}: left, as it does not carry ggr's tag"));
            return Ok(());
        }
        let sent = self.lambda.delete_function().function_name(name).send().await;
        sent.map_err(|error| self.explain_lambda("lambda:DeleteFunction", name, &error))?;
        say(&format!("{what}: removed"));
        Ok(())
    }

    async fn remove_role(&self, name: &str, say: Say<'_>) -> Result<(), ServiceError> {
        match self.iam.role(name).await? {
            None => return Ok(()),
            Some(role) if !role.ours => {
                say(&format!("role `{name}`: left, as it does not carry ggr's tag"));
                return Ok(());
            }
            Some(_) => {}
        }
        self.iam.delete_policy(name, POLICY).await?;
        self.iam.delete(name).await?;
        say(&format!("role `{name}`: removed"));
        Ok(())
    }

    async fn remove_bucket(
        &self,
        bucket: &Bucket,
        contents: Contents,
        say: Say<'_>,
    ) -> Result<(), ServiceError> {
        let what = format!("bucket `{}`", bucket.name);
        if !self.has_bucket(bucket).await? {
            return Ok(());
        }
        if !self.made_bucket(bucket).await? {
            let (id, mut rules) = (rule_id(bucket), self.rules(bucket).await?);
            let before = rules.len();
            rules.retain(|rule| rule.id() != Some(&id));
            if rules.len() < before {
                self.put_rules(bucket, rules).await?;
                say(&format!("{what}: rule removed"));
            }
            say(&format!("{what}: left, as ggr did not make it"));
            return Ok(());
        }
        if contents == Contents::Kept && !self.first_keys(bucket).await?.is_empty() {
            say(&format!("{what}: left, as it is not empty; `--bucket-contents` removes it with all of it"));
            return Ok(());
        }
        self.empty(bucket).await?;
        let sent = self.s3.delete_bucket().bucket(&bucket.name).send().await;
        sent.map_err(|error| self.explain_s3("s3:DeleteBucket", bucket, &error))?;
        say(&format!("{what}: removed"));
        Ok(())
    }

    /// Up to 1,000 keys.
    async fn first_keys(&self, bucket: &Bucket) -> Result<Vec<String>, ServiceError> {
        let sent = self.s3.list_objects_v2().bucket(&bucket.name).send().await;
        let page = sent.map_err(|error| self.explain_s3("s3:ListBucket", bucket, &error))?;
        Ok(page.contents().iter().filter_map(|object| object.key().map(str::to_owned)).collect())
    }

    /// Bound: each turn removes up to 1,000 objects, and ends with the first that removes none.
    async fn empty(&self, bucket: &Bucket) -> Result<(), ServiceError> {
        loop {
            let keys = self.first_keys(bucket).await?;
            if keys.is_empty() {
                return Ok(());
            }
            let named = |key| ObjectIdentifier::builder().key(key).build().expect("a key is given");
            let all = Delete::builder().set_objects(Some(keys.into_iter().map(named).collect())).quiet(true);
            let request = self.s3.delete_objects().bucket(&bucket.name);
            let sent = request.delete(all.build().expect("objects are given")).send().await;
            let done = sent.map_err(|error| self.explain_s3("s3:DeleteObject", bucket, &error))?;
            if let Some(error) = done.errors().first() {
                return Err(ServiceError::Denied {
                    action: "s3:DeleteObject".to_owned(),
                    resource: format!("bucket `{}`", bucket.name),
                    text: error.message().unwrap_or_default().to_owned(),
                });
            }
        }
    }
}
