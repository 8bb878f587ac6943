//! What there is.

use aws_sdk_lambda::operation::get_function::GetFunctionOutput;
use aws_sdk_lambda::types::EphemeralStorage;
use serde::Serialize;

use super::super::aws::ServiceError;
use super::{Bucket, Cloud, Plan, TAG, bucket::rule_id};

/// What there is of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Functions of the plan that are there, and others with such names.
    pub functions: Vec<FunctionStatus>,
    /// Functions of the plan that are not there.
    pub missing: Vec<String>,
    /// The bucket, if the plan has one.
    pub bucket: Option<BucketStatus>,
    /// The role that ggr makes; nothing if the plan has one of its own.
    pub role: Option<RoleStatus>,
}

/// A function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FunctionStatus {
    /// Its name.
    pub name: String,
    /// `Active`, `Pending`, …
    pub state: String,
    /// The version of ggr that deployed it; nothing if ggr did not.
    pub ggr: Option<String>,
    /// Memory, in MB.
    pub memory_mb: i32,
    /// Size of `/tmp`, in MB.
    pub tmp_mb: i32,
    /// Time limit, in seconds.
    pub limit_s: i32,
    /// Its role's ARN.
    pub role: String,
}

/// The bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BucketStatus {
    /// Its name.
    pub name: String,
    /// Whether it is there.
    pub there: bool,
    /// Whether ggr made it.
    pub ours: bool,
    /// After how many days objects are removed; nothing if there is no such rule.
    pub expire_days: Option<i32>,
}

/// The role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RoleStatus {
    /// Its name.
    pub name: String,
    /// Its ARN, if it is there.
    pub arn: Option<String>,
    /// Whether ggr made it.
    pub ours: bool,
}

impl Cloud {
    /// Looks at what there is.
    ///
    /// # Errors
    /// The services' refusals. What is not there is no error.
    pub async fn status(&self, plan: &Plan) -> Result<Status, ServiceError> {
        let mut functions = Vec::new();
        for name in self.names(plan).await? {
            functions.extend(self.function(&name).await?.map(|found| function_status(&name, &found)));
        }
        let missing = (0..plan.count)
            .map(|number| plan.function(number))
            .filter(|name| !functions.iter().any(|found| found.name == *name))
            .collect();
        let bucket = match &plan.bucket {
            Some(bucket) => Some(self.bucket_status(bucket).await?),
            None => None,
        };
        let role = match plan.role {
            Some(_) => None,
            None => Some(self.role_status(plan).await?),
        };
        Ok(Status { functions, missing, bucket, role })
    }

    /// The functions that are called `PREFIX-N`, in order.
    pub(super) async fn names(&self, plan: &Plan) -> Result<Vec<String>, ServiceError> {
        let mut found = Vec::new();
        let mut pages = self.lambda.list_functions().into_paginator().send();
        while let Some(page) = pages.next().await {
            let any = format!("{}-*", plan.prefix);
            let page = page.map_err(|error| self.explain_lambda("lambda:ListFunctions", &any, &error))?;
            let names = page.functions().iter().filter_map(|function| function.function_name());
            found.extend(names.filter_map(|name| {
                let number: usize = name.strip_prefix(&plan.prefix)?.strip_prefix('-')?.parse().ok()?;
                Some((number, name.to_owned()))
            }));
        }
        found.sort();
        Ok(found.into_iter().map(|(_, name)| name).collect())
    }

    async fn bucket_status(&self, bucket: &Bucket) -> Result<BucketStatus, ServiceError> {
        let name = bucket.name.clone();
        if !self.has_bucket(bucket).await? {
            return Ok(BucketStatus { name, there: false, ours: false, expire_days: None });
        }
        let ours = self.made_bucket(bucket).await?;
        let id = rule_id(bucket);
        let rules = self.rules(bucket).await?;
        let rule = rules.iter().find(|rule| rule.id() == Some(&id));
        let expire_days = rule.and_then(|rule| rule.expiration()?.days());
        Ok(BucketStatus { name, there: true, ours, expire_days })
    }

    async fn role_status(&self, plan: &Plan) -> Result<RoleStatus, ServiceError> {
        let name = plan.role_name();
        let found = self.iam.role(&name).await?;
        let ours = found.as_ref().is_some_and(|role| role.ours);
        Ok(RoleStatus { name, arn: found.map(|role| role.arn), ours })
    }
}

fn function_status(name: &str, found: &GetFunctionOutput) -> FunctionStatus {
    let config = found.configuration();
    let state = config.and_then(|config| config.state()).map(|state| state.as_str());
    FunctionStatus {
        name: name.to_owned(),
        state: state.unwrap_or("unknown").to_owned(),
        ggr: found.tags().and_then(|tags| tags.get(TAG)).cloned(),
        memory_mb: config.and_then(|config| config.memory_size()).unwrap_or(0),
        tmp_mb: config.and_then(|config| config.ephemeral_storage()).map_or(0, EphemeralStorage::size),
        limit_s: config.and_then(|config| config.timeout()).unwrap_or(0),
        role: config.and_then(|config| config.role()).unwrap_or_default().to_owned(),
    }
}
