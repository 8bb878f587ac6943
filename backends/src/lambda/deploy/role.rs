//! The functions' role.

use serde_json::Value;

use super::super::aws::ServiceError;
use super::{Cloud, POLICY, Plan, Say, policies};

/// The role that functions are to have.
pub(super) struct Taken {
    pub(super) arn: String,
    /// It was made just now: Lambda may not know it for some seconds.
    pub(super) fresh: bool,
}

impl Cloud {
    /// The role's ARN: the one that was given, or that of ggr's own role, with its policy as it should be.
    pub(super) async fn make_role(
        &self,
        plan: &Plan,
        say: Say<'_>,
        there: &mut Vec<String>,
    ) -> Result<Taken, ServiceError> {
        if let Some(arn) = &plan.role {
            say(&format!("role `{arn}`: as given"));
            return Ok(Taken { arn: arn.clone(), fresh: false });
        }
        let name = plan.role_name();
        let what = format!("role `{name}`");
        let wanted = policies(&plan.prefix, &name, true, plan.bucket.as_ref());
        let (arn, fresh) = match self.iam.role(&name).await? {
            Some(role) if !role.ours => return Err(foreign(&what, "iam:PutRolePolicy")),
            Some(role) => (role.arn, false),
            None => (self.iam.create(&name, &wanted.trust.to_string()).await?, true),
        };
        there.push(what.clone());
        let changed = self.allow(&name, &wanted.function).await?;
        let did = match (fresh, changed) {
            (true, _) => "made, with the smallest policy",
            (false, true) => "policy changed",
            (false, false) => "was there",
        };
        say(&format!("{what}: {did}"));
        Ok(Taken { arn, fresh })
    }

    /// Gives the role its policy; whether it had another.
    async fn allow(&self, role: &str, wanted: &Value) -> Result<bool, ServiceError> {
        let found = self.iam.policy(role, POLICY).await?;
        let found = found.and_then(|text| serde_json::from_str::<Value>(&text).ok());
        // IAM takes no document without a statement.
        let empty = wanted["Statement"].as_array().is_none_or(Vec::is_empty);
        match (found, empty) {
            (None, true) => Ok(false),
            (Some(_), true) => self.iam.delete_policy(role, POLICY).await.map(|()| true),
            (Some(found), false) if found == *wanted => Ok(false),
            (_, false) => self.iam.put_policy(role, POLICY, &wanted.to_string()).await.map(|()| true),
        }
    }
}

/// The error for something of that name that ggr did not make.
pub(super) fn foreign(what: &str, action: &str) -> ServiceError {
    ServiceError::Refused {
        action: action.to_owned(),
        resource: what.to_owned(),
        text: "it is there and does not carry ggr's tag, so it is left alone".to_owned(),
    }
}
